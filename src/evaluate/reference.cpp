#include "evaluate/reference.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/json.h"
#include "evaluate/scoring.h"
#include "generate/generation.h"
#include "ops/selection.h"

namespace tessera {
namespace {

constexpr std::string_view kFormat = "tessera-reference-1";
constexpr size_t kMostBytes = size_t{256} << 20;
constexpr double kProbabilitySlack = 1e-3;  // that rounded log-probabilities may sum beyond 1

// Strict access to the file's lists; every message names the file and the field.
class Fields {
 public:
  Fields(JsonValue root, const std::string& path, int64_t vocab_size) : root_(root), path_(path), vocab_size_(vocab_size) {
    check<FileError>(json_as<std::string_view>(root["format"]) == kFormat, path, ": is not a reference: its \"format\" is not \"", kFormat,
                     '"');
  }

  bool has(std::string_view field) const { return json_as<JsonValue>(root_[field]).has_value(); }

  JsonArray list(std::string_view field) const {
    const auto list = json_as<JsonArray>(root_[field]);
    check<FileError>(list.has_value(), path_, ": ", field, " is not a list");
    return *list;
  }

  // As many lists as there are tokens.
  std::vector<JsonArray> lists(std::string_view field, size_t count) const {
    std::vector<JsonArray> lists;
    for (const JsonValue value : list(field)) {
      const auto list = json_as<JsonArray>(value);
      check<FileError>(list.has_value(), path_, ": ", field, '[', lists.size(), "] is not a list");
      lists.push_back(*list);
    }
    check<FileError>(lists.size() == count, path_, ": ", field, " has ", lists.size(), " entries for ", count, " reference_ids");
    return lists;
  }

  std::vector<TokenId> ids(JsonArray from, std::string_view field) const {
    std::vector<TokenId> ids;
    for (const JsonValue value : from) {
      const auto id = json_as<int64_t>(value);
      if (!id || *id < 0 || *id >= vocab_size_)
        fail<FileError>(path_, ": ", field, " holds ", printable(simdjson::minify(value)), ", which is no token id of a vocabulary of ",
                        vocab_size_);
      ids.push_back(static_cast<TokenId>(*id));
    }
    return ids;
  }

  std::vector<double> log_probs(JsonArray from, std::string_view field) const {
    std::vector<double> values;
    double sum = 0;
    for (const JsonValue value : from) {
      const auto log_prob = json_as<double>(value);
      if (!log_prob || *log_prob > kProbabilitySlack)
        fail<FileError>(path_, ": ", field, " holds ", printable(simdjson::minify(value)), ", which is no logarithm of a probability");
      values.push_back(*log_prob);
      sum += std::exp(values.back());
    }
    check<FileError>(sum <= 1 + kProbabilitySlack, path_, ": ", field, " has probabilities that sum to ", sum);
    check<FileError>(std::is_sorted(values.rbegin(), values.rend()), path_, ": ", field, " is not sorted, the most probable first");
    return values;
  }

  std::string text(std::string_view field) const { return std::string(json_as<std::string_view>(root_[field]).value_or("")); }

