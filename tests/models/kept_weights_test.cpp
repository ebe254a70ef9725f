// Weights that are kept packed: the next load takes them from the file, gives the same bits, and puts up with whatever became of it.
#include "checkpoint/kept_weights.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "checkpoint/weights.h"
#include "core/error.h"
#include "core/json.h"
#include "cpu/cpu_device.h"
#include "generate/generator.h"
#include "last_logits.h"
#include "tiny_models.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

// A source in memory that has an identity and counts the tensors that are read.
class CountingSource final : public WeightSource {
 public:
  CountingSource(std::unique_ptr<WeightSource> inner, std::string identity) : inner_(std::move(inner)), identity_(std::move(identity)) {
    tensors_ = inner_->tensors();
  }
  std::span<const std::byte> lend(std::string_view name) override {
    read_ += name.find("norm") == std::string_view::npos;
    return inner_->lend(name);
  }
  void release(std::string_view name) override { inner_->release(name); }
  std::string identity() const override { return identity_; }
  int read() const { return read_; }

 private:
  std::unique_ptr<WeightSource> inner_;
  std::string identity_;
  int read_ = 0;
};

class KeptWeightsTest : public testing::Test {
 protected:
  struct Loaded {
    int read;  // tensors, norms aside
    std::vector<std::string> notes;
    std::vector<float> logits;
  };

  ~KeptWeightsTest() override { fs::remove_all(folder_); }

  Loaded load(const TinyCheckpoint& tiny, const std::string& identity = "one", ModelOptions options = {}, int threads = 2) {
    return load(tiny, identity, options, threads, [] {});
  }

  // `meanwhile` happens between loading and running.
  Loaded load(const TinyCheckpoint& tiny, const std::string& identity, ModelOptions options, int threads,
              const std::function<void()>& meanwhile) {
    cpu::CpuDevice device({.threads = threads});
    CountingSource source(tiny.source(), identity);
    KeptWeights kept(path_, source, device, options.weights);
    Weights weights(source, device, options, {}, &kept);
    const auto model = tiny.load(weights);
    Loaded loaded{source.read(), kept.finish(weights.notes()), {}};
    meanwhile();
    Cache cache(device, model->spec().cache, {.dtype = options.cache, .max_tokens = 100, .max_sequences = 1});
    Generator generator(*model, device, cache);
    const auto sequence = cache.create();
    sequence->tokens = random_tokens(70, 1);
    loaded.logits = last_logits(generator, *sequence);
    return loaded;
  }

  std::string file() const { return read_file(path_.string(), size_t{1} << 30); }
  void overwrite(const std::string& bytes) const { std::ofstream(path_, std::ios::binary) << bytes; }

  const fs::path folder_ = fs::path(testing::TempDir()) / message("tessera_kept_weights_", ::getpid());
  const fs::path path_ = folder_ / "packed" / "tiny.weights";
};

TEST_F(KeptWeightsTest, are_read_once_and_give_the_same_bits_ever_after) {
  for (const TinyCheckpoint& tiny : {tiny_gemma3(), tiny_phi3(true), TinyCheckpoint("small-llama-biases")})
    for (const DataType type : {DataType::float32, DataType::bfloat16, DataType::bfloat8_b, DataType::bfloat4_b}) {
      const Loaded plain = load(tiny, "", {.weights = type});
      EXPECT_FALSE(fs::exists(path_)) << "a source without an identity";
      const Loaded first = load(tiny, "one", {.weights = type}), second = load(tiny, "one", {.weights = type}, 1);
      EXPECT_EQ(first.read, plain.read);
      EXPECT_EQ(second.read, 0) << type;
      EXPECT_EQ(first.logits, plain.logits);
      EXPECT_EQ(second.logits, plain.logits);
      fs::remove_all(folder_);
    }
}

