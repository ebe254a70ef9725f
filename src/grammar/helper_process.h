#pragma once
#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace tessera::grammar {

using Deadline = std::chrono::steady_clock::time_point;

// A program that has a socket to this process as its standard input, and no other file of ours but the standard streams. Killed in the end.
class HelperProcess {
 public:
  // Throws ResourceError.
  explicit HelperProcess(const std::vector<std::string>& command);
  HelperProcess(const HelperProcess&) = delete;
  HelperProcess& operator=(const HelperProcess&) = delete;
  ~HelperProcess();

  enum class Outcome { done, late, ended };  // ended: the process, or it said what is no message
  Outcome send(const std::string& message, Deadline deadline);
  // A message of at most `most` bytes.
  Outcome receive(std::string& message, size_t most, Deadline deadline);

 private:
  Outcome transfer(char* data, size_t size, bool is_sent, Deadline deadline);

  pid_t pid_ = -1;
  int socket_ = -1;
};

// The other side, which waits as long as it takes; false where there is no more.
bool send_message(int socket, std::string_view message);
bool receive_message(int socket, std::string& message, size_t most);

}  // namespace tessera::grammar
