// The C++ tokenizer for tests in other languages: one JSON request a line on stdin, one JSON answer a line on stdout.
//   tokenize_tool TOKENIZER_JSON [FOLDER]   FOLDER: where its tables are kept
//   {"text": T, "add_special": B, "parse_special": B}      -> {"ids": [...]}
//   {"spans": [[T, PARSE_SPECIAL], ...], "add_special": B} -> {"ids": [...]}
//   {"ids": [...], "skip_special": B}                      -> {"text": T, "pieces": [...]}   pieces: from the detokenizer, the flush last
//   {"first": ID, "end": ID}                               -> {"texts": [...]}               each id decoded alone
//   {"token": T}                                           -> {"id": ID or null}
//   {}                                                     -> {"vocab_size": N, "load_seconds": S}
// An exception is answered by {"error": TEXT}; a tokenizer that can't be loaded by {"error": TEXT} and exit code 3.
#include <chrono>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace {

using Json = nlohmann::json;
using tessera::TokenId;

Json decoded(const tessera::Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool skip_special) {
  const tessera::DecodeOptions options{.skip_special = skip_special};
  tessera::Detokenizer detokenizer(tokenizer, options);
  Json pieces = Json::array();
  for (const TokenId id : ids) pieces.push_back(detokenizer.push(id));
  pieces.push_back(detokenizer.flush());
  return {{"text", tokenizer.decode(ids, options)}, {"pieces", pieces}};
}

Json answer(const tessera::Tokenizer& tokenizer, const Json& request) {
  if (request.contains("text"))
    return {{"ids", tokenizer.encode(request["text"].get_ref<const std::string&>(),
                                     {.add_special_tokens = request["add_special"], .parse_special = request["parse_special"]})}};
  if (request.contains("spans")) {
    std::vector<tessera::TextSpan> spans;
    for (const Json& span : request["spans"]) spans.push_back({span[0].get_ref<const std::string&>(), span[1].get<bool>()});
    return {{"ids", tokenizer.encode(spans, request["add_special"].get<bool>())}};
  }
  if (request.contains("ids")) return decoded(tokenizer, request["ids"], request["skip_special"]);
  if (request.contains("token")) {
    const auto id = tokenizer.token_to_id(request["token"].get_ref<const std::string&>());
    return {{"id", id ? Json(*id) : Json()}};
  }
  Json texts = Json::array();
  for (TokenId id = request["first"]; id < request["end"].get<TokenId>(); ++id) texts.push_back(tokenizer.decode({&id, 1}, {}));
  return {{"texts", texts}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) return 2;
  try {
    const auto begin = std::chrono::steady_clock::now();
    const tessera::Tokenizer tokenizer =
        tessera::Tokenizer::load(argv[1], argc == 3 ? std::optional<std::filesystem::path>(argv[2]) : std::nullopt);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    for (std::string line; std::getline(std::cin, line);) {
      Json reply;
      try {
        const Json request = Json::parse(line);
        reply = request.empty() ? Json{{"vocab_size", tokenizer.vocab_size()}, {"load_seconds", seconds}} : answer(tokenizer, request);
      } catch (const std::exception& error) {
        reply = {{"error", error.what()}};
      }
      std::cout << reply.dump() << "\n" << std::flush;
    }
  } catch (const std::exception& error) {
    std::cout << Json{{"error", error.what()}}.dump() << std::endl;
    return 3;
  }
  return 0;
}
