#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "server/http_message.h"

namespace tessera::server {

// A status line and header lines, with the blank line behind them. Characters that would end a header's line become spaces.
// std::nullopt for a body whose end is told otherwise.
std::string response_head(int status, std::string_view content_type, std::optional<size_t> content_length, const HttpFields& headers);

// Of a body that is sent in chunks.
std::string chunk(std::string_view bytes);

}  // namespace tessera::server
