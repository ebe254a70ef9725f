#include "grammar/helper_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "core/error.h"

extern char** environ;

namespace tessera::grammar {
namespace {

void spawn(pid_t& pid, const std::vector<std::string>& command, int standard_input) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&files, standard_input, STDIN_FILENO);
  ::posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setpgroup(&attributes, 0);  // a Ctrl-C at the terminal is for us
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const int error = ::posix_spawn(&pid, words[0], &files, &attributes, words.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&files);
  check<ResourceError>(error == 0, "grammar: the process that compiles forms cannot be started: ", std::strerror(error));
}

std::array<int, 2> socket_pair() {
  std::array<int, 2> ends;
  check<ResourceError>(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0,
                       "grammar: no socket to the process that compiles forms: ", std::strerror(errno));
  return ends;
}

bool transfer_all(int socket, char* data, size_t size, bool is_sent) {
  while (size > 0) {
    const ssize_t moved = is_sent ? ::send(socket, data, size, MSG_NOSIGNAL) : ::recv(socket, data, size, 0);
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return false;
    data += moved;
    size -= static_cast<size_t>(moved);
  }
  return true;
}

}  // namespace

HelperProcess::HelperProcess(const std::vector<std::string>& command) {
  const auto [ours, theirs] = socket_pair();
  socket_ = ours;
  try {
    spawn(pid_, command, theirs);
  } catch (...) {
    ::close(ours);
    ::close(theirs);
    throw;
  }
  ::close(theirs);
}

HelperProcess::~HelperProcess() {
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  ::close(socket_);
}

HelperProcess::Outcome HelperProcess::transfer(char* data, size_t size, bool is_sent, Deadline deadline) {
  while (size > 0) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0) return Outcome::late;
    pollfd ready{socket_, static_cast<short>(is_sent ? POLLOUT : POLLIN), 0};
    const int count = ::poll(&ready, 1, static_cast<int>(std::min<int64_t>(left, 60'000)));
    if (count == 0 || (count < 0 && errno == EINTR)) continue;
    if (count < 0) return Outcome::ended;
    const ssize_t moved = is_sent ? ::send(socket_, data, size, MSG_NOSIGNAL | MSG_DONTWAIT) : ::recv(socket_, data, size, MSG_DONTWAIT);
    if (moved < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (moved <= 0) return Outcome::ended;
    data += moved;
    size -= static_cast<size_t>(moved);
  }
  return Outcome::done;
}

HelperProcess::Outcome HelperProcess::send(const std::string& message, Deadline deadline) {
  uint64_t size = message.size();
  const Outcome outcome = transfer(reinterpret_cast<char*>(&size), sizeof size, true, deadline);
  return outcome == Outcome::done ? transfer(const_cast<char*>(message.data()), size, true, deadline) : outcome;
}

HelperProcess::Outcome HelperProcess::receive(std::string& message, size_t most, Deadline deadline) {
  uint64_t size = 0;
  const Outcome outcome = transfer(reinterpret_cast<char*>(&size), sizeof size, false, deadline);
  if (outcome != Outcome::done) return outcome;
  if (size > most) return Outcome::ended;
  message.resize(size);
  return transfer(message.data(), size, false, deadline);
}

bool send_message(int socket, std::string_view message) {
  uint64_t size = message.size();
  return transfer_all(socket, reinterpret_cast<char*>(&size), sizeof size, true) &&
         transfer_all(socket, const_cast<char*>(message.data()), size, true);
}

bool receive_message(int socket, std::string& message, size_t most) {
  uint64_t size = 0;
  if (!transfer_all(socket, reinterpret_cast<char*>(&size), sizeof size, false) || size > most) return false;
  message.resize(size);
  return transfer_all(socket, message.data(), size, false);
}

}  // namespace tessera::grammar
