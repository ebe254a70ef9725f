#include "evaluate/scoring.h"

#include <algorithm>
#include <atomic>
#include <future>

#include "core/error.h"

namespace tessera {
namespace {

// One window of a text on its way through a model, and the rows of the last step that are not judged yet.
class Pass {
 public:
  Pass(Generator& generator, const ScoredText& text, const Window& window)
      : generator_(generator), sequence_(generator.cache().create()), request_{sequence_.get(), window.end - window.first_scored} {
    sequence_->tokens = window_tokens(text, window);
    sequence_->tokens.pop_back();  // nothing after it is scored
    generator_.begin(std::span(&request_, 1));
  }

  // Steps until there are rows, calling `between` before each; false at the window's end.
  bool fill(const std::function<void()>& between) {
    while (used_ == rows_.size()) {
      between();
      rows_.clear();
      used_ = 0;
      batch_.reset();  // the next may take its memory
      batch_ = generator_.step(std::span(&request_, 1));
      if (request_.error) std::rethrow_exception(request_.error);
      if (!batch_) return false;
      for (size_t row = 0; row < batch_->size(); ++row) rows_.push_back((*batch_)[row]);
    }
    return true;
  }

  std::span<const std::span<const float>> rows() const { return std::span(rows_).subspan(used_); }
  void drop(size_t count) { used_ += count; }

 private:
  Generator& generator_;
  std::unique_ptr<Sequence> sequence_;
  Generator::Request request_;
  std::optional<LogitRows> batch_;
  std::vector<std::span<const float>> rows_;  // of the batch
  size_t used_ = 0;
};

// Calls work(i) for every i below `count` on `threads` threads; throws what one of them threw.
void parallel_for(size_t count, int threads, const std::function<void(size_t)>& work) {
  std::atomic<size_t> next = 0;
  const auto run = [&] {
    for (size_t i; (i = next++) < count;) work(i);
  };
  std::vector<std::future<void>> others;
  for (size_t i = 1; i < std::min(count, static_cast<size_t>(std::max(threads, 1))); ++i)
    others.push_back(std::async(std::launch::async, run));
  run();
  for (std::future<void>& other : others) other.get();
}

}  // namespace

std::vector<Window> windows(int64_t tokens, int64_t size, int64_t stride) {
  check(tokens >= 2, "a text of ", tokens, " tokens cannot be scored: its first token has nothing before it; give at least 2");
  check(size >= 2, "window: ", size, " tokens; at least 2 are needed");
  check(stride >= 1 && stride < size, "stride: ", stride, " is outside 1..", size - 1, ", the window's length less one");
  std::vector<Window> all;
  for (int64_t begin = 0, first = 1; first < tokens; begin += stride) {
    const int64_t end = begin + std::min(size, tokens - begin);
    all.push_back({begin, end, first});
    first = end;
  }
  return all;
}

ScoredText scored_text(std::vector<TokenId> tokens, int64_t window, int64_t stride, std::optional<TokenId> begin_token) {
  ScoredText text{.tokens = std::move(tokens)};
  text.windows = windows(static_cast<int64_t>(text.tokens.size()), window, stride > 0 ? stride : std::max<int64_t>(window / 2, 1));
  if (begin_token && text.tokens.front() == *begin_token) text.start = begin_token;
  return text;
}

std::vector<TokenId> window_tokens(const ScoredText& text, const Window& window) {
  std::vector<TokenId> tokens(text.tokens.begin() + window.begin, text.tokens.begin() + window.end);
  if (window.begin > 0 && text.start) tokens.front() = *text.start;
  return tokens;
}

int64_t scored_tokens(const ScoredText& text) {
  int64_t count = 0;
  for (const Window& window : text.windows) count += window.end - window.first_scored;
  return count;
}

void judge_rows(Generator& generator, const ScoredText& text, int threads, const RowJudge& judge, const Generator::Progress& progress) {
  size_t done = 0;
  const auto report = [&, total = scored_tokens(text)] {
    if (progress) progress(static_cast<int64_t>(done), total);
  };
  for (const Window& window : text.windows) {
    Pass pass(generator, text, window);
    for (auto token = static_cast<size_t>(window.first_scored); pass.fill(report);) {
      const auto rows = pass.rows();
      parallel_for(rows.size(), threads, [&](size_t i) { judge(done + i, text.tokens[token + i], rows[i]); });
      token += rows.size();
      done += rows.size();
      pass.drop(rows.size());
    }
  }
  report();
}

std::vector<double> token_losses(Generator& generator, const ScoredText& text, int threads, const Generator::Progress& progress) {
  std::vector<double> losses(static_cast<size_t>(scored_tokens(text)));
  judge_rows(
      generator, text, threads,
      [&](size_t i, TokenId target, std::span<const float> logits) { losses[i] = negative_log_likelihood(logits, target); }, progress);
  return losses;
}

std::vector<ComparedToken> compare_tokens(Generator& p, Generator& q, const ScoredText& text, int threads,
                                          const Generator::Progress& progress) {
  std::vector<ComparedToken> compared;
  const auto report = [&, total = scored_tokens(text)] {
    if (progress) progress(static_cast<int64_t>(compared.size()), total);
  };
  for (const Window& window : text.windows) {
    Pass p_pass(p, text, window), q_pass(q, text, window);
    for (auto token = static_cast<size_t>(window.first_scored); p_pass.fill(report) && q_pass.fill(report);) {
      const auto p_rows = p_pass.rows(), q_rows = q_pass.rows();
      const size_t done = compared.size(), count = std::min(p_rows.size(), q_rows.size());
      compared.resize(done + count);
      parallel_for(count, threads, [&](size_t i) {
        const auto target = static_cast<size_t>(text.tokens[token + i]);
        const RowComparison rows = compare_rows(p_rows[i], q_rows[i]);
        compared[done + i] = {rows.p_log_sum - p_rows[i][target], rows.q_log_sum - q_rows[i][target], rows};
      });
      token += count;
      p_pass.drop(count);
      q_pass.drop(count);
    }
  }
  report();
  return compared;
}

}  // namespace tessera
