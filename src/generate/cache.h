#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
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
  bool prefix_cache = true;    // pages of what was computed are found again
};

// The pages that a Cache of these options makes for each group of `spec` on a device with these limits.
std::vector<int64_t> page_counts(const CacheSpec& spec, const CacheOptions& options, const Limits& limits);

// Room for `sequences` of `context` tokens each.
CacheOptions cache_options(DataType dtype, int64_t context, int64_t sequences, const Limits& limits);

// The pages of one device and one model: numbers, reference counts and lengths. The contents belong to the device. Sequences share
// pages and copy them on write. Every call is safe from any thread; a Sequence is used by one at a time. A sequence of another cache is
// refused.
//
// A page that is full of settled tokens is entered: who begins with the same tokens, salt and set of LongRoPE's factors shares it, also
// after the sequence that made it has ended. It is not written again: who rewrites it copies it. Free pages that nobody finds are taken
// first, then windowed ones from the midst of texts, then those used least recently. Of windowed groups a text is found where the window
// before that place is there: ends of prompts and of sequences, and every 1,024 tokens, are kept longest.
class Cache final : public PageOwner {
 public:
  // Throws ResourceError when the device has no room.
  Cache(Device& device, const CacheSpec& spec, const CacheOptions& options);
  ~Cache() = default;

  // Sequences of other salts share nothing with it.
  std::unique_ptr<Sequence> create(std::string salt = {});

  // A sequence with the same tokens and pages. Pages are shared until one side writes.
  std::unique_ptr<Sequence> fork(const Sequence& sequence);

  // Makes pages for [position, position + count), owned by `sequence` alone, where position <= sequence.length(). Throws ResourceError,
  // with `sequence` as it was, when there are too few.
  void reserve(Sequence& sequence, int64_t position, int64_t count);

  // Forgets the tokens from `length` on.
  void truncate(Sequence& sequence, int64_t length);

  // Takes the cached length back to `position`, keeping the token ids; to 0 where a window's pages are gone already: the tokens in
  // between are to be forwarded again.
  void rewind(Sequence& sequence, int64_t position);

  // Whose pages there are for `tokens`: of the first so many, at most `most`, whole pages of them that begin a chunk. `set`: of LongRoPE's
  // factors, any number that tells them apart.
  struct Found {
    int64_t tokens = 0;
    std::vector<int64_t> free_pages;  // of each group: those of them that nobody has now
  };
  Found find(std::span<const TokenId> tokens, const std::string& salt, int set, int64_t most) const;

  // Gives a sequence of no cached tokens the pages that find() finds for it: its length is theirs then.
  void adopt(Sequence& sequence, int set, int64_t most);

  // A prompt ends behind so many tokens: its end is kept longer.
  void mark(Sequence& sequence, int64_t position);

  // After a forward: enters the pages whose tokens are among the first `settled`, those that will stay; windowed groups drop the pages that
  // no coming query sees.
  void advance(Sequence& sequence, int set, int64_t settled);

  // What reserve would take, of each group, and whether that much is free.
  std::vector<int64_t> pages_needed(const Sequence& sequence, int64_t position, int64_t count) const;
  bool has_room(std::span<const int64_t> pages) const;
  // That a sequence has at a time, however long it is, while no more than a chunk is computed.
  int64_t most_pages(size_t group) const;

  const CacheSpec& spec() const { return spec_; }
  const CacheOptions& options() const { return options_; }
  int64_t page_tokens() const { return page_tokens_; }
  int64_t free_pages(size_t group) const;  // those that are found among them
  int64_t total_pages(size_t group) const { return static_cast<int64_t>(pools_[group].pages.size()); }
  size_t groups() const { return pools_.size(); }
  int64_t sequences() const;  // that live now

  void release(Sequence& sequence) noexcept override;

 private:
  // Pages nobody has but that are found, in order of their last use, the oldest first.
  struct List {
    int32_t first = -1, last = -1;
    int64_t size = 0;
  };
  struct Page {
    int32_t references = 0;
    PrefixTree::Id entry = 0;
    int32_t before = -1, after = -1;  // in its list
    bool kept = false;                // which one
  };
  struct Pool {
    std::optional<int64_t> window;
    std::vector<Page> pages;
    std::vector<int32_t> free;  // that nobody finds
    List passed, kept;
    Page& at(int32_t page) { return pages[static_cast<size_t>(page)]; }
    const Page& at(int32_t page) const { return pages[static_cast<size_t>(page)]; }
    int64_t free_pages() const { return static_cast<int64_t>(free.size()) + passed.size + kept.size; }
    void put(int32_t page, bool keep);
    void remove(int32_t page);
  };

  int64_t pages_to_make(const Pool& pool, const PageTable& table, int64_t position, int64_t end) const;
  void check_own(const Sequence& sequence) const;
  void drop(size_t group, int32_t page, bool keep = true);
  int32_t take(size_t group);
  void forget(size_t group, int32_t page);
  void keep_range(size_t group, PageTable& table, int64_t begin_page, int64_t end_page, const std::vector<int64_t>& marks);
  void enter(Sequence& sequence, int set, int64_t settled);
  std::vector<PrefixTree::Id> walk(std::span<const TokenId> tokens, const std::string& salt, int set, int64_t most) const;
  int64_t first_seen(const Pool& pool, int64_t position) const {
    return pool.window ? std::max<int64_t>(0, position - *pool.window + 1) / page_tokens_ : 0;
  }

  Device& device_;
  CacheSpec spec_;
  CacheOptions options_;
  Limits limits_;
  int64_t page_tokens_;
  int64_t kept_behind_;  // a window: rewind_tokens, and what a slice that starts aligned computes again
  std::shared_ptr<Storage> contents_;
  mutable std::mutex mutex_;
  std::vector<Pool> pools_;
  PrefixTree tree_;
  int64_t sequences_ = 0;
};

}  // namespace tessera
