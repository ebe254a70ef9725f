#include "checkpoint/generation_config.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>

namespace tessera {
namespace {

constexpr size_t kMostEnds = 1000, kMostStops = 1000, kMostNamed = 8;
constexpr size_t kMostTokens = size_t{1} << 20;  // of lists that may name a vocabulary
constexpr IntegerRange kAny{.min = INT64_MIN, .max = INT64_MAX}, kCount{.min = 0, .max = INT32_MAX};
constexpr NumberRange kFactor{.above = 0.0, .max = 1e6};

// Fields of transformers' GenerationConfig that change nothing of one text: how it is computed and returned, and what counts for beams,
// encoders and assistants alone, of which those that would make it another are refused below.
const std::set<std::string_view> kWithoutEffect{
    // where and how
    "use_cache", "cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size", "low_memory", "compile_config",
    "disable_compile", "continuous_batching_config",
    // what is returned
    "output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate", "return_legacy_cache",
    // with beams
    "early_stopping", "length_penalty", "num_beam_groups", "diversity_penalty",
    // of encoders
    "decoder_start_token_id",
    // of an assistant, and guesses that are verified
    "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind",
    "prompt_lookup_num_tokens", "max_matching_ngram_size", "assistant_early_exit", "speculation_type",
    // who wrote the file
    "transformers_version"};

// A file's fields, each of which is to be asked for.
class Fields {
 public:
  explicit Fields(const ConfigReader& file) : file_(file) {}

  // nullptr: absent or null.
  const ConfigReader* set(std::string_view field) {
    known_.insert(field);
    return file_.is_set(field) ? &file_ : nullptr;
  }
  bool boolean(std::string_view field) { return set(field) != nullptr && file_.boolean(field); }
  std::optional<int64_t> integer(std::string_view field, IntegerRange range) {
    return set(field) != nullptr ? std::optional(file_.integer(field, range)) : std::nullopt;
  }
  std::optional<double> number(std::string_view field, NumberRange range) {
    return set(field) != nullptr ? std::optional(file_.number(field, range)) : std::nullopt;
  }
  std::vector<int64_t> integers(std::string_view field, IntegerRange range, size_t most) {
    if (set(field) == nullptr) return {};
    return file_.is_list(field) ? file_.integers(field, range, most) : std::vector{file_.integer(field, range)};
  }

  void refuse(std::string_view field, bool refused, std::string_view why) {
    known_.insert(field);
    if (refused) unsupported.push_back(message(file_.told(field), ": ", why));
  }
  // The names of those that nobody asked for; "" if there are none. What begins with _ is about the file.
  std::string unknown() const {
    std::string names;
    size_t count = 0;
    for (const std::string& name : file_.fields())
      if (!name.starts_with('_') && !known_.contains(name) && !kWithoutEffect.contains(name) && count++ < kMostNamed)
        names += message(names.empty() ? "" : ", ", printable(name));
    return count > kMostNamed ? message(names, " and ", count - kMostNamed, " more") : names;
  }

  std::vector<std::string> unsupported;

