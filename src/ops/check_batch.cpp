#include "ops/check_batch.h"

#include "core/error.h"

namespace tessera {

void check_batch(const Batch& batch, const Limits& limits) {
  const auto tokens = static_cast<int64_t>(batch.tokens.size());
  check(tokens >= 1 && tokens <= limits.max_rows, "run: a batch of ", tokens, " tokens is outside 1..", limits.max_rows);
  int64_t first = 0, logit_rows = 0;
  for (const Batch::Slice& slice : batch.slices) {
    check(slice.sequence != nullptr && slice.first == first && slice.count >= 1, "run: the slice at token ", first,
          " does not follow the one before");
    check(slice.position >= 0 && slice.position <= slice.sequence->length(), "run: position ", slice.position, " is past the ",
          slice.sequence->length(), " cached tokens of its sequence");
    check(&slice.sequence->cache() == &batch.slices.front().sequence->cache(), "run: the sequences of a batch are of two caches");
    check(slice.logit_rows >= 0 && slice.logit_rows <= slice.count, "run: logits of ", slice.logit_rows, " rows are wanted of ",
          slice.count);
    first += slice.count;
    logit_rows += slice.logit_rows;
  }
  check(logit_rows <= limits.max_logit_rows, "run: logits of ", logit_rows, " rows are wanted; a batch gives at most ",
        limits.max_logit_rows);
  check(first == tokens, "run: the slices hold ", first, " of ", tokens, " tokens");
  if (batch.slices.size() == 1 && batch.slices.front().position % limits.chunk_alignment == 0) return;
  check(tokens <= limits.free_rows, "run: a batch of ", tokens, " tokens, more than ", limits.free_rows,
        ", is not one slice that starts at a multiple of ", limits.chunk_alignment);
  for (const Batch::Slice& slice : batch.slices)
    check(slice.count <= limits.decode_tokens, "run: a slice of ", slice.count, " tokens, more than ", limits.decode_tokens,
          ", is not alone in its batch, or does not start at a multiple of ", limits.chunk_alignment);
}

void check_rope_lengths(const Batch& batch, std::optional<int64_t> boundary) {
  for (const Batch::Slice& slice : batch.slices)
    check(!boundary || slice.position == 0 || (slice.rope_length > *boundary) == (slice.sequence->rope_length() > *boundary),
          "run: the first ", slice.position,
          " tokens were computed with LongRoPE's other factors; take the sequence back to 0 and compute them again");
}

}  // namespace tessera
