#pragma once
// The card's preparation of a Batch. A Batch of up to 32 tokens is decoded: each token is a user of its own, with its own position and row
// of the page table, whether its neighbours are other conversations or the positions before it (all keys are written before any is read). A
// larger Batch is a chunk of one prompt, padded to a size of few, so that few programs are made.
#include <map>
#include <vector>

#include "core/batch.h"
#include "cpu/thread_pool.h"
#include "ops/rotary.h"
#include "ttnn/n150_memory.h"
#include "ttnn/ttnn_module.h"

namespace tessera::ttnn {

// The page tables of a group of layers. Positions count from the first page in the table, so that a window's table stays short:
// attention looks at differences of positions only.
struct PageInputs {
  nb::object table;      // int32 [users, pages]
  nb::object positions;  // int32 [users], or [1]: the chunk's first position
  nb::object fill;       // of a chunk: int32 [1, pages that it fills]
};

struct RotaryInputs {
  nb::object cos, sin;
  nb::object rotation;  // for interleaved pairs: the matrix that takes (a, b) to (-b, a)
};

class CardStep final : public Step {
 public:
  // `pages`: those of the group of layers with the most.
  CardStep(const Batch& batch, int64_t pages);

  bool decodes() const { return tokens() <= n150::kMaxUsers; }
  int64_t rows() const { return rows_; }  // of the tensors: tokens, or more for a chunk
  const std::vector<int64_t>& wanted_rows() const { return wanted_rows_; }

  // Page numbers [users][width], positions and, of a chunk, the pages that it fills, for a group with `pages` pages, of which the last is
  // nobody's: what padding writes goes there.
  struct PageNumbers {
    int64_t width;
    std::vector<int32_t> table, positions, fill;
  };
  PageNumbers page_numbers(size_t group, int64_t pages) const;

  // cos and sin [rows][dim / 2] for each token's position; zero for padding.
  struct Angles {
    std::vector<float> cos, sin;
  };
  Angles angles(cpu::ThreadPool& pool, const Rotary& rotary) const;

  // On the card, made once a Step.
  mutable std::map<size_t, PageInputs> page_inputs;
  mutable std::map<const Rotary*, RotaryInputs> rotary_inputs;

 private:
  int64_t rows_;
  std::vector<int64_t> wanted_rows_;
};

}  // namespace tessera::ttnn
