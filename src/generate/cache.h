#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/cache_spec.h"
#include "core/sequence.h"
#include "generate/prefix_tree.h"
#include "ops/device.h"

namespace tessera {

struct CacheOptions {
  DataType dtype = DataType::bfloat16;
  int64_t max_tokens = 0;      // room in tokens, summed over the sequences; shared pages count once
  int64_t max_sequences = 1;   // that live at the same time
  int64_t rewind_tokens = 64;  // kept behind a window, so that so many tokens can be taken back without computing anew
  bool prefix_cache = true;    // pages can be found again by their texts
};

// The pages that a Cache of these options makes for each group of `spec` on a device with these limits.
std::vector<int64_t> page_counts(const CacheSpec& spec, const CacheOptions& options, const Limits& limits);

// Room for `sequences` of `context` tokens each.
CacheOptions cache_options(DataType dtype, int64_t context, int64_t sequences, const Limits& limits);

// The pages of one device and one model: numbers, reference counts and lengths. The contents belong to the device. Sequences share
// pages and copy them on write. Every call is safe from any thread; a Sequence is used by one at a time. A sequence of another cache is
// refused.
//
// Whole pages can be found again by the text up to their end, its salt and the set of LongRoPE's factors (0, or 1: the long ones), also
// when no sequence has them any more, until they are taken for other tokens. Such a page is not written again.
class Cache final : public PageOwner {
 public:
  // Throws ResourceError when the device has no room.
  Cache(Device& device, const CacheSpec& spec, const CacheOptions& options);
  ~Cache() = default;

  // What is found for it is of sequences with the same salt, and what it computes is found by those alone.
  std::unique_ptr<Sequence> create(std::string salt = {});

  // A sequence with the same tokens and pages. Pages are shared until one side writes.
  std::unique_ptr<Sequence> fork(const Sequence& sequence);

  // What adopt would give a sequence of these tokens: so many cached ones, whose pages take so many of each group's free ones.
  struct Hit {
    int64_t tokens = 0;
    std::vector<int64_t> free_pages;
  };
  Hit cached(std::span<const TokenId> tokens, std::string_view salt, int set, int64_t most) const;

  // Gives a sequence of which nothing is cached the pages that are found for its first tokens, of `most` tokens at most, and returns how
  // many that are: whole pages, which end where the device lets a chunk begin.
  int64_t adopt(Sequence& sequence, int64_t most, int set);

  // Makes pages for [position, position + count), owned by `sequence` alone, where position <= sequence.length(). Throws ResourceError,
  // with `sequence` as it was, when there are too few.
  void reserve(Sequence& sequence, int64_t position, int64_t count);

  // How many of each group's free pages reserve would take, and whether so many are free.
  std::vector<int64_t> pages_needed(const Sequence& sequence, int64_t position, int64_t count) const;
  bool has_room(std::span<const int64_t> pages) const;
  // That a sequence has at a time, however long it is, while no more than a chunk is computed.
  int64_t most_pages(size_t group) const;

  // Forgets the tokens from `length` on.
  void truncate(Sequence& sequence, int64_t length);

  // Takes the cached length back to `position`, keeping the token ids; to 0 where a window's pages are gone already: the tokens in
  // between are to be forwarded again.
  void rewind(Sequence& sequence, int64_t position);

  // Pages for the first `length` tokens of a sequence that has none cached, of each group from a page on: who calls fills them. Throws
  // std::invalid_argument where a token to come would miss one, ResourceError, with `sequence` as it was, when there are too few.
  void restore(Sequence& sequence, int64_t length, int64_t rope_length, std::span<const int64_t> first_pages);

  // After a forward with the factors of `set`: the whole pages of the first `settled` tokens can be found from now on, and windowed groups
  // drop the pages that no coming query sees. Tokens that may be taken back, as drafts are, are not settled.
  void advance(Sequence& sequence, int64_t settled, int set);

  // Where another text may go on: a prompt's end, a turn's. Windowed groups keep what such a text needs longer than other passed pages. Of
  // a sequence the last few count, and every 1024 tokens.
  void mark(Sequence& sequence, int64_t position);

  const CacheSpec& spec() const { return spec_; }
  const CacheOptions& options() const { return options_; }
  int64_t page_tokens() const { return page_tokens_; }
  int64_t free_pages(size_t group) const;  // those that can be found among them
  int64_t total_pages(size_t group) const { return static_cast<int64_t>(pools_[group].references.size()); }
  size_t groups() const { return pools_.size(); }
  int64_t sequences() const;  // that live now

  void release(Sequence& sequence) noexcept override;

 private:
  // A free page that can be found is in one of two rings, the least recently used first. Passed ones are taken before kept ones.
  enum Ring { passed, kept };
  struct Pool {
    std::optional<int64_t> window;
    std::vector<int32_t> references;      // by page
    std::vector<int32_t> free;            // cannot be found; the last is taken first, those never used last
    std::vector<PrefixTree::Id> nodes;    // by page: where it can be found; 0: nowhere
    std::vector<int32_t> next, previous;  // of the rings, whose heads stand behind the pages
    int64_t findable = 0;                 // pages in the rings
    int32_t head(Ring ring) const { return static_cast<int32_t>(references.size()) + ring; }
    int64_t free_pages() const { return static_cast<int64_t>(free.size()) + findable; }
    int64_t first_seen(int64_t position) const { return window ? std::max<int64_t>(0, position - *window + 1) : 0; }
  };

  std::vector<PrefixTree::Id> find(std::span<const TokenId> tokens, std::string_view salt, int set, int64_t most) const;
  int64_t pages_to_make(const Pool& pool, const PageTable& table, int64_t position, int64_t end) const;
  void check_own(const Sequence& sequence) const;
  void drop(Pool& pool, int32_t page, Ring ring) noexcept;
  void unlink(Pool& pool, int32_t page) noexcept;
  int32_t take(size_t group) noexcept;
  void forget(size_t group, int32_t page) noexcept;
  void hold(Pool& pool, int32_t page) noexcept;
  void enter(Sequence& sequence, int64_t settled, int set) noexcept;
  bool is_kept(const Pool& pool, const Sequence& sequence, int64_t page) const;
  void drop_front(Pool& pool, Sequence& sequence, PageTable& table, int64_t begin_page) noexcept;
  void drop_back(Pool& pool, PageTable& table, int64_t end_page) noexcept;

  Device& device_;
  CacheSpec spec_;
  CacheOptions options_;
  int64_t page_tokens_;
  int64_t step_;         // a hit's tokens are a multiple of it
  int64_t kept_behind_;  // a window: rewind_tokens, and what a slice that starts aligned computes again
  std::shared_ptr<Storage> contents_;
  mutable std::mutex mutex_;
  std::vector<Pool> pools_;
  PrefixTree tree_;
  int64_t sequences_ = 0;
};

}  // namespace tessera
