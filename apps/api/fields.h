#pragma once
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/errors.h"
#include "core/error.h"
#include "core/json.h"

namespace tessera::api {

// Of a request's body, a JSON object. Throws FieldError, saying where it is none.
JsonDocument parse_body(std::string_view text);

template <class... Parts>
[[noreturn]] void refuse(std::string param, const Parts&... parts) {
  const std::string text = message(param, ": ", parts...);
  throw FieldError(std::move(param), text);
}

template <class... Parts>
void expect(bool ok, const std::string& param, const Parts&... parts) {
  if (!ok) [[unlikely]]
    refuse(param, parts...);
}

// The fields of a JSON object of a request. Null is as absent. All throw FieldError, naming the field, its value and its limits.
class Fields {
 public:
  // `place` stands before each field's name: "messages[0]."
  explicit Fields(JsonObject object, std::string place = "") : object_(object), place_(std::move(place)) {}

  std::optional<JsonValue> value(std::string_view name);
  std::optional<bool> boolean(std::string_view name);
  std::optional<int64_t> integer(std::string_view name, int64_t least, int64_t most);
  std::optional<double> number(std::string_view name, double least, double most);
  std::optional<std::string> text(std::string_view name);
  std::optional<JsonArray> list(std::string_view name, size_t most);
  std::optional<JsonObject> object(std::string_view name);
  // A list of objects; empty where it is not there.
  std::vector<Fields> objects(std::string_view name, size_t most);
  std::string needed_text(std::string_view name);
  JsonObject needed_object(std::string_view name);

  // A field that asks for something unless its JSON is one of these.
  void expect_usual(std::string_view name, std::initializer_list<std::string_view> usual);
  // Whatever they are.
  void ignore(std::initializer_list<std::string_view> names) { known_.insert(known_.end(), names.begin(), names.end()); }
  // A field that was neither read nor ignored, unless it is null, is refused.
  void expect_no_others() const;

  std::string param(std::string_view name) const { return place_ + std::string(name); }

 private:
  JsonObject object_;
  std::string place_;
  std::vector<std::string_view> known_;
};

}  // namespace tessera::api
