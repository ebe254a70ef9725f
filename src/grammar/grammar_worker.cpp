#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <new>

#include "core/error.h"
#include "grammar/grammar_compiler.h"
#include "grammar/helper_process.h"
#include "grammar/schema_caps.h"
#include "grammar/worker_messages.h"

namespace tessera {
namespace {

using namespace grammar;

void limit(decltype(RLIMIT_CPU) resource, int64_t most) {
  const rlimit both{static_cast<rlim_t>(most), static_cast<rlim_t>(most)};
  ::setrlimit(resource, &both);
}

int64_t address_space() {
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * ::sysconf(_SC_PAGESIZE);
}

Reply compile_within(const GrammarVocabulary& vocabulary, const Request& request) {
  const char* name = name_of(request.source.kind);
  try {
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_AS, address_space() + request.limits.memory_bytes);
    limit(RLIMIT_CPU, request.limits.cpu_seconds);
    std::string compiled = compile(vocabulary, request.source)->serialised();
    if (compiled.size() > static_cast<size_t>(request.limits.result_bytes))
      return {true,
              message(name, ": compiled it has ", compiled.size(), " bytes; at most ", request.limits.result_bytes, "; use a simpler one")};
    return {false, std::move(compiled)};
  } catch (const std::bad_alloc&) {
    return {true, message(name, ": it takes more than ", request.limits.memory_bytes >> 20, " MiB to compile; use a simpler one")};
  } catch (const std::exception& error) {
    return {true, error.what()};
  }
}

// What is to be said of a child that said nothing.
Reply reply_of_the_dead(int status, const Request& request) {
  const char* name = name_of(request.source.kind);
  const bool was_late = WIFSIGNALED(status) && (WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL);
  return {true, was_late ? message(name, ": it takes more than ", request.limits.cpu_seconds, " s to compile; use a simpler one")
                         : message(name, ": it cannot be compiled; use a simpler one")};
}

// The child's message; false where ours is no longer wanted.
bool receive_from_child(int child, int socket, std::string& reply, size_t most) {
  for (;;) {
    std::array<pollfd, 2> files{pollfd{child, POLLIN, 0}, pollfd{socket, 0, 0}};  // of the socket, whether it is closed
    if (::poll(files.data(), files.size(), -1) < 0 && errno != EINTR) return false;
    if (files[1].revents != 0) return false;
    if (files[0].revents == 0) continue;
    if (!receive_message(child, reply, most)) reply.clear();
    return true;
  }
}

// Compiles in a child, which a text may make end in any way. False where the result is no longer wanted.
bool serve(int socket, const GrammarVocabulary& vocabulary, const Request& request) {
  std::array<int, 2> ends;
  check<std::runtime_error>(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0, "grammar: no socket");
  const pid_t child = ::fork();
  check<std::runtime_error>(child >= 0, "grammar: no process");
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close(socket);
    ::close(ends[0]);
    send_message(ends[1], write_reply(compile_within(vocabulary, request)));
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string reply;
  const bool is_wanted = receive_from_child(ends[0], socket, reply, static_cast<size_t>(request.limits.result_bytes) + (1 << 10));
  ::close(ends[0]);
  if (!is_wanted) ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!is_wanted) return false;
  return send_message(socket, reply.empty() ? write_reply(reply_of_the_dead(status, request)) : reply);
}

}  // namespace

int grammar_worker_main(int socket) {
  static_cast<void>(::nice(5));
  try {
    std::string bytes;
    if (!receive_message(socket, bytes, kMostRequestBytes)) return 0;
    const GrammarVocabulary vocabulary = read_vocabulary(bytes);
    if (!send_message(socket, "")) return 0;
    while (receive_message(socket, bytes, kMostRequestBytes))
      if (!serve(socket, vocabulary, read_request(bytes))) return 0;
    return 0;
  } catch (const std::exception&) {  // who waits sees the socket closed
    return 1;
  }
}

}  // namespace tessera