TEST_F(KeptWeightsTest, of_another_source_or_type_are_packed_anew_and_replace_the_file) {
  const TinyCheckpoint tiny = tiny_gemma3();
  const int all = load(tiny).read;
  TinyCheckpoint other = tiny_gemma3();
  other.scale("model.layers.0.mlp.down_proj.weight", 2.0f);
  const Loaded changed = load(other, "two");
  EXPECT_EQ(changed.read, all);
  EXPECT_EQ(changed.logits, load(other, "").logits);
  EXPECT_EQ(load(other, "two").read, 0);
  EXPECT_EQ(load(other, "two", {.weights = DataType::bfloat8_b}).read, all);
  EXPECT_EQ(load(other, "two").read, all);
}

TEST_F(KeptWeightsTest, that_a_model_asks_for_in_another_role_are_packed_anew) {
  const TinyCheckpoint tiny = tiny_gemma3();
  load(tiny);
  cpu::CpuDevice device({.threads = 1});
  for (const Role role : {Role::tied_embedding, Role::embedding}) {
    CountingSource source(tiny.source(), "one");
    KeptWeights kept(path_, source, device, DataType::bfloat16);
    Weights weights(source, device, {}, {}, &kept);
    EXPECT_TRUE(weights.take("model.embed_tokens.weight", {1, 1, 300, 96}, role));
    EXPECT_EQ(source.read(), role == Role::tied_embedding ? 0 : 1);
  }
  EXPECT_FALSE(fs::exists(path_)) << "the file is of no use to this model";
}

TEST_F(KeptWeightsTest, in_a_damaged_file_are_packed_anew_and_the_file_is_mended) {
  const TinyCheckpoint tiny = tiny_gemma3();
  const Loaded first = load(tiny);
  const std::string whole = file();
  std::vector<std::string> damaged{"", "x", std::string(whole.size(), '\0'), whole + "x"};
  for (const size_t bytes : {size_t{4096}, whole.size() / 2, whole.size() - 1}) damaged.push_back(whole.substr(0, bytes));
  damaged.push_back(whole);
  damaged.back()[whole.size() - 40] ^= 1;  // in the directory
  for (const std::string& bytes : damaged) {
    overwrite(bytes);
    const Loaded again = load(tiny);
    EXPECT_EQ(again.read, first.read) << bytes.size();
    EXPECT_EQ(again.logits, first.logits);
    EXPECT_EQ(file(), whole);
  }
  fs::remove(path_);
  fs::create_directory(path_);
  EXPECT_EQ(load(tiny).logits, first.logits);
}

TEST_F(KeptWeightsTest, that_change_in_use_end_in_an_error_and_not_in_a_crash) {
  const TinyCheckpoint tiny = tiny_gemma3();
  load(tiny);
  const std::string whole = file();
  std::string changed = whole;
  changed[100] ^= 1;
  for (const std::string& bytes : {std::string(), whole.substr(0, 4096), changed}) {
    overwrite(whole);
    EXPECT_THROW(load(tiny, "one", {}, 2, [&] { overwrite(bytes); }), FileError) << bytes.size();
  }
  overwrite(whole);
  EXPECT_NO_THROW(load(tiny, "one", {}, 2, [&] { fs::remove(path_); }));
}

TEST_F(KeptWeightsTest, that_cannot_be_kept_are_no_error) {
  const TinyCheckpoint tiny = tiny_gemma3();
  fs::create_directories(folder_);
  std::ofstream(folder_ / "packed") << "a file where the folder should be";
  const Loaded first = load(tiny), second = load(tiny);
  EXPECT_EQ(second.read, first.read);
  EXPECT_EQ(second.logits, first.logits);
}

TEST_F(KeptWeightsTest, keep_what_was_noted_about_their_values) {
  TinyCheckpoint tiny = tiny_gemma3();
  for (int i = 0; i < 9; ++i) tiny.scale("model.layers.1.mlp.up_proj.weight", 0x1p126f);
  const Loaded first = load(tiny), second = load(tiny);
  ASSERT_EQ(first.notes.size(), 1u);
  EXPECT_NE(first.notes[0].find("up_proj.weight\" holds values that are not finite"), std::string::npos) << first.notes[0];
  EXPECT_EQ(second.read, 0);
  EXPECT_EQ(second.notes, first.notes);
}

}  // namespace
}  // namespace tessera
