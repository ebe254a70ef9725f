#pragma once
// Tessera as a library: a Hugging Face checkpoint answers, in process. This header is all that is public, and needs the standard library
// alone; until version 1.0 it may change with each 0.x, and the shared library's name with it.
//
//   tessera::Engine engine = tessera::Engine::load("path/to/a/checkpoint");
//   std::cout << engine.generate("The three primary colours are").text;
//
// Errors: nothing here prints, aborts or exits. What is thrown is of the standard library:
//   std::invalid_argument  the caller can fix it: an option, a text that is no UTF-8, a prompt that is too long. The text names the field,
//                          its value, the limit and what to do
//   std::runtime_error     all else: a checkpoint that is missing, bad or not supported, no memory, a full queue, a device's failure
//   std::bad_alloc         memory ran out where it was not foreseen
// All texts are UTF-8.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tessera {

// How a checkpoint is loaded. What is left as it is here is chosen as the `tessera` command does.
struct EngineOptions {
  std::string device = "cpu";
  int threads = 0;  // 0: as many as the process may use
  // Data types: "float32", "bfloat16", "bfloat8_b" and, of weights alone, "bfloat4_b"; "": the model's own.
  std::string weights = {}, activations = {}, cache = {};
  int64_t context = 0;                     // tokens of a prompt and its answer; 0: the model's own, or as many as memory is for
  int64_t sequences = 0;                   // that run at a time, while further ones wait; 0: 32, or as many as there is room for
  int64_t cache_bytes = 0;                 // of the cache that they share; 0: what they can all fill, or what memory leaves
  std::string revision = {};               // of a model that is named by an id: a branch, tag or commit; "": main
  std::string generation_config = "auto";  // "auto": the checkpoint's generation_config.json; "none": its end tokens alone; or a file
  std::string chat_template = {};          // a file with a Jinja text, in place of the checkpoint's; "": none
  std::function<void(int64_t done_bytes, int64_t total_bytes)> on_load = {};  // called while weights are loaded; may throw, to stop
};

// How one text goes on. What is not set is the checkpoint's generation config's, and greedy unless that samples; who sets temperature,
// top_k, top_p or min_p wants to sample.
struct GenerateOptions {
  std::optional<int64_t> max_new_tokens = {};                           // none set anywhere: to the context's end
  std::optional<double> temperature = {};                               // 0: greedy
  std::optional<int64_t> top_k = {};                                    // 0: all
  std::optional<double> top_p = {}, min_p = {};                         // (0, 1]; [0, 1]
  std::optional<double> repetition_penalty = {};                        // above 0; 1: none
  std::optional<double> presence_penalty = {}, frequency_penalty = {};  // [-2, 2]; 0: none
  std::optional<uint64_t> seed = {};                                    // the same gives the same text; a random one if not set
  std::optional<int64_t> min_new_tokens = {};                           // no end token before so many
  std::vector<std::string> stop = {};                                   // the text ends before the first of these
  std::unordered_map<int32_t, double> logit_bias = {};                  // by token id
  bool ignore_eos = false;                                              // go on past end tokens
  int priority = 0;                                                     // lower ones go first
};

// What is said in a conversation, by "system", "user", "assistant" or another role that the checkpoint's template knows.
struct Message {
  std::string role = {}, content = {};
  std::vector<int32_t> ids = {};  // of an answer: Answer::ids, so that what was computed for it is found again; may be left out
};

struct Answer {
  std::string text = {};          // the new text, without control tokens, and up to a stop string
  std::vector<int32_t> ids = {};  // the new tokens, without an end token; a stop string's among them
  // "stop": an end token, a stop string, or on_text's word; "length": max_new_tokens, or the context's end; "cancelled".
  std::string finish_reason = {};
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of these, computed before for another text that began the same
};

// Called with each piece of the text as it comes, whole characters; false: it was the last. It runs on the engine's thread: what it throws
// is thrown to who waits for the answer, and it may submit and cancel; what waits for an answer throws there.
using OnText = std::function<bool(std::string_view piece)>;

// How well the model foretells a text.
struct Score {
  std::vector<int32_t> ids = {};       // the text's tokens
  std::vector<double> log_probs = {};  // of ids[1], ids[2], ..., natural logarithms
  double perplexity = 0;               // exp of minus their mean
};

// A request on its way. A copy is the same request; it goes on when none is left, until its Engine goes.
class Ticket {
 public:
  // Blocks until the answer is there; may be called again. Throws what ended the request.
  Answer wait() const;
  bool done() const;
  void cancel() const;  // wait gives what there is of the text; nothing happens when it has ended

 private:
  friend class Engine;
  struct State;
  explicit Ticket(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

// A loaded checkpoint, and a thread that answers: all that is submitted and has room goes on side by side, and each answer is the one that
// it would be alone. Any thread may call any function at any time, but for moving and destroying; of one that was moved from none is
// called.
class Engine {
 public:
  // A checkpoint's directory, or a Hugging Face id that the local cache holds.
  static Engine load(const std::string& directory_or_id, const EngineOptions& options = {});

  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;
  ~Engine();  // what is on its way ends as cancelled, and on_text may get the last of it

  // The text that follows a prompt, which is raw: no chat template, and control tokens in it count.
  Answer generate(std::string_view prompt, const GenerateOptions& options = {}, const OnText& on_text = {}) const;
  // The answer to a conversation, in the checkpoint's chat template. What people wrote never becomes a control token.
  Answer chat(const std::vector<Message>& messages, const GenerateOptions& options = {}, const OnText& on_text = {}) const;

  // The same without waiting. What is wrong with a request is thrown at once; std::runtime_error when 1024 wait already.
  Ticket submit(std::string_view prompt, const GenerateOptions& options = {}, const OnText& on_text = {}) const;
  Ticket submit_chat(const std::vector<Message>& messages, const GenerateOptions& options = {}, const OnText& on_text = {}) const;

  // A text of at least 2 tokens; one that is longer than the context is read in windows of its length, half of which is read before what is
  // scored.
  Score score(std::string_view text) const;

  // The ids of a text as generate takes it, and the text of ids, special tokens left out.
  std::vector<int32_t> tokenize(std::string_view text) const;
  std::string detokenize(const std::vector<int32_t>& ids) const;

  int64_t context() const;                        // tokens of a prompt and its answer at most
  const std::vector<std::string>& notes() const;  // odd but harmless: of the checkpoint, for the user to see

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tessera
