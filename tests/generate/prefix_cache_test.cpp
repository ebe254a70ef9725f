// What a cache finds again, against contents that name the text they were made of.
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <set>
#include <string>

#include "core/error.h"
#include "generate/cache.h"
#include "idle_device.h"

namespace tessera {
namespace {

constexpr int64_t kPage = 4, kWindow = 6, kAny = 1 << 20;

using Tokens = std::vector<TokenId>;

// A number for each text: of its salt, its set and all its tokens.
class Texts {
 public:
  int beginning(const std::string& salt, int set) { return roots_.try_emplace({salt, set}, ++last_).first->second; }
  int behind(int text, TokenId token) { return texts_.try_emplace({text, token}, ++last_).first->second; }
  // Of the tokens up to each position.
  std::vector<int> of(const Tokens& tokens, const std::string& salt, int set) {
    std::vector<int> texts;
    int text = beginning(salt, set);
    for (const TokenId token : tokens) texts.push_back(text = behind(text, token));
    return texts;
  }

 private:
  int last_ = 0;
  std::map<std::pair<std::string, int>, int> roots_;
  std::map<std::pair<int, TokenId>, int> texts_;
};

// Each place of a page holds the number of the text that was written there.
class TextDevice final : public IdleDevice {
 public:
  std::string name() const override { return "texts"; }
  Limits limits() const override {
    return {.page_tokens = kPage,
            .chunk_alignment = alignment,
            .max_chunk = 8,
            .max_rows = 64,
            .max_logit_rows = 64,
            .free_rows = 64,
            .decode_tokens = 64};
  }
  std::shared_ptr<Storage> make_cache(const CacheSpec&, DataType, std::span<const int64_t>) override { return std::make_shared<Storage>(); }
  void copy_page(Storage&, size_t group, int32_t from, int32_t to) override { pages[{group, to}] = pages[{group, from}]; }

  std::map<std::pair<size_t, int32_t>, std::array<int, kPage>> pages;
  int64_t alignment = 1;
};

const CacheSpec kFull{{{1, 8, std::nullopt}}}, kWindowed{{{1, 8, kWindow}}}, kBoth{{{1, 8, kWindow}, {1, 8, std::nullopt}}};

Tokens numbers(int64_t count, TokenId first = 0) {
  Tokens tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(first + static_cast<TokenId>(i));
  return tokens;
}

class PrefixCacheTest : public testing::Test {
 protected:
  void make(const CacheSpec& spec, int64_t max_tokens, int64_t max_sequences, bool prefix_cache = true) {
    cache_.emplace(
        device_, spec,
        CacheOptions{.max_tokens = max_tokens, .max_sequences = max_sequences, .rewind_tokens = 2, .prefix_cache = prefix_cache});
  }

  // Forwards what is not cached yet, of which the first `settled` tokens will stay.
  void forward(Sequence& sequence, int set = 0, int64_t settled = kAny) {
    const std::vector<int> texts = texts_.of(sequence.tokens, sequence.salt(), set);
    for (int64_t known; sequence.length() < (known = static_cast<int64_t>(sequence.tokens.size()));) {
      const int64_t position = sequence.length(), count = std::min<int64_t>(8, known - position);
      cache_->reserve(sequence, position, count);
      for (size_t group = 0; group < cache_->groups(); ++group)
        for (int64_t at = position; at < position + count; ++at) place(sequence, group, at) = texts[static_cast<size_t>(at)];
      sequence.commit(position + count, known);
      cache_->advance(sequence, settled, set);
    }
  }
  void grow(Sequence& sequence, const Tokens& tokens, int set = 0) {
    sequence.tokens.insert(sequence.tokens.end(), tokens.begin(), tokens.end());
    forward(sequence, set);
  }
  std::unique_ptr<Sequence> computed(const Tokens& tokens, const std::string& salt = {}, int set = 0) {
    auto sequence = cache_->create(salt);
    grow(*sequence, tokens, set);
    return sequence;
  }

