#include "text/jinja/json.h"

#include "core/error.h"
#include "text/utf8.h"

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
        return string(*json_as<std::string_view>(json));
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
  Value string(std::string_view text) const {
    check<FileError>(text::find_invalid_utf8(text) == text.npos, source_,
                     ": a text of JSON holds half of a surrogate pair, which is no character");
    return Value::text(text, Origin::person);
  }

  Value object(JsonObject json, size_t level) const {
    check<FileError>(json.size() <= Dict::kMostItems, source_, ": a JSON object has more than ", Dict::kMostItems, " fields");
    std::vector<std::pair<Value, Value>> items;
    for (const auto field : json) items.emplace_back(string(field.key), value(field.value, level + 1));
    return Value::dict(std::move(items), true);
  }

  const std::string& source_;
};

}  // namespace

Value from_json(JsonValue json, const std::string& source) { return Reader(source).value(json, 1); }

}  // namespace tessera::jinja
