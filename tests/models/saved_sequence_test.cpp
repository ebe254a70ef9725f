// A sequence that was saved goes on in another cache, of another process perhaps, with the same logits, bit for bit.
#include "generate/saved_sequence.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <stdexcept>

#include "core/error.h"
#include "cpu/cpu_device.h"
#include "generate/generator.h"
#include "last_logits.h"
#include "tiny_models.h"

namespace tessera {
namespace {

const PagesIdentity kIdentity{{"weights", "bfloat16"}};

struct Case {
  TinyCheckpoint checkpoint;
  DataType cache;
  size_t tokens;
};

class SavedSequenceTest : public testing::Test {
 protected:
  ~SavedSequenceTest() override { std::filesystem::remove(path_); }

  Cache cache_of(const Model& model, DataType type, int64_t max_tokens = 600) {
    return Cache(device_, model.spec().cache, {.dtype = type, .max_tokens = max_tokens, .max_sequences = 2});
  }

  cpu::CpuDevice device_{{.threads = 2}};
  const std::string path_ = testing::TempDir() + "saved_sequence_test." + std::to_string(::getpid());
};

TEST_F(SavedSequenceTest, goes_on_with_equal_bits_without_computing_a_token_again) {
  const Case cases[] = {
      {tiny_gemma3(4), DataType::bfloat16, 150},   {tiny_gemma3(4), DataType::bfloat8_b, 97}, {tiny_gemma3(512), DataType::float32, 64},
      {tiny_phi3(true), DataType::bfloat16, 40},   {tiny_phi3(true), DataType::bfloat16, 63},  // crosses LongRoPE's 64
      {tiny_phi3(true), DataType::bfloat8_b, 100},
  };
  for (const Case& c : cases) {
    const ModelOptions options{DataType::bfloat16, DataType::bfloat16, c.cache};
    const std::unique_ptr<Model> model = c.checkpoint.load(device_, options);
    Cache cache = cache_of(*model, c.cache), other = cache_of(*model, c.cache);
    Generator generator(*model, device_, cache), another(*model, device_, other);
    const auto sequence = cache.create(), restored = other.create();
    sequence->tokens = random_tokens(c.tokens, 5);
    last_logits(generator, *sequence);
    sequence->tokens.push_back(7);  // known, and not cached yet
    save_sequence(path_, "about it", device_, *sequence, cache, kIdentity, SavedPages::all);

    const SavedSequence saved(path_);
    EXPECT_EQ(saved.about(), "about it");
    EXPECT_EQ(saved.tokens(), sequence->tokens);
    ASSERT_EQ(saved.restore(device_, other, *restored, kIdentity), "");
    EXPECT_EQ(restored->tokens, sequence->tokens);
    EXPECT_EQ(restored->length(), static_cast<int64_t>(c.tokens));
    EXPECT_EQ(restored->rope_length(), sequence->rope_length());
    for (TokenId token = 0; token < 3; ++token) {
      EXPECT_EQ(last_logits(another, *restored), last_logits(generator, *sequence)) << c.tokens << " tokens and " << token;
      sequence->tokens.push_back(token);
      restored->tokens.push_back(token);
    }
  }
}

TEST_F(SavedSequenceTest, pages_that_cannot_be_used_say_why_and_leave_the_sequence_empty) {
  const std::unique_ptr<Model> model = tiny_gemma3(4).load(device_, {});
  Cache cache = cache_of(*model, DataType::bfloat16);
  Generator generator(*model, device_, cache);
  const auto sequence = cache.create(), restored = cache.create();
  sequence->tokens = random_tokens(150, 6);
  last_logits(generator, *sequence);
  EXPECT_GT(saved_page_bytes(device_, *sequence, cache), 0u);
  save_sequence(path_, "", device_, *sequence, cache, kIdentity, SavedPages::all);
  const auto expect_refused = [&](Cache& into, const PagesIdentity& identity, const std::string& why) {
    const auto empty = into.create();
    EXPECT_EQ(SavedSequence(path_).restore(device_, into, *empty, identity), why);
    EXPECT_TRUE(empty->tokens.empty() && empty->length() == 0);
    for (size_t group = 0; group < into.groups(); ++group) EXPECT_TRUE(empty->table(group).pages.empty());
  };
  Cache own = cache_of(*model, DataType::bfloat16), small = cache_of(*model, DataType::bfloat16, 60),
        blocks = cache_of(*model, DataType::bfloat8_b);
  expect_refused(own, {{"weights", "bfloat8_b"}}, "were made otherwise: weights \"bfloat16\", now \"bfloat8_b\"");
  expect_refused(own, {{"weights", "bfloat16"}, {"version", "2"}}, "were made otherwise: version \"\", now \"2\"");
  expect_refused(blocks, kIdentity, "were made otherwise: cache \"bfloat16\", now \"bfloat8_b\"");
  expect_refused(small, kIdentity, "do not fit the context: they are of 150 tokens");
  save_sequence(path_, "", device_, *sequence, cache, kIdentity, SavedPages::none);
  expect_refused(own, kIdentity, "are not in the file");
  EXPECT_EQ(SavedSequence(path_).tokens(), sequence->tokens);
}

TEST_F(SavedSequenceTest, a_file_that_changes_while_it_is_read_is_an_error) {
  const std::unique_ptr<Model> model = tiny_gemma3(4).load(device_, {});
  Cache cache = cache_of(*model, DataType::bfloat16);
  Generator generator(*model, device_, cache);
  const auto sequence = cache.create(), restored = cache.create();
  sequence->tokens = random_tokens(150, 6);
  last_logits(generator, *sequence);
  save_sequence(path_, "", device_, *sequence, cache, kIdentity, SavedPages::all);
  const SavedSequence saved(path_);
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) + 1);
  EXPECT_THROW(saved.restore(device_, cache, *restored, kIdentity), FileError);
}

}  // namespace
}  // namespace tessera
