#include "generate/step_budget.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace tessera {
namespace {

constexpr double kTimesDecodes = 3;    // that a step with prompts takes
constexpr int64_t kFirstPrompts = 32;  // tokens, before anything is known
constexpr double kFar = 1.25;          // times the most decodes that went alone
constexpr double kLeastOfDecodes = 0.1,
                 kLeastOfPrompts = 0.3;  // the part of a step in what is known of many; prompts grow slower as they are computed
constexpr double kMostChange = 1.3;      // of what is known, by one step: a busy machine's are much longer at times

}  // namespace

void StepBudget::learn(Known& known, double seen, double least) {
  if (!(seen > 0)) return;
  if (known.seen > 0) seen = std::clamp(seen, known.seconds / kMostChange, known.seconds * kMostChange);
  known.seconds += std::max(least, 1.0 / static_cast<double>(++known.seen)) * (seen - known.seconds);
}

double StepBudget::decode_seconds(int64_t decodes) const {
  if (decode_.empty()) return 0;
  const auto above = decode_.lower_bound(decodes);
  if (above == decode_.end()) return std::prev(above)->second.seconds;  // fewer take less
  if (above == decode_.begin()) return above->second.seconds * static_cast<double>(decodes) / static_cast<double>(above->first);
  const auto below = std::prev(above);
  const double part = static_cast<double>(decodes - below->first) / static_cast<double>(above->first - below->first);
  return below->second.seconds + part * (above->second.seconds - below->second.seconds);
}

int64_t StepBudget::prompt_tokens(int64_t decodes) const {
  if (decodes == 0) return most_;
  if (decode_.empty() || static_cast<double>(decodes) > kFar * static_cast<double>(decode_.rbegin()->first)) return 0;
  if (prompt_.seen == 0) return std::min(kFirstPrompts, most_);
  const double tokens = std::floor((kTimesDecodes - 1) * decode_seconds(decodes) / prompt_.seconds);
  return static_cast<int64_t>(std::clamp(tokens, 1.0, static_cast<double>(most_)));
}

void StepBudget::saw(int64_t decodes, int64_t prompts, double seconds) {
  if (prompts == 0) return learn(decode_[decodes], seconds, kLeastOfDecodes);
  const double alone = decodes == 0 ? 0 : decode_seconds(decodes);
  const double rest =
      decodes > 0 && alone == 0 ? seconds * static_cast<double>(prompts) / static_cast<double>(decodes + prompts) : seconds - alone;
  learn(prompt_, std::max(rest, seconds / 10) / static_cast<double>(prompts), kLeastOfPrompts);
}

}  // namespace tessera
