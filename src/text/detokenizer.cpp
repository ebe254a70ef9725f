#include "text/detokenizer.h"

#include "text/tokenizer_parts.h"

namespace tessera {

struct Detokenizer::State {
  const Tokenizer::Parts* parts;
  DecodeOptions options;
  text::Decoder::Stream stream;
};

Detokenizer::Detokenizer(const Tokenizer& tokenizer, const DecodeOptions& options)
    : state_(std::make_unique<State>(State{tokenizer.parts_.get(), options, text::Decoder::Stream(tokenizer.parts_->decoder)})) {}
Detokenizer::Detokenizer(Detokenizer&&) noexcept = default;
Detokenizer& Detokenizer::operator=(Detokenizer&&) noexcept = default;
Detokenizer::~Detokenizer() = default;

std::string Detokenizer::push(TokenId id) {
  std::string text;
  if (const auto token = state_->parts->token_for_text(id, state_->options)) state_->stream.push(*token, text);
  return text;
}

std::string Detokenizer::flush() {
  std::string text;
  state_->stream.flush(text);
  return text;
}

}  // namespace tessera
