#include "generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "core/error.h"
#include "generate/random.h"

namespace tessera {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr int64_t kFewLargest = 64;  // that a card finds
constexpr int64_t kFew = 1 << 14;    // tokens that are looked at one by one

void check_range(const char* field, double value, double low, double high) {
  check(value >= low && value <= high, field, ": ", value, " is outside ", low, "..", high);
}

// The k largest scores and those equal to the k-th.
Candidates largest(std::span<const float> scores, int64_t k) {
  const auto width = static_cast<int64_t>(scores.size());
  const float bound = k > 0 && k < width ? topk(scores, width, k).values.back() : kNever;
  Candidates found;
  for (size_t i = 0; i < scores.size(); ++i)
    if (scores[i] >= bound && scores[i] > kNever) found.push_back({static_cast<TokenId>(i), scores[i]});
  return found;
}

void check_tokens(const char* field, std::span<const TokenId> tokens, int64_t vocab_size) {
  for (const TokenId token : tokens)
    check(token >= 0 && token < vocab_size, field, ": token ", token, " is outside the vocabulary of ", vocab_size);
}

void check_processors(const ProcessorParams& params, int64_t vocab_size) {
  for (const auto& [tokens, bias] : params.sequence_bias) {
    check(!tokens.empty(), "sequence_bias: a sequence has no tokens");
    check_tokens("sequence_bias", tokens, vocab_size);
    check(!std::isnan(bias), "sequence_bias: the bias of token ", tokens.back(), " is not a number");
  }
  for (const std::vector<TokenId>& tokens : params.bad_words_ids) {
    check(!tokens.empty(), "bad_words_ids: a word has no tokens");
    check_tokens("bad_words_ids", tokens, vocab_size);
  }
  const double penalty = params.encoder_repetition_penalty;
  check(penalty > 0 && std::isfinite(penalty), "encoder_repetition_penalty: ", penalty, " is not positive");
  check(params.no_repeat_ngram_size >= 0, "no_repeat_ngram_size: ", params.no_repeat_ngram_size, " is negative");
  check(params.encoder_no_repeat_ngram_size >= 0, "encoder_no_repeat_ngram_size: ", params.encoder_no_repeat_ngram_size, " is negative");
  check(params.min_length >= 0, "min_length: ", params.min_length, " is negative");
  if (params.forced_bos_token_id) check_tokens("forced_bos_token_id", std::span(&*params.forced_bos_token_id, 1), vocab_size);
  check_tokens("forced_eos_token_id", params.forced_eos_token_id, vocab_size);
  if (const auto& decay = params.exponential_decay_length_penalty)
    check(decay->first >= 0 && decay->second > 0 && std::isfinite(decay->second), "exponential_decay_length_penalty: ", decay->first,
          " and ", decay->second, ": must be a number of tokens and a positive factor");
  if (params.top_h) check(*params.top_h > 0 && *params.top_h <= 1, "top_h: ", *params.top_h, " is outside (0, 1]");
  check(params.typical_p > 0 && params.typical_p <= 1, "typical_p: ", params.typical_p, " is outside (0, 1]");
  check(params.epsilon_cutoff >= 0 && params.epsilon_cutoff < 1, "epsilon_cutoff: ", params.epsilon_cutoff, " is outside [0, 1)");
  check(params.eta_cutoff >= 0 && params.eta_cutoff < 1, "eta_cutoff: ", params.eta_cutoff, " is outside [0, 1)");
}

// Whether any logit may matter, and not the largest alone.
bool needs_all(const SamplingParams& params) {
  ProcessorParams left = params.processors;
  left.typical_p = 1.0;  // these look at what top_k leaves
  left.epsilon_cutoff = left.eta_cutoff = 0.0;
  return left != ProcessorParams() || !params.logit_bias.empty() || params.repetition_penalty != 1.0 || params.presence_penalty != 0.0 ||
         params.frequency_penalty != 0.0;
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
  check_processors(params.processors, vocab_size);
}

Sampler::Sampler(const SamplingParams& params, std::vector<TokenId> end_tokens)
    : params_(params), end_tokens_(std::move(end_tokens)), biases_(params.processors.sequence_bias), processes_(needs_all(params)) {
  std::sort(end_tokens_.begin(), end_tokens_.end());
  end_tokens_.erase(std::unique(end_tokens_.begin(), end_tokens_.end()), end_tokens_.end());
  for (const auto& [token, bias] : params.logit_bias) biases_.push_back({{token}, bias});
  for (const std::vector<TokenId>& tokens : params.processors.bad_words_ids) {
    const bool end = tokens.size() == 1 && std::find(end_tokens_.begin(), end_tokens_.end(), tokens.front()) != end_tokens_.end();
    if (!end) bad_words_.push_back({tokens, kNever});
  }
}

// A row's scores: its logits themselves, unchecked, where nothing changes them.
std::span<const float> Sampler::process(std::span<const float> logits, std::span<const TokenId> tokens, size_t prompt,
                                        AllowedTokens allowed) {
  const ProcessorParams& p = params_.processors;
  if (!processes_ && !bars_ends(tokens.size() - prompt) && allowed.all()) return logits;
  if (!p.remove_invalid_values) check_logits(logits);
  scores_.assign(logits.begin(), logits.end());
  allowed.forbid_others(scores_);
  const std::span<const TokenId> asked = tokens.first(prompt), output = tokens.subspan(prompt);
  const auto length = static_cast<int64_t>(tokens.size()), made = static_cast<int64_t>(output.size());
  if (!biases_.empty()) sequence_bias(scores_, tokens, biases_);
  if (p.encoder_repetition_penalty != 1.0) repetition_penalty(scores_, asked, 1.0 / p.encoder_repetition_penalty);
  if (params_.repetition_penalty != 1.0) repetition_penalty(scores_, tokens, params_.repetition_penalty);
  if (params_.presence_penalty != 0.0 || params_.frequency_penalty != 0.0)
    presence_and_frequency_penalty(scores_, output, params_.presence_penalty, params_.frequency_penalty);
  if (p.no_repeat_ngram_size > 0) no_repeat_ngram(scores_, tokens, tokens, p.no_repeat_ngram_size);
  if (p.encoder_no_repeat_ngram_size > 0) no_repeat_ngram(scores_, asked, tokens, p.encoder_no_repeat_ngram_size);
  if (!bad_words_.empty()) sequence_bias(scores_, tokens, bad_words_);
  if (bars_ends(output.size()) || length < p.min_length) suppress_tokens(scores_, end_tokens_);
  if (p.forced_bos_token_id && length == 1) forced_tokens(scores_, std::span(&*p.forced_bos_token_id, 1));
  if (!p.forced_eos_token_id.empty() && max_length_ && length == *max_length_ - 1) forced_tokens(scores_, p.forced_eos_token_id);
  if (p.remove_invalid_values) remove_invalid_values(scores_);
  if (const auto& decay = p.exponential_decay_length_penalty; decay && made > decay->first)
    exponential_decay_length_penalty(scores_, end_tokens_, decay->second, made - decay->first);
  if (!p.suppress_tokens.empty()) suppress_tokens(scores_, p.suppress_tokens);
  const int64_t begin = prompt <= 1 && p.forced_bos_token_id ? 1 : 0;  // behind the forced one
  if (!p.begin_suppress_tokens.empty() && made == begin) suppress_tokens(scores_, p.begin_suppress_tokens);
  if (processes_) allowed.forbid_others(scores_);  // what is forced, or was made a number
  check<std::runtime_error>(
      allowed.all() || std::ranges::any_of(scores_, [](float score) { return score > kNever; }),
      "no token can be chosen: min_new_tokens, ignore_eos, a bias or the like bars those that the text's form allows");
  if (p.renormalize_logits && params_.temperature == 0.0) logit_normalization(scores_);
  return scores_;
}

bool Sampler::is_end(TokenId token) const { return std::binary_search(end_tokens_.begin(), end_tokens_.end(), token); }

bool Sampler::ends(TokenId token) const { return !params_.ignore_eos && is_end(token); }

Candidates Sampler::candidates(std::span<const float> logits, std::span<const TokenId> tokens, size_t prompt, AllowedTokens allowed) {
  const std::span<const float> scores = process(logits, tokens, prompt, allowed);
  const float top = checked_largest_logit(scores);
  if (!takes_all(scores.size())) return filter(largest(scores, params_.processors.top_h ? kTopHWidth : params_.top_k), top);
  const ScoreOrder order(scores, top, params_.temperature);
  const std::optional<ScoreOrder::Place> last = last_kept(order);
  Candidates kept;
  for (size_t i = 0; i < scores.size(); ++i)
    if (const auto token = static_cast<TokenId>(i); scores[i] > kNever && !(last && last->comes_before(scores[i], token)))
      kept.push_back({token, scores[i]});
  return filter_late(weigh(std::move(kept), top));
}

bool Sampler::bars_ends(size_t new_tokens) const { return params_.ignore_eos || static_cast<int64_t>(new_tokens) < params_.min_new_tokens; }

// Whether top_p and min_p look at all tokens, and at a ScoreOrder then.
bool Sampler::takes_all(size_t vocab) const {
  return !params_.processors.top_h && (params_.top_k == 0 || params_.top_k >= static_cast<int64_t>(vocab));
}

// The last of all tokens that top_p and min_p leave, and the weights of those behind it; nullopt: they leave all.
std::optional<ScoreOrder::Place> Sampler::last_kept(const ScoreOrder& order) const {
  std::optional<ScoreOrder::Place> last;
  if (params_.top_p < 1.0) last = order.from_last((1.0 - params_.top_p) * order.total());
  if (params_.min_p > 0.0) {
    const ScoreOrder::Place least = order.at_least(params_.min_p);
    if (!last || least.comes_before(last->score, last->token)) last = least;
  }
  return last;
}

// Tokens with scores where their probabilities belong: in order, with these.
Candidates Sampler::weigh(Candidates kept, float top) const {
  std::sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) {
    return a.probability > b.probability || (a.probability == b.probability && a.token < b.token);
  });
  for (TokenProbability& c : kept) c.probability = std::exp((c.probability - static_cast<double>(top)) / params_.temperature);
  normalize(kept);
  while (kept.back().probability == 0.0) kept.pop_back();
  return kept;
}

