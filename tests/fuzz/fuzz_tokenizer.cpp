// The first line of the input is taken for a tokenizer.json; what follows is a text for it, and each of its bytes an id.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace {

using tessera::TokenId;
using tessera::Tokenizer;

void expect(bool ok) {
  if (!ok) std::abort();
}

void expect_streamed_as_decoded(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  for (const bool skip_special : {false, true}) {
    const tessera::DecodeOptions options{.skip_special = skip_special};
    tessera::Detokenizer detokenizer(tokenizer, options);
    std::string streamed;
    for (const TokenId id : ids) streamed += detokenizer.push(id);
    streamed += detokenizer.flush();
    expect(streamed == tokenizer.decode(ids, options));
  }
}

void try_text(const Tokenizer& tokenizer, std::string_view text, const tessera::EncodeOptions& options) {
  std::vector<TokenId> ids;
  try {
    ids = tokenizer.encode(text, options);
  } catch (const std::invalid_argument&) {  // no UTF-8, or past a limit
    return;
  }
  std::set<TokenId> special;
  for (const TokenId id : ids) {
    expect(tokenizer.has_token(id));
    if (tokenizer.is_special(id)) special.insert(id);
  }
  expect(options.parse_special || special.size() <= 1);  // the unknown token may be a special one
  expect_streamed_as_decoded(tokenizer, ids);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t line = input.find('\n');
  const std::string_view text = line == std::string_view::npos ? "" : input.substr(line + 1);
  try {
    const Tokenizer tokenizer = Tokenizer::parse(input.substr(0, line), "tokenizer.json");
    expect(tokenizer.vocab_size() > 0);
    try_text(tokenizer, text, {.parse_special = true});
    try_text(tokenizer, text, {.parse_special = false});
    std::vector<TokenId> ids;
    for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
    expect_streamed_as_decoded(tokenizer, ids);
    for (const TokenId id : tokenizer.encode("", {.add_special_tokens = true})) expect(id >= 0 && id < tokenizer.vocab_size());
  } catch (const tessera::FileError&) {
  }
  return 0;
}
