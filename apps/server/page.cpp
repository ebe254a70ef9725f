#include "server/page.h"

#include <algorithm>

#include "core/error.h"

namespace tessera::server {
namespace {

std::string_view trim(std::string_view text) {
  const size_t from = std::min(text.find_first_not_of(" \t"), text.size());
  return text.substr(from, text.find_last_not_of(" \t") + 1 - from);
}

// Whether Accept-Encoding has gzip, and with no q=0.
bool takes_gzip(std::string_view accepted) {
  while (!accepted.empty()) {
    const size_t end = std::min(accepted.find(','), accepted.size());
    const std::string_view one = accepted.substr(0, end);
    const size_t name_end = std::min(one.find(';'), one.size());
    if (trim(one.substr(0, name_end)) == "gzip") {
      const std::string_view weight = name_end < one.size() ? trim(one.substr(name_end + 1)) : "q=1";
      return !weight.starts_with("q=0") || weight.find_first_of("123456789") != std::string_view::npos;
    }
    accepted.remove_prefix(std::min(end + 1, accepted.size()));
  }
  return false;
}

}  // namespace

const PageFile* find_page(std::string_view path) {
  const std::span<const PageFile> files = page_files();
  const auto found = std::ranges::find(files, path, &PageFile::path);
  return found == files.end() ? nullptr : &*found;
}

HttpResponse page_response(const PageFile& page, const HttpRequest& request) {
  const std::string tag = message("W/\"", page.tag, '"');
  const std::string_view known = request.header("if-none-match");
  HttpResponse response{
      .content_type = std::string(page.type),
      .headers = {{"ETag", tag},
                  {"Cache-Control", "no-cache"},
                  {"Vary", "Accept-Encoding"},
                  {"Content-Security-Policy",
                   "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
                   "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"},
                  {"Cross-Origin-Opener-Policy", "same-origin"},
                  {"Referrer-Policy", "no-referrer"},
                  {"X-Content-Type-Options", "nosniff"}}};
  if (known.find(message('"', page.tag, '"')) != std::string_view::npos) {
    response.status = 304;
    return response;
  }
  const bool gzip = takes_gzip(request.header("accept-encoding"));
  if (gzip) response.headers.emplace_back("Content-Encoding", "gzip");
  response.body = gzip ? page.gzipped : page.text;
  return response;
}

}  // namespace tessera::server
