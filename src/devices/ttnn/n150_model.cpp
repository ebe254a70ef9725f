#include "ttnn/n150_model.h"

#include "core/error.h"
#include "core/neighbouring_pairs.h"
#include "ttnn/tiles.h"

namespace tessera::n150 {

void check_weight(const WeightSpec& spec) {
  check(spec.role != Role::router && spec.role != Role::experts_gate_up && spec.role != Role::experts_down,
        "n150: mixtures of experts are not supported; choose the cpu");
  if (spec.role != Role::qkv) return;
  check(spec.head_dim % ttnn::kTile == 0, "n150: heads of ", spec.head_dim, " values are not supported; a multiple of ", ttnn::kTile,
        " is, or choose the cpu");
  check(spec.num_heads <= ttnn::kTile, "n150: ", spec.num_heads, " heads are not supported; up to ", ttnn::kTile,
        " are, or choose the cpu");
}

void check_norm_of_heads(int64_t head_dim) {
  check(!has_neighbouring_pairs(head_dim), "n150: a norm of heads of ", head_dim,
        " values is not supported; 32 or a multiple of 64 is, or choose the cpu");
}

void check_attention(bool softcap) { check(!softcap, "n150: attention with a softcap is not supported; choose the cpu"); }

}  // namespace tessera::n150