  int& place(const Sequence& sequence, size_t group, int64_t position) {
    const PageTable& table = sequence.table(group);
    return device_
        .pages[{group, table.pages.at(static_cast<size_t>(position / kPage - table.first))}][static_cast<size_t>(position % kPage)];
  }
  // What a query at the end of the sequence sees is there, and all that is there is its own text.
  void expect_own_text(const Sequence& sequence, const CacheSpec& spec, int set) {
    const std::vector<int> texts = texts_.of(sequence.tokens, sequence.salt(), set);
    for (size_t group = 0; group < cache_->groups(); ++group) {
      const auto window = spec.layers[group].window;  // a layer a group here
      if (sequence.length() > 0 && !sequence.table(group).pages.empty()) {
        EXPECT_LE(sequence.table(group).first * kPage, window ? std::max<int64_t>(0, sequence.length() - *window + 1) : 0);
      }
      for (int64_t at = sequence.table(group).first * kPage; at < sequence.length(); ++at)
        EXPECT_EQ(place(sequence, group, at), texts[static_cast<size_t>(at)]) << "group " << group << ", position " << at;
    }
  }

  int64_t found(const Tokens& tokens, int64_t most = kAny, const std::string& salt = {}, int set = 0) {
    return cache_->cached(tokens, salt, set, most).tokens;
  }
  // Takes so many pages of each group for tokens that nobody finds.
  std::unique_ptr<Sequence> taken(int64_t pages) {
    auto sequence = cache_->create();
    cache_->reserve(*sequence, 0, pages * kPage);
    return sequence;
  }

