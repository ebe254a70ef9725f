#include "api/chunks.h"

namespace tessera::api {

Chunks::Chunks(const AnswerHeader& header, std::string_view object, const GenerationFields& fields)
    : begin_(json_text({{"id", header.id}, {"object", object}, {"created", header.created}, {"model", header.model}})),
      include_usage_(fields.include_usage),
      continuous_usage_(fields.include_usage && fields.continuous_usage) {
  begin_.insert(0, "data: ").back() = ',';
  begin_ += "\"choices\":[";
}

std::string Chunks::event(const Json& choice, const Usage& usage, const Json& more) const {
  std::string text = begin_ + json_text(choice) + ']';
  if (include_usage_) text += ",\"usage\":" + (continuous_usage_ ? json_text(usage_json(usage)) : "null");
  for (const auto& [name, value] : more.items()) text += ",\"" + name + "\":" + json_text(value);
  return text + "}\n\n";
}

std::string Chunks::last_events(const Usage& usage) const {
  constexpr std::string_view kDone = "data: [DONE]\n\n";
  if (!include_usage_) return std::string(kDone);
  return (begin_ + "],\"usage\":" + json_text(usage_json(usage)) + "}\n\n").append(kDone);
}

}  // namespace tessera::api