// What the filters leave of tokens, with scores where their probabilities belong.
Candidates Sampler::filter(Candidates kept, float top) const {
  kept = weigh(std::move(kept), top);
  if (params_.processors.top_h) {
    top_h(kept, *params_.processors.top_h);
    top_k(kept, params_.top_k);
  }
  if (params_.top_p < 1.0) top_p(kept, params_.top_p);
  if (params_.min_p > 0.0) min_p(kept, params_.min_p);
  return filter_late(std::move(kept));
}

Candidates Sampler::filter_late(Candidates kept) const {
  const ProcessorParams& p = params_.processors;
  if (p.typical_p < 1.0) typical_p(kept, p.typical_p);
  if (p.epsilon_cutoff > 0.0) epsilon_cutoff(kept, p.epsilon_cutoff);
  if (p.eta_cutoff > 0.0) eta_cutoff(kept, p.eta_cutoff);
  return kept;
}

TokenId Sampler::sample(std::span<const float> logits, std::span<const TokenId> tokens, size_t prompt, uint64_t sample,
                        AllowedTokens allowed) {
  const ProcessorParams& p = params_.processors;
  const bool greedy = params_.temperature == 0.0;
  if (!processes_ && !allowed.all() && (greedy || !takes_all(logits.size())) && allowed.count(kFew) < kFew)
    if (Candidates found = few(logits, allowed, bars_ends(tokens.size() - prompt)); !found.empty())
      return choose(std::move(found), tokens.size(), sample);
  if (greedy) {
    const std::span<const float> scores = process(logits, tokens, prompt, allowed);
    const float top = processes_ ? largest_logit(scores) : checked_largest_logit(scores);
    return static_cast<TokenId>(std::find(scores.begin(), scores.end(), top) - scores.begin());
  }
  if (!takes_all(logits.size()) || p.typical_p < 1.0 || p.epsilon_cutoff > 0.0 || p.eta_cutoff > 0.0)
    return draw(candidates(logits, tokens, prompt, allowed), tokens.size(), sample);
  const std::span<const float> scores = process(logits, tokens, prompt, allowed);
  const ScoreOrder order(scores, checked_largest_logit(scores), params_.temperature);
  const std::optional<ScoreOrder::Place> last = last_kept(order);
  const double kept = order.total() - (last ? last->before : 0.0);
  const ScoreOrder::Place drawn = order.from_first(uniform(params_.seed, sample, tokens.size()) * kept);
  return last && last->comes_before(drawn.score, drawn.token) ? last->token : drawn.token;
}