  TextDevice device_;
  Texts texts_;
  std::optional<Cache> cache_;
};

TEST_F(PrefixCacheTest, whole_pages_are_found_while_and_after_their_sequence_lives) {
  make(kBoth, 400, 3);
  auto a = computed(numbers(10));
  EXPECT_EQ(found(numbers(10)), 8);
  a.reset();
  EXPECT_EQ(found(numbers(10)), 8);
  EXPECT_EQ(found(numbers(10), 7), 4);
  EXPECT_EQ(found(numbers(3)), 0);
  EXPECT_EQ(found(numbers(8, 1)), 0);
  auto b = cache_->create();
  b->tokens = numbers(12);
  EXPECT_EQ(cache_->adopt(*b, 11, 0), 8);
  EXPECT_EQ(b->length(), 8);
  EXPECT_EQ(b->rope_length(), 12);
  expect_own_text(*b, kBoth, 0);
  EXPECT_THROW(cache_->adopt(*b, 11, 0), std::invalid_argument);
}

TEST_F(PrefixCacheTest, nothing_is_found_without_it) {
  make(kBoth, 400, 3, false);
  computed(numbers(20));
  EXPECT_EQ(found(numbers(20)), 0);
  auto b = cache_->create();
  b->tokens = numbers(20);
  EXPECT_EQ(cache_->adopt(*b, 19, 0), 0);
}

TEST_F(PrefixCacheTest, another_salt_finds_nothing) {
  make(kFull, 400, 3);
  computed(numbers(8), "a");
  EXPECT_EQ(found(numbers(8), kAny, "a"), 8);
  for (const char* salt : {"", "b", "aa"}) EXPECT_EQ(found(numbers(8), kAny, salt), 0) << salt;
  auto fork = cache_->fork(*computed(numbers(8, 50), "a"));
  grow(*fork, numbers(4));
  Tokens both = numbers(8, 50);
  for (const TokenId token : numbers(4)) both.push_back(token);
  EXPECT_EQ(found(both, kAny, "a"), 12);
  EXPECT_EQ(found(both), 0);
}

TEST_F(PrefixCacheTest, another_set_of_factors_finds_nothing) {
  make(kFull, 400, 3);
  computed(numbers(8), "", 1);
  EXPECT_EQ(found(numbers(8), kAny, "", 0), 0);
  EXPECT_EQ(found(numbers(8), kAny, "", 1), 8);
  auto a = computed(numbers(4, 90));
  cache_->rewind(*a, 0);
  grow(*a, numbers(4, 94), 1);
  EXPECT_EQ(found(numbers(8, 90)), 4);
  EXPECT_EQ(found(numbers(8, 90), kAny, "", 1), 8);
}

TEST_F(PrefixCacheTest, a_hit_ends_where_a_chunk_may_begin) {
  device_.alignment = 8;
  make(kFull, 400, 2);
  computed(numbers(22));
  EXPECT_EQ(found(numbers(22)), 16);
  device_.alignment = 6;
  make(kFull, 400, 2);
  computed(numbers(22));
  EXPECT_EQ(found(numbers(22)), 12);
}

TEST_F(PrefixCacheTest, windows_are_found_where_all_their_pages_are_and_passed_ones_go_first) {
  make(kWindowed, 400, 2);
  ASSERT_EQ(cache_->total_pages(0), 12);
  computed(numbers(24));
  EXPECT_EQ(found(numbers(24)), 24);
  EXPECT_EQ(found(numbers(24), 11), 8);
  {
    const auto other = taken(8);  // six that nobody had, and the first two of the four that were passed
    EXPECT_EQ(found(numbers(24), 24), 24);
    EXPECT_EQ(found(numbers(24), 19), 16);
    EXPECT_EQ(found(numbers(24), 15), 0);
  }
  {
    const auto other = taken(10);
    EXPECT_EQ(found(numbers(24), 24), 24) << "its end is kept";
    EXPECT_EQ(found(numbers(24), 23), 0);
  }
  const auto other = taken(11);
  EXPECT_EQ(found(numbers(24)), 0);
}

TEST_F(PrefixCacheTest, a_hit_takes_the_pages_of_the_window_before_it) {
  make(kWindowed, 400, 2);
  computed(numbers(24));
  auto again = cache_->create();
  again->tokens = numbers(24);
  EXPECT_EQ(cache_->adopt(*again, 19, 0), 16);
  EXPECT_EQ(again->table(0).first, 2);
  EXPECT_EQ(again->table(0).pages.size(), 2u);
  grow(*again, {1, 2, 3});
  expect_own_text(*again, kWindowed, 0);
}

TEST_F(PrefixCacheTest, beginnings_go_last) {
  make(kFull, 40, 2);
  ASSERT_EQ(cache_->total_pages(0), 12);
  computed(numbers(24));
  for (int64_t more = 0; more <= 6; ++more) {
    const auto other = taken(6 + more);
    EXPECT_EQ(found(numbers(24)), 24 - more * kPage);
  }
}

TEST_F(PrefixCacheTest, what_was_used_last_goes_last) {
  make(kFull, 40, 2);
  computed(numbers(8));
  computed(numbers(8, 100));
  {
    auto again = cache_->create();
    again->tokens = numbers(9);
    EXPECT_EQ(cache_->adopt(*again, 8, 0), 8);
  }
  const auto other = taken(10);
  EXPECT_EQ(found(numbers(8)), 8);
  EXPECT_EQ(found(numbers(8, 100)), 0);
}

TEST_F(PrefixCacheTest, windows_before_marks_and_every_1024_tokens_are_kept) {
  make(kWindowed, 4000, 2);
  ASSERT_EQ(cache_->total_pages(0), 12);
  auto a = computed(numbers(40));
  cache_->mark(*a, 42);
  grow(*a, numbers(60, 40));
  EXPECT_EQ(found(numbers(100), 43), 40);
  EXPECT_EQ(found(numbers(100), 39), 0);
  grow(*a, numbers(1000, 100));
  EXPECT_EQ(found(numbers(1100), 1027), 1024);
  EXPECT_EQ(found(numbers(1100), 1023), 40);
}

TEST_F(PrefixCacheTest, the_same_prompt_again_finds_the_page_before_its_last_token) {
  make(kWindowed, 4000, 2);
  auto a = cache_->create();
  cache_->mark(*a, 40);
  grow(*a, numbers(40));
  grow(*a, numbers(60, 40));
  EXPECT_EQ(found(numbers(40), 39), 36);
  EXPECT_EQ(found(numbers(40), 40), 40);
}

TEST_F(PrefixCacheTest, drafts_are_found_when_they_have_come_true) {
  make(kBoth, 400, 2);
  auto a = cache_->create();
  a->tokens = numbers(13);
  forward(*a, 0, 7);
  EXPECT_EQ(found(numbers(13)), 4);
  cache_->truncate(*a, 11);
  grow(*a, {77, 78, 79, 80, 81});
  EXPECT_EQ(found(numbers(13)), 8);
  Tokens now = numbers(11);
  for (const TokenId token : {77, 78, 79, 80, 81}) now.push_back(token);
  EXPECT_EQ(found(now), 16);
}

TEST_F(PrefixCacheTest, a_page_that_is_found_is_not_written_again) {
  make(kBoth, 400, 3);
  auto a = computed(numbers(8));
  const int32_t page = a->table(1).pages[1];
  cache_->truncate(*a, 6);
  grow(*a, {66, 67, 68});
  EXPECT_NE(a->table(1).pages[1], page);
  expect_own_text(*a, kBoth, 0);
  EXPECT_EQ(found(numbers(8)), 8);
  auto b = cache_->create();
  b->tokens = numbers(9);
  EXPECT_EQ(cache_->adopt(*b, 8, 0), 8);
  EXPECT_EQ(b->table(1).pages[1], page);
  expect_own_text(*b, kBoth, 0);
}

TEST_F(PrefixCacheTest, the_last_page_of_a_full_cache_is_written_in_place_and_not_found_any_more) {
  make(kFull, 8, 1);
  ASSERT_EQ(cache_->total_pages(0), 3);
  auto a = computed(numbers(12));
  EXPECT_EQ(cache_->free_pages(0), 0);
  cache_->truncate(*a, 10);
  grow(*a, {66, 67});
  expect_own_text(*a, kFull, 0);
  EXPECT_EQ(found(numbers(12)), 8);
  Tokens now = numbers(10);
  now.insert(now.end(), {66, 67});
  EXPECT_EQ(found(now), 12);
}

TEST_F(PrefixCacheTest, a_node_that_is_gone_is_not_taken_for_another) {
  make(kFull, 28, 3);
  ASSERT_EQ(cache_->total_pages(0), 10);
  auto a = computed(numbers(8)), b = computed(numbers(8));  // b's pages are its own: a's are those that are found
  a.reset();
  taken(8).reset();
  EXPECT_EQ(found(numbers(8)), 0);
  const auto c = computed(numbers(8, 100));
  grow(*b, numbers(4, 8));
  Tokens mixed = numbers(8, 100);
  for (const TokenId token : numbers(4, 8)) mixed.push_back(token);
  EXPECT_EQ(found(mixed), 8);
  EXPECT_EQ(found(numbers(12)), 12) << "b's pages are entered anew";
}

TEST_F(PrefixCacheTest, a_page_that_was_taken_is_replaced_by_the_next_of_its_text) {
  make(kFull, 40, 2);
  computed(numbers(24));
  taken(9).reset();
  EXPECT_EQ(found(numbers(24)), 12);
  computed(numbers(24));  // nothing is adopted
  EXPECT_EQ(found(numbers(24)), 24);
}

TEST_F(PrefixCacheTest, the_pages_that_are_needed_are_those_that_reserve_takes) {
  make(kBoth, 60, 3);
  auto a = computed(numbers(10));
  const auto b = cache_->fork(*a);
  for (const auto& [position, count] : std::vector<std::pair<int64_t, int64_t>>{{10, 1}, {10, 9}, {8, 3}, {6, 2}}) {
    cache_->rewind(*b, position);
    const std::vector<int64_t> needed = cache_->pages_needed(*b, position, count);
    const std::vector<int64_t> before{cache_->free_pages(0), cache_->free_pages(1)};
    EXPECT_TRUE(cache_->has_room(needed));
    cache_->reserve(*b, position, count);
    for (size_t group : {0, 1}) EXPECT_EQ(before[group] - cache_->free_pages(group), needed[group]) << position << " group " << group;
  }
  EXPECT_TRUE(cache_->has_room(std::vector<int64_t>{0, cache_->free_pages(1)}));
  EXPECT_FALSE(cache_->has_room(std::vector<int64_t>{0, cache_->free_pages(1) + 1}));
}

TEST_F(PrefixCacheTest, pages_of_a_forward_that_failed_are_given_back_by_a_hit) {
  make(kFull, 40, 2);
  computed(numbers(8));
  auto a = cache_->create();
  a->tokens = numbers(9);
  cache_->reserve(*a, 0, 9);
  EXPECT_EQ(cache_->adopt(*a, 8, 0), 8);
  EXPECT_EQ(cache_->free_pages(0), cache_->total_pages(0) - 2);
}

TEST(PrefixTreeTest, texts_whose_hashes_collide_are_told_apart_by_their_ids) {
  PrefixTree tree(1, 0);
  std::map<std::vector<TokenId>, PrefixTree::Id> expected;  // a text's pages joined, behind its salt
  const Tokens pages[]{{1, 2}, {1, 3}, {2, 1}};
  int32_t number = 0;
  for (const TokenId salt : {'a', 'b'}) {
    const PrefixTree::Id root = tree.make_root(std::string(1, static_cast<char>(salt)), 0);
    for (const Tokens& first : pages)
      for (const Tokens& second : pages) {
        const PrefixTree::Id parent = tree.make(root, first), node = tree.make(parent, second);
        tree.set_page(node, 0, number++);
        expected[{salt, first[0], first[1], second[0], second[1]}] = node;
      }
  }
  EXPECT_EQ(tree.size(), 2u * (1 + 3 + 9));
  for (const auto& [text, node] : expected) {
    const PrefixTree::Id root = tree.find_root(std::string(1, static_cast<char>(text[0])), 0);
    EXPECT_EQ(tree.find(tree.find(root, std::span(text).subspan(1, 2)), std::span(text).subspan(3)), node);
  }
  EXPECT_EQ(tree.find_root("a", 1), 0u);
  EXPECT_EQ(tree.find(tree.find_root("a", 0), std::vector<TokenId>{3, 1}), 0u);
  for (const auto& [text, node] : expected) tree.forget_page(node, 0);
  EXPECT_EQ(tree.size(), 0u);
}

// Random conversations. With room for all, what is found is all that was ever entered; with little room, it is right.
class RandomTexts : public PrefixCacheTest, public testing::WithParamInterface<bool> {};

TEST_P(RandomTexts, what_is_found_is_the_sequences_own_text_and_no_page_is_lost) {
  constexpr int64_t kBoundary = 24;
  const bool ample = GetParam();
  if (ample)
    make(kBoth, 200'000, 20'000);
  else
    make(kBoth, 90, 5);
  struct Talk {
    std::unique_ptr<Sequence> sequence;
    uint32_t stem;
    int set = 0;
  };
  std::vector<Talk> talks;
  std::set<int> entered;  // texts that end with a page
  int64_t hits = 0, shorter = 0, refused = 0;
  uint32_t state = 1;
  const auto next = [&](uint32_t n) { return (state = state * 1664525u + 1013904223u) / 65536u % n; };
  const auto any = [&]() -> Talk& { return talks[next(static_cast<uint32_t>(talks.size()))]; };
  const auto expect_all = [&] {
    for (const Talk& talk : talks) expect_own_text(*talk.sequence, kBoth, talk.set);
    for (size_t group = 0; group < cache_->groups(); ++group) {
      std::set<int32_t> used;
      for (const Talk& talk : talks) used.insert(talk.sequence->table(group).pages.begin(), talk.sequence->table(group).pages.end());
      ASSERT_EQ(static_cast<int64_t>(used.size()) + cache_->free_pages(group), cache_->total_pages(group));
    }
  };

  const auto grow_by = [&](Talk& talk, int64_t count) {
    Sequence& sequence = *talk.sequence;
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<TokenId>(sequence.tokens.size());
      sequence.tokens.push_back(next(12) == 0 ? 1000 + static_cast<TokenId>(next(2)) : at * 10 + static_cast<TokenId>(talk.stem));
    }
    const auto known = static_cast<int64_t>(sequence.tokens.size());
    const int64_t drafts = next(3) == 0 ? std::min<int64_t>(2, count) : 0;
    const int set = known > kBoundary;
    if (set != talk.set || next(16) == 0) cache_->rewind(sequence, 0);
    talk.set = set;
    const std::vector<int> texts = texts_.of(sequence.tokens, sequence.salt(), set);
    if (sequence.length() == 0 && next(8) > 0) {
      const int64_t most = known - 1 - drafts;
      const Cache::Hit hit = cache_->cached(sequence.tokens, sequence.salt(), set, most);
      const std::vector<int64_t> before{cache_->free_pages(0), cache_->free_pages(1)};
      ASSERT_EQ(cache_->adopt(sequence, most, set), hit.tokens);
      for (size_t group : {0, 1}) ASSERT_EQ(before[group] - cache_->free_pages(group), hit.free_pages[group]);
      int64_t longest = 0;
      while (longest + kPage <= most && entered.contains(texts[static_cast<size_t>(longest + kPage - 1)])) longest += kPage;
      if (ample)
        ASSERT_EQ(hit.tokens, longest);
      else
        ASSERT_LE(hit.tokens, longest);
      hits += hit.tokens > 0;
      shorter += hit.tokens > 0 && hit.tokens < longest;
      expect_own_text(sequence, kBoth, set);
    }
    if (next(4) == 0) cache_->mark(sequence, known - drafts);
    try {
      forward(sequence, set, known - drafts);
    } catch (const ResourceError&) {
      ++refused;
    }
    for (int64_t end = kPage; end <= std::min(sequence.length(), known - drafts); end += kPage)
      entered.insert(texts[static_cast<size_t>(end - 1)]);
    cache_->truncate(sequence,
                     std::min<int64_t>(known - next(static_cast<uint32_t>(drafts) + 1), std::max(sequence.length(), known - drafts)));
  };

