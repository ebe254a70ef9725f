#include "cli/flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <sstream>

#include "cli/arguments.h"
#include "cli/given_text.h"
#include "cli/session.h"
#include "core/error.h"
#include "core/json.h"
#include "kinds/memory_plan.h"

namespace tessera {
namespace {

constexpr int64_t kLongestDraft = 64;

CLI::Option* add_data_type(CLI::App& command, const std::string& flag, std::optional<DataType>& target, const std::string& help) {
  return command.add_option_function<std::string>(
                    flag, [&target](const std::string& text) { target = parse_data_type(text); }, help)
      ->type_name("TYPE");
}

std::pair<TokenId, double> parse_bias(const std::string& text) {
  const size_t sign = text.find_first_of("+-", 1);
  TokenId token = 0;
  double bias = 0;
  const char* end = text.data() + text.size();
  const char* middle = text.data() + std::min(sign, text.size());
  const bool token_read = std::from_chars(text.data(), middle, token) == std::from_chars_result{middle, std::errc()};
  const char* value = sign < text.size() && *middle == '+' ? middle + 1 : middle;
  const bool bias_read = value < end && std::from_chars(value, end, bias) == std::from_chars_result{end, std::errc()};
  check(token_read && bias_read, "--logit-bias ", text, ": is not a token id with a signed bias, as in 106-5 or 42+1.5");
  return {token, bias};
}

}  // namespace

void add_model_flags(CLI::App& command, ModelFlags& flags) {
  command.option_defaults()->group("Model");
  add_checkpoint_flags(command, flags.model, flags.revision);
  command.add_option("--device", flags.device, "Where to run: cpu, or n150 with the Python package's command")
      ->type_name("NAME")
      ->capture_default_str();
  command.add_option("--device-id", flags.device_id, "Which of several cards; the first, 0, if not given")->transform(whole_number(0, 255));
  command
      .add_option("--device-timeout", flags.device_timeout,
                  "Seconds that a card's call may take before the card counts as hung; 0: for ever")
      ->type_name("SECONDS")
      ->transform(whole_number(0, 1'000'000))
      ->capture_default_str();
  command.add_option("--trace", flags.trace, "1: the n150's decodes are recorded and replayed")->transform(whole_number(0, 1));
  command.add_option("--twin", flags.twin, "card: the cpu rounds as the n150 does")->type_name("NAME");
  command.add_option("-t,--threads", flags.threads, "Threads; as many as the process may use if not given")
      ->transform(whole_number(1, 1024));
  add_precision_flags(command, "--", "", flags.precision);
  command.add_option("-c,--ctx-size,--max-seq-len", flags.context, "The longest context in tokens; the model's own if not given")
      ->transform(whole_number(1, kLongestContext));
  command
      .add_option("-b,--batch-size", flags.batch,
                  "The longest piece of a prompt in one forward, in tokens; what the device takes if not given")
      ->transform(whole_number(1, int64_t{1} << 20));
  command.option_defaults()->group("Options");
}

void add_cache_flags(CLI::App& command, CacheFlags& flags) {
  command.option_defaults()->group("Many at once");
  command
      .add_option("--max-num-seqs", flags.max_num_seqs, "Sequences that run at a time; 32, or as many as there is room for, if not given")
      ->transform(whole_number(1, 4096));
  command
      .add_option(
          "--cache-memory", flags.gigabytes,
          "Gigabytes (10^9 bytes) of the cache, which the sequences share; what they can all fill, or what memory holds, if not given")
      ->type_name("GB")
      ->transform(real_number(1e-6, 1e6));
  command
      .add_option("--max-num-batched-tokens", flags.max_num_batched_tokens,
                  "Tokens of one forward; if not given, so many that it takes 3 times one of the running answers alone")
      ->transform(whole_number(1, int64_t{1} << 20));
  command.add_flag("--no-prefix-cache", flags.no_prefix_cache, "Compute every prompt whole, also where others began the same");
  command.option_defaults()->group("Options");
}

void add_checkpoint_flags(CLI::App& command, std::string& model, std::optional<std::string>& revision) {
  command.add_option("-m,--model", model, "A checkpoint's directory, or a Hugging Face id that is in the local cache")
      ->required()
      ->type_name("MODEL");
  command.add_option("--revision", revision, "A branch, tag or commit of the id; main if not given, or the only one that the cache has")
      ->type_name("NAME");
}

void add_precision_flags(CLI::App& command, const std::string& prefix, const std::string& suffix, Precision& precision) {
  const auto unset = [&](const char* otherwise) { return suffix.empty() ? otherwise : "; side a's if not given"; };
  add_data_type(command, prefix + "weights" + suffix, precision.weights,
                std::string("float32, bfloat16, bfloat8_b or bfloat4_b") + unset("; as stored if not given"));
  add_data_type(command, prefix + "activations" + suffix, precision.activations,
                std::string("float32 or bfloat16") + unset(" (the default)"));
  add_data_type(command, prefix + "cache" + suffix, precision.cache,
                std::string("float32, bfloat16 or bfloat8_b") + unset("; the activations' type if not given"));
}

CLI::Option_group& add_prompt_flags(CLI::App& command, PromptFlags& flags) {
  CLI::Option_group& group = *command.add_option_group("prompt");
  group.add_option("-p,--prompt", flags.text, "The prompt, raw: no chat template; control tokens in it count")->type_name("TEXT");
  group.add_option("-f,--file", flags.file, "A file with the prompt, or a pipe; - is standard input")->type_name("FILE");
  group
      .add_option("--ids-file", flags.ids_file,
                  "A file with the prompt's token ids: a JSON list, or blanks between them; - is standard input")
      ->type_name("FILE");
  return group;
}

std::vector<TokenId> read_ids(const std::string& path, int64_t vocab_size) {
  std::string text = read_given_text(path);
  for (char& c : text)
    if (c == '[' || c == ']' || c == ',') c = ' ';
  std::istringstream stream(text);
  std::vector<TokenId> ids;
  for (std::string word; stream >> word;) {
    int64_t id = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    check(error == std::errc() && end == word.data() + word.size(), path, ": ", printable(word), " is not a token id");
    check(id >= 0 && id < vocab_size, path, ": token id ", id, " is outside the vocabulary of ", vocab_size);
    ids.push_back(static_cast<TokenId>(id));
  }
  check(!ids.empty(), path, ": holds no token ids");
  return ids;
}

std::string prompt_text(const PromptFlags& flags) {
  if (!flags.text) return read_given_text(*flags.file);
  expect_utf8(*flags.text, "-p");
  return *flags.text;
}

std::vector<TokenId> prompt_ids(const PromptFlags& flags, Session& session) {
  if (flags.ids_file) return read_ids(*flags.ids_file, session.model().spec().vocab_size);
  std::vector<TokenId> ids = session.tokenizer().encode(prompt_text(flags), {.add_special_tokens = true, .parse_special = true});
  check(!ids.empty(), "the prompt is empty: give it at least one character");
  return ids;
}

void add_new_tokens_flag(CLI::App& command, std::optional<int64_t>& new_tokens, int64_t least, const std::string& help) {
  const auto take = [&new_tokens](int64_t given) { new_tokens = given < 0 ? std::numeric_limits<int64_t>::max() : given; };
  const CLI::Validator count = whole_number(least);
  const auto accept = [count](std::string& text) { return text == "-1" ? "" : count(text); };
  command
      .add_option_function<int64_t>("-n,--predict,--n-predict,--max-tokens,--max-new-tokens", take,
                                    help + "; -1: to an end token or the context's end; as the checkpoint says if not given")
      ->transform(CLI::Validator(accept, count.get_description()));
}

void add_window_flags(CLI::App& command, WindowFlags& flags) {
  command.add_option("--window", flags.window, "The longest piece of the text in one forward, in tokens; the context if not given")
      ->transform(whole_number(1));
  command.add_option("--stride", flags.stride, "How many tokens a window begins behind the one before it; half of a window if not given")
      ->transform(whole_number(1));
}

ScoredText scored_text(std::vector<TokenId> ids, const WindowFlags& flags, const Session& session) {
  const int64_t window = flags.window > 0 ? flags.window : session.context();
  check(window <= session.context(), "--window ", window, ": the context ends at ", session.context(), " tokens");
  return scored_text(std::move(ids), window, flags.stride, session.generation().tokens.bos);
}

void add_sampling_flags(CLI::App& command, SamplingFlags& flags, std::optional<std::string>& generation_config) {
  const std::string group = "Sampling (generation_config.json's values if not given)";
  const auto add = [&](const std::string& flag, auto& target, const std::string& help) {
    return command.add_option(flag, target, help)->group(group);
  };
  generation_config = "auto";
  add("--generation-config", generation_config,
      "auto: the checkpoint's generation_config.json; none: its end tokens alone; or another file in its place")
      ->type_name("auto|none|FILE");
  add("--temp,--temperature", flags.temperature, "Temperature; 0 is greedy");
  add("--top-k", flags.top_k, "Sample from the k most probable tokens; 0: all")->transform(whole_number(0));
  add("--top-p", flags.top_p, "Sample from the most probable tokens that reach this probability together");
  add("--min-p", flags.min_p, "Drop tokens less probable than this part of the most probable");
  add("--repeat-penalty,--repetition-penalty", flags.repetition_penalty,
      "Divide the logits of tokens seen in prompt or output by this; 1: off");
  add("--presence-penalty", flags.presence_penalty, "Lower the logit of a token in the output by this");
  add("--frequency-penalty", flags.frequency_penalty, "Lower it by this for each time that the token stands in the output");
  add_texts(command, "-l,--logit-bias", flags.bias_texts, "Add to a token's logit, as in 106-5 or 42+1.5; may be given several times")
      ->type_name("ID+BIAS")
      ->group(group);
  add("--min-new-tokens", flags.min_new_tokens, "No end token before so many new tokens")->transform(whole_number(0));
  command.add_flag("--ignore-eos", flags.ignore_eos, "Go on past end tokens")->group(group);
  add("-s,--seed", flags.seed, "Makes sampling repeatable; a random one, printed at the end, if not given")->transform(seed_number());
}

SamplingOptions sampling_options(const SamplingFlags& flags) {
  SamplingOptions options = flags;
  for (const std::string& text : flags.bias_texts) options.logit_bias.insert(parse_bias(text));
  return options;
}

SamplingParams sampling_params(const SamplingFlags& flags, const GenerationConfig& config, int64_t vocab_size) {
  return sampling_params(sampling_options(flags), config, vocab_size);
}

void add_speculation_flags(CLI::App& command, SpeculationFlags& flags) {
  command.option_defaults()->group("Speculation (several tokens a forward; the output stays the same)");
  const CLI::Validator range = whole_number(1, kLongestDraft);
  CLI::Option* lookup =
      command
          .add_option("--prompt-lookup,--prompt-lookup-num-tokens", flags.prompt_lookup,
                      "Guess up to so many tokens from where the last ones stood before, as when a text is edited or summarised")
          ->transform(range);
  CLI::Option* draft =
      command.add_option("--draft,--model-draft", flags.draft, "A smaller model with the same tokenizer guesses: a directory or an id")
          ->excludes(lookup)
          ->type_name("MODEL");
  command.add_option("--draft-max", flags.draft_max, "The draft model guesses so many tokens at most")
      ->transform(range)
      ->needs(draft)
      ->capture_default_str();
  add_precision_flags(command, "--draft-", "", flags.draft_precision);
  for (const char* flag : {"--draft-weights", "--draft-activations", "--draft-cache"}) command.get_option(flag)->needs(draft);
  command.option_defaults()->group("Options");
}

}  // namespace tessera
