#include "text/jinja/value.h"

#include <algorithm>

namespace tessera::jinja {
namespace {

size_t levels_of(const std::vector<Value>& items) {
  size_t levels = 0;
  for (const Value& item : items) levels = std::max(levels, item.levels());
  return levels + 1;
}

size_t levels_of(const std::vector<std::pair<Value, Value>>& items) {
  size_t levels = 0;
  for (const auto& [key, value] : items) levels = std::max({levels, key.levels(), value.levels()});
  return levels + 1;
}

// Shared by the values that hold it; the meter counts it until the last of them goes.
template <class T>
Value held(Meter& meter, T value, size_t bytes, bool person = false) {
  bytes += sizeof(T) + 32;  // and the pointer's counts
  meter.hold(bytes);
  return Value(std::shared_ptr<const T>(new T(std::move(value)),
                                        [&meter, bytes](const T* old) {
                                          delete old;
                                          meter.release(bytes);
                                        }),
               person);
}

void check_levels(const Meter& meter, size_t levels) {
  if (levels > Value::kMostLevels) meter.refuse("lists and dicts are nested more than ", Value::kMostLevels, " levels deep");
}

}  // namespace

Value Value::list(std::vector<Value> items, bool person) {
  const size_t levels = levels_of(items);
  return Value(std::make_shared<const List>(List{List::Type::list, std::move(items), levels}), person);
}

Value Value::dict(std::vector<std::pair<Value, Value>> items, bool person) {
  const size_t levels = levels_of(items);
  return Value(std::make_shared<const Dict>(Dict{std::move(items), levels}), person);
}

std::optional<int64_t> Value::integer() const {
  if (const bool* flag = as<bool>()) return *flag;
  if (const int64_t* number = as<int64_t>()) return *number;
  return std::nullopt;
}

std::optional<double> Value::real() const {
  if (const double* number = as<double>()) return *number;
  if (const std::optional<int64_t> number = integer()) return static_cast<double>(*number);
  return std::nullopt;
}

std::string Value::type() const {
  if (const List* items = list()) {
    constexpr const char* kNames[] = {"list", "tuple", "range", "dict_keys", "dict_values", "dict_items", "generator"};
    return kNames[static_cast<size_t>(items->type)];
  }
  constexpr const char* kNames[] = {"Undefined", "NoneType", "bool",     "int",       "float",      "str",
                                    "list",      "dict",     "function", "Namespace", "LoopContext"};
  return kNames[held_.index()];
}

size_t Value::levels() const {
  if (const List* items = list()) return items->levels;
  if (const Dict* items = dict()) return items->levels;
  return function() ? function()->levels : 0;
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  if (const double* number = as<double>()) return *number != 0;
  if (const std::optional<int64_t> number = integer()) return *number != 0;
  if (const Text* bytes = text()) return !bytes->empty();
  if (const List* items = list()) return items->type == List::Type::generator || !items->items.empty();
  return !dict() || !dict()->items.empty();
}

const Value* Dict::find(std::string_view key) const {
  for (const auto& [name, value] : items)
    if (const Text* text = name.text(); text && text->view() == key) return &value;
  return nullptr;
}

void Builder::grow(size_t bytes) {
  // Twice what it has: the string and its runs grow by doubling.
  if (const size_t wanted = text_.memory() + bytes; wanted > held_) {
    const size_t more = std::max(wanted, held_ + held_ / 2) - held_;
    meter_.hold(more);
    held_ += more;
  }
  meter_.spend(bytes / 32 + (++pieces_ % 4 == 0));
}

void Builder::append(std::string_view bytes, Origin origin) {
  grow(bytes.size() + sizeof(Text::Run));
  text_.append(bytes, origin);
}

void Builder::append(const Text& text, size_t begin, size_t end) {
  grow(end - begin + std::min(text.runs().size(), end - begin) * sizeof(Text::Run));
  text_.append(text, begin, end);
}

Value Builder::finish() {
  meter_.release(held_);
  held_ = 0;
  return make_text(meter_, std::move(text_));
}

Value make_text(Meter& meter, Text text) {
  const size_t bytes = text.memory();
  return held(meter, std::move(text), bytes);
}

Value make_list(Meter& meter, List::Type type, std::vector<Value> items, bool person) {
  const size_t levels = levels_of(items), bytes = items.size() * sizeof(Value);
  check_levels(meter, levels);
  meter.spend(items.size());
  return held(meter, List{type, std::move(items), levels}, bytes, person);
}

Value make_dict(Meter& meter, std::vector<std::pair<Value, Value>> items, bool person) {
  const size_t levels = levels_of(items), bytes = items.size() * 2 * sizeof(Value);
  check_levels(meter, levels);
  if (items.size() > Dict::kMostItems) meter.refuse("a dict has ", items.size(), " items; at most ", Dict::kMostItems, " are supported");
  meter.spend(items.size());
  return held(meter, Dict{std::move(items), levels}, bytes, person);
}

Value make_function(Meter& meter, std::string name, std::function<Value(Call&)> call, size_t levels) {
  check_levels(meter, levels);
  return held(meter, Function{std::move(name), std::move(call), levels}, 0);
}

}  // namespace tessera::jinja