 private:
  JsonValue root_;
  const std::string& path_;
  int64_t vocab_size_;
};

// KL between the kept tokens of the reference, each apart, and all the others taken as one.
double kept_divergence(std::span<const TokenId> ids, std::span<const double> log_probs, std::span<const float> logits, double log_sum) {
  double kl = 0, p_rest = 1, q_rest = 1;
  for (size_t i = 0; i < ids.size(); ++i) {
    const double p = std::exp(log_probs[i]), log_q = logits[static_cast<size_t>(ids[i])] - log_sum;
    kl += p * (log_probs[i] - log_q);
    p_rest -= p;
    q_rest -= std::exp(log_q);
  }
  constexpr double kLeastRest = 1e-9;  // of less, the rounding of the kept ones is the most part
  return p_rest > kLeastRest && q_rest > kLeastRest ? kl + p_rest * std::log(p_rest / q_rest) : kl;
}

}  // namespace

void Reference::append(TokenId token, std::span<const float> logits, size_t top) {
  check(logits.size() >= 5, "reference: a vocabulary of ", logits.size(), " has no five best tokens");
  const double log_sum = log_sum_exp(logits);
  const std::vector<TokenId> best = topk(logits, static_cast<int64_t>(logits.size()), static_cast<int64_t>(std::max<size_t>(top, 5))).ids;
  tokens.push_back(token);
  std::copy_n(best.begin(), 5, top5.emplace_back().begin());
  if (top == 0) return;
  const auto kept = std::span(best).first(std::min(top, best.size()));
  top_ids.emplace_back(kept.begin(), kept.end());
  std::vector<double>& log_probs = top_log_probs.emplace_back();
  for (const TokenId id : kept) log_probs.push_back(logits[static_cast<size_t>(id)] - log_sum);
}

JudgedRow judge_row(const Reference& reference, size_t i, std::span<const float> logits) {
  const double log_sum = log_sum_exp(logits);
  const std::vector<TokenId> best = topk(logits, static_cast<int64_t>(logits.size()), 5).ids;
  const TokenId target = reference.tokens[i];
  const auto& top5 = reference.top5[i];
  return {.loss = log_sum - logits[static_cast<size_t>(reference.fed()[i])],
          .kl = reference.top_ids.empty() ? 0 : kept_divergence(reference.top_ids[i], reference.top_log_probs[i], logits, log_sum),
          .top1 = best.front() == target,
          .top5 = std::find(best.begin(), best.end(), target) != best.end(),
          .choice_in_top5 = std::find(top5.begin(), top5.end(), best.front()) != top5.end()};
}

Reference read_reference(const std::string& path, int64_t vocab_size) {
  const JsonDocument document = read_json(path, {.max_bytes = kMostBytes, .max_depth = 3});
  const Fields fields(document.root(), path, vocab_size);
  Reference reference;
  reference.made_by = fields.text("made_by");
  reference.prompt = fields.ids(fields.list("prompt_ids"), "prompt_ids");
  check<FileError>(!reference.prompt.empty(), path, ": prompt_ids is empty");
  reference.tokens = fields.ids(fields.list("reference_ids"), "reference_ids");
  const size_t count = reference.tokens.size();
  if (fields.has("forced_ids")) reference.forced = fields.ids(fields.list("forced_ids"), "forced_ids");
  check<FileError>(reference.forced.empty() || reference.forced.size() == count, path, ": forced_ids has ", reference.forced.size(),
                   " entries for ", count, " reference_ids");
  for (const JsonArray entry : fields.lists("top5_ids", count)) {
    const std::vector<TokenId> ids = fields.ids(entry, "top5_ids");
    check<FileError>(ids.size() == 5, path, ": top5_ids holds a list of ", ids.size());
    std::copy(ids.begin(), ids.end(), reference.top5.emplace_back().begin());
  }
  if (!fields.has("top_ids") && !fields.has("top_log_probs")) return reference;
  for (const JsonArray entry : fields.lists("top_ids", count)) {
    reference.top_ids.push_back(fields.ids(entry, "top_ids"));
    const std::vector<TokenId>& ids = reference.top_ids.back();
    check<FileError>(std::set<TokenId>(ids.begin(), ids.end()).size() == ids.size(), path, ": top_ids names a token twice");
  }
  for (const JsonArray entry : fields.lists("top_log_probs", count)) {
    reference.top_log_probs.push_back(fields.log_probs(entry, "top_log_probs"));
    const size_t i = reference.top_log_probs.size() - 1;
    check<FileError>(reference.top_log_probs[i].size() == reference.top_ids[i].size(), path, ": top_log_probs[", i, "] and top_ids[", i,
                     "] differ in length");
  }
  return reference;
}

void write_reference(OutputFile& file, const Reference& reference) {
  nlohmann::ordered_json root;
  root["format"] = kFormat;
  root["made_by"] = reference.made_by;
  root["prompt_ids"] = reference.prompt;
  root["reference_ids"] = reference.tokens;
  if (!reference.forced.empty()) root["forced_ids"] = reference.forced;
  root["top5_ids"] = reference.top5;
  if (!reference.top_ids.empty()) {
    root["top_ids"] = reference.top_ids;
    root["top_log_probs"] = reference.top_log_probs;
  }
  file.write(root.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  file.finish();
}

Reference make_reference(Generator& generator, std::vector<TokenId> prompt, int64_t count, std::span<const TokenId> ends, size_t top,
                         const Generator::Progress& progress) {
  check(!prompt.empty(), "reference: the prompt is empty");
  Reference reference;
  if (progress) progress(0, count);
  const std::unique_ptr<Sequence> sequence = generator.cache().create();
  sequence->tokens = prompt;
  reference.prompt = std::move(prompt);
  Sampler greedy({.temperature = 0}, {ends.begin(), ends.end()});
  const auto append = [&](const NewToken& token) {
    reference.append(token.id, token.row, top);
    if (progress) progress(static_cast<int64_t>(reference.tokens.size()), count);
    return true;
  };
  Generation generation{.sequence = *sequence, .sampler = greedy, .max_new_tokens = count, .goes_on = append};
  generate(generator, std::span(&generation, 1));
  if (progress) progress(count, count);
  return reference;
}

ReferenceScore sum_up(const Reference& reference, std::span<const JudgedRow> judged) {
  check(judged.size() == reference.tokens.size(), "reference: ", judged.size(), " rows were judged of ", reference.tokens.size());
  ReferenceScore score;
  score.total = static_cast<int64_t>(judged.size());
  score.distinct = static_cast<int64_t>(std::set<TokenId>(reference.tokens.begin(), reference.tokens.end()).size());
  for (size_t i = 0; i < judged.size(); ++i) {
    score.top1 += judged[i].top1;
    score.top5 += judged[i].top5;
    score.choice_in_top5 += judged[i].choice_in_top5;
    score.loss.add(judged[i].loss);
    if (reference.top_ids.empty()) continue;
    const std::vector<double>& log_probs = reference.top_log_probs[i];
    const bool tie = log_probs.size() > 1 && log_probs[0] - log_probs[1] < kTie;
    score.ties += tie;
    score.ties_missed += tie && !judged[i].top1;
    score.kl.add(judged[i].kl);
  }
  return score;
}

ReferenceScore score_reference(Generator& generator, const Reference& reference, int threads, const Generator::Progress& progress) {
  const auto prompt = static_cast<int64_t>(reference.prompt.size()), end = prompt + static_cast<int64_t>(reference.tokens.size());
  ScoredText text{.tokens = reference.prompt};
  text.tokens.insert(text.tokens.end(), reference.fed().begin(), reference.fed().end());
  // A generation that grows past LongRoPE's boundary is computed anew there, and so is its score.
  const int64_t boundary = reference.forced.empty() ? generator.model().spec().recompute_after.value_or(end) : end;
  const int64_t anew = std::clamp(boundary + 1, prompt, end);
  if (prompt < anew) text.windows.push_back({0, anew, prompt});
  if (anew < end) text.windows.push_back({0, end, anew});
  std::vector<JudgedRow> judged(reference.tokens.size());
  judge_rows(
      generator, text, threads, [&](size_t i, TokenId, std::span<const float> logits) { judged[i] = judge_row(reference, i, logits); },
      progress);
  return sum_up(reference, judged);
}

}  // namespace tessera
