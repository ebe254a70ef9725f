#pragma once
#include <cstddef>
#include <functional>
#include <optional>
#include <string>

#include "api/answer_format.h"
#include "api/chat_completions.h"
#include "generate/grammar_source.h"

namespace tessera::api {

// Bytes of the schemas of a request's tools; those beyond take any object.
constexpr size_t kMostSchemaBytes = size_t{256} << 10;

// Whether a tool's schema can be held. `bytes`: of the schemas of the request's tools, up to this one.
using Enforceable = std::function<bool(const std::string& schema, size_t bytes)>;

// What an answer is held to: to calls of tools, once one has begun (automatic) or from its begin (required, named), with arguments as their
// schemas say; to `form`, unless it is a call; and both behind the thinking. A tool whose schema cannot be held is held to a JSON object
// unless it is strict. nullopt: to nothing.
std::optional<GrammarSource> answer_grammar(const AnswerFormat& format, Thinking thinking, const Tools& tools,
                                            const std::optional<GrammarSource>& form, const Enforceable& enforceable);

}  // namespace tessera::api
