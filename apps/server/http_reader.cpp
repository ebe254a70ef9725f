#include "server/http_reader.h"

#include <boost/beast/core/buffers_range.hpp>
#include <boost/beast/http/parser.hpp>

#include <limits>

#include "core/error.h"

namespace tessera::server {
namespace {

namespace http = boost::beast::http;

using boost::beast::error_code;

constexpr size_t kTrailerBytes = 8192;

// Beast's string_body, which reserves what a Content-Length promises: here memory comes with the bytes.
struct GrowingBody {
  using value_type = std::string;
  class reader {
   public:
    template <bool isRequest, class Fields>
    reader(http::header<isRequest, Fields>&, value_type& body) : body_(body) {}
    void init(const boost::optional<uint64_t>&, error_code& error) { error = {}; }
    template <class Buffers>
    size_t put(const Buffers& buffers, error_code& error) {
      error = {};
      for (const boost::asio::const_buffer buffer : boost::beast::buffers_range_ref(buffers)) {
        body_.append(static_cast<const char*>(buffer.data()), buffer.size());
      }
      return boost::beast::buffer_bytes(buffers);
    }
    void finish(error_code& error) { error = {}; }

   private:
    value_type& body_;
  };
};

struct RefuseExtensions {
  void operator()(uint64_t, boost::beast::string_view extensions, error_code& error) const {
    if (!extensions.empty()) error = http::error::bad_chunk_extension;
  }
};

[[noreturn]] void refuse(const error_code& error, size_t body_bytes) {
  if (error == http::error::body_limit) {
    throw HttpError(413, "body_too_large", message("the body has more than ", body_bytes, " bytes"));
  }
  throw HttpError(400, "bad_request", "the request is malformed: " + error.message());
}

}  // namespace

struct HttpReader::Parser {
  Parser() { request.on_chunk_header(refuse_extensions); }
  RefuseExtensions refuse_extensions;  // the request has a reference to it
  http::request_parser<GrowingBody> request;
};

HttpReader::HttpReader(size_t header_bytes, int header_lines, size_t body_bytes)
    : header_bytes_(header_bytes), body_bytes_(body_bytes), header_lines_(header_lines) {}

HttpReader::~HttpReader() = default;

bool HttpReader::is_done() const { return parser_ && parser_->request.is_done(); }

size_t HttpReader::put(std::string_view bytes) {
  if (!head_) return put_head(bytes);
  if (is_done() || !parser_->request.eager()) return 0;
  // Beast asserts that a last chunk comes with as many bytes as it has at least; any body in chunks ends with as many.
  if (head_->is_chunked && bytes.size() < 5) return 0;
  error_code error;
  const size_t taken = parser_->request.put(boost::asio::const_buffer(bytes.data(), bytes.size()), error);
  if (error && error != http::error::need_more) refuse(error, body_bytes_);
  // Else a line that never ends would be kept without an end.
  if (!is_done() && bytes.size() - taken > kTrailerBytes) {
    throw HttpError(400, "bad_request",
                    message("a chunk's first line, or what follows the last chunk, has more than ", kTrailerBytes, " bytes"));
  }
  return taken;
}

size_t HttpReader::put_head(std::string_view bytes) {
  const size_t size = head_size(bytes, header_bytes_);
  if (size == 0) return 0;
  HttpHead head = parse_head(bytes.substr(0, size), header_lines_);
  // Beast reads the head too: it has the body's framing from it, and nothing that it would refuse passes.
  parser_ = std::make_unique<Parser>();
  auto& request = parser_->request;
  request.header_limit(std::numeric_limits<uint32_t>::max());  // it has been kept
  request.body_limit(boost::none);                             // until read_body()
  error_code error;
  const size_t taken = request.put(boost::asio::const_buffer(bytes.data(), size), error);
  if (error) refuse(error, body_bytes_);
  const bool same = taken == size && request.is_header_done() && request.chunked() == head.is_chunked &&
                    request.content_length().get_value_or(0) == head.content_length.value_or(0);
  if (!same) throw HttpError(400, "bad_request", "the request can be read in more than one way");
  head_ = std::move(head);
  return size;
}

void HttpReader::read_body() {
  if (head_->content_length.value_or(0) > body_bytes_) refuse(http::make_error_code(http::error::body_limit), body_bytes_);
  parser_->request.body_limit(body_bytes_);
  parser_->request.eager(true);
}

HttpRequest HttpReader::take_request() {
  HttpRequest request = std::move(head_->request);
  request.body = std::move(parser_->request.get().body());
  parser_.reset();
  return request;
}

}  // namespace tessera::server
