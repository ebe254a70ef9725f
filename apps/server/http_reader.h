#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "server/http_filter.h"

namespace tessera::server {

// One request from the bytes of a connection, as they come. No socket: whoever has one gives it the bytes.
class HttpReader {
 public:
  HttpReader(size_t header_bytes, int header_lines, size_t body_bytes);
  ~HttpReader();

  // Takes as many of the bytes as are clear now, and returns how many: those of the head at once, and nothing behind it before read_body().
  // What is left is given again, with more behind it. Throws HttpError; then the connection has no next request.
  size_t put(std::string_view bytes);
  // Once the head is there. 413 if its Content-Length is too large.
  void read_body();

  bool has_head() const { return head_.has_value(); }
  const HttpHead& head() const { return *head_; }
  bool is_done() const;  // the body too
  // Once it is done, and once.
  HttpRequest take_request();

 private:
  struct Parser;  // Beast's
  size_t put_head(std::string_view bytes);

  const size_t header_bytes_, body_bytes_;
  const int header_lines_;
  std::optional<HttpHead> head_;
  std::unique_ptr<Parser> parser_;
};

}  // namespace tessera::server
