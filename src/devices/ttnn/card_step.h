#pragma once
// The card's preparation of a Batch. A Batch of one token of each of up to 32 sequences is decoded: each is a user, with its own position
// and row of the page table, and users of nobody make them 1, 2, 4, 8, 16 or 32. Any other is a chunk of one sequence, padded to a size of
// few. So few programs are made.
#include <map>
#include <vector>

#include "core/batch.h"
#include "core/thread_pool.h"
#include "ops/rotary.h"
#include "ttnn/n150_memory.h"
#include "ttnn/ttnn_module.h"

namespace tessera::ttnn {

struct RotaryInputs {
  nb::object cos, sin;
  nb::object rotation;  // for interleaved pairs: the matrix that takes (a, b) to (-b, a)
};

// 1, 2, 4, 8, 16 or 32, for up to so many users of a decode, or rows of a chunk whose logits are wanted.
int64_t padded_count(int64_t count);

class CardStep final : public Step {
 public:
  // `pages`: of the cache's groups. The last page of a group is nobody's: what padding writes goes there.
  CardStep(const Batch& batch, std::span<const int64_t> pages);

  bool decodes() const { return decodes_; }
  int64_t rows() const { return rows_; }  // of the tensors: tokens, or more
  const std::vector<int64_t>& wanted_rows() const { return wanted_rows_; }

  // What the commands of a decode depend on: its rows, whether logits are wanted, the widths of its page tables.
  std::vector<int64_t> kind() const;

  // Of a group of layers. Positions count from the first page in the table, so that a window's table stays short: attention looks at
  // differences of positions only.
  struct PageNumbers {
    int64_t width;
    std::vector<int32_t> table;      // [users][width]
    std::vector<int32_t> positions;  // [users], -1 for nobody; or a chunk's first
    std::vector<int32_t> fill;       // the pages that a chunk fills
  };
  const PageNumbers& page_numbers(size_t group) const { return page_numbers_[group]; }

  // For each token's position; zero for padding.
  const RotaryRows& rotary_rows(ThreadPool& pool, const Rotary& rotary) const;

  // On the card, made once a Step.
  mutable std::map<const Rotary*, RotaryInputs> rotary_inputs;

 private:
  PageNumbers make_page_numbers(size_t group, int64_t pages) const;

  bool decodes_;
  int64_t rows_;
  std::vector<PageNumbers> page_numbers_;
  mutable std::map<const Rotary*, RotaryRows> rotary_rows_;
  std::vector<int64_t> wanted_rows_;
};

}  // namespace tessera::ttnn
