#pragma once
// Ids to text, one at a time. All that a Detokenizer returns, joined, is what Tokenizer::decode gives for all ids together.
#include <memory>
#include <string>

#include "core/types.h"
#include "text/tokenizer.h"

namespace tessera {

class Detokenizer {
 public:
  // The tokenizer must outlive this.
  Detokenizer(const Tokenizer& tokenizer, const DecodeOptions& options);
  Detokenizer(Detokenizer&&) noexcept;
  Detokenizer& operator=(Detokenizer&&) noexcept;
  ~Detokenizer();

  // The text that this id completes: whole characters, often none. Bytes wait until their character is complete; a run of byte tokens
  // (<0xE2> ...) waits for its end, since one bad byte makes U+FFFD of the whole run. A decoder may drop the text's leading space: who
  // continues a text pushes the ids before it as well and leaves out what they return. Throws as Tokenizer::decode.
  std::string push(TokenId id);

  // What is still held, U+FFFD for a character that was never completed. The next push begins a new text.
  std::string flush();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera
