#include "server/http_message.h"

#include <algorithm>

namespace tessera::server {

std::string_view HttpRequest::header(std::string_view lower_case_name) const {
  const auto found = std::ranges::find(headers, lower_case_name, &std::pair<std::string, std::string>::first);
  return found == headers.end() ? std::string_view() : found->second;
}

}  // namespace tessera::server
