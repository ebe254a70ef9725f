#include "generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "generate/random.h"

namespace tessera {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

void check_range(const char* field, double value, double low, double high) {
  check(value >= low && value <= high, field, ": ", value, " is outside ", low, "..", high);
}

// The indices of the k largest scores and of those equal to the k-th.
std::vector<TokenProbability> largest(const std::vector<float>& scores, int64_t k) {
  const auto width = static_cast<int64_t>(scores.size());
  const float bound = k > 0 && k < width ? topk(scores, width, k).values.back() : kNever;
  std::vector<TokenProbability> found;
  for (size_t i = 0; i < scores.size(); ++i)
    if (scores[i] >= bound && scores[i] > kNever) found.push_back({static_cast<TokenId>(i), scores[i]});
  return found;
}

void normalize(std::vector<TokenProbability>& candidates) {
  double sum = 0;
  for (const TokenProbability& c : candidates) sum += c.probability;
  for (TokenProbability& c : candidates) c.probability /= sum;
}

}  // namespace

void check_sampling(const SamplingParams& params, int64_t vocab_size) {
  check_range("temperature", params.temperature, 0, 100);
  check(params.top_k >= 0, "top_k: ", params.top_k, " is negative; 0 keeps all tokens");
  check(params.top_p > 0 && params.top_p <= 1, "top_p: ", params.top_p, " is outside (0, 1]");
  check_range("min_p", params.min_p, 0, 1);
  check(params.repetition_penalty > 0 && std::isfinite(params.repetition_penalty), "repetition_penalty: ", params.repetition_penalty,
        " is not positive");
  check_range("presence_penalty", params.presence_penalty, -2, 2);
  check_range("frequency_penalty", params.frequency_penalty, -2, 2);
  check(params.min_new_tokens >= 0, "min_new_tokens: ", params.min_new_tokens, " is negative");
  for (const auto& [token, bias] : params.logit_bias) {
    check(token >= 0 && token < vocab_size, "logit_bias: token ", token, " is outside the vocabulary of ", vocab_size);
    check(!std::isnan(bias), "logit_bias: the bias of token ", token, " is not a number");
  }
}

void Sampler::penalize(std::span<const float> logits, std::span<const TokenId> tokens, size_t prompt) {
  scores_.assign(logits.begin(), logits.end());
  check_logits(logits);
  const auto known = [&](TokenId token) { return token >= 0 && static_cast<size_t>(token) < scores_.size(); };
  const auto score = [&](TokenId token) -> float& { return scores_[static_cast<size_t>(token)]; };
  for (const auto& [token, bias] : params_.logit_bias)
    if (known(token)) score(token) += static_cast<float>(bias);
  if (params_.repetition_penalty != 1.0 || params_.presence_penalty != 0.0 || params_.frequency_penalty != 0.0) {
    std::unordered_map<TokenId, int64_t> seen;  // times in the output
    for (size_t i = 0; i < tokens.size(); ++i) seen[tokens[i]] += i >= prompt;
    for (const auto& [token, times] : seen) {
      if (!known(token)) continue;
      float& s = score(token);
      const auto penalty = static_cast<float>(params_.repetition_penalty);
      if (penalty != 1.0f) s = s < 0 ? s * penalty : s / penalty;
      if (times > 0) s -= static_cast<float>(params_.presence_penalty + params_.frequency_penalty * static_cast<double>(times));
    }
  }
  if (bars_ends(tokens.size() - prompt))
    for (TokenId token : end_tokens_)
      if (known(token)) score(token) = kNever;
}

bool Sampler::ends(TokenId token) const {
  return !params_.ignore_eos && std::find(end_tokens_.begin(), end_tokens_.end(), token) != end_tokens_.end();
}

std::vector<TokenProbability> Sampler::candidates(std::span<const float> logits, std::span<const TokenId> tokens, size_t prompt) {
  penalize(logits, tokens, prompt);
  const float top = largest_logit(scores_);
  return filter(largest(scores_, params_.top_k), top);
}

bool Sampler::bars_ends(size_t new_tokens) const { return params_.ignore_eos || static_cast<int64_t>(new_tokens) < params_.min_new_tokens; }

// Those that top_p and min_p leave of tokens in order of their ids, with scores where their probabilities belong.
std::vector<TokenProbability> Sampler::filter(std::vector<TokenProbability> kept, float top) const {
  for (TokenProbability& c : kept) c.probability = std::exp((c.probability - static_cast<double>(top)) / params_.temperature);
  normalize(kept);
  std::stable_sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a.probability > b.probability; });
  if (params_.top_p < 1.0) {
    // As transformers' TopPLogitsWarper: from the least probable up, drop while the cumulative probability stays within 1 - top_p.
    double cumulative = 0;
    while (kept.size() > 1 && (cumulative += kept.back().probability) <= 1.0 - params_.top_p) kept.pop_back();
    normalize(kept);
  }
  if (params_.min_p > 0.0) {
    const double bound = params_.min_p * kept.front().probability;
    while (kept.size() > 1 && kept.back().probability < bound) kept.pop_back();
    normalize(kept);
  }
  return kept;
}

TokenId Sampler::sample(std::span<const float> logits, std::span<const TokenId> tokens, size_t prompt, uint64_t sample) {
  if (params_.temperature == 0.0) {
    penalize(logits, tokens, prompt);
    return static_cast<TokenId>(std::find(scores_.begin(), scores_.end(), largest_logit(scores_)) - scores_.begin());
  }
  return draw(candidates(logits, tokens, prompt), tokens.size(), sample);
}

TokenId Sampler::draw(const std::vector<TokenProbability>& kept, size_t tokens, uint64_t sample) const {
  double left = uniform(params_.seed, sample, tokens);
  for (const TokenProbability& c : kept)
    if ((left -= c.probability) < 0) return c.token;
  return kept.back().token;
}

int64_t Sampler::enough(size_t new_tokens) const {
  const bool changes = !params_.logit_bias.empty() || params_.repetition_penalty != 1.0 || params_.presence_penalty != 0.0 ||
                       params_.frequency_penalty != 0.0 || bars_ends(new_tokens);
  if (changes) return 0;
  if (params_.temperature == 0.0) return 1;
  return params_.top_k > 0 && params_.top_k < kMaxTopK ? params_.top_k + 1 : 0;
}

std::optional<TokenId> Sampler::sample(const TopK& largest, size_t tokens, uint64_t sample) const {
  for (size_t i = 0; i < largest.ids.size(); ++i) check_logit(largest.values[i], largest.ids[i]);
  const float bound = largest.values[static_cast<size_t>(params_.top_k - 1)];
  if (largest.values.back() >= bound) return std::nullopt;  // there may be more that equal the k-th
  std::vector<TokenProbability> kept;
  for (size_t i = 0; i < largest.ids.size(); ++i)
    if (largest.values[i] >= bound) kept.push_back({largest.ids[i], largest.values[i]});
  std::sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a.token < b.token; });
  return draw(filter(std::move(kept), largest.values.front()), tokens, sample);
}

}  // namespace tessera
