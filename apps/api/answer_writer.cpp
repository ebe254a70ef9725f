#include "api/answer_writer.h"

namespace tessera::api {

std::string event(const Json& data, std::string_view name) {
  std::string text;
  if (!name.empty()) text.append("event: ").append(name).append("\n");
  return text.append("data: ").append(json_text(data)).append("\n\n");
}

}  // namespace tessera::api