  for (int step = 0; step < 10'000 && !HasFatalFailure(); ++step) {
    const uint32_t what = next(10);
    if (talks.empty() || (what == 0 && talks.size() < 4))
      talks.push_back({cache_->create(next(2) == 0 ? "" : "salt"), next(3)});
    else if (what == 1 && talks.size() < 4) {
      const Talk& talk = any();
      talks.push_back({cache_->fork(*talk.sequence), talk.stem, talk.set});
    } else if (what == 2)
      talks.erase(talks.begin() + next(static_cast<uint32_t>(talks.size())));
    else if (what == 3) {
      Talk& talk = any();
      cache_->truncate(*talk.sequence, next(static_cast<uint32_t>(talk.sequence->tokens.size()) + 1));
      if (talk.sequence->length() == 0) talk.set = static_cast<int64_t>(talk.sequence->tokens.size()) > kBoundary;
    } else if (Talk& talk = any(); talk.sequence->tokens.size() < 60)
      grow_by(talk, 1 + next(12));
    expect_all();
  }
  EXPECT_GT(hits, 300);
  if (!ample) {
    EXPECT_GT(shorter, 50);
    EXPECT_GT(refused, 50);
  }
  talks.clear();
  // Every page can be taken, once.
  for (size_t group = 0; group < cache_->groups(); ++group) EXPECT_EQ(cache_->free_pages(group), cache_->total_pages(group));
  const int64_t most = std::min(cache_->total_pages(0), cache_->total_pages(1));
  const auto all = taken(most);
  for (size_t group = 0; group < cache_->groups(); ++group)
    EXPECT_EQ(std::set(all->table(group).pages.begin(), all->table(group).pages.end()).size(), static_cast<size_t>(most));
}

INSTANTIATE_TEST_SUITE_P(WithRoom, RandomTexts, testing::Values(true));
INSTANTIATE_TEST_SUITE_P(WithLittleRoom, RandomTexts, testing::Values(false));

}  // namespace
}  // namespace tessera
