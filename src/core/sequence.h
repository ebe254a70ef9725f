#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "core/types.h"

namespace tessera {

// The pages of one group of layers, in order of position. Page i of `pages` holds the positions [(first + i) * page_tokens, ...);
// windowed groups drop pages at the front, so `first` grows.
struct PageTable {
  int64_t first = 0;
  std::vector<int32_t> pages;
};

class Sequence;

// Who gives pages to sequences and takes them back (generate/cache.h).
class PageOwner {
 public:
  virtual void release(Sequence& sequence) noexcept = 0;

 protected:
  ~PageOwner() = default;
};

// One conversation: the token ids known, how many of them are cached, and a page table a group. Made by a Cache, which must outlive it.
class Sequence {
 public:
  Sequence(PageOwner& owner, std::shared_ptr<Storage> cache, size_t groups) : owner_(owner), cache_(std::move(cache)), tables_(groups) {}
  ~Sequence() { owner_.release(*this); }
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  // Token ids, those not cached yet included: whoever appends here, forwards them later.
  std::vector<TokenId> tokens;

  int64_t length() const { return length_; }            // tokens whose keys and values are in the pages
  int64_t rope_length() const { return rope_length_; }  // of the forward that made the pages; chooses LongRoPE's set
  const PageTable& table(size_t group) const { return tables_[group]; }
  Storage& cache() const { return *cache_; }  // page contents, the device's

  // For the device at the end of a run: the first `length` tokens are in the pages now.
  void commit(int64_t length, int64_t rope_length) {
    length_ = length;
    rope_length_ = rope_length;
  }

 private:
  friend class Cache;
  PageOwner& owner_;
  std::shared_ptr<Storage> cache_;
  std::vector<PageTable> tables_;
  int64_t length_ = 0, rope_length_ = 0;
  // For the Cache to find its pages again: what it is kept apart by, the entries of its first pages, and where prompts ended.
  std::string salt_;
  std::vector<uint64_t> entries_;
  std::vector<int64_t> marks_;
};

}  // namespace tessera
