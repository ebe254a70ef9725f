#include "generate/step_budget.h"

#include <algorithm>
#include <cmath>

namespace tessera {
namespace {

constexpr double kTimesDecodes = 3;    // that a step with prompts takes
constexpr int64_t kFirstPrompts = 32;  // tokens, before anything is known
constexpr double kLearn = 0.3;         // the part of a step in what is known
constexpr double kMostChange = 2;      // of what is known, by one step

void learn(double& known, double seen) {
  if (!(seen > 0)) return;
  known = known == 0 ? seen : known + kLearn * (std::clamp(seen, known / kMostChange, known * kMostChange) - known);
}

}  // namespace

double StepBudget::decode_seconds(int64_t decodes) const {
  const auto above = decode_.lower_bound(decodes);
  if (above != decode_.end() && above->first == decodes) return above->second;
  if (above != decode_.begin()) return std::prev(above)->second;  // fewer take less
  return above == decode_.end() ? 0 : above->second * static_cast<double>(decodes) / static_cast<double>(above->first);
}

int64_t StepBudget::prompt_tokens(int64_t decodes) const {
  if (decodes == 0) return most_;
  const double alone = decode_seconds(decodes);
  if (alone == 0 || prompt_ == 0) return std::min(kFirstPrompts, most_);
  const double tokens = std::floor((kTimesDecodes - 1) * alone / prompt_);
  return static_cast<int64_t>(std::clamp(tokens, 1.0, static_cast<double>(most_)));
}

void StepBudget::saw(int64_t decodes, int64_t prompts, double seconds) {
  if (prompts == 0) return learn(decode_[decodes], seconds);
  const double alone = decodes == 0 ? 0 : decode_seconds(decodes);
  if (decodes > 0 && !decode_.contains(decodes))  // so many have not gone alone yet
    return learn(decode_[decodes], std::max(seconds - prompt_ * static_cast<double>(prompts), seconds / kTimesDecodes));
  learn(prompt_, std::max(seconds - alone, seconds / 10) / static_cast<double>(prompts));
}

}  // namespace tessera
