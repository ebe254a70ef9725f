#include "api/answer.h"

#include <algorithm>
#include <iterator>

namespace tessera::api {
namespace {

constexpr double kLeastLogprob = -9999;  // JSON has no infinity

// As it stands behind another token: a decoder may drop a text's first space.
std::string text_of(TokenId id, const Tokenizer& tokenizer) {
  const TokenId once[] = {id}, twice[] = {id, id};
  return tokenizer.decode(twice, {}).substr(tokenizer.decode(once, {}).size());
}

TokenText token_text(TokenId id, double logprob, int64_t rank, const Tokenizer& tokenizer) {
  return {.text = text_of(id, tokenizer), .logprob = std::max(logprob, kLeastLogprob), .id = id, .rank = rank};
}

}  // namespace

void AnswerDelta::append(AnswerDelta next) {
  const auto add = [](auto& all, auto& more) {
    all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  };
  text += next.text;
  reasoning += next.reasoning;
  add(calls, next.calls);
  add(tokens, next.tokens);
  add(prompt_tokens, next.prompt_tokens);
  add(ids, next.ids);
  add(prompt_ids, next.prompt_ids);
  finish_reason += next.finish_reason;
  stop_string += next.stop_string;
}

void append(Choice& choice, const AnswerDelta& delta) {
  const auto add = [](auto& all, const auto& more) {
    if (all) all->insert(all->end(), more.begin(), more.end());
  };
  choice.text += delta.text;
  choice.reasoning += delta.reasoning;
  for (const AnswerDelta::Call& call : delta.calls) {
    if (call.index >= choice.tool_calls.size()) choice.tool_calls.resize(call.index + 1);
    ToolCall& whole = choice.tool_calls[call.index];
    whole.id += call.id;
    whole.name += call.name;
    whole.arguments += call.arguments;
  }
  add(choice.tokens, delta.tokens);
  add(choice.prompt_tokens, delta.prompt_tokens);
  add(choice.ids, delta.ids);
  add(choice.prompt_ids, delta.prompt_ids);
  choice.finish_reason += delta.finish_reason;
  choice.stop_string += delta.stop_string;
}

Json usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

Json prompt_logprobs_json(std::span<const TokenChoice> tokens) {
  Json all = Json::array();
  for (const TokenChoice& token : tokens) {
    Json& entry = all.emplace_back();
    const auto add = [&](const TokenText& one) {
      entry[std::to_string(one.id)] = {{"logprob", one.logprob}, {"rank", one.rank}, {"decoded_token", one.text}};
    };
    if (!token.known) continue;
    add(token.chosen);
    for (const TokenText& top : token.top) add(top);
  }
  return all;
}

std::string json_text(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

TokenChoice token_choice(const TokenLogprobs& logprobs, const Tokenizer& tokenizer) {
  TokenChoice choice{.chosen = token_text(logprobs.token, logprobs.logprob, logprobs.rank, tokenizer), .top = {}};
  int64_t rank = 0, place = 0;
  for (const auto& [id, logprob] : logprobs.top) {
    const bool equal = place++ > 0 && logprob == logprobs.top[static_cast<size_t>(place - 2)].second;
    if (!equal) rank = place;
    choice.top.push_back(token_text(id, logprob, rank, tokenizer));
  }
  return choice;
}

std::vector<TokenChoice> prompt_choices(std::span<const TokenId> prompt, std::span<const TokenLogprobs> logprobs,
                                        const Tokenizer& tokenizer) {
  std::vector<TokenChoice> choices{
      {.chosen = {.text = text_of(prompt.front(), tokenizer), .logprob = 0, .id = prompt.front()}, .top = {}, .known = false}};
  for (const TokenLogprobs& one : logprobs) choices.push_back(token_choice(one, tokenizer));
  return choices;
}

}  // namespace tessera::api
