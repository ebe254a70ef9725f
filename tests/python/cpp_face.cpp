// cpp_face CHECKPOINT BASE: what test_cpp_face.py asks of the installed library, a line of JSON for each answer, or what was thrown.
#include <tessera/tessera.h>

#include <atomic>
#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using tessera::Answer, tessera::Engine, tessera::GenerateOptions, tessera::Message, tessera::Ticket;

constexpr double kHot = 30;  // the tiny model is sure of one token at any other

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    char code[8];
    std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
    out += c < ' ' || c == '"' || c == '\\' ? std::string(code) : std::string(1, c);
  }
  return out + "\"";
}

template <class Value>
std::string list(const std::vector<Value>& values) {
  std::string out;
  for (const Value value : values) out += (out.empty() ? "" : ", ") + std::to_string(value);
  return "[" + out + "]";
}

void tell(const std::string& name, const std::string& json) { std::cout << "{" << quoted(name) << ": " << json << "}" << std::endl; }

void tell(const std::string& name, const Answer& answer) {
  tell(name, "{\"text\": " + quoted(answer.text) + ", \"ids\": " + list(answer.ids) +
                 ", \"finish_reason\": " + quoted(answer.finish_reason) + ", \"prompt_tokens\": " + std::to_string(answer.prompt_tokens) +
                 ", \"cached_tokens\": " + std::to_string(answer.cached_tokens) + "}");
}

template <class Call>
void tell_error(const std::string& what, const Call& call) {
  const std::string name = "error: " + what;
  try {
    call();
    tell(name, "\"nothing was thrown\"");
  } catch (const std::invalid_argument& error) {
    tell(name, quoted(std::string("invalid_argument: ") + error.what()));
  } catch (const std::runtime_error& error) {
    tell(name, quoted(std::string("runtime_error: ") + error.what()));
  }
}

void texts(const Engine& engine) {
  std::string pieces;
  tell("greedy", engine.generate("abc ab", {.max_new_tokens = 24, .temperature = 0.0}, [&](std::string_view piece) {
    pieces += piece;
    return true;
  }));
  tell("pieces", quoted(pieces));
  tell("tokens", list(engine.tokenize("abc <eos>ab")));
  tell("detokenized", quoted(engine.detokenize(engine.tokenize("abc <eos>ab"))));
  tell("stop", engine.generate("abc ab", {.max_new_tokens = 24, .temperature = kHot, .seed = 3, .stop = {"never", "~", "b", "e", "R"}}));
  tell("biased", engine.generate("abc ab", {.max_new_tokens = 4, .logit_bias = {{40, 1000.0}}}));
  tell("ended", engine.generate("abc ab", {.max_new_tokens = 4, .logit_bias = {{1, 1000.0}}}));
  tell("ignored", engine.generate("abc ab", {.max_new_tokens = 4, .logit_bias = {{1, 1000.0}}, .ignore_eos = true}));
  tell("nothing", engine.generate("abc ab", {.max_new_tokens = 0}));
  tell("to_the_end", engine.generate("abc ab", {.ignore_eos = true}));
  tell("enough", engine.generate("abc ab", {.temperature = kHot, .seed = 1}, [](std::string_view) { return false; }));
}

void many(const Engine& engine) {
  std::vector<Ticket> tickets;
  for (uint64_t seed = 0; seed < 8; ++seed)
    tickets.push_back(engine.submit("abc ab " + std::string(5 * seed, 'c'), {.max_new_tokens = 20, .temperature = kHot, .seed = seed}));
  for (size_t i = 0; i < tickets.size(); ++i) tell("many" + std::to_string(i), tickets[i].wait());
  std::atomic<int> right = 0;
  const Answer alone = tickets[2].wait();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int j = 0; j < 4; ++j)
        right += engine.generate("abc ab cccccccccc", {.max_new_tokens = 20, .temperature = kHot, .seed = 2}).ids == alone.ids;
    });
  for (std::thread& thread : threads) thread.join();
  tell("threads", std::to_string(right));
}

void talk(const Engine& engine) {
  std::vector<Message> said = {{"user", "abc ab what is it, and what was it before that?"}};
  const GenerateOptions options{.max_new_tokens = 40, .temperature = kHot, .seed = 5};
  const Answer first = engine.chat(said, options);
  said.push_back({"assistant", first.text, first.ids});
  said.push_back({"user", "and ba?"});
  tell("turn_ended", engine.chat(said, {.max_new_tokens = 4, .logit_bias = {{5, 1000.0}}}));
  tell("first", first);
  tell("second", engine.chat(said, options));
}

