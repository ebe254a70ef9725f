#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
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
  Sequence(PageOwner& owner, std::shared_ptr<Storage> cache, size_t groups, std::string salt = {})
      : owner_(owner), cache_(std::move(cache)), salt_(std::move(salt)), tables_(groups) {}
  ~Sequence() { owner_.release(*this); }
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  // Token ids, those not cached yet included: whoever appends here, forwards them later.
  std::vector<TokenId> tokens;

  int64_t length() const { return length_; }            // tokens whose keys and values are in the pages
  int64_t rope_length() const { return rope_length_; }  // of the forward that made the pages; chooses LongRoPE's set
  const PageTable& table(size_t group) const { return tables_[group]; }
  Storage& cache() const { return *cache_; }         // page contents, the device's
  const std::string& salt() const { return salt_; }  // pages are found again under the same one alone

  // For the device at the end of a run: the first `length` tokens are in the pages now.
  void commit(int64_t length, int64_t rope_length) {
    length_ = length;
    rope_length_ = rope_length;
  }

 private:
  friend class Cache;
  PageOwner& owner_;
  std::shared_ptr<Storage> cache_;
  std::string salt_;
  std::vector<PageTable> tables_;
  std::vector<uint64_t>
      nodes_;  // by page from the first on: its node in the Cache's PrefixTree, if that is still there; of pages not written since
  std::array<int64_t, 4> marks_{};  // the last of Cache::mark; 0: none
  int64_t length_ = 0, rope_length_ = 0;
};

}  // namespace tessera
