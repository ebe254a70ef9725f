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

AnswerDelta whole_delta(const Choice& choice) {
  AnswerDelta delta{.text = choice.text,
                    .reasoning = choice.reasoning,
                    .tokens = choice.tokens.value_or(std::vector<TokenChoice>()),
                    .prompt_tokens = choice.prompt_tokens.value_or(std::vector<TokenChoice>()),
                    .ids = choice.ids.value_or(std::vector<TokenId>()),
                    .prompt_ids = choice.prompt_ids.value_or(std::vector<TokenId>()),
                    .finish_reason = choice.finish_reason,
                    .stop_string = choice.stop_string};
  for (const ToolCall& call : choice.tool_calls) delta.calls.push_back({delta.calls.size(), call.id, call.name, call.arguments});
  return delta;
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

std::string dumped(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string json_text(const Json& json) {
  std::string text = dumped(json);
  std::string escaped;
  size_t from = 0;
  const auto escape = [&](size_t at, size_t bytes, const char* as) {
    escaped.append(text, from, at - from) += as;
    from = at + bytes;
  };
  for (size_t at = text.find_first_of("\xC2\xE2"); at != std::string::npos; at = text.find_first_of("\xC2\xE2", at + 1)) {
    if (text.compare(at, 2, "\xC2\x85") == 0) escape(at, 2, "\\u0085");
    if (text.compare(at, 3, "\xE2\x80\xA8") == 0) escape(at, 3, "\\u2028");
    if (text.compare(at, 3, "\xE2\x80\xA9") == 0) escape(at, 3, "\\u2029");
  }
  if (from == 0) return text;
  return escaped.append(text, from);
}

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
