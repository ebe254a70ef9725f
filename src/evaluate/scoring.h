#pragma once
// Teacher forcing over a text: each token is judged by the logits that the tokens before it give. The logits are streamed; no more than
// one Batch's rows are held a model.
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "evaluate/measures.h"
#include "generate/generator.h"

namespace tessera {

// A piece of a text that is one forward: tokens [begin, end), of which [first_scored, end) are scored.
struct Window {
  int64_t begin, end, first_scored;
};

// Windows of at most `size` tokens that begin every `stride` tokens and score each token but the first once. A scored token has at least
// size - stride tokens before it in its window, or all that the text has. Throws std::invalid_argument unless tokens >= 2, size >= 2 and
// 1 <= stride < size.
std::vector<Window> windows(int64_t tokens, int64_t size, int64_t stride);

struct ScoredText {
  std::vector<TokenId> tokens;
  std::vector<Window> windows;
  std::optional<TokenId> start;  // stands in place of the first token of each window that does not begin the text
};

// The text in one window if it fits, else in windows that begin with the text's begin token if it has one. `stride`: 0: half of a window.
ScoredText scored_text(std::vector<TokenId> tokens, int64_t window, int64_t stride, std::optional<TokenId> begin_token);

// A window's tokens as they are fed.
std::vector<TokenId> window_tokens(const ScoredText& text, const Window& window);

int64_t scored_tokens(const ScoredText& text);

// Calls judge(i, target, logits) for the i-th scored token in the order of the text, from `threads` threads at a time. Throws what stopped
// the forward, or what `judge` threw.
using RowJudge = std::function<void(size_t i, TokenId target, std::span<const float> logits)>;
void judge_rows(Generator& generator, const ScoredText& text, int threads, const RowJudge& judge, const Generator::Progress& progress = {});

// The negative log-likelihoods of the scored tokens, in the order of the text; the same bits for any number of threads.
std::vector<double> token_losses(Generator& generator, const ScoredText& text, int threads, const Generator::Progress& progress = {});

struct ComparedToken {
  double p_loss, q_loss;
  RowComparison rows;
};

// Two models side by side, p the reference. They may share a device; each has its own cache.
std::vector<ComparedToken> compare_tokens(Generator& p, Generator& q, const ScoredText& text, int threads,
                                          const Generator::Progress& progress = {});

}  // namespace tessera