 private:
  const ConfigReader& file_;
  std::set<std::string_view> known_;
};

std::vector<TokenId> as_tokens(const std::vector<int64_t>& ids) { return {ids.begin(), ids.end()}; }

// Those of `given` that have logits.
std::vector<TokenId> inside(const std::vector<int64_t>& given, int64_t vocab_size) {
  std::vector<TokenId> tokens;
  for (const int64_t id : given)
    if (id >= 0 && id < vocab_size) tokens.push_back(static_cast<TokenId>(id));
  return tokens;
}

std::vector<int64_t> read_ids(const ConfigReader& reader, std::string_view field) {
  return reader.is_list(field) ? reader.integers(field, kAny, kMostEnds) : std::vector{reader.integer(field, kAny)};
}

ProcessorParams read_processors(Fields& fields, int64_t vocab_size) {
  const IntegerRange ids{.min = 0, .max = vocab_size - 1};
  ProcessorParams p;
  if (const ConfigReader* const reader = fields.set("sequence_bias")) {
    std::map<std::vector<TokenId>, double> biases;
    for (const auto& [sequence, bias] : reader->integer_lists_with_numbers("sequence_bias", ids, {}, kMostTokens)) {
      if (sequence.empty()) reader->refuse("sequence_bias", "a sequence has no tokens");
      biases[as_tokens(sequence)] = bias;  // the last one counts
    }
    p.sequence_bias.assign(biases.begin(), biases.end());
  }
  if (const ConfigReader* const reader = fields.set("bad_words_ids"))
    for (const std::vector<int64_t>& word : reader->integer_lists("bad_words_ids", ids, kMostTokens)) {
      if (word.empty()) reader->refuse("bad_words_ids", "a word has no tokens");
      p.bad_words_ids.push_back(as_tokens(word));
    }
  p.encoder_repetition_penalty = fields.number("encoder_repetition_penalty", kFactor).value_or(p.encoder_repetition_penalty);
  p.no_repeat_ngram_size = std::max<int64_t>(fields.integer("no_repeat_ngram_size", kAny).value_or(0), 0);
  p.encoder_no_repeat_ngram_size = std::max<int64_t>(fields.integer("encoder_no_repeat_ngram_size", kAny).value_or(0), 0);
  p.min_length = fields.integer("min_length", kCount).value_or(0);
  if (const auto token = fields.integer("forced_bos_token_id", ids)) p.forced_bos_token_id = static_cast<TokenId>(*token);
  p.forced_eos_token_id = as_tokens(fields.integers("forced_eos_token_id", ids, kMostEnds));
  p.remove_invalid_values = fields.boolean("remove_invalid_values");
  if (const ConfigReader* const reader = fields.set("exponential_decay_length_penalty")) {
    const std::vector<double> pair = reader->numbers("exponential_decay_length_penalty", {.min = 0.0, .max = 1e6}, 2);
    if (pair.size() != 2 || pair[0] != static_cast<double>(static_cast<int64_t>(pair[0])) || pair[1] == 0.0)
      reader->refuse("exponential_decay_length_penalty", "must be a number of tokens and a factor above 0");
    p.exponential_decay_length_penalty = {static_cast<int64_t>(pair[0]), pair[1]};
  }
  p.suppress_tokens = inside(fields.integers("suppress_tokens", kAny, kMostTokens), vocab_size);
  p.begin_suppress_tokens = inside(fields.integers("begin_suppress_tokens", kAny, kMostTokens), vocab_size);
  p.top_h = fields.number("top_h", {.above = 0.0, .max = 1.0});
  p.typical_p = std::min(fields.number("typical_p", {.above = 0.0}).value_or(1.0), 1.0);
  const auto cutoff = [&](std::string_view field) {
    const double value = fields.number(field, {}).value_or(0.0);
    return value > 0.0 && value < 1.0 ? value : 0.0;
  };
  p.epsilon_cutoff = cutoff("epsilon_cutoff");
  p.eta_cutoff = cutoff("eta_cutoff");
  p.renormalize_logits = fields.boolean("renormalize_logits");
  return p;
}

// What generate() would do and Tessera does not.
void refuse_others(Fields& fields, const GenerationConfig& result) {
  const auto above = [&](std::string_view field, double bound) { return fields.number(field, {}).value_or(bound) > bound; };
  fields.refuse("num_beams", above("num_beams", 1), "there is no beam search");
  fields.refuse("num_return_sequences", above("num_return_sequences", 1), "one text is generated");
  fields.refuse("guidance_scale", fields.number("guidance_scale", {}).value_or(1.0) != 1.0, "there is no classifier-free guidance");
  fields.refuse("penalty_alpha", above("penalty_alpha", 0) && !result.do_sample && result.top_k > 1, "there is no contrastive search");
  fields.refuse("token_healing", fields.boolean("token_healing"), "a prompt's last token stays as it is");
  fields.refuse("use_mtp", fields.boolean("use_mtp"), "there is no multi-token prediction");
  fields.refuse("is_assistant", fields.boolean("is_assistant"), "a text does not end where the model is unsure");
  const std::pair<std::string_view, std::string_view> unless_null[] = {
      {"watermarking_config", "there are no watermarks"},      {"dola_layers", "there is no DoLa decoding"},
      {"constraints", "there is no constrained beam search"},  {"force_words_ids", "there is no constrained beam search"},
      {"assistant_ensemble_weight", "drafts change no token"},
  };
  for (const auto& [field, why] : unless_null) fields.refuse(field, fields.set(field) != nullptr, why);
  for (const std::string_view field : {"logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "synced_gpus",
                                       "assistant_model", "streamer", "negative_prompt_ids", "negative_prompt_attention_mask"})
    fields.refuse(field, fields.set(field) != nullptr, "is an argument of generate(), and no field of this file");
}

}  // namespace

std::optional<int64_t> GenerationConfig::most_new_tokens(int64_t known) const {
  if (max_new_tokens || !max_length) return max_new_tokens;
  return std::max<int64_t>(*max_length - known, 0);
}

SpecialTokens read_special_tokens(const ConfigReader& file, const ConfigReader& config, const SpecialTokens& defaults, int64_t vocab_size,
                                  std::vector<std::string>* notes) {
  std::vector<ConfigReader> readers{file, config};
  if (const std::optional<ConfigReader> text = config.object("text_config")) readers.push_back(*text);
  // Of the first reader that sets the field.
  const auto read = [&](std::string_view field, const std::vector<TokenId>& absent) {
    for (const ConfigReader& reader : readers) {
      if (!reader.is_set(field)) continue;
      const std::vector<int64_t> given = read_ids(reader, field);
      std::vector<TokenId> tokens = inside(given, vocab_size);
      if (tokens.size() < given.size() && field == "eos_token_id" && notes != nullptr)
        notes->push_back(message(reader.told(field), ": what is outside the vocabulary of ", vocab_size, " never comes"));
      return tokens;
    }
    return inside({absent.begin(), absent.end()}, vocab_size);
  };
  const auto read_one = [&](std::string_view field, std::optional<TokenId> absent) {
    const std::vector<TokenId> found = read(field, absent ? std::vector{*absent} : std::vector<TokenId>());
    return found.empty() ? std::nullopt : std::optional(found.front());
  };
  return {.eos = read("eos_token_id", defaults.eos),
          .bos = read_one("bos_token_id", defaults.bos),
          .pad = read_one("pad_token_id", defaults.pad)};
}

GenerationConfig read_generation_config(const ConfigReader& file, const ConfigReader& config, const SpecialTokens& defaults,
                                        int64_t vocab_size) {
  GenerationConfig result;
  result.tokens = read_special_tokens(file, config, defaults, vocab_size, &result.notes);
  Fields fields(file);
  for (const std::string_view field : {"eos_token_id", "bos_token_id", "pad_token_id"}) fields.set(field);
  result.do_sample = fields.boolean("do_sample");
  result.temperature = fields.number("temperature", {.min = 0.0, .max = 100.0}).value_or(result.temperature);
  result.top_k = fields.integer("top_k", kCount).value_or(result.top_k);
  result.top_p = fields.number("top_p", {.above = 0.0, .max = 1.0}).value_or(result.top_p);
  result.min_p = fields.number("min_p", {.min = 0.0, .max = 1.0}).value_or(result.min_p);
  result.repetition_penalty = fields.number("repetition_penalty", kFactor).value_or(result.repetition_penalty);
  result.processors = read_processors(fields, vocab_size);
  if (const auto least = fields.integer("min_new_tokens", kCount)) {
    result.min_new_tokens = *least;
    result.processors.min_length = 0;
  }
  result.max_new_tokens = fields.integer("max_new_tokens", {.min = 1, .max = INT32_MAX});
  result.max_length = fields.integer("max_length", kAny);
  result.max_time = fields.number("max_time", {});
  if (const ConfigReader* const reader = fields.set("stop_strings")) {
    result.stop_strings =
        reader->is_list("stop_strings") ? reader->texts("stop_strings", kMostStops) : std::vector{reader->text("stop_strings")};
    for (const std::string& stop : result.stop_strings)
      if (stop.empty()) reader->refuse("stop_strings", "a stop string is empty");
  }
  refuse_others(fields, result);
  result.unsupported = std::move(fields.unsupported);
  if (const std::string names = fields.unknown(); !names.empty())
    result.notes.push_back(message(file.where(names), ": not used: generate() knows no such field"));
  return result;
}

}  // namespace tessera
