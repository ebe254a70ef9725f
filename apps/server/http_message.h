#pragma once
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tessera::server {

using HttpFields = std::vector<std::pair<std::string, std::string>>;  // of headers: each name and its value

struct HttpRequest {
  std::string method;  // GET for a HEAD, whose answer's body is left out
  std::string path;    // as it was sent, with no query: nothing is decoded or normalised
  std::string query;   // behind the first ?
  HttpFields headers;  // names in lower case, each once: the values of a name that came several times are joined by ", "
  std::string body;
  std::shared_ptr<const void> held = {};  // while it lives the body counts among those that a server holds

  // "" if there is none.
  std::string_view header(std::string_view lower_case_name) const;
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  HttpFields headers = {};  // beside those of the framing, of the type and of CORS
};

// What is refused by HTTP's own rules. `code` is one of few words, which a client can tell apart and a counter can count.
class HttpError : public std::runtime_error {
 public:
  HttpError(int status, std::string code, const std::string& message)
      : std::runtime_error(message), status_(status), code_(std::move(code)) {}
  int status() const { return status_; }
  const std::string& code() const { return code_; }

 private:
  int status_;
  std::string code_;
};

}  // namespace tessera::server
