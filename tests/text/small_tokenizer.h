#pragma once
// Small tokenizer.json documents for tests.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/error.h"
#include "text/tokenizer.h"

namespace tessera {

using Json = nlohmann::json;

// A tokenizer that loads: the model's tokens a, b, ab, <unk> (ids 0 to 3), the merge a b, and nothing else.
inline Json small_tokenizer() {
  return Json::parse(
      R"({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
      "post_processor": null, "decoder": null,
      "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": {"a": 0, "b": 1, "ab": 2, "<unk>": 3},
                "merges": [["a", "b"]]}})");
}

inline Json added_token(TokenId id, std::string_view content, bool special = false) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

// Every byte as a token <0x00> to <0xFF>, from the id `first` on.
inline void add_byte_tokens(Json& json, TokenId first) {
  for (int byte = 0; byte < 256; ++byte) {
    constexpr char kHex[] = "0123456789ABCDEF";
    json["model"]["vocab"][std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">"] = first + byte;
  }
}

inline Tokenizer parse(const Json& json) { return Tokenizer::parse(json.dump(), "test.json"); }

// The message of the FileError that the document makes; empty when it loads.
inline std::string error_of_text(std::string_view text) {
  try {
    Tokenizer::parse(text, "test.json");
  } catch (const FileError& error) {
    return error.what();
  }
  return "";
}
inline std::string error_of(const Json& json) { return error_of_text(json.dump()); }

}  // namespace tessera
