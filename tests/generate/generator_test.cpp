// The Batches that a Generator composes for a device whose decodes take one token of a sequence, and whose chunks start aligned: the n150's
// limits. Device::run refuses what is outside them.
#include "generate/generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "idle_device.h"
#include "last_logits.h"
#include "ops/model.h"

namespace tessera {
namespace {

using testing::ElementsAre;

// Computes nothing, and keeps the slices' sizes.
class CardLike final : public IdleDevice {
 public:
  std::vector<std::vector<int64_t>> batches;

  std::string name() const override { return "card"; }
  Limits limits() const override {
    return {.page_tokens = 64,
            .chunk_alignment = 128,
            .max_chunk = 512,
            .max_rows = 512,
            .max_logit_rows = 32,
            .free_rows = 32,
            .decode_tokens = 1};
  }
  std::shared_ptr<Storage> make_cache(const CacheSpec&, DataType, std::span<const int64_t>) override { return std::make_shared<Storage>(); }
  void copy_page(Storage&, size_t, int32_t, int32_t) override {}

 private:
  Tensor execute(const Model&, const Batch& batch) override {
    std::vector<int64_t>& counts = batches.emplace_back();
    int64_t rows = 0;
    for (const Batch::Slice& slice : batch.slices) {
      counts.push_back(slice.count);
      rows += slice.logit_rows;
    }
    return Tensor(*this, {1, 1, rows, 1}, DataType::float32, std::make_shared<Storage>());
  }
};

struct Windowed final : Model {
  Windowed() : Model({.vocab_size = 1, .max_position_embeddings = 100'000, .cache = {{{1, 32, 256}, {1, 32, std::nullopt}}}}) {}
  Tensor forward(const Step&) const override { return {}; }
};

class CardLikeGenerator : public testing::Test {
 protected:
  // The tokens that are computed when so many more come.
  int64_t grow(Sequence& sequence, size_t count) {
    device_.batches.clear();
    sequence.tokens.resize(sequence.tokens.size() + count);
    last_logits(generator_, sequence);
    int64_t computed = 0;
    for (const auto& counts : device_.batches)
      for (const int64_t tokens : counts) computed += tokens;
    return computed;
  }

  CardLike device_;
  Windowed model_;
  Cache cache_{device_, model_.spec().cache, {.max_tokens = 8000, .max_sequences = 4}};
  Generator generator_{model_, device_, cache_};
};

TEST_F(CardLikeGenerator, a_next_turn_computes_its_own_tokens_and_at_most_127_before_them) {
  const auto talk = cache_.create();
  EXPECT_EQ(grow(*talk, 20), 20);
  EXPECT_EQ(grow(*talk, 1), 1);
  EXPECT_EQ(grow(*talk, 20), 41);                                             // from the start
  for (const size_t turn : {300, 2, 127, 128, 129, 20, 1, 33, 500, 20, 7}) {  // past the window of 256
    const int64_t before = talk->length(), computed = grow(*talk, turn);
    EXPECT_EQ(computed, turn == 1 ? 1 : static_cast<int64_t>(turn) + before % 128) << turn << " tokens behind " << before;
  }
}

TEST_F(CardLikeGenerator, the_rows_that_are_wanted_come_once_and_in_order) {
  const auto talk = cache_.create();
  talk->tokens.resize(300);
  std::vector<int64_t> positions;
  Generator::Request request{talk.get(), 290};
  generator_.forward(std::span(&request, 1), [&](size_t, int64_t position, std::span<const float>) { positions.push_back(position); });
  ASSERT_EQ(request.error, nullptr);
  ASSERT_EQ(positions.size(), 290u);
  for (size_t i = 0; i < positions.size(); ++i) EXPECT_EQ(positions[i], static_cast<int64_t>(i) + 10);
  EXPECT_EQ(talk->length(), 300);
}

TEST_F(CardLikeGenerator, single_tokens_share_a_batch_and_longer_slices_are_alone) {
  std::vector<std::unique_ptr<Sequence>> talks;
  std::vector<Generator::Request> requests;
  for (const size_t known : {130, 5, 200}) {
    talks.push_back(cache_.create());
    grow(*talks.back(), known);
  }
  device_.batches.clear();
  for (size_t i = 0; i < 3; ++i) {
    talks[i]->tokens.resize(talks[i]->tokens.size() + (i == 1 ? 4 : 1));
    requests.push_back({talks[i].get(), 1});
  }
  generator_.forward(requests, [](size_t, int64_t, std::span<const float>) {});
  EXPECT_THAT(device_.batches, ElementsAre(ElementsAre(1, 1), ElementsAre(9)));
}

TEST_F(CardLikeGenerator, drafts_that_are_taken_back_leave_what_the_next_ones_need) {
  const auto talk = cache_.create();
  grow(*talk, 1000);
  for (int turn = 0; turn < 200; ++turn) {
    const int64_t before = talk->length();
    EXPECT_LE(grow(*talk, 9), 9 + 127);
    cache_.truncate(*talk, before + 1 + turn % 3);
    EXPECT_GE(talk->length(), before) << "the window's pages are there";
  }
}

TEST_F(CardLikeGenerator, a_chunk_below_the_alignment_is_as_long_as_that) {
  EXPECT_EQ(Generator(model_, device_, cache_, 16).chunk(), 128);
  EXPECT_EQ(Generator(model_, device_, cache_, 300).chunk(), 256);
  EXPECT_EQ(Generator(model_, device_, cache_, 1).chunk(), 1);
}

}  // namespace
}  // namespace tessera
