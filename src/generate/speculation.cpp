#include "generate/speculation.h"

#include <algorithm>
#include <utility>

namespace tessera {
namespace {

constexpr size_t kLongestMatch = 16;

}  // namespace

std::vector<TokenId> PromptLookup::draft(std::span<const TokenId> tokens, size_t, int64_t count) {
  const size_t size = tokens.size();
  size_t longest = 0, follows = 0;
  for (size_t end = size; end-- > 1 && longest < kLongestMatch;) {  // of a piece that stood before
    size_t match = 0;
    while (match < std::min(end, kLongestMatch) && tokens[end - 1 - match] == tokens[size - 1 - match]) ++match;
    if (match > longest) {
      longest = match;
      follows = end;
    }
  }
  if (longest == 0) return {};
  std::vector<TokenId> draft;
  for (size_t i = follows; count-- > 0; ++i) draft.push_back(i < size ? tokens[i] : draft[i - size]);
  return draft;
}

DraftModel::DraftModel(Generator& generator, Sampler sampler, int64_t vocab_size)
    : generator_(generator), sampler_(std::move(sampler)), vocab_size_(vocab_size), sequence_(generator.cache().create()) {}

std::vector<TokenId> DraftModel::draft(std::span<const TokenId> tokens, size_t prompt, int64_t count) {
  const auto unknown = [&](TokenId token) { return token >= generator_.model().spec().vocab_size; };
  count = std::min(count, generator_.room_behind(tokens.size()));
  if (count <= 0 || std::any_of(tokens.begin(), tokens.end(), unknown)) return {};
  std::vector<TokenId>& own = sequence_->tokens;
  const auto same = std::mismatch(own.begin(), own.end(), tokens.begin(), tokens.end()).first - own.begin();
  generator_.cache().truncate(*sequence_, same);
  own.insert(own.end(), tokens.begin() + same, tokens.end());
  std::vector<TokenId> draft;
  const auto take = [&](const NewToken& token) {
    const bool known = token.id < vocab_size_;
    if (known) draft.push_back(token.id);
    return known;
  };
  Generation generation{.sequence = *sequence_, .sampler = sampler_, .max_new_tokens = count, .prompt = prompt, .goes_on = take};
  generate(generator_, std::span(&generation, 1));
  return draft;
}

}  // namespace tessera
