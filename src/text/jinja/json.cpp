#include "text/jinja/json.h"

#include "core/error.h"

namespace tessera::jinja {
namespace {

using simdjson::dom::element_type;

class Reader {
 public:
  explicit Reader(const std::string& source) : source_(source) {}

  Value value(JsonValue json, size_t level) const {
    check<FileError>(level <= Value::kMostLevels, source_, ": JSON is nested more than ", Value::kMostLevels, " levels deep");
    switch (json.type()) {
      case element_type::ARRAY: {
        std::vector<Value> items;
        const std::optional<JsonArray> array = json_as<JsonArray>(json);
        for (const JsonValue item : *array) items.push_back(value(item, level + 1));
        return Value::list(std::move(items), true);
      }
      case element_type::OBJECT:
        return object(*json_as<JsonObject>(json), level);
      case element_type::STRING:
        return Value::text(*json_as<std::string_view>(json), Origin::person);
      case element_type::INT64:
        return {*json_as<int64_t>(json), true};
      case element_type::DOUBLE:
        return {*json_as<double>(json), true};
      case element_type::BOOL:
        return {*json_as<bool>(json), true};
      case element_type::NULL_VALUE:
        return {None(), true};
      default:
        fail<FileError>(source_, ": the integer ", simdjson::minify(json), " has more than 63 bits and a sign, which is not supported");
    }
  }

 private:
  Value object(JsonObject json, size_t level) const {
    check<FileError>(json.size() <= Dict::kMostItems, source_, ": a JSON object has more than ", Dict::kMostItems, " fields");
    std::vector<std::pair<Value, Value>> items;
    for (const auto field : json) items.emplace_back(Value::text(field.key, Origin::person), value(field.value, level + 1));
    return Value::dict(std::move(items), true);
  }

  const std::string& source_;
};

}  // namespace

Value from_json(JsonValue json, const std::string& source) { return Reader(source).value(json, 1); }

}  // namespace tessera::jinja
