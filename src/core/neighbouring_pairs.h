#pragma once
// The order in which an n150 keeps the values of a query's or key's head; the cpu keeps it in card mode, since blocks share exponents in
// it.
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tessera {

// TTNN's rotary_embedding_hf takes heads of 32 or a multiple of 64 values. Others, as Phi-3's 96, go through rotary_embedding_llama, whose
// pairs are neighbours: the rows of q and k are permuted for it when they are packed, which no score depends on.
constexpr bool has_neighbouring_pairs(int64_t head_dim) { return head_dim != 32 && head_dim % 64 != 0; }

// Where value i of a head is when pairs are neighbours.
constexpr int64_t among_pairs(int64_t i, int64_t head_dim) { return i % (head_dim / 2) * 2 + i / (head_dim / 2); }

// What each output has, permuted in the first so many heads.
template <class Of>
std::vector<Of> with_neighbouring_pairs(const std::vector<Of>& rows, int64_t heads, int64_t head_dim) {
  std::vector<Of> paired = rows;
  for (int64_t row = 0; row < heads * head_dim; ++row) {
    const int64_t i = row % head_dim;
    paired[static_cast<size_t>(row - i + among_pairs(i, head_dim))] = rows[static_cast<size_t>(row)];
  }
  return paired;
}

}  // namespace tessera
