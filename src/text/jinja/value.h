#pragma once
// The values of a template: Python's, as far as templates see them. Lists and dicts are constant: the sandbox lets nothing change them.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/meter.h"
#include "text/jinja/text.h"

namespace tessera::jinja {

class Call;
class Value;
struct Dict;
struct Function;
struct List;
struct Loop;
struct Namespace;

// What a missing name or attribute gives: empty as text, false, and an error in most operations.
struct Undefined {
  std::shared_ptr<const std::string> why;  // the error's text
};
struct None {};

class Value {
 public:
  using Held = std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const Text>, std::shared_ptr<const List>,
                            std::shared_ptr<const Dict>, std::shared_ptr<const Function>, Namespace*, std::weak_ptr<Loop>>;

  static constexpr size_t kMostLevels = 100;  // of lists and dicts within each other

  Value() = default;
  Value(Held held, bool by_person = false) : person(by_person), held_(std::move(held)) {}  // NOLINT(google-explicit-constructor)
  // Text that no meter counts: of a template's source or of the conversation.
  static Value text(Text text) { return Held(std::make_shared<const Text>(std::move(text))); }
  static Value text(std::string_view bytes, Origin origin) { return text(Text(bytes, origin)); }
  static Value list(std::vector<Value> items, bool person);
  static Value dict(std::vector<std::pair<Value, Value>> items, bool person);
  static Value none() { return Held(None()); }
  static Value undefined(std::string why) { return Held(Undefined{std::make_shared<const std::string>(std::move(why))}); }

  template <class T>
  const T* as() const {
    return std::get_if<T>(&held_);
  }
  const Text* text() const { return pointee<Text>(); }
  const List* list() const { return pointee<List>(); }
  const Dict* dict() const { return pointee<Dict>(); }
  const Function* function() const { return pointee<Function>(); }
  std::shared_ptr<const List> shared_list() const { return std::get<std::shared_ptr<const List>>(held_); }
  bool is_undefined() const { return as<Undefined>() != nullptr; }
  bool is_none() const { return as<None>() != nullptr; }
  bool is_number() const { return as<bool>() || as<int64_t>() || as<double>(); }
  // An integer or a boolean as an integer.
  std::optional<int64_t> integer() const;
  std::optional<double> real() const;  // of any number

  std::string type() const;  // Python's name of the type, for messages
  size_t levels() const;     // of lists, dicts and bound methods within it
  bool truth() const;

  bool person = false;  // of a number, list or dict: it came from a person's JSON, and so its digits, commas and brackets did
  bool markup = false;  // of a text: marked by the filter safe; what is added to it is escaped as HTML

 private:
  template <class T>
  const T* pointee() const {
    const auto* pointer = as<std::shared_ptr<const T>>();
    return pointer ? pointer->get() : nullptr;
  }

  Held held_;
};

struct List {
  enum class Type { list, tuple, range, keys, values, items, generator };
  Type type = Type::list;
  std::vector<Value> items;
  size_t levels = 1;
  mutable bool used = false;  // a generator gives its items once
};

struct Dict {
  static constexpr size_t kMostItems = 4096;
  std::vector<std::pair<Value, Value>> items;  // in the order in which they came
  size_t levels = 1;

  const Value* find(std::string_view key) const;
};

struct Function {
  std::string name;
  std::function<Value(Call&)> call;
  size_t levels = 1;
};

// Lives as long as the rendering.
struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
};

struct Loop {
  std::shared_ptr<const List> items;
  size_t index = 0;
  std::optional<std::vector<Value>> changed;
};

// Makes a text under a meter's count.
class Builder {
 public:
  explicit Builder(Meter& meter) : meter_(meter) {}
  ~Builder() { meter_.release(held_); }
  Builder(const Builder&) = delete;
  Builder& operator=(const Builder&) = delete;

  void append(std::string_view bytes, Origin origin);
  void append(const Text& text, size_t begin, size_t end);
  void append(const Text& text) { append(text, 0, text.size()); }
  size_t size() const { return text_.size(); }
  const Text& text() const { return text_; }
  Value finish();
  Text take() { return std::move(text_); }
  Meter& meter() { return meter_; }

 private:
  void grow(size_t bytes);

  Meter& meter_;
  Text text_;
  size_t held_ = 0, pieces_ = 0;
};

// Values of the template's own, which its meter counts as long as they live.
Value make_text(Meter& meter, Text text);
Value make_list(Meter& meter, List::Type type, std::vector<Value> items, bool person);
Value make_dict(Meter& meter, std::vector<std::pair<Value, Value>> items, bool person);
Value make_function(Meter& meter, std::string name, std::function<Value(Call&)> call, size_t levels);

}  // namespace tessera::jinja
