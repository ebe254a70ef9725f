#include "generate/logits_processors.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_map>

namespace tessera {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

bool has(Scores scores, TokenId token) { return token >= 0 && static_cast<size_t>(token) < scores.size(); }

float& at(Scores scores, TokenId token) { return scores[static_cast<size_t>(token)]; }

double entropy(const Candidates& candidates) {
  double sum = 0;
  for (const TokenProbability& c : candidates) sum -= c.probability * std::log(c.probability);
  return sum;
}

// Keeps the first and those that are at least so probable.
void cut_below(Candidates& candidates, double bound) {
  while (candidates.size() > 1 && candidates.back().probability < bound) candidates.pop_back();
  normalize(candidates);
}

}  // namespace

void sequence_bias(Scores scores, Tokens tokens, const std::vector<std::pair<std::vector<TokenId>, double>>& biases) {
  std::unordered_map<TokenId, float> sums;
  for (const auto& [sequence, bias] : biases) {
    const auto before = Tokens(sequence).first(sequence.size() - 1);
    if (before.size() > tokens.size() || !std::equal(before.begin(), before.end(), tokens.last(before.size()).begin())) continue;
    sums[sequence.back()] += static_cast<float>(bias);
  }
  for (const auto& [token, sum] : sums)
    if (has(scores, token)) at(scores, token) += sum;
}

void repetition_penalty(Scores scores, Tokens tokens, double penalty) {
  const auto factor = static_cast<float>(penalty);
  std::vector<bool> done(scores.size());
  for (const TokenId token : tokens) {
    if (!has(scores, token) || done[static_cast<size_t>(token)]) continue;
    done[static_cast<size_t>(token)] = true;
    float& score = at(scores, token);
    score = score < 0 ? score * factor : score / factor;
  }
}

void presence_and_frequency_penalty(Scores scores, Tokens output, double presence, double frequency) {
  std::unordered_map<TokenId, int64_t> times;
  for (const TokenId token : output) ++times[token];
  for (const auto& [token, count] : times)
    if (has(scores, token)) at(scores, token) -= static_cast<float>(presence + frequency * static_cast<double>(count));
}

void no_repeat_ngram(Scores scores, Tokens text, Tokens tokens, int64_t size) {
  const auto before = static_cast<size_t>(size - 1);
  if (before > tokens.size()) return;
  const Tokens last = tokens.last(before);
  for (size_t i = before; i < text.size(); ++i)
    if (std::equal(last.begin(), last.end(), text.subspan(i - before).begin()) && has(scores, text[i])) at(scores, text[i]) = kNever;
}

void forced_tokens(Scores scores, Tokens forced) {
  std::fill(scores.begin(), scores.end(), kNever);
  for (const TokenId token : forced)
    if (has(scores, token)) at(scores, token) = 0.0f;
}

void remove_invalid_values(Scores scores) {
  constexpr float kMost = std::numeric_limits<float>::max();
  for (float& score : scores) score = std::isnan(score) ? 0.0f : std::clamp(score, -kMost, kMost);
}

void exponential_decay_length_penalty(Scores scores, Tokens ends, double factor, int64_t past) {
  const auto growth = static_cast<float>(std::pow(factor, static_cast<double>(past)) - 1.0);
  for (const TokenId token : ends) {
    if (!has(scores, token) || !std::isfinite(at(scores, token))) continue;
    at(scores, token) += std::abs(at(scores, token)) * growth;
  }
}

void suppress_tokens(Scores scores, Tokens suppressed) {
  for (const TokenId token : suppressed)
    if (has(scores, token)) at(scores, token) = kNever;
}

void logit_normalization(Scores scores) {
  const float top = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const float score : scores) sum += std::exp(static_cast<double>(score - top));
  const auto log_sum = static_cast<float>(std::log(sum));
  for (float& score : scores) score = score - top - log_sum;
}

void normalize(Candidates& candidates) {
  double sum = 0;
  for (const TokenProbability& c : candidates) sum += c.probability;
  for (TokenProbability& c : candidates) c.probability /= sum;
}

void top_h(Candidates& candidates, double top_h) {
  candidates.resize(std::min(candidates.size(), static_cast<size_t>(kTopHWidth)));
  normalize(candidates);
  const double most = entropy(candidates) * top_h;
  double sum = 0;
  size_t kept = 0;
  for (; kept < candidates.size(); ++kept) {
    const double p = candidates[kept].probability;
    sum -= p * std::log(p);
    if (sum > most) break;
  }
  candidates.resize(std::max<size_t>(kept, 1));
  normalize(candidates);
}

void top_k(Candidates& candidates, int64_t k) {
  const auto count = static_cast<size_t>(k);
  if (k <= 0 || count >= candidates.size()) return;
  cut_below(candidates, candidates[count - 1].probability);
}

void top_p(Candidates& candidates, double p) {
  // From the least probable up, those go whose cumulative probability stays within 1 - p.
  double sum = 0;
  while (candidates.size() > 1 && (sum += candidates.back().probability) <= 1.0 - p) candidates.pop_back();
  normalize(candidates);
}

void min_p(Candidates& candidates, double p) { cut_below(candidates, p * candidates.front().probability); }

void typical_p(Candidates& candidates, double mass) {
  const double mean = entropy(candidates);
  std::vector<double> shifted;  // how far the information of each is from the mean
  for (const TokenProbability& c : candidates) shifted.push_back(std::abs(-std::log(c.probability) - mean));
  std::vector<size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return shifted[a] < shifted[b]; });
  double sum = 0;
  size_t last = 0;  // the first with which the most typical reach the mass
  while (last + 1 < order.size() && (sum += candidates[order[last]].probability) < mass) ++last;
  const double most = shifted[order[last]];
  Candidates kept;
  for (size_t i = 0; i < candidates.size(); ++i)
    if (shifted[i] <= most) kept.push_back(candidates[i]);
  candidates = std::move(kept);
  normalize(candidates);
}

void epsilon_cutoff(Candidates& candidates, double epsilon) { cut_below(candidates, std::min(epsilon, candidates.front().probability)); }

void eta_cutoff(Candidates& candidates, double epsilon) {
  epsilon_cutoff(candidates, std::min(epsilon, std::sqrt(epsilon) * std::exp(-entropy(candidates))));
}

}  // namespace tessera
