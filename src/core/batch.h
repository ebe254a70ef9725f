#pragma once
#include <cstdint>
#include <span>

#include "core/sequence.h"
#include "core/types.h"

namespace tessera {

// What one forward processes: the new tokens of one or more sequences, laid end to end; prompts and single tokens may mix.
struct Batch {
  struct Slice {
    Sequence* sequence;   // pages for [position, position + count) are there and its own
    int64_t first;        // index of its first new token in `tokens`
    int64_t count;        // >= 1
    int64_t position;     // of that token in the sequence; before its cached length: recompute and overwrite
    int64_t logit_rows;   // logits for the last so many of its tokens
    int64_t rope_length;  // the length that chooses LongRoPE's factors: all that is known of the sequence
  };
  std::span<const TokenId> tokens;
  std::span<const Slice> slices;
};

// A device's preparation of one Batch: positions, page tables, rotary rows, wanted rows. Lives for one Device::run.
class Step {
 public:
  explicit Step(const Batch& batch) : batch_(batch) {}
  virtual ~Step() = default;
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  const Batch& batch() const { return batch_; }
  int64_t tokens() const { return static_cast<int64_t>(batch_.tokens.size()); }
  int64_t logit_rows() const {
    int64_t rows = 0;
    for (const Batch::Slice& slice : batch_.slices) rows += slice.logit_rows;
    return rows;
  }

 private:
  const Batch& batch_;
};

}  // namespace tessera
