#pragma once
// The "decoder" of a tokenizer.json: token texts to text. Replace, ByteFallback, Fuse, ByteLevel, Strip, Metaspace and Sequence.
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/pattern.h"

namespace tessera::text {

class Decoder {
 public:
  Decoder();  // puts a space between tokens, as the `tokenizers` library does without a decoder
  // Refuses a Replace, ByteFallback, ByteLevel or Metaspace behind a Fuse or ByteLevel: there is but one token then, of any length.
  explicit Decoder(const Fields& fields) { add(fields, 0); }

  // One decoding: texts of tokens in, text out as soon as no later token can change it. What it gives is whole valid UTF-8.
  class Stream {
   public:
    // The decoder must outlive the stream.
    explicit Stream(const Decoder& decoder) : decoder_(&decoder), states_(decoder.steps_.size()) {}
    void push(std::string_view token, std::string& text) { feed(0, token, text); }
    // Gives what was held back, and begins anew.
    void flush(std::string& text);

   private:
    friend class Decoder;
    struct State {
      size_t seen = 0;   // tokens, or characters stripped from the front
      std::string held;  // bytes
    };
    void feed(size_t step, std::string_view token, std::string& text);
    void release_bytes(size_t step, std::string& text);
    void strip(size_t step, std::string_view part, std::string& text);

    const Decoder* decoder_;
    std::vector<State> states_;
  };

 private:
  struct Join {};  // the missing decoder
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  struct ByteFallback {};
  struct Fuse {};
  struct ByteLevel {};
  struct Strip {
    std::string content;  // one character
    size_t start, stop;   // at most so many are taken away
    bool is_fused;        // from the whole text; else from every token
  };
  struct Metaspace {
    std::string replacement;
    bool drops_first;
  };
  using Step = std::variant<Join, Replace, ByteFallback, Fuse, ByteLevel, Strip, Metaspace>;

  void add(const Fields& fields, int depth);

  std::vector<Step> steps_;
};

}  // namespace tessera::text
