#pragma once
// What OpenAI's API says when it cannot answer.
#include <exception>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>

namespace tessera::api {

// A field of a request's body that is refused: `param` names it, or is "" where it is the body itself.
class FieldError : public std::invalid_argument {
 public:
  FieldError(std::string param, const std::string& message, std::string code = "")
      : std::invalid_argument(message), param_(std::move(param)), code_(std::move(code)) {}
  const std::string& param() const { return param_; }
  const std::string& code() const { return code_; }  // OpenAI's; "": it has none

 private:
  std::string param_, code_;
};

struct Failure {
  int status;                   // HTTP's
  nlohmann::ordered_json body;  // {"error": {"message", "type", "param", "code"}}
};

// std::invalid_argument is 400, and so is a FileError: a body that is no JSON, a model without a chat template; ResourceError 503, all
// else 500; a FieldError of the code model_not_found is 404. Paths are cut down to the files' names. Where the library's text begins with a
// field's name, as "top_p: 2 is outside (0, 1]" does, that is the param.
Failure failure(const std::exception& error);

// One that is no exception's: 401 with the code invalid_api_key, 404 with model_not_found, 429, 503 ...
Failure failure(int status, const std::string& message, const std::string& code = "");

}  // namespace tessera::api
