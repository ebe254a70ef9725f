#pragma once
// Attention as TTNN's kernels on an n150 compute it, in plain loops: between their steps a decode has bfloat16 and a chunk bfloat16 and
// TF32. A decode with at most 16 query heads takes the approximate exp, as TTNN does whatever it is asked for.
#include "cpu/attention.h"

namespace tessera::cpu {

// As Attention::attend, for bfloat16 queries and a cache of bfloat16 or bfloat8_b: a slice of one token is a decode, any other a chunk.
void card_attention(ThreadPool& pool, const KvCache& cache, std::span<const CacheSlice> slices, const ConstRows& q, const Rows& out,
                    const AttentionOptions& options);

}  // namespace tessera::cpu
