#include "api/answering.h"

#include <algorithm>
#include <ctime>
#include <random>
#include <utility>

#include "api/chat_request.h"
#include "api/messages.h"
#include "api/responses.h"
#include "api/tokenize.h"
#include "core/error.h"

namespace tessera::api {

// Values of a JSON answer that is made whole in memory.
constexpr int64_t kMostPromptLogprobs = int64_t{1} << 20;

std::string random_hex() {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::random_device random;
  std::string text;
  for (int i = 0; i < 4; ++i)
    for (unsigned bits = random(), digit = 0; digit < 8; ++digit, bits >>= 4) text += kDigits[bits & 15];
  return text;
}

ServedModel::ServedModel(RunningModel& running, ServedModelOptions options)
    : running_(running), options_(std::move(options)), tokenizer_(running.tokenizer()), opened_(std::time(nullptr)) {
  try {
    conversation_.emplace(running.checkpoint(), tokenizer_, options_.conversation);
    format_ = find_answer_format(conversation_->chat_template(), tokenizer_);
    chat_ends_ = conversation_->end_tokens(running);
  } catch (const FileError&) {  // a model without a template completes texts
    conversation_.reset();
    no_conversation_ = std::current_exception();
  }
}

void ServedModel::expect_name(const std::optional<std::string>& name) const {
  if (!name || options_.any_name || std::find(options_.names.begin(), options_.names.end(), *name) != options_.names.end()) return;
  throw FieldError("model", message("model: ", printable(*name), " is not served here; ", this->name(), " is"), "model_not_found");
}

const std::vector<TokenId>& ServedModel::end_tokens() const { return conversation_ ? chat_ends_ : running_.generation().tokens.eos; }

std::shared_ptr<Answering> ServedModel::prepare(Route route, JsonObject body, const Asker& asker) const {
  AnswerHeader header{random_hex(), name(), std::time(nullptr)};
  switch (route) {
    case Route::completions:
      return prepare_completion(read_completion(body, vocab_size()), header, asker);
    case Route::chat_completions: {
      ChatCompletionFields fields = read_chat_completion(body, vocab_size());
      header.id = "chatcmpl-" + header.id;
      auto writer = chat_writer(header, fields.generation);
      return prepare_chat(std::move(fields), std::move(writer), header, "messages", asker);
    }
    case Route::responses: {
      ChatCompletionFields fields = read_response(body, vocab_size());
      header.id = "resp_" + header.id;
      auto writer = responses_writer(header, fields);
      return prepare_chat(std::move(fields), std::move(writer), header, "input", asker);
    }
    case Route::messages: {
      ChatCompletionFields fields = read_message_request(body, vocab_size());
      fields.generation.cut_max_tokens = true;  // it must be given, and clients give what larger models take
      header.id = "msg_" + header.id;
      auto writer = messages_writer(header, fields.generation);
      return prepare_chat(std::move(fields), std::move(writer), header, "messages", asker);
    }
  }
  fail("no such route");
}

std::vector<TokenId> ServedModel::chat_ids(ChatCompletionFields fields) const {
  if (no_conversation_) std::rethrow_exception(no_conversation_);
  const std::optional<std::string>& system = options_.conversation.system;
  const std::string& first = fields.messages.front().role;
  if (system && first != "system" && first != "developer")
    fields.messages.insert(fields.messages.begin(), {.role = "system", .content = *system});
  return conversation_->ids_of(chat_request(fields, format_));
}

std::vector<TokenId> ServedModel::prompt_ids(const std::string& text, bool add_special_tokens) const {
  return tokenizer_.encode(text, {.add_special_tokens = add_special_tokens, .parse_special = options_.special_in_prompt});
}

std::shared_ptr<Answering> ServedModel::prepare_chat(ChatCompletionFields fields, std::unique_ptr<AnswerWriter> writer,
                                                     const AnswerHeader& header, const std::string& param, const Asker& asker) const {
  expect_name(fields.generation.model);
  std::vector<TokenId> prompt = chat_ids(fields);
  AnswerReaderOptions reading{.format = &format_, .thinking = thinking_behind(prompt, format_, tokenizer_)};
  if (fields.tools.choice != Tools::Choice::none)
    for (const ToolDefinition& tool : fields.tools.definitions) reading.tools.push_back(tool.name);
  if (!fields.generation.format) fields.generation.format = options_.form;
  if (!fields.generation.format) fields.generation.format_param = "tools";
  fields.generation.format = answer_grammar(format_, reading.thinking, fields.tools, fields.generation.format, options_.enforceable);
  return made(header, fields.generation, {std::move(prompt)}, {}, end_tokens(), param, std::move(reading), std::move(writer), asker);
}

std::shared_ptr<Answering> ServedModel::prepare_completion(CompletionFields fields, AnswerHeader header, const Asker& asker) const {
  expect_name(fields.generation.model);
  std::vector<std::vector<TokenId>> prompts;
  std::vector<std::string> echoed;
  for (CompletionFields::Prompt& prompt : fields.prompts) {
    auto* const text = std::get_if<std::string>(&prompt);
    prompts.push_back(text ? prompt_ids(*text, fields.add_special_tokens) : std::move(std::get<std::vector<TokenId>>(prompt)));
    expect(!prompts.back().empty(), "prompt", "is empty; give it at least one character");
    if (fields.echo) echoed.push_back(text ? std::move(*text) : tokenizer_.decode(prompts.back(), {.skip_special = true}));
  }
  header.id = "cmpl-" + header.id;
  auto writer = completion_writer(header, fields.generation);
  if (!fields.generation.format) fields.generation.format = options_.form;
  const std::vector<TokenId>& ends = fields.generation.format ? end_tokens() : running_.generation().tokens.eos;
  return made(header, fields.generation, std::move(prompts), echoed, ends, "prompt", {}, std::move(writer), asker);
}

std::shared_ptr<const TokenConstraint> ServedModel::compile(const Answering& answering, const std::string& asker) const {
  expect(static_cast<bool>(compile_), answering.format_param_, "a form of answers is not supported here; leave it out");
  try {
    return compile_(*answering.format(), asker);
  } catch (const std::invalid_argument& error) {
    throw FieldError(answering.format_param_, error.what());
  }
}

Json ServedModel::tokenize(JsonObject body) const {
  TokenizeFields fields = read_tokenize(body);
  expect_name(fields.model);
  const auto* const text = std::get_if<std::string>(&fields.prompt);
  const std::vector<TokenId> ids =
      text ? prompt_ids(*text, fields.add_special_tokens) : chat_ids(std::move(std::get<ChatCompletionFields>(fields.prompt)));
  return tokenized(ids, context(), tokenizer_, fields.return_token_strs);
}

Json ServedModel::detokenize(JsonObject body) const {
  const DetokenizeFields fields = read_detokenize(body, vocab_size());
  expect_name(fields.model);
  return detokenized(fields.tokens, tokenizer_, fields.skip_special_tokens);
}

Json ServedModel::count_tokens(JsonObject body) const {
  ChatCompletionFields fields = read_count_tokens(body);
  expect_name(fields.generation.model);
  return token_count(static_cast<int64_t>(chat_ids(std::move(fields)).size()));
}

Json ServedModel::tokenizer_info() const {
  const ChatFiles files = running_.checkpoint().chat_files(Checkpoint::Tools::absent);
  Json info = api::tokenizer_info(files.special_tokens, files.chat_template ? std::optional(files.chat_template->text) : std::nullopt,
                                  std::nullopt);
  info["end_token_ids"] = end_tokens();  // of a chat's answer
  return info;
}

// The body's fields go before the options.
SamplingParams ServedModel::sampling_of(const GenerationFields& fields) const {
  SamplingOptions all = options_.sampling;
  const auto take = [](auto& option, const auto& field) {
    if (field) option = *field;
  };
  take(all.temperature, fields.temperature);
  take(all.top_p, fields.top_p);
  take(all.top_k, fields.top_k);
  take(all.min_p, fields.min_p);
  take(all.presence_penalty, fields.presence_penalty);
  take(all.frequency_penalty, fields.frequency_penalty);
  take(all.repetition_penalty, fields.repetition_penalty);
  take(all.min_new_tokens, fields.min_tokens);
  take(all.ignore_eos, fields.ignore_eos);
  take(all.seed, fields.seed);
  for (const auto& [token, bias] : fields.logit_bias) all.logit_bias[token] = bias;
  SamplingParams params = sampling_params(all, running_.generation(), vocab_size());
  check_sampling(params, vocab_size());
  return params;
}

// As the body says, or the options, or the checkpoint, or to the context's end.
int64_t ServedModel::most_new_tokens(const GenerationFields& fields, int64_t known) const {
  if (fields.max_tokens) return fields.cut_max_tokens ? std::min(*fields.max_tokens, context() - known) : *fields.max_tokens;
  const GenerationConfig& config = running_.generation();
  std::optional<int64_t> most = options_.new_tokens ? options_.new_tokens : config.most_new_tokens(known);
  if (!options_.new_tokens && !config.max_new_tokens && most == 0) most = 1;  // past max_length
  return std::min(most.value_or(context()), context() - known);
}

// n choices of each prompt. `echoed`: what their texts begin with, or none.
std::shared_ptr<Answering> ServedModel::made(const AnswerHeader& header, const GenerationFields& fields,
                                             std::vector<std::vector<TokenId>> prompts, const std::vector<std::string>& echoed,
                                             std::vector<TokenId> ends, const std::string& param, AnswerReaderOptions reading,
                                             std::unique_ptr<AnswerWriter> writer, const Asker& asker) const {
  const auto answering = std::make_shared<Answering>();
  const SamplingParams sampling = sampling_of(fields);
  expect(!sampling.ignore_eos || !fields.format, "ignore_eos", "does not go with a form of the answer, which has an end; leave it out");
  if (!sampling.ignore_eos) ends.insert(ends.end(), fields.stop_token_ids.begin(), fields.stop_token_ids.end());
  answering->id_ = header.id;
  answering->tokenizer_ = &tokenizer_;
  answering->stop_token_ids_ = fields.stop_token_ids;
  answering->format_ = fields.format;
  answering->format_param_ = fields.format_param;
  answering->logprobs_ = fields.logprobs.has_value();
  answering->echoes_ = !echoed.empty();
  answering->token_ids_ = fields.return_token_ids;
  answering->stream_ = fields.stream;
  answering->tells_ends_ = reading.format == nullptr;
  answering->writer_ = std::move(writer);
  reading.stops = fields.stop.value_or(running_.generation().stop_strings);
  reading.include_stop = fields.include_stop;
  reading.skip_special_tokens = fields.skip_special_tokens;
  reading.call_seed = header.id;
  const std::optional<int64_t> shown =
      answering->echoes_ && fields.logprobs ? std::max(fields.logprobs, fields.prompt_logprobs) : fields.prompt_logprobs;
  std::vector<int64_t> most;
  for (const std::vector<TokenId>& prompt : prompts) {
    const auto known = static_cast<int64_t>(prompt.size());
    expect_room(known, fields.cut_max_tokens ? std::nullopt : fields.max_tokens, context(), param);
    most.push_back(most_new_tokens(fields, known));
    answering->max_new_tokens_ = std::max(answering->max_new_tokens_, most.back());
    answering->usage_.prompt_tokens += known;
  }
  if (shown) {
    const int64_t told = answering->usage_.prompt_tokens * fields.n * (*shown + 1);
    expect(told <= kMostPromptLogprobs, param, "has ", answering->usage_.prompt_tokens, " tokens, of which ", told,
           " log-probabilities would be told; at most ", kMostPromptLogprobs, " are: ask for fewer, or in several requests");
  }
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (!fields.stop && !reading.stops.empty()) reading.behind = prompts[i];
    for (int64_t sample = 0; sample < fields.n; ++sample) {
      reading.choice = answering->choices_.size();
      answering->readers_.emplace_back(tokenizer_, reading);
      Choice& choice = answering->choices_.emplace_back();
      if (fields.logprobs) choice.tokens.emplace();
      if (fields.prompt_logprobs) choice.prompt_tokens.emplace();
      if (fields.return_token_ids) choice.ids.emplace(), choice.prompt_ids.emplace();
      AnswerDelta& begun = answering->begun_.emplace_back().delta;
      if (!echoed.empty()) begun.text = echoed[i];
      if (fields.return_token_ids) begun.prompt_ids = prompts[i];
    }
  }
  if (shown) answering->prompts_ = prompts;
  answering->left_ = answering->choices_.size();
  answering->started_ = std::make_unique<bool[]>(answering->left_);
  for (size_t i = 0; i < prompts.size(); ++i) {
    ScheduledRequest& request = answering->requests_.emplace_back();
    request.prompt = std::move(prompts[i]);
    request.sampling = sampling;
    request.end_tokens = ends;
    request.max_new_tokens = most[i];
    request.n = fields.n;
    request.logprobs = fields.logprobs;
    request.prompt_logprobs = shown;
    request.priority = fields.priority;
    request.owner = asker.name;
    request.salt = asker.salt.empty() ? fields.cache_salt : asker.salt + '\n' + fields.cache_salt;
    request.queue_timeout = asker.queue_timeout;
    request.timeout = asker.timeout;
  }
  return answering;
}