TokenId Sampler::draw(const Candidates& kept, size_t tokens, uint64_t sample) const {
  double left = uniform(params_.seed, sample, tokens);
  for (const TokenProbability& c : kept)
    if ((left -= c.probability) < 0) return c.token;
  return kept.back().token;
}

int64_t Sampler::enough(size_t new_tokens, AllowedTokens allowed) const {
  const bool greedy = params_.temperature == 0.0, constrained = !allowed.all();
  if (processes_) return 0;
  if (constrained && forced(new_tokens, allowed)) return -1;
  if (!greedy && (params_.top_k == 0 || params_.top_k >= kMaxTopK)) return 0;
  const int64_t ends = bars_ends(new_tokens) ? std::ssize(end_tokens_) : 0;
  if (greedy && ends == 0 && !constrained) return 1;
  const int64_t wanted = (greedy ? 1 : params_.top_k) + ends + 1;
  if (wanted > kMaxTopK) return 0;
  if (!constrained) return wanted;
  if (!greedy && allowed.count(wanted) < wanted) return 0;
  if (wanted <= kFewLargest / 2) return kFewLargest;
  return allowed.count(kFew) < kFew ? 0 : kMaxTopK;  // more than a card finds: it reads all then
}

std::optional<TokenId> Sampler::forced(size_t new_tokens, AllowedTokens allowed) const {
  if (processes_ || allowed.count(2) != 1) return std::nullopt;
  TokenId only = 0;
  allowed.each([&](TokenId token) { only = token; });
  return bars_ends(new_tokens) && is_end(only) ? std::nullopt : std::optional(only);
}

