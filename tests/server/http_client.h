#pragma once
// A client made of a bare socket, which sends what it is told and no more.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace tessera::server {

using namespace std::chrono_literals;

constexpr std::chrono::seconds kPatience{20};  // until a test gives up: for machines that are busy

struct ClientResponse {
  int status = 0;
  std::string head, body;
};

class HttpClient {
 public:
  explicit HttpClient(int port, int receive_bytes = 0) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (fd_ < 0) throw std::runtime_error("no socket");
    if (receive_bytes != 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) throw std::runtime_error("no connection");
  }
  HttpClient(HttpClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)), in_(std::move(other.in_)) {}
  HttpClient& operator=(HttpClient&&) = delete;
  ~HttpClient() { close(); }

  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void send_end() { ::shutdown(fd_, SHUT_WR); }
  void reset() {
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }

  // False if the server has closed.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  bool waits_for_bytes(std::chrono::milliseconds patience) {
    pollfd state{.fd = fd_, .events = POLLIN, .revents = 0};
    return ::poll(&state, 1, static_cast<int>(patience.count())) == 1;
  }
  // Waits for bytes: false at the connection's end, or when nothing came.
  bool more(std::chrono::milliseconds patience = kPatience) {
    if (!waits_for_bytes(patience)) return false;
    char bytes[65536];
    const ssize_t size = ::recv(fd_, bytes, sizeof bytes, 0);
    if (size <= 0) return false;
    in_.append(bytes, static_cast<size_t>(size));
    return true;
  }

  // What has come up to and with `end`; less of it if the connection ends before.
  std::string read_to(std::string_view end) {
    size_t at;
    while ((at = in_.find(end)) == std::string::npos) {
      if (!more()) return std::exchange(in_, {});
    }
    std::string read = in_.substr(0, at + end.size());
    in_.erase(0, read.size());
    return read;
  }
  std::string read_bytes(size_t size) {
    while (in_.size() < size && more()) {
    }
    std::string read = in_.substr(0, size);
    in_.erase(0, read.size());
    return read;
  }
  // Everything until the server closes; std::nullopt if it does not.
  std::optional<std::string> read_all() {
    while (more()) {
    }
    if (!is_closed()) return std::nullopt;
    return std::exchange(in_, {});
  }
  bool is_closed() {
    char byte;
    return waits_for_bytes(0ms) && ::recv(fd_, &byte, 1, MSG_PEEK) <= 0;
  }

  // A response with its body, of a given length or in chunks. Status 0: there is none.
  ClientResponse response() {
    ClientResponse result;
    result.head = read_to("\r\n\r\n");
    if (result.head.size() < 12 || !result.head.starts_with("HTTP/1.")) return {};
    result.status = std::atoi(result.head.c_str() + 9);
    if (const size_t at = result.head.find("Content-Length: "); at != std::string::npos) {
      result.body = read_bytes(static_cast<size_t>(std::atoll(result.head.c_str() + at + 16)));
    } else if (result.head.find("Transfer-Encoding: chunked") != std::string::npos) {
      for (std::string part; !(part = chunk()).empty();) result.body += part;
    }
    return result;
  }
  // "" for the last.
  std::string chunk() {
    const size_t size = std::strtoull(read_to("\r\n").c_str(), nullptr, 16);
    std::string bytes = read_bytes(size + 2);
    bytes.resize(bytes.size() < 2 ? 0 : bytes.size() - 2);
    return bytes;
  }

  ClientResponse get(std::string_view path) {
    send("GET " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    return response();
  }
  bool send_post(std::string_view path, std::string_view body) {
    return send("POST " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " +
                std::to_string(body.size()) + "\r\n\r\n" + std::string(body));
  }
  ClientResponse post(std::string_view path, std::string_view body) {
    send_post(path, body);
    return response();
  }

 private:
  int fd_;
  std::string in_;
};

}  // namespace tessera::server