void Answering::constrain(std::shared_ptr<const TokenConstraint> constraint) {
  for (ScheduledRequest& request : requests_) request.constraint = constraint;
}

void Answering::submit(Scheduler& scheduler, Take take) {
  take_ = std::move(take);
  const auto self = shared_from_this();
  size_t first = 0;
  try {
    for (ScheduledRequest& request : requests_) {
      const auto n = static_cast<size_t>(request.n);
      request.on_prompt = [self, first, n](const std::vector<TokenLogprobs>& logprobs) {
        for (size_t choice = first; choice < first + n; ++choice) self->begun_[choice].prompt_logprobs = logprobs;
      };
      request.on_token = [self, first](const ScheduledRequest::Token& token) { return self->take_token(first + token.sample, token); };
      request.on_end = [self, first](const ScheduledRequest::End& end) { self->take_end(first + end.sample, end); };
      first += n;
    }
    const std::lock_guard lock(mutex_);
    check(!cancelled_, "the request was cancelled");
    scheduler_ = &scheduler;
    for (ScheduledRequest& request : requests_) ids_.push_back(scheduler.submit(std::move(request)));
  } catch (...) {
    {
      const std::lock_guard lock(telling_);
      take_ = {};
    }
    cancel();
    throw;
  }
}

void Answering::tell(AnswerPiece piece) {
  const bool last = piece.last;
  const std::lock_guard lock(telling_);
  if (take_) take_(std::move(piece));
  if (last) take_ = {};
}