// The tokens that may come, with their logits where their probabilities belong.
Candidates Sampler::few(std::span<const float> logits, AllowedTokens allowed, bool barred) const {
  Candidates found;
  allowed.each([&](TokenId token) {
    if (static_cast<size_t>(token) >= logits.size() || (barred && is_end(token))) return;
    const float logit = logits[static_cast<size_t>(token)];
    check_logit(logit, token);
    if (logit > kNever) found.push_back({token, logit});
  });
  return found;
}

// Greedily, or of the k most probable and those equal to the k-th. In order of their ids, with scores where their probabilities belong.
TokenId Sampler::choose(Candidates found, size_t tokens, uint64_t sample) const {
  const auto largest = std::ranges::max_element(found, {}, &TokenProbability::probability);  // the first of them
  if (params_.temperature == 0.0) return largest->token;
  const double top = largest->probability;
  if (const auto k = static_cast<size_t>(params_.top_k); k < found.size()) {
    std::vector<double> scores;
    for (const TokenProbability& c : found) scores.push_back(c.probability);
    std::nth_element(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(k - 1), scores.end(), std::greater());
    std::erase_if(found, [&](const TokenProbability& c) { return c.probability < scores[k - 1]; });
  }
  return draw(filter(std::move(found), static_cast<float>(top)), tokens, sample);
}

std::optional<TokenId> Sampler::sample(const TopK& largest, size_t tokens, size_t prompt, uint64_t sample, AllowedTokens allowed) const {
  for (size_t i = 0; i < largest.ids.size(); ++i) check_logit(largest.values[i], largest.ids[i]);
  const bool barred = bars_ends(tokens - prompt);
  Candidates found;
  for (size_t i = 0; i < largest.ids.size(); ++i)
    if (const TokenId id = largest.ids[i]; largest.values[i] > kNever && allowed[id] && !(barred && is_end(id)))
      found.push_back({id, largest.values[i]});
  const auto k = static_cast<size_t>(params_.temperature == 0.0 ? 1 : params_.top_k);
  if (found.empty()) return std::nullopt;
  // There may be more that equal the k-th, or are needed beside so few, unless these are all.
  const auto count = static_cast<int64_t>(found.size());
  if ((found.size() < k || found[k - 1].probability <= largest.values.back()) && (allowed.all() || allowed.count(count + 1) != count))
    return std::nullopt;
  std::ranges::sort(found, {}, &TokenProbability::token);
  return choose(std::move(found), tokens, sample);
}

}  // namespace tessera
