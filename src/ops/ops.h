#pragma once
// The ops that models are written in, under TTNN's names where TTNN has one. Each checks shapes (std::invalid_argument), then asks the
// device. Activations are float32 or bfloat16: the embedding sets which, the others keep it; an op computes and sums in float32 and
// rounds its output once.
#include "core/batch.h"
#include "core/tensor.h"
#include "ops/device.h"

namespace tessera::ops {

// The rows of `table` [1, 1, vocab, hidden] for the Step's tokens -> [1, 1, tokens, hidden], in the activations' type.
Tensor embedding(const Step& step, const Tensor& table);

// x [1, 1, tokens, in] times weight [1, 1, out, in], plus its bias if it was packed with one -> [1, 1, tokens, out]. Every output sums its
// inputs in one order, the same for any number of rows; the bias is added before the one rounding. A head's output has the logits' type.
Tensor linear(const Tensor& x, const Tensor& weight);

// x / sqrt(mean(x^2) + epsilon) * weight over the last dimension; of x [1, heads, tokens, head_dim] with a weight as wide as all heads,
// over all heads of a token.
Tensor rms_norm(const Tensor& x, const Tensor& weight, float epsilon);

// Rotates x [1, heads, tokens, head_dim] by the Step's positions; cos and sin are rounded to the activations' type if `rotary` rounds.
Tensor rotary_embedding(const Tensor& x, const Rotary& rotary, const Step& step);

// Splits qkv [1, 1, tokens, (num_heads + 2 num_kv_heads) * head_dim], rows ordered q | k | v.
QkvHeads nlp_create_qkv_heads(const Tensor& qkv, int64_t num_heads, int64_t num_kv_heads);

// Appends k and v [1, kv_heads, tokens, head_dim] to the cache, rounded to its type, and attends: softmax(scale q k^T) v, the scores
// capped where params has a softcap, over the keys
// at positions (p - window, p] of the query's sequence. Query head h uses key head h / (heads / kv_heads). -> q's shape.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Step& step, const AttentionParams& params);

// [1, heads, tokens, head_dim] -> [1, 1, tokens, heads * head_dim]
Tensor nlp_concat_heads(const Tensor& x);

// act(first half) * second half of gate_up [1, 1, tokens, 2 n] -> [1, 1, tokens, n]; gelu in its tanh form.
Tensor gelu_mul(const Tensor& gate_up);
Tensor silu_mul(const Tensor& gate_up);

// max(x, 0)^2
Tensor relu2(const Tensor& x);

// A mixture of experts. Each token of x [1, 1, tokens, hidden] goes to the top_k experts with the largest softmax of its router_logits
// [1, 1, tokens, experts], of equal ones to the first; the softmax is in float32 over all, its values divided by their sum with
// norm_topk_prob, then rounded to the activations' type. The sum over the token's experts, in their order, of that value times
// down(silu_mul(gate_up(x))): gate_up [1, experts, 2 n, hidden], down [1, experts, hidden, n].
Tensor experts(const Tensor& x, const Tensor& router_logits, const Tensor& gate_up, const Tensor& down, const RouterParams& params);

Tensor add(const Tensor& a, const Tensor& b);

// a * b
Tensor mul(const Tensor& a, float b);

// cap * tanh(x / cap)
Tensor softcap(const Tensor& x, float cap);

// Only the rows whose logits are wanted -> [1, 1, wanted rows, hidden].
Tensor select_rows(const Tensor& x, const Step& step);

}  // namespace tessera::ops
