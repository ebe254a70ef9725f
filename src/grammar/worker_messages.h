#pragma once
// What a GrammarCompiler and its process say to each other.
#include <string>

#include "grammar/grammar.h"

namespace tessera::grammar {

constexpr size_t kMostRequestBytes = size_t{256} << 20;  // a vocabulary

struct Limits {
  int64_t cpu_seconds, memory_bytes, result_bytes;
};

struct Request {
  GrammarSource source;
  Limits limits;
};

struct Reply {
  bool is_refused;
  std::string text;  // why, or the compiled form
};

std::string write_vocabulary(const GrammarVocabulary& vocabulary);
GrammarVocabulary read_vocabulary(const std::string& bytes);
std::string write_request(const Request& request);
Request read_request(const std::string& bytes);
std::string write_reply(const Reply& reply);
Reply read_reply(const std::string& bytes);

}  // namespace tessera::grammar
