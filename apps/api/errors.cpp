#include "api/errors.h"

#include <string_view>

#include "core/error.h"

namespace tessera::api {
namespace {

using Json = nlohmann::ordered_json;

// Null where the text does not begin with a name and a colon.
Json field_of(const std::exception& error) {
  if (const auto* field = dynamic_cast<const FieldError*>(&error)) return field->param().empty() ? Json() : Json(field->param());
  const std::string_view text = error.what(), name = text.substr(0, text.find(": "));
  const bool is_name = name.size() < text.size() && name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string_view::npos;
  return is_name ? Json(name) : Json();
}

// Without the folders of this machine's files.
std::string without_folders(std::string_view text) {
  std::string told;
  for (size_t at = 0; at < text.size();) {
    const bool begins = text[at] == '/' && (at == 0 || text[at - 1] == ' ' || text[at - 1] == '"');
    const std::string_view word = begins ? text.substr(at, text.find_first_of(" \":", at) - at) : text.substr(at, 1);
    told += begins ? word.substr(word.rfind('/') + 1) : word;
    at += word.size();
  }
  return told;
}

const char* type_of(int status) { return status == 429 ? "rate_limit_error" : status < 500 ? "invalid_request_error" : "server_error"; }

Failure make(int status, const std::string& message, const Json& param, const std::string& code) {
  return {.status = status,
          .body = {{"error",
                    {{"message", message}, {"type", type_of(status)}, {"param", param}, {"code", code.empty() ? Json() : Json(code)}}}}};
}

}  // namespace

Failure failure(const std::exception& error) {
  if (dynamic_cast<const DeviceError*>(&error))  // what it says is of this machine
    return make(503, "the device has failed, and the server is ending; ask another, or again soon", Json(), "failed");
  const bool theirs = dynamic_cast<const std::invalid_argument*>(&error) || dynamic_cast<const FileError*>(&error);
  const bool full = dynamic_cast<const ResourceError*>(&error) || dynamic_cast<const std::bad_alloc*>(&error);
  const auto* const field = dynamic_cast<const FieldError*>(&error);
  const bool unknown = field && field->code() == "model_not_found";
  return make(unknown  ? 404
              : theirs ? 400
              : full   ? 503
                       : 500,
              field ? error.what() : without_folders(error.what()), theirs ? field_of(error) : Json(), field ? field->code() : "");
}

Failure failure(int status, const std::string& message, const std::string& code) { return make(status, message, Json(), code); }

}  // namespace tessera::api
