#pragma once
#include <functional>
#include <optional>
#include <string>

#include "api/answer_format.h"
#include "api/chat_completions.h"
#include "generate/grammar_source.h"

namespace tessera::api {

// Whether a tool's schema can be held.
using Enforceable = std::function<bool(const std::string& schema)>;

// What an answer is held to: to calls of tools, once one has begun (automatic) or from its begin (required, named), with arguments as their
// schemas say; to `form`, unless it is a call; and both behind the thinking. A tool whose schema cannot be held is held to a JSON object
// unless it is strict. nullopt: to nothing.
std::optional<GrammarSource> answer_grammar(const AnswerFormat& format, Thinking thinking, const Tools& tools,
                                            const std::optional<GrammarSource>& form, const Enforceable& enforceable);

}  // namespace tessera::api
