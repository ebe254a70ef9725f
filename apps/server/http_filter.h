#pragma once
// What a request's head must be before anything else reads it. Pure functions of text: no socket, no Beast.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "server/http_message.h"

namespace tessera::server {

struct HttpHead {
  HttpRequest request;   // without its body
  bool is_head = false;  // the method was HEAD
  int minor_version = 1;
  std::optional<uint64_t> content_length;
  bool is_chunked = false;
  bool keeps_alive = true;

  bool has_body() const { return is_chunked || content_length.value_or(0) > 0; }
};

// Of the bytes that have come: how many the head takes, with its blank line, or 0 if that is not there yet. Throws HttpError as soon as
// they cannot become a head, or are more than `bytes` without one.
size_t head_size(std::string_view bytes, size_t limit);

// `head` is what head_size() counts. HttpError for all that two readers might read differently: other ends of lines than CR LF, folded
// lines, a framing that is not one Content-Length or exactly "chunked" on HTTP/1.1, no Host or several, a target that is no path in
// printable ASCII, an unknown method or version.
HttpHead parse_head(std::string_view head, int line_limit);

// A Host's name without its port, in lower case. HttpError if it is none.
std::string host_name(std::string_view host);

bool is_allowed_host(std::string_view name, std::span<const std::string> allowed);

// Whether the page that sent the request is of the server's own authority.
bool is_own_origin(std::string_view origin, std::string_view host);

bool is_same_but_case(std::string_view a, std::string_view b);  // of ASCII

// Whether a body of this type is one of JSON in UTF-8.
bool is_json(std::string_view content_type);

// Whether an Accept-Encoding has gzip, and with no q=0.
bool takes_gzip(std::string_view accept_encoding);

}  // namespace tessera::server
