#include "server/http_filter.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "core/error.h"

namespace tessera::server {
namespace {

constexpr std::string_view kEnd = "\r\n\r\n";

template <class... Parts>
void expect(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]]
    throw HttpError(400, "bad_request", message(parts...));
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = lower(c);
  return result;
}

// RFC 9110's tchar.
bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z') || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// Takes what stands before the first `separator`, or all.
std::string_view take(std::string_view& text, std::string_view separator) {
  const size_t at = text.find(separator);
  const std::string_view taken = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + separator.size());
  return taken;
}

bool lists(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    if (is_same_but_case(trimmed(take(list, ",")), word)) return true;
  }
  return false;
}

// Bytes before the head's end: each CR LF is one, and no other control character stands anywhere.
void check_bytes(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(bytes[i]);
    if (c == '\r') {
      expect(i + 1 == bytes.size() || bytes[i + 1] == '\n', "a CR in the head is not followed by LF");
      ++i;
    } else {
      expect((c >= 0x20 && c != 0x7F) || c == '\t', "the head has a control character, or a line that ends by LF alone");
    }
  }
}

void parse_request_line(std::string_view line, HttpHead& head) {
  constexpr std::array<std::string_view, 8> kMethods{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"};
  const std::string_view method = take(line, " "), target = take(line, " "), version = line;
  expect(std::ranges::find(kMethods, method) != kMethods.end(), "the method is unknown");
  expect(target.starts_with('/'), "the target is no path");
  expect(std::ranges::all_of(target, [](char c) { return c > ' ' && c < 0x7F && c != '#'; }),
         "the target has characters other than printable ASCII, or a #");
  expect(version == "HTTP/1.1" || version == "HTTP/1.0", "the version is neither HTTP/1.1 nor HTTP/1.0");
  head.is_head = method == "HEAD";
  head.minor_version = version.back() - '0';
  head.request.method = head.is_head ? "GET" : method;
  std::string_view rest = target;
  head.request.path = take(rest, "?");
  head.request.query = rest;
}

void add_header(std::string_view line, HttpFields& headers) {
  const size_t colon = line.find(':');
  expect(colon != std::string_view::npos && is_token(line.substr(0, colon)), "a header line does not begin with a name and a colon");
  const std::string name = lower(line.substr(0, colon));
  const std::string_view value = trimmed(line.substr(colon + 1));
  const auto same = std::ranges::find(headers, name, &std::pair<std::string, std::string>::first);
  if (same == headers.end()) {
    headers.emplace_back(name, value);
    return;
  }
  expect(name != "host" && name != "content-length" && name != "transfer-encoding", name, " is there twice");
  same->second.append(", ").append(value);
}

void parse_framing(HttpHead& head) {
  for (const auto& [name, value] : head.request.headers) {
    if (name == "transfer-encoding") {
      expect(head.minor_version == 1 && value == "chunked", "transfer-encoding is other than \"chunked\" on HTTP/1.1");
      head.is_chunked = true;
    } else if (name == "content-length") {
      uint64_t length = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
      expect(error == std::errc() && end == value.data() + value.size(), "content-length is no number of bytes");
      head.content_length = length;
    } else if (name == "connection") {
      head.keeps_alive = head.minor_version == 1 ? !lists(value, "close") : lists(value, "keep-alive") && !lists(value, "close");
    }
  }
  expect(!head.is_chunked || !head.content_length, "content-length and transfer-encoding are both there");
}

}  // namespace

bool is_same_but_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

size_t head_size(std::string_view bytes, size_t limit) {
  const size_t end = bytes.find(kEnd);
  const std::string_view head = bytes.substr(0, end == std::string_view::npos ? bytes.size() : end + kEnd.size());
  const size_t line_end = head.find("\r\n");
  if (head.size() > limit) {
    if (line_end == std::string_view::npos || line_end > limit) {
      throw HttpError(414, "target_too_long", message("the request line has more than ", limit, " bytes"));
    }
    throw HttpError(431, "headers_too_large", message("the request line and the headers have more than ", limit, " bytes"));
  }
  expect(head.empty() || (head[0] >= 'A' && head[0] <= 'Z'), "the request does not begin with a method");
  check_bytes(head);
  if (line_end != std::string_view::npos) {
    HttpHead ignored;
    parse_request_line(head.substr(0, line_end), ignored);
  }
  return end == std::string_view::npos ? 0 : head.size();
}

HttpHead parse_head(std::string_view head, int line_limit) {
  HttpHead result;
  check_bytes(head);
  expect(head.ends_with(kEnd), "the head does not end with a blank line");
  head.remove_suffix(2);
  parse_request_line(take(head, "\r\n"), result);
  result.keeps_alive = result.minor_version == 1;
  for (int lines = 0; !head.empty(); ++lines) {
    if (lines == line_limit) throw HttpError(431, "headers_too_large", message("there are more than ", line_limit, " header lines"));
    add_header(take(head, "\r\n"), result.request.headers);
  }
  parse_framing(result);
  const auto& headers = result.request.headers;
  const bool has_host = std::ranges::find(headers, "host", &std::pair<std::string, std::string>::first) != headers.end();
  expect(has_host || result.minor_version == 0, "there is no host header");
  if (has_host) host_name(result.request.header("host"));
  return result;
}

std::string host_name(std::string_view host) {
  const size_t end = host.starts_with('[') ? host.find(']') + 1 : host.find(':');
  const std::string name = lower(host.substr(0, end));
  std::string_view port = end < host.size() ? host.substr(end) : std::string_view(":");
  expect(port.starts_with(':') && port.size() <= 6 && std::ranges::all_of(port.substr(1), is_digit),
         "the host header has a port that is none");
  const std::string_view inner = name.starts_with('[') && name.ends_with(']') ? std::string_view(name).substr(1, name.size() - 2) : name;
  const std::string_view letters = inner.size() < name.size() ? "0123456789abcdef:." : "0123456789abcdefghijklmnopqrstuvwxyz-._";
  expect(!inner.empty() && inner.find_first_not_of(letters) == std::string_view::npos, "the host header is no name or address");
  return name;
}

bool is_allowed_host(std::string_view name, std::span<const std::string> allowed) {
  return name == "localhost" || name == "127.0.0.1" || name == "[::1]" ||
         std::ranges::any_of(allowed, [&](const std::string& host) { return is_same_but_case(host, name); });
}

bool is_own_origin(std::string_view origin, std::string_view host) {
  const std::string_view scheme = origin.substr(0, origin.find("://") + 3);
  return !host.empty() && (scheme == "http://" || scheme == "https://") && is_same_but_case(origin.substr(scheme.size()), host);
}

bool is_json(std::string_view content_type) {
  if (!is_same_but_case(trimmed(take(content_type, ";")), "application/json")) return false;
  while (!content_type.empty()) {
    std::string_view value = trimmed(take(content_type, ";"));
    const std::string_view name = trimmed(take(value, "="));
    if (value.size() > 1 && value.starts_with('"') && value.ends_with('"')) value = value.substr(1, value.size() - 2);
    if (is_same_but_case(name, "charset") && !is_same_but_case(value, "utf-8") && !is_same_but_case(value, "utf8")) return false;
  }
  return true;
}

bool takes_gzip(std::string_view accept_encoding) {
  while (!accept_encoding.empty()) {
    std::string_view weight = take(accept_encoding, ",");
    if (trimmed(take(weight, ";")) != "gzip") continue;
    weight = trimmed(weight);
    return !weight.starts_with("q=0") || weight.find_first_of("123456789") != std::string_view::npos;
  }
  return false;
}

}  // namespace tessera::server
