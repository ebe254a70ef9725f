#include "text/jinja/json.h"

#include <simdjson.h>

#include <algorithm>

#include "core/error.h"
#include "text/utf8.h"

namespace tessera::jinja {
namespace {

using simdjson::dom::element_type;

class Reader {
 public:
  explicit Reader(const std::string& source) : source_(source) {}

  Value value(simdjson::dom::element json, size_t level) const {
    check(level <= Value::kMostLevels, source_, ": JSON is nested more than ", Value::kMostLevels, " levels deep");
    switch (json.type()) {
      case element_type::ARRAY: {
        std::vector<Value> items;
        for (const simdjson::dom::element item : get<simdjson::dom::array>(json)) items.push_back(value(item, level + 1));
        return Value::list(std::move(items), true);
      }
      case element_type::OBJECT:
        return object(get<simdjson::dom::object>(json), level);
      case element_type::STRING:
        return string(get<std::string_view>(json));
      case element_type::INT64:
        return {get<int64_t>(json), true};
      case element_type::DOUBLE:
        return {get<double>(json), true};
      case element_type::BOOL:
        return {get<bool>(json), true};
      case element_type::NULL_VALUE:
        return {None(), true};
      default:
        fail(source_, ": the integer ", simdjson::minify(json), " has more than 63 bits and a sign, which is not supported");
    }
  }

 private:
  template <class T>
  T get(simdjson::dom::element json) const {
    T held{};
    check(json.get(held) == simdjson::SUCCESS, source_, ": not valid JSON");
    return held;
  }

  Value string(std::string_view text) const {
    check(text::find_invalid_utf8(text) == text.npos, source_, ": a text of JSON holds half of a surrogate pair, which is no character");
    return Value::text(text, Origin::person);
  }

  Value object(simdjson::dom::object json, size_t level) const {
    check(json.size() <= Dict::kMostItems, source_, ": a JSON object has more than ", Dict::kMostItems, " fields");
    std::vector<std::pair<Value, Value>> items;
    for (const auto field : json) {
      const auto same = [&](const auto& item) { return item.first.text()->view() == field.key; };
      const auto old = std::find_if(items.begin(), items.end(), same);
      Value fresh = value(field.value, level + 1);
      if (old == items.end()) {
        items.emplace_back(string(field.key), std::move(fresh));
      } else {
        old->second = std::move(fresh);
      }
    }
    return Value::dict(std::move(items), true);
  }

  const std::string& source_;
};

}  // namespace

Value parse_json(std::string_view json, const std::string& source) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  const simdjson::error_code error = parser.parse(json.data(), json.size()).get(root);
  check(error == simdjson::SUCCESS, source, ": not valid JSON: ", simdjson::error_message(error));
  return Reader(source).value(root, 1);
}

}  // namespace tessera::jinja
