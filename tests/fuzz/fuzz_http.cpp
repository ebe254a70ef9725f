// The bytes of a connection's first request. Read whole and read in small pieces, it is the same; what passes keeps to what the rest of the
// server builds upon, and nothing of it gets into the lines of an answer's head.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "server/http_gate.h"
#include "server/http_reader.h"
#include "server/http_response.h"

namespace {

using namespace tessera::server;

void expect(bool ok) {
  if (!ok) std::abort();
}

struct Read {
  HttpHead head;
  HttpRequest request;
  size_t size;  // bytes of the connection
};

// std::nullopt if it is refused, or not whole.
std::optional<Read> read(std::string_view bytes, size_t piece) {
  HttpReader reader(1024, 16, 2048);
  std::string in;
  size_t size = 0;
  try {
    while (!reader.is_done()) {
      const size_t taken = reader.put(in);
      expect(taken <= in.size());
      in.erase(0, taken);
      size += taken;
      if (reader.has_head() && taken > 0 && size == taken) reader.read_body();
      if (taken > 0 || reader.is_done()) continue;
      if (bytes.empty()) return std::nullopt;
      in += bytes.substr(0, piece);
      bytes.remove_prefix(std::min(piece, bytes.size()));
    }
  } catch (const HttpError& error) {
    expect(error.status() >= 400 && error.status() < 500);
    return std::nullopt;
  }
  const HttpHead head = reader.head();
  return Read{.head = head, .request = reader.take_request(), .size = size};
}

void check_what_passed(const Read& read) {
  const HttpRequest& request = read.request;
  expect(request.path.starts_with('/') && request.path.find('?') == std::string::npos);
  for (const auto& [name, value] : request.headers) {
    expect(std::ranges::count(request.headers, name, &std::pair<std::string, std::string>::first) == 1);
    expect(name.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ: \t\r\n") == std::string::npos && !name.empty());
    expect(value.find_first_of("\r\n") == std::string::npos && value.find('\0') == std::string::npos);
  }
  expect(request.body.size() <= 2048);
  if (!read.head.is_chunked) expect(request.body.size() == read.head.content_length.value_or(0));
  const std::string head = response_head(200, request.header("content-type"), std::nullopt, request.headers);
  expect(head.find("\r\n\r\n") == head.size() - 4);
  const HttpOptions options{.allowed_hosts = {"example.org"}, .cors_origins = {"https://example.org"}};
  try {
    check_sender(request, options);
    cors_headers(request, options);
    preflight_answer(request, options);
    check_body(read.head);
  } catch (const HttpError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto whole = read(bytes, std::max<size_t>(size, 1)), pieces = read(bytes, 1 + size % 5);
  expect(whole.has_value() == pieces.has_value());
  if (!whole) return 0;
  expect(whole->size == pieces->size && whole->request.body == pieces->request.body && whole->request.headers == pieces->request.headers &&
         whole->request.path == pieces->request.path && whole->request.query == pieces->request.query);
  check_what_passed(*whole);
  return 0;
}
