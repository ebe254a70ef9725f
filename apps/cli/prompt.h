#pragma once
#include <optional>
#include <string>
#include <vector>

#include "cli/session.h"

namespace CLI {
class Option_group;
}

namespace tessera {

// A text for a model, given in one of three ways.
struct PromptFlags {
  std::optional<std::string> text, file, ids_file;

  bool given() const { return text || file || ids_file; }
};

// The flags form a group; its caller says how many of them are needed.
CLI::Option_group& add_prompt_flags(CLI::App& command, PromptFlags& flags);

// The text that was given as such or in a file.
std::string prompt_text(const PromptFlags& flags);

// The ids of what was given, at least one. A text is encoded raw: with the tokenizer's own special tokens around it and those in it parsed.
std::vector<TokenId> prompt_ids(const PromptFlags& flags, Session& session);

}  // namespace tessera
