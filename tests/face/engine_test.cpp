#include <gtest/gtest.h>
#include <tessera/tessera.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace tessera {
namespace {

namespace fs = std::filesystem;

// A tiny Gemma 3 with a tokenizer of four letters.
class Face : public ::testing::Test {
 protected:
  Face() : folder_(fs::path(::testing::TempDir()) / ("face_test_" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
    for (const char* name : {"config.json", "model.safetensors"})
      fs::copy_file(fs::path(TESSERA_TINY) / "small-gemma3" / name, folder_ / name, fs::copy_options::overwrite_existing);
    std::ofstream(folder_ / "tokenizer.json") << R"({"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": {"type": "Fuse"}, "model": {"type": "BPE", "dropout": null, "unk_token": null,
        "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
        "vocab": {"a": 4, "b": 5, "c": 6, "d": 7}, "merges": []}})";
  }
  ~Face() override { fs::remove_all(folder_); }

  Engine load() const { return Engine::load(folder_.string(), {.threads = 2, .context = 256, .sequences = 3}); }

 private:
  fs::path folder_;
};

GenerateOptions sampled(uint64_t seed) { return {.max_new_tokens = 12, .temperature = 30.0, .seed = seed, .ignore_eos = true}; }
const GenerateOptions kEndless{.temperature = 0.0, .ignore_eos = true};

TEST_F(Face, answers_threads_that_submit_wait_and_cancel_as_it_answers_one) {
  const Engine engine = load();
  std::vector<std::vector<int32_t>> alone;
  for (uint64_t seed = 0; seed < 4; ++seed) alone.push_back(engine.generate("abcd", sampled(seed)).ids);
  ASSERT_NE(alone[0], alone[1]);
  std::atomic<int> right = 0, shown = 0;
  std::vector<std::thread> threads;
  for (uint64_t seed = 0; seed < 4; ++seed)
    threads.emplace_back([&, seed] {
      for (int i = 0; i < 3; ++i) {
        const Ticket endless = engine.submit("dcba", kEndless, [&](std::string_view) { return ++shown > 0; });
        const Ticket ticket = engine.submit("abcd", sampled(seed));
        right += ticket.wait().ids == alone[seed];
        endless.cancel();
        const Answer answer = endless.wait();
        right += answer.finish_reason == "cancelled" || answer.finish_reason == "length";
        right += engine.tokenize("abcd") == std::vector<int32_t>{4, 5, 6, 7};
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 36);
}

TEST_F(Face, tickets_outlive_their_engine_and_on_text_goes_with_the_answer) {
  const auto held = std::make_shared<int>();
  std::vector<Ticket> tickets;
  {
    const Engine engine = load();
    for (int i = 0; i < 5; ++i) tickets.push_back(engine.submit("abcd", kEndless, [held](std::string_view) { return true; }));
    EXPECT_GT(held.use_count(), 1);
  }
  EXPECT_EQ(held.use_count(), 1);
  for (const Ticket& ticket : tickets) {
    ticket.cancel();
    EXPECT_TRUE(ticket.done());
    const std::string reason = ticket.wait().finish_reason;
    EXPECT_TRUE(reason == "cancelled" || reason == "length") << reason;
  }
}

TEST_F(Face, an_engine_that_is_moved_answers_on) {
  Engine first = load();
  const Ticket ticket = first.submit("abcd", sampled(1));
  std::optional<Engine> second(std::move(first));
  EXPECT_EQ(ticket.wait().ids, second->generate("abcd", sampled(1)).ids);
  *second = load();
  EXPECT_EQ(ticket.wait().ids, second->generate("abcd", sampled(1)).ids);
}

}  // namespace
}  // namespace tessera
