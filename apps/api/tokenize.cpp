#include "api/tokenize.h"

#include <limits>

namespace tessera::api {

TokenizeFields read_tokenize(JsonObject object) {
  Fields body(object);
  TokenizeFields fields{.model = body.text("model"),
                        .prompt = {},
                        .add_special_tokens = true,
                        .return_token_strs = body.boolean("return_token_strs").value_or(false)};
  if (body.value("messages")) {
    expect(!body.value("prompt"), body.param("prompt"), "does not go with messages; leave one of them out");
    fields.prompt = read_chat(body);
  } else {
    fields.prompt = body.needed_text("prompt");
    fields.add_special_tokens = body.boolean("add_special_tokens").value_or(true);
  }
  return fields;
}

DetokenizeFields read_detokenize(JsonObject object, int64_t vocab_size) {
  Fields body(object);
  const auto tokens = body.list("tokens", std::numeric_limits<size_t>::max());
  expect(tokens.has_value(), body.param("tokens"), "is not there");
  return {.model = body.text("model"),
          .tokens = read_token_ids(*tokens, vocab_size, body.param("tokens")),
          .skip_special_tokens = body.boolean("skip_special_tokens").value_or(false)};
}

Json tokenized(std::span<const TokenId> ids, int64_t max_model_len, const Tokenizer& tokenizer, bool return_token_strs) {
  Json texts;
  if (return_token_strs) {
    texts = Json::array();
    for (const TokenId id : ids) texts.push_back(tokenizer.id_to_token(id));
  }
  return {{"count", ids.size()}, {"max_model_len", max_model_len}, {"tokens", Json(ids)}, {"token_strs", std::move(texts)}};
}

Json detokenized(std::span<const TokenId> ids, const Tokenizer& tokenizer, bool skip_special_tokens) {
  return {{"prompt", tokenizer.decode(ids, {.skip_special = skip_special_tokens})}};
}

Json tokenizer_info(std::span<const std::pair<std::string, std::string>> special_tokens, const std::optional<std::string>& chat_template,
                    const std::optional<std::string>& tokenizer_class) {
  const auto text = [](const std::optional<std::string>& given) { return given ? Json(*given) : Json(); };
  Json info{{"tokenizer_class", text(tokenizer_class)},
            {"bos_token", nullptr},
            {"eos_token", nullptr},
            {"pad_token", nullptr},
            {"unk_token", nullptr}};
  for (const auto& [name, token] : special_tokens) info[name] = token;
  info["chat_template"] = text(chat_template);
  return info;
}

}  // namespace tessera::api
