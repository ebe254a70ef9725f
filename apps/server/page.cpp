#include "server/page.h"

#include <algorithm>

#include "core/error.h"
#include "server/http_filter.h"

namespace tessera::server {

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
