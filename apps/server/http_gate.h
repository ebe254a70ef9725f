#pragma once
#include <optional>

#include "server/http_filter.h"
#include "server/http_server.h"

namespace tessera::server {

// Throws HttpError where a request's Host or Origin says that a web page sent it that must not: 403.
void check_sender(const HttpRequest& head, const HttpOptions& options);

// The headers of an answer to a page of cors_origins; none for any other sender.
HttpFields cors_headers(const HttpRequest& head, const HttpOptions& options);

// The answer to a browser that asks whether such a page may send a request.
std::optional<HttpResponse> preflight_answer(const HttpRequest& head, const HttpOptions& options);

// Throws HttpError where the body is none that is read: 411, 415, 417.
void check_body(const HttpHead& head);

}  // namespace tessera::server