void cancelled(const Engine& engine) {
  const GenerateOptions endless{.temperature = 0.0, .ignore_eos = true};
  std::vector<Ticket> tickets;
  std::atomic<int> shown = 0;
  for (int i = 0; i < 5; ++i) tickets.push_back(engine.submit("abc ab", endless, [&](std::string_view) { return ++shown > 0; }));
  while (shown == 0) std::this_thread::yield();
  for (const Ticket& ticket : tickets) ticket.cancel();
  for (const Ticket& ticket : tickets) ticket.wait();
  tell("cancelled", quoted(tickets.back().wait().finish_reason));
  tell("done", std::to_string(tickets.back().done()));
}

Ticket left_behind(const std::string& checkpoint) {
  const Engine engine = Engine::load(checkpoint, {.threads = 1});
  std::atomic<int> shown = 0;
  const Ticket ticket = engine.submit("abc ab", {.temperature = 0.0, .ignore_eos = true}, [&](std::string_view) { return ++shown > 0; });
  while (shown == 0) std::this_thread::yield();
  return ticket;
}

void callbacks(const Engine& engine) {
  const auto use = [&](const tessera::OnText& on_text) { engine.generate("abc ab", {.max_new_tokens = 4, .temperature = 0.0}, on_text); };
  tell_error("thrown", [&] { use([](std::string_view) -> bool { throw std::runtime_error("the reader has gone"); }); });
  tell_error("waits", [&] { use([&](std::string_view) { return engine.generate("ab").ids.empty(); }); });
  std::vector<Ticket> inner;
  use([&](std::string_view) {
    inner.push_back(engine.submit("abc ab", {.max_new_tokens = 4, .temperature = 0.0}));
    return true;
  });
  tell("inner", inner.back().wait());
}

void errors(const Engine& engine, const std::string& checkpoint, const std::string& base) {
  tell_error("missing", [] { Engine::load("/no/such/folder"); });
  tell_error("weights", [&] { Engine::load(checkpoint, {.weights = "int8"}); });
  tell_error("threads", [&] { Engine::load(checkpoint, {.threads = -1}); });
  tell_error("sequences", [&] { Engine::load(checkpoint, {.sequences = -1}); });
  tell_error("cache_bytes", [&] { Engine::load(checkpoint, {.cache_bytes = 1}); });
  tell_error("context", [&] { Engine::load(checkpoint, {.context = 1 << 20}); });
  tell_error("device", [&] { Engine::load(checkpoint, {.device = "gpu"}); });
  tell_error("generation_config", [&] { Engine::load(checkpoint, {.generation_config = "/no/such/file"}); });
  tell_error("on_load", [&] { Engine::load(checkpoint, {.on_load = [](int64_t, int64_t) { throw std::runtime_error("stopped"); }}); });
  tell_error("temperature", [&] { engine.generate("ab", {.temperature = -1.0}); });
  tell_error("max_new_tokens", [&] { engine.submit("ab", {.max_new_tokens = -1}); });
  tell_error("bias", [&] { engine.submit("ab", {.logit_bias = {{1 << 20, 1.0}}}); });
  tell_error("stop", [&] { engine.submit("ab", {.stop = {""}}); });
  tell_error("empty", [&] { engine.generate(""); });
  tell_error("utf8", [&] { engine.generate("ab\xff"); });
  tell_error("long", [&] { engine.generate(std::string(200, 'c')); });
  tell_error("message", [&] { engine.chat({{"user", "ab\xff"}}); });
  tell_error("message_ids", [&] { engine.chat({{"user", "ab"}, {"assistant", "ab", {-1}}}); });
  tell_error("short", [&] { engine.score("a"); });
  const Engine untold = Engine::load(base);
  tell_error("no_template", [&] { untold.chat({{"user", "ab"}}); });
  tell("base", untold.generate("abc ab", {.max_new_tokens = 2}));
}

}  // namespace

int main(int, char** argv) {
  const std::string checkpoint = argv[1], base = argv[2];
  int64_t loaded = 0, to_load = -1;
  Engine engine = Engine::load(
      checkpoint,
      {.weights = "float32", .activations = "float32", .context = 128, .sequences = 3, .on_load = [&](int64_t done, int64_t total) {
         loaded = done, to_load = total;
       }});
  tell("loaded", std::to_string(loaded == to_load));
  const Engine moved = std::move(engine);
  tell("context", std::to_string(moved.context()));
  texts(moved);
  many(moved);
  talk(moved);
  cancelled(moved);
  callbacks(moved);
  for (const std::string text : {"abc ab, cab!",
                                 "a text that is longer than the context of 128 tokens, so that it is read in two windows: "
                                 "half of the second was in the first, and is not scored again there."}) {
    const tessera::Score score = moved.score(text);
    tell("score", "{\"ids\": " + list(score.ids) + ", \"log_probs\": " + list(score.log_probs) +
                      ", \"perplexity\": " + std::to_string(score.perplexity) + "}");
  }
  errors(moved, checkpoint, base);
  const Ticket ticket = left_behind(checkpoint);
  tell("left_behind", quoted(ticket.wait().finish_reason));
  ticket.cancel();
}
