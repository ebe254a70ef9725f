#include "generate/cache.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <stdexcept>

#include "core/error.h"
#include "idle_device.h"

namespace tessera {
namespace {

constexpr int64_t kPage = 4;

// A device that only keeps pages: each holds one number, so that copies can be seen.
class PageDevice final : public IdleDevice {
 public:
  struct Contents : Storage {
    std::map<std::pair<size_t, int32_t>, int> value;
  };
  std::string name() const override { return "pages"; }
  Limits limits() const override {
    return {.page_tokens = kPage,
            .chunk_alignment = 1,
            .max_chunk = 8,
            .max_rows = 64,
            .max_logit_rows = 64,
            .free_rows = 1,
            .decode_tokens = 0};
  }
  std::shared_ptr<Storage> make_cache(const CacheSpec&, DataType, std::span<const int64_t> pages) override {
    made.assign(pages.begin(), pages.end());
    return contents;
  }
  void copy_page(Storage&, size_t group, int32_t from, int32_t to) override {
    contents->value[{group, to}] = contents->value[{group, from}];
    ++copies;
  }

  std::shared_ptr<Contents> contents = std::make_shared<Contents>();
  std::vector<int64_t> made;
  int copies = 0;
};

const CacheSpec kSpec{{{1, 8, 6}, {1, 8, std::nullopt}, {1, 8, 6}}};  // groups: window 6, then full

TEST(cache_groups, join_layers_of_one_window) {
  const auto groups = cache_groups(kSpec);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].window, 6);
  EXPECT_EQ(groups[0].layers, (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(groups[1].layers, (std::vector<int64_t>{1}));
}

class Pages : public testing::Test {
 protected:
  void grow(Sequence& sequence, int64_t count) {
    for (int64_t i = 0; i < count; ++i) sequence.tokens.push_back(static_cast<TokenId>(sequence.tokens.size()));
    const int64_t position = sequence.length();
    cache_.reserve(sequence, position, count);
    sequence.commit(position + count, position + count);
    cache_.advance(sequence, sequence.length(), 0);
  }
  int& value(size_t group, int32_t page) { return device_.contents->value[{group, page}]; }
  bool all_free() const { return cache_.free_pages(0) == cache_.total_pages(0) && cache_.free_pages(1) == cache_.total_pages(1); }

  PageDevice device_;
  Cache cache_{device_, kSpec, {.max_tokens = 40, .max_sequences = 3, .rewind_tokens = 2}};
};

TEST_F(Pages, windowed_groups_keep_the_window_and_the_rewind_behind_it) {
  auto sequence = cache_.create();
  grow(*sequence, 8);
  grow(*sequence, 8);
  EXPECT_EQ(sequence->table(0).first, 2);  // the next query, at 16, sees 11..16; with 2 to take back: from 9 on, so from page 2
  EXPECT_EQ(sequence->table(0).pages.size(), 2u);
  EXPECT_EQ(sequence->table(1).first, 0);
  EXPECT_EQ(sequence->table(1).pages.size(), 4u);
  sequence.reset();
  EXPECT_TRUE(all_free());
}

TEST_F(Pages, a_windowed_group_is_no_larger_than_windows_need) {
  const Cache large(device_, kSpec, {.max_tokens = 4000, .max_sequences = 3, .rewind_tokens = 2});
  EXPECT_EQ(device_.made[0], 3 * ((6 + 2) / kPage + 2) + 3 * 8 / kPage);
  EXPECT_EQ(device_.made[1], 4000 / kPage + 3);
}

TEST_F(Pages, a_fork_shares_pages_and_copies_the_one_it_writes_into) {
  auto a = cache_.create();
  grow(*a, 6);
  const int64_t free = cache_.free_pages(1);
  value(1, a->table(1).pages[1]) = 42;
  auto b = cache_.fork(*a);
  EXPECT_EQ(cache_.free_pages(1), free);
  EXPECT_EQ(b->tokens, a->tokens);
  grow(*b, 1);
  EXPECT_EQ(device_.copies, 2);  // the half-full page of either group
  EXPECT_EQ(b->table(1).pages[0], a->table(1).pages[0]);
  ASSERT_NE(b->table(1).pages[1], a->table(1).pages[1]);
  EXPECT_EQ(value(1, b->table(1).pages[1]), 42);
  grow(*a, 1);  // sole owner again: nothing to copy
  EXPECT_EQ(device_.copies, 2);
  a.reset();
  b.reset();
  EXPECT_TRUE(all_free());
}

TEST_F(Pages, a_page_written_from_its_start_is_not_copied) {
  auto a = cache_.create();
  grow(*a, 4);
  auto b = cache_.fork(*a);
  cache_.truncate(*b, 0);
  grow(*b, 4);
  EXPECT_EQ(device_.copies, 0);
  EXPECT_NE(b->table(1).pages[0], a->table(1).pages[0]);
}

TEST_F(Pages, truncate_gives_pages_back_and_keeps_what_is_left) {
  auto sequence = cache_.create();
  grow(*sequence, 8);
  grow(*sequence, 5);
  cache_.truncate(*sequence, 11);  // sees 6.. at 11: still there
  EXPECT_EQ(sequence->length(), 11);
  EXPECT_EQ(sequence->tokens.size(), 11u);
  EXPECT_EQ(sequence->table(1).pages.size(), 3u);
  grow(*sequence, 2);
  EXPECT_EQ(sequence->length(), 13);
}

TEST_F(Pages, a_truncate_behind_the_window_starts_over_but_keeps_the_tokens) {
  auto sequence = cache_.create();
  for (int i = 0; i < 4; ++i) grow(*sequence, 8);
  cache_.truncate(*sequence, 12);
  EXPECT_EQ(sequence->length(), 0);
  EXPECT_EQ(sequence->tokens.size(), 12u);
  EXPECT_TRUE(all_free());
}

TEST_F(Pages, exhausted_memory_is_an_error_that_changes_nothing) {
  auto a = cache_.create(), b = cache_.create();
  for (int i = 0; i < 5; ++i) grow(*a, 8);
  const PageTable before = b->table(1);
  EXPECT_THROW(cache_.reserve(*b, 0, 16), ResourceError);
  EXPECT_EQ(b->table(1).pages, before.pages);
  EXPECT_EQ(b->table(0).pages.size(), 0u);
  grow(*b, 8);  // what fits still works
  a.reset();
  b.reset();
  EXPECT_TRUE(all_free());
}

TEST_F(Pages, more_sequences_than_it_was_made_for_are_refused) {
  auto a = cache_.create(), b = cache_.create(), c = cache_.create();
  EXPECT_THROW((void)cache_.create(), ResourceError);
  c.reset();
  EXPECT_NO_THROW((void)cache_.create());
}

TEST_F(Pages, positions_outside_the_sequence_are_refused) {
  auto sequence = cache_.create();
  grow(*sequence, 3);
  EXPECT_THROW(cache_.reserve(*sequence, 4, 1), std::invalid_argument);
  EXPECT_THROW(cache_.reserve(*sequence, -1, 1), std::invalid_argument);
  EXPECT_THROW(cache_.truncate(*sequence, 4), std::invalid_argument);
  EXPECT_THROW(cache_.rewind(*sequence, 4), std::invalid_argument);
}

TEST_F(Pages, random_forks_truncates_and_growth_never_share_a_page_that_is_written) {
  uint32_t state = 1;
  const auto next = [&](uint32_t n) { return (state = state * 1664525u + 1013904223u) / 65536u % n; };
  std::vector<std::unique_ptr<Sequence>> alive;
  for (int step = 0; step < 5000; ++step) {
    try {
      switch (next(5)) {
        case 0:
          alive.push_back(cache_.create());
          break;
        case 1:
          if (!alive.empty()) alive.push_back(cache_.fork(*alive[next(static_cast<uint32_t>(alive.size()))]));
          break;
        case 2:
          if (!alive.empty()) alive.erase(alive.begin() + next(static_cast<uint32_t>(alive.size())));
          break;
        case 3:
          if (!alive.empty()) {
            Sequence& s = *alive[next(static_cast<uint32_t>(alive.size()))];
            cache_.truncate(s, next(static_cast<uint32_t>(s.length()) + 1));
            s.tokens.resize(static_cast<size_t>(s.length()));
          }
          break;
        default:
          if (!alive.empty()) {
            Sequence& s = *alive[next(static_cast<uint32_t>(alive.size()))];
            const int64_t position = s.length(), count = 1 + next(8);
            for (int64_t i = 0; i < count; ++i) s.tokens.push_back(1);
            try {
              cache_.reserve(s, position, count);
            } catch (const ResourceError&) {
              s.tokens.resize(static_cast<size_t>(position));
              throw;
            }
            for (size_t group : {0, 1})
              for (int64_t page = position / kPage; page * kPage < position + count; ++page) {
                const int32_t number = s.table(group).pages[static_cast<size_t>(page - s.table(group).first)];
                for (const auto& other : alive)
                  if (other.get() != &s) {
                    EXPECT_EQ(std::set(other->table(group).pages.begin(), other->table(group).pages.end()).count(number), 0u);
                  }
              }
            s.commit(position + count, position + count);
            cache_.advance(s, s.length(), 0);
          }
      }
    } catch (const ResourceError&) {
    }
  }
  alive.clear();
  EXPECT_TRUE(all_free());
}

TEST_F(Pages, a_restored_sequence_has_pages_of_its_own_for_all_that_is_seen) {
  auto sequence = cache_.create();
  sequence->tokens.assign(17, 1);
  cache_.restore(*sequence, 16, 20, std::vector<int64_t>{2, 0});  // the next query, at 16, sees 11..16
  EXPECT_EQ(sequence->length(), 16);
  EXPECT_EQ(sequence->rope_length(), 20);
  EXPECT_EQ(sequence->table(0).first, 2);
  EXPECT_EQ(std::set(sequence->table(0).pages.begin(), sequence->table(0).pages.end()).size(), 2u);
  EXPECT_EQ(std::set(sequence->table(1).pages.begin(), sequence->table(1).pages.end()).size(), 4u);
  EXPECT_EQ(cache_.free_pages(0), cache_.total_pages(0) - 2);
  EXPECT_EQ(cache_.free_pages(1), cache_.total_pages(1) - 4);
  grow(*sequence, 4);
  sequence.reset();
  EXPECT_TRUE(all_free());
}

TEST_F(Pages, what_cannot_be_restored_takes_no_page) {
  auto sequence = cache_.create();
  sequence->tokens.assign(100, 1);
  const auto refused = [&](int64_t length, int64_t rope_length, const std::vector<int64_t>& first_pages) {
    EXPECT_THROW(cache_.restore(*sequence, length, rope_length, first_pages), std::invalid_argument) << length;
    EXPECT_EQ(sequence->length(), 0);
    EXPECT_TRUE(all_free());
  };
  refused(16, 16, {3, 0});  // 11 is in page 2
  refused(16, 16, {2, 1});  // without a window all is seen
  refused(16, 16, {-1, 0});
  refused(16, 16, {2});
  refused(16, 15, {2, 0});
  refused(101, 101, {2, 0});
  refused(0, 0, {0, 0});
  EXPECT_THROW(cache_.restore(*sequence, 100, 100, std::vector<int64_t>{23, 0}), ResourceError);
  EXPECT_TRUE(all_free());
  sequence->tokens.resize(8);
  cache_.reserve(*sequence, 0, 8);  // of a forward that failed
  cache_.restore(*sequence, 8, 8, std::vector<int64_t>{0, 0});
  EXPECT_EQ(cache_.free_pages(1), cache_.total_pages(1) - 2);
  EXPECT_THROW(cache_.restore(*sequence, 8, 8, std::vector<int64_t>{0, 0}), std::invalid_argument);  // it is not empty
}

TEST_F(Pages, a_device_that_gives_no_page_away_says_so) {
  EXPECT_TRUE(device_.page_layout().empty());
  EXPECT_THROW(device_.page_bytes(*device_.contents, 0), std::invalid_argument);
  EXPECT_THROW(device_.read_page(*device_.contents, 0, 0, 1, {}), std::invalid_argument);
  EXPECT_THROW(device_.write_page(*device_.contents, 0, 0, {}), std::invalid_argument);
}

}  // namespace
}  // namespace tessera
