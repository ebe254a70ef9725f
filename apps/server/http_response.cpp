#include "server/http_response.h"

#include <array>
#include <cstdio>
#include <ctime>

#include "core/error.h"

namespace tessera::server {
namespace {

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 411:
      return "Length Required";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 529:
      return "Overloaded";
    default:
      return "";  // HTTP lets it be absent
  }
}

// Not strftime: days have no other names in another locale.
std::string date() {
  constexpr std::array kDays{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr std::array kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t now = std::time(nullptr);
  std::tm t{};
  ::gmtime_r(&now, &t);
  std::array<char, 64> text;
  const int length = std::snprintf(text.data(), text.size(), "%s, %02d %s %d %02d:%02d:%02d GMT", kDays[static_cast<size_t>(t.tm_wday)],
                                   t.tm_mday, kMonths[static_cast<size_t>(t.tm_mon)], t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
  return std::string(text.data(), static_cast<size_t>(length));
}

void add_line(std::string& head, std::string_view name, std::string_view value) {
  const auto append = [&](std::string_view text) {
    for (const char c : text) head += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? ' ' : c;
  };
  append(name);
  head += ": ";
  append(value);
  head += "\r\n";
}

}  // namespace

std::string response_head(int status, std::string_view content_type, std::optional<size_t> content_length, const HttpFields& headers) {
  std::string head = message("HTTP/1.1 ", status, ' ', reason(status), "\r\n");
  add_line(head, "Date", date());
  if (!content_type.empty()) add_line(head, "Content-Type", content_type);
  // A 204 or 304 has no body, and so no length of one.
  if (content_length && status != 204 && status != 304) add_line(head, "Content-Length", std::to_string(*content_length));
  for (const auto& [name, value] : headers) add_line(head, name, value);
  return head += "\r\n";
}

std::string chunk(std::string_view bytes) {
  std::array<char, 24> size;
  const int length = std::snprintf(size.data(), size.size(), "%zx\r\n", bytes.size());
  return std::string(size.data(), static_cast<size_t>(length)).append(bytes).append("\r\n");
}

}  // namespace tessera::server
