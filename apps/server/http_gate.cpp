#include "server/http_gate.h"

#include <algorithm>

#include "core/error.h"

namespace tessera::server {
namespace {

bool contains(const std::vector<std::string>& list, std::string_view text) { return std::ranges::find(list, text) != list.end(); }

}  // namespace

void check_sender(const HttpRequest& head, const HttpOptions& options) {
  const std::string_view host = head.header("host"), origin = head.header("origin");
  // HTTP/1.0 may have none, and no browser speaks it.
  if (options.check_hosts && !host.empty() && !contains(options.any_host_paths, head.path)) {
    const std::string name = host_name(host);
    if (!is_allowed_host(name, options.allowed_hosts)) {
      throw HttpError(403, "host_not_allowed", message("host: \"", name, "\" is not among the names that this server is called by"));
    }
  }
  if (!origin.empty() && !is_own_origin(origin, host) && !contains(options.cors_origins, origin)) {
    throw HttpError(403, "origin_not_allowed", message("origin: pages of \"", origin, "\" may not call this server"));
  }
}

HttpFields cors_headers(const HttpRequest& head, const HttpOptions& options) {
  const std::string_view origin = head.header("origin");
  if (origin.empty() || !contains(options.cors_origins, origin)) return {};
  return {{"Access-Control-Allow-Origin", std::string(origin)},
          {"Access-Control-Expose-Headers", "Retry-After, X-Request-Id"},
          {"Vary", "Origin"}};
}

std::optional<HttpResponse> preflight_answer(const HttpRequest& head, const HttpOptions& options) {
  const bool is_one = head.method == "OPTIONS" && !head.header("access-control-request-method").empty();
  if (!is_one || !contains(options.cors_origins, head.header("origin"))) return std::nullopt;
  HttpResponse answer{
      .status = 204, .content_type = "", .headers = {{"Access-Control-Allow-Methods", "GET, POST"}, {"Access-Control-Max-Age", "600"}}};
  const std::string_view headers = head.header("access-control-request-headers");
  if (!headers.empty()) answer.headers.emplace_back("Access-Control-Allow-Headers", headers);
  return answer;
}

void check_body(const HttpHead& head) {
  const HttpRequest& request = head.request;
  const std::string_view encoding = request.header("content-encoding"), expectation = request.header("expect"),
                         type = request.header("content-type");
  if (!expectation.empty() && !is_same_but_case(expectation, "100-continue")) {
    throw HttpError(417, "expectation_failed", "expect: only 100-continue can be expected");
  }
  if (request.method == "POST" && !head.is_chunked && !head.content_length) {
    throw HttpError(411, "length_required", "content-length: a POST needs it, or transfer-encoding: chunked");
  }
  if (!encoding.empty() && !is_same_but_case(encoding, "identity")) {
    throw HttpError(415, "unsupported_media_type", message("content-encoding: \"", encoding, "\" is not read: send the body as it is"));
  }
  if ((request.method == "POST" || head.has_body()) && !is_json(type)) {
    throw HttpError(415, "unsupported_media_type", message("content-type: \"", type, "\" is not read: send application/json in UTF-8"));
  }
}

}  // namespace tessera::server
