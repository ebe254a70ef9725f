#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/cache_spec.h"
#include "core/sequence.h"
#include "ops/device.h"

namespace tessera {

struct CacheOptions {
  DataType dtype = DataType::bfloat16;
  int64_t max_tokens = 0;      // room in tokens, summed over the sequences; shared pages count once
  int64_t max_sequences = 1;   // that live at the same time
  int64_t rewind_tokens = 64;  // kept behind a window, so that so many tokens can be taken back without computing anew
};

// The pages that a Cache of these options makes for each group of `spec` on a device with these limits.
std::vector<int64_t> page_counts(const CacheSpec& spec, const CacheOptions& options, const Limits& limits);

// Room for `sequences` of `context` tokens each.
CacheOptions cache_options(DataType dtype, int64_t context, int64_t sequences, const Limits& limits);

// The pages of one device and one model: numbers, reference counts and lengths. The contents belong to the device. Sequences share
// pages and copy them on write. Every call is safe from any thread; a Sequence is used by one at a time. A sequence of another cache is
// refused.
class Cache final : public PageOwner {
 public:
  // Throws ResourceError when the device has no room.
  Cache(Device& device, const CacheSpec& spec, const CacheOptions& options);
  ~Cache() = default;

  std::unique_ptr<Sequence> create();

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

  // Pages for the first `length` tokens of a sequence that has none cached, of each group from a page on: who calls fills them. Throws
  // std::invalid_argument where a token to come would miss one, ResourceError, with `sequence` as it was, when there are too few.
  void restore(Sequence& sequence, int64_t length, int64_t rope_length, std::span<const int64_t> first_pages);

  // After a forward: windowed groups drop the pages that no coming query sees.
  void drop_passed(Sequence& sequence);

  const CacheSpec& spec() const { return spec_; }
  const CacheOptions& options() const { return options_; }
  int64_t page_tokens() const { return page_tokens_; }
  int64_t free_pages(size_t group) const;
  int64_t total_pages(size_t group) const { return static_cast<int64_t>(pools_[group].references.size()); }
  size_t groups() const { return pools_.size(); }
  int64_t sequences() const;  // that live now

  void release(Sequence& sequence) noexcept override;

 private:
  struct Pool {
    std::optional<int64_t> window;
    std::vector<int32_t> references;  // by page
    std::vector<int32_t> free;
  };

  int64_t pages_to_make(const Pool& pool, const PageTable& table, int64_t position, int64_t end) const;
  void check_own(const Sequence& sequence) const;
  void drop(Pool& pool, int32_t page) {
    if (--pool.references[static_cast<size_t>(page)] == 0) pool.free.push_back(page);
  }
  int32_t take(Pool& pool);
  void keep_range(Pool& pool, PageTable& table, int64_t begin_page, int64_t end_page);

  Device& device_;
  CacheSpec spec_;
  CacheOptions options_;
  int64_t page_tokens_;
  int64_t kept_behind_;  // a window: rewind_tokens, and what a slice that starts aligned computes again
  std::shared_ptr<Storage> contents_;
  mutable std::mutex mutex_;
  std::vector<Pool> pools_;
  int64_t sequences_ = 0;
};

}  // namespace tessera
