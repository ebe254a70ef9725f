#pragma once
// Strangers' forms are compiled in a process of their own, with limits, since a text of a few bytes may take the compiler any time and
// memory.
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "grammar/grammar.h"

namespace tessera {

namespace grammar {
class HelperProcess;
struct Reply;
}  // namespace grammar

struct GrammarCompilerOptions {
  std::vector<std::string> command;         // starts a process that calls grammar_worker_main(0), here, with no search in PATH
  int64_t cpu_seconds = 2;                  // of a form
  int64_t memory_bytes = int64_t{2} << 30;  // beyond what the process has before
  double wall_seconds = 10;
  size_t result_bytes = size_t{16} << 20;  // of a compiled form
  size_t cache_bytes = size_t{64} << 20;   // of those that are kept
  size_t max_waiting = 16;                 // of an owner's
};

// Threads may share it.
class GrammarCompiler {
 public:
  // Starts the process, which ends with this object, or when this process ends; it is started anew when it dies. To be made before the
  // program has many threads or much memory. Throws ResourceError where it cannot be started.
  GrammarCompiler(GrammarVocabulary vocabulary, GrammarCompilerOptions options);
  ~GrammarCompiler();

  // Waits for the compiled form: owners take turns, each with its forms in order. Those that were compiled or refused before are kept.
  // Throws std::invalid_argument (refused, saying why) and ResourceError (too many of this owner wait; the process cannot be started).
  std::shared_ptr<const CompiledGrammar> compile(const GrammarSource& source, const std::string& owner);

  size_t waiting() const;  // callers, with the one whose form is compiled

  const GrammarVocabulary& vocabulary() const { return vocabulary_; }

 private:
  using Result = std::shared_ptr<const CompiledGrammar>;
  struct Known {
    std::string key;
    Result grammar;  // null: refused
    std::string refusal;
    size_t bytes;
  };
  class Turn;

  const Known* find(const std::string& key);
  void keep(Known known);
  static Result result_of(const Known& known);
  Known ask(const GrammarSource& source, const std::string& key);
  grammar::Reply exchange(const std::string& request);
  void next();
  void start();

  const GrammarVocabulary vocabulary_;
  const GrammarCompilerOptions options_;

  mutable std::mutex mutex_;
  std::condition_variable turn_ended_;
  std::map<std::string, std::deque<const Turn*>> waiting_;  // by owner
  std::deque<std::string> owners_;                          // of those who wait, whose turn is next first
  const Turn* running_ = nullptr;
  size_t waiting_count_ = 0;
  std::list<Known> known_;  // the last used first
  std::unordered_map<std::string_view, std::list<Known>::iterator> known_by_key_;
  size_t known_bytes_ = 0;

  std::unique_ptr<grammar::HelperProcess> helper_;  // of whose turn it is
};

// What the other process does: reads a vocabulary and then forms from the socket, compiles each in a child with its limits, and writes what
// became of it. Returns an exit code when the socket is closed.
int grammar_worker_main(int socket);

}  // namespace tessera