void Answering::cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  for (const Scheduler::Id id : ids_) scheduler_->cancel(id);
}

// What is said of the choice for the first time begins with what stands before its tokens.
AnswerPiece Answering::begin_piece(size_t choice) {
  AnswerPiece piece;
  if (choice < begun_.size()) piece = std::exchange(begun_[choice], {});
  piece.delta.choice = choice;
  return piece;
}

// The first that is told of a prompt.
void Answering::note_start(size_t choice, size_t sample, int64_t cached_tokens, std::chrono::steady_clock::duration queued) {
  bool& started = started_[choice - sample];
  if (std::exchange(started, true)) return;
  usage_.cached_tokens += cached_tokens;
  queued_ = std::max(queued_, queued);
}

bool Answering::take_token(size_t choice, const ScheduledRequest::Token& token) {
  AnswerReader& reader = readers_[choice];
  AnswerPiece piece = begin_piece(choice);
  const bool stops = std::find(stop_token_ids_.begin(), stop_token_ids_.end(), token.id) != stop_token_ids_.end();
  const bool end = token.end || stops;
  ++usage_.completion_tokens;
  piece.delta.append(reader.push(token.id, end));
  if (!piece.delta.reasoning.empty() && piece.delta.text.empty()) ++usage_.reasoning_tokens;
  if (token_ids_) piece.delta.ids.push_back(token.id);
  note_start(choice, token.sample, token.cached_tokens, token.queued);
  piece.queued = queued_;
  if ((!end || tells_ends_) && token.logprobs) piece.logprobs = *token.logprobs;
  piece.usage = usage_;
  tell(std::move(piece));
  return !end && !reader.stopped();
}

