#pragma once
#include <memory>
#include <span>
#include <string>

#include "api/answer.h"
#include "api/errors.h"

namespace tessera::api {

// Says in one API what a request is answered: as server-sent events while it comes, or whole. One thread at a time.
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;

  // Events, each with its blank line; before the first delta's, those that begin the stream. "" where a delta says nothing in this API.
  // `usage` is what has been counted so far, with all of the prompt.
  virtual std::string events(const AnswerDelta& delta, const Usage& usage) = 0;
  // Those that end the stream, when every choice has ended.
  virtual std::string last_events(const Usage& usage) = 0;
  // Of an error in the midst of the stream, which is its end.
  virtual std::string error_events(const Failure& failure) const = 0;

  // Not a stream: the whole body.
  virtual Json body(std::span<const Choice> choices, const Usage& usage) const = 0;
};

// One server-sent event: "data: JSON", after "event: NAME" if there is a name.
std::string event(const Json& data, std::string_view name = "");

}  // namespace tessera::api
