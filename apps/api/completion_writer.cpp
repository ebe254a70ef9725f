#include <utility>

#include "api/chunks.h"
#include "api/completions.h"

namespace tessera::api {
namespace {

int64_t characters(std::string_view text) {
  int64_t count = 0;
  for (const char byte : text) count += (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  return count;
}

// `offset`: characters before the tokens; afterwards, with theirs.
Json logprobs_json(const std::vector<TokenChoice>& tokens, int64_t& offset) {
  Json names = Json::array(), own = Json::array(), tops = Json::array(), offsets = Json::array();
  for (const TokenChoice& token : tokens) {
    names.push_back(token.chosen.text);
    offsets.push_back(std::exchange(offset, offset + characters(token.chosen.text)));
    own.push_back(token.known ? Json(token.chosen.logprob) : Json());
    Json top = token.known ? Json::object() : Json();
    const auto add = [&](const TokenText& one) {  // of tokens with the same text, the more probable
      if (const auto found = top.find(one.text); found == top.end()) top[one.text] = one.logprob;
    };
    for (const TokenText& one : token.top) add(one);
    if (token.known) add(token.chosen);
    tops.push_back(top);
  }
  return {{"tokens", names}, {"token_logprobs", own}, {"top_logprobs", tops}, {"text_offset", offsets}};
}

Json choice_json(size_t index, const Choice& choice) {
  int64_t offset = 0;
  Json json{{"index", index},
            {"text", choice.text},
            {"logprobs", choice.tokens ? logprobs_json(*choice.tokens, offset) : Json()},
            {"finish_reason", choice.finish_reason}};
  if (choice.prompt_tokens) json["prompt_logprobs"] = prompt_logprobs_json(*choice.prompt_tokens);
  if (choice.prompt_ids) json["prompt_token_ids"] = *choice.prompt_ids;
  if (choice.ids) json["token_ids"] = *choice.ids;
  return json;
}

class CompletionWriter : public AnswerWriter {
 public:
  CompletionWriter(AnswerHeader header, const GenerationFields& fields)
      : header_(std::move(header)), chunks_(header_, "text_completion", fields) {}

  std::string events(const AnswerDelta& part, const Usage& usage) override {
    if (part.text.empty() && part.tokens.empty() && part.prompt_tokens.empty() && part.ids.empty() && part.prompt_ids.empty() &&
        part.finish_reason.empty())
      return "";
    if (offsets_.size() <= part.choice) offsets_.resize(part.choice + 1);
    Json choice{{"index", part.choice},
                {"text", part.text},
                {"logprobs", part.tokens.empty() ? Json() : logprobs_json(part.tokens, offsets_[part.choice])},
                {"finish_reason", part.finish_reason.empty() ? Json() : Json(part.finish_reason)}};
    if (!part.prompt_tokens.empty()) choice["prompt_logprobs"] = prompt_logprobs_json(part.prompt_tokens);
    if (!part.prompt_ids.empty()) choice["prompt_token_ids"] = part.prompt_ids;
    if (!part.ids.empty()) choice["token_ids"] = part.ids;
    return chunks_.event(choice, usage);
  }

  std::string last_events(const Usage& usage) override { return chunks_.last_events(usage); }
  std::string error_events(const Failure& failure) const override { return event(failure.body); }
  Json body(std::span<const Choice> choices, const Usage& usage) const override { return completion(header_, choices, usage); }

 private:
  AnswerHeader header_;
  Chunks chunks_;
  std::vector<int64_t> offsets_;  // of each choice: characters of its tokens so far
};

}  // namespace

std::unique_ptr<AnswerWriter> completion_writer(AnswerHeader header, const GenerationFields& fields) {
  return std::make_unique<CompletionWriter>(std::move(header), fields);
}

Json completion(const AnswerHeader& header, std::span<const Choice> choices, const Usage& usage) {
  Json all = Json::array();
  for (const Choice& choice : choices) all.push_back(choice_json(all.size(), choice));
  return {{"id", header.id}, {"object", "text_completion"}, {"created", header.created}, {"model", header.model},
          {"choices", all},  {"usage", usage_json(usage)}};
}

}  // namespace tessera::api