// Nothing may be thrown here: what there is no memory for is an error of the answer.
void Answering::take_end(size_t choice, const ScheduledRequest::End& end) {
  const bool came_to_nothing = end.reason != FinishReason::stop && end.reason != FinishReason::length;
  AnswerPiece piece;
  try {
    piece = begin_piece(choice);
    if (!came_to_nothing) piece.delta.append(readers_[choice].finish(end.reason == FinishReason::length ? "length" : "stop"));
  } catch (...) {
    piece = {};
    piece.delta.choice = choice;
    if (!error_) error_ = std::current_exception();
  }
  note_start(choice, end.sample, end.cached_tokens, end.queued);
  piece.queued = queued_;
  if (end.error && !error_) error_ = end.error;
  if (reason_ == FinishReason::stop || came_to_nothing) reason_ = end.reason;
  if (came_to_nothing && left_ > 1) cancel();  // the others are not wanted alone
  piece.usage = usage_;
  piece.last = --left_ == 0;
  piece.error = piece.last ? error_ : nullptr;
  piece.reason = reason_;
  tell(std::move(piece));
}

void Answering::complete(AnswerPiece& piece) const {
  std::vector<TokenChoice> tokens;
  if (piece.prompt_logprobs) {
    const std::vector<TokenId>& prompt = prompts_[piece.delta.choice * prompts_.size() / choices_.size()];
    std::vector<TokenChoice> shown = prompt_choices(prompt, *piece.prompt_logprobs, *tokenizer_);
    if (choices_[piece.delta.choice].prompt_tokens) piece.delta.prompt_tokens = shown;
    if (echoes_ && logprobs_) tokens = std::move(shown);
  }
  if (piece.logprobs) tokens.push_back(token_choice(*piece.logprobs, *tokenizer_));
  piece.delta.tokens = std::move(tokens);
}

void Answering::append(const AnswerPiece& piece) { api::append(choices_[piece.delta.choice], piece.delta); }

}  // namespace tessera::api
