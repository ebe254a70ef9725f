#pragma once
// The cpu device's ops over rows. Arithmetic is float32 and each result is rounded once, to nearest even, into the output's type, which is
// the input's type (float32 or bfloat16) unless said otherwise. A value never depends on the other rows, its place or the threads; each
// instruction set has its own fixed order of sums. Large inputs are shared out over the pool, small ones stay on the caller.
// An output may be its op's input (same data, same strides), or must not overlap it. Throws std::invalid_argument for shapes that disagree.
#include <span>

#include "core/thread_pool.h"
#include "cpu/isa.h"
#include "cpu/row_view.h"

namespace tessera::cpu {

// x / sqrt(mean(x^2) + epsilon) * weight[width] for each token and head; the weight has its offset (Gemma's 1) already.
void rms_norm(ThreadPool& pool, Isa isa, const ConstRows& x, std::span<const float> weight, float epsilon, const Rows& out);

// x * cos + rotate_half(x) * sin over the first 2 * half numbers of each head, the rest unchanged; cos and sin are [tokens][half].
void rotary_embedding(ThreadPool& pool, Isa isa, const ConstRows& x, const float* cos, const float* sin, int64_t half, const Rows& out);

void add(ThreadPool& pool, Isa isa, const ConstRows& a, const ConstRows& b, const Rows& out);
void mul(ThreadPool& pool, Isa isa, const ConstRows& x, float factor, const Rows& out);

// cap * tanh(x / cap).
void softcap(ThreadPool& pool, Isa isa, const ConstRows& x, float cap, const Rows& out);

// act(first half of a row) * second half: [gate | up] -> half the width. gelu is the tanh form. `out` must not overlap.
void gelu_mul(ThreadPool& pool, Isa isa, const ConstRows& gate_up, const Rows& out);
void silu_mul(ThreadPool& pool, Isa isa, const ConstRows& gate_up, const Rows& out);

// max(x, 0)^2.
void relu2(ThreadPool& pool, Isa isa, const ConstRows& x, const Rows& out);

// Row i of `out` is row rows[i] of x, in out's type.
void select_rows(ThreadPool& pool, Isa isa, const ConstRows& x, std::span<const int64_t> rows, const Rows& out);

// Between float32 and bfloat16, or a plain copy.
void convert(ThreadPool& pool, Isa isa, const ConstRows& x, const Rows& out);

}  // namespace tessera::cpu
