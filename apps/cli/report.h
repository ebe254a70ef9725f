#pragma once
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "core/output_file.h"
#include "models/registry.h"

namespace CLI {
class App;
}

namespace tessera {

void add_json_flag(CLI::App& command, std::optional<std::string>& path);

// What --json asks for: the facts of a command as one JSON document, in a file or, for "-", on standard output in place of the text.
class Report {
 public:
  // Opens the file at once, so that a place that cannot be written is found before the work.
  explicit Report(const std::optional<std::string>& path);

  void set(const nlohmann::ordered_json& facts) { facts_.update(facts); }
  void print(const std::string& text);  // unless the JSON goes to standard output
  void finish();

 private:
  bool to_standard_output_;
  std::optional<OutputFile> file_;
  nlohmann::ordered_json facts_;
};

// printf's formats, for tables; 400 bytes at most.
template <class... Values>
std::string format(const char* pattern, Values... values) {
  char text[400];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

// {"weights": "bfloat16", "activations": ..., "cache": ...}
nlohmann::ordered_json precision_json(const ModelOptions& options);

int64_t parameters(const ModelDescription& model);  // how many values its weights and biases have

}  // namespace tessera
