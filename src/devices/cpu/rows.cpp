#include "cpu/rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "core/error.h"
#include "cpu/kernels/row_kernels.h"

namespace tessera::cpu {
namespace {

// The numbers in one piece of work: some microseconds of it.
constexpr int64_t kPiece = 16384;

// Calls fn(kernels of x's type, its type's element) with the kernels for float32 or bfloat16.
template <class Fn>
void with_type(const char* op, DataType type, Isa isa, Fn fn) {
  check(type == DataType::float32 || type == DataType::bfloat16, op, ": activations are float32 or bfloat16, not ", type);
  if (type == DataType::float32)
    fn(row_kernels(isa).float32, float{});
  else
    fn(row_kernels(isa).bfloat16, uint16_t{});
}

void check_same_shape(const char* op, const ConstRows& x, const Rows& out) {
  check(x.tokens == out.tokens && x.heads == out.heads && x.width == out.width, op, ": input [", x.tokens, ", ", x.heads, ", ", x.width,
        "] and output [", out.tokens, ", ", out.heads, ", ", out.width, "] differ");
}

void check_same_type(const char* op, const ConstRows& x, const Rows& out) {
  check(x.type == out.type, op, ": input ", x.type, " and output ", out.type, " differ");
}

// fn(token, head) for every row, several rows a piece.
template <class Fn>
void for_rows(ThreadPool& pool, int64_t tokens, int64_t heads, int64_t width, Fn fn) {
  const int64_t rows = tokens * heads, per_piece = std::max<int64_t>(1, kPiece / std::max<int64_t>(1, width));
  pool.parallel_for((rows + per_piece - 1) / per_piece, [&](int64_t piece, int) {
    const int64_t end = std::min(rows, (piece + 1) * per_piece);
    for (int64_t row = piece * per_piece; row < end; ++row) fn(row / heads, row % heads);
  });
}

// fn(token, head, first column, columns) for parts of rows: for ops that look at each number alone.
template <class Fn>
void for_parts(ThreadPool& pool, int64_t tokens, int64_t heads, int64_t width, Fn fn) {
  const int64_t parts = (width + kPiece - 1) / kPiece;
  for_rows(pool, tokens, heads * parts, std::min(width, kPiece), [&](int64_t token, int64_t i) {
    const int64_t column = i % parts * kPiece;
    fn(token, i / parts, column, std::min(kPiece, width - column));
  });
}

template <class Kernel>
void gated(ThreadPool& pool, Isa isa, const char* op, const ConstRows& gate_up, const Rows& out, Kernel kernel) {
  check(gate_up.tokens == out.tokens && gate_up.heads == out.heads && gate_up.width == 2 * out.width, op, ": joined rows [", gate_up.tokens,
        ", ", gate_up.width, "] do not give [", out.tokens, ", ", out.width, "]");
  check_same_type(op, gate_up, out);
  with_type(op, out.type, isa, [&]<class T>(const TypedRowKernels<T>& k, T) {
    for_parts(pool, out.tokens, out.heads, out.width, [&](int64_t token, int64_t head, int64_t column, int64_t n) {
      const T* gate = gate_up.row<T>(token, head) + column;
      kernel(k)(gate, gate + out.width, n, out.row<T>(token, head) + column);
    });
  });
}

// Elementwise ops of one input: run(kernels, x, n, y).
template <class Run>
void map(ThreadPool& pool, Isa isa, const char* op, const ConstRows& x, const Rows& out, Run run) {
  check_same_shape(op, x, out);
  check_same_type(op, x, out);
  with_type(op, x.type, isa, [&]<class T>(const TypedRowKernels<T>& k, T) {
    for_parts(pool, x.tokens, x.heads, x.width, [&](int64_t token, int64_t head, int64_t column, int64_t n) {
      run(k, x.row<T>(token, head) + column, n, out.row<T>(token, head) + column);
    });
  });
}

void convert_numbers(const RowKernels& k, const ConstRows& x, int64_t token, int64_t head, const Rows& out, int64_t out_token,
                     int64_t column, int64_t n) {
  if (x.type == DataType::float32 && out.type == DataType::bfloat16)
    k.to_bfloat16(x.row<float>(token, head) + column, n, out.row<uint16_t>(out_token, head) + column);
  else if (x.type == DataType::bfloat16 && out.type == DataType::float32)
    k.to_float32(x.row<uint16_t>(token, head) + column, n, out.row<float>(out_token, head) + column);
  else if (x.type == DataType::float32)
    std::memmove(out.row<float>(out_token, head) + column, x.row<float>(token, head) + column, static_cast<size_t>(n) * sizeof(float));
  else
    std::memmove(out.row<uint16_t>(out_token, head) + column, x.row<uint16_t>(token, head) + column,
                 static_cast<size_t>(n) * sizeof(uint16_t));
}

void check_activations(const char* op, const ConstRows& x) {
  check(x.type == DataType::float32 || x.type == DataType::bfloat16, op, ": activations are float32 or bfloat16, not ", x.type);
}

}  // namespace

const RowKernels& row_kernels(Isa isa) {
  if (isa == Isa::card) return kRowsCard;
#if defined(__x86_64__)
  if (isa == Isa::avx512) return kRowsAvx512;
  if (isa == Isa::avx2) return kRowsAvx2;
#endif
  return kRowsPlain;
}

void rms_norm(ThreadPool& pool, Isa isa, const ConstRows& x, std::span<const float> weight, float epsilon, const Rows& out) {
  check_same_shape("rms_norm", x, out);
  check_same_type("rms_norm", x, out);
  check(static_cast<int64_t>(weight.size()) == x.width, "rms_norm: weight [", weight.size(), "] does not fit rows of ", x.width);
  with_type("rms_norm", x.type, isa, [&]<class T>(const TypedRowKernels<T>& k, T) {
    for_rows(pool, x.tokens, x.heads, x.width, [&](int64_t token, int64_t head) {
      k.rms_norm(x.row<T>(token, head), weight.data(), epsilon, x.width, out.row<T>(token, head));
    });
  });
}

void rotary_embedding(ThreadPool& pool, Isa isa, const ConstRows& x, const float* cos, const float* sin, int64_t half, const Rows& out) {
  check_same_shape("rotary_embedding", x, out);
  check_same_type("rotary_embedding", x, out);
  check(2 * half <= x.width, "rotary_embedding: ", 2 * half, " rotary numbers exceed the head's ", x.width);
  with_type("rotary_embedding", x.type, isa, [&]<class T>(const TypedRowKernels<T>& k, T) {
    for_rows(pool, x.tokens, x.heads, x.width, [&](int64_t token, int64_t head) {
      const T* from = x.row<T>(token, head);
      T* to = out.row<T>(token, head);
      k.rotary(from, cos + token * half, sin + token * half, half, to);
      if (to != from) std::memcpy(to + 2 * half, from + 2 * half, static_cast<size_t>(x.width - 2 * half) * sizeof(T));
    });
  });
}

void add(ThreadPool& pool, Isa isa, const ConstRows& a, const ConstRows& b, const Rows& out) {
  check_same_shape("add", a, out);
  check_same_shape("add", b, out);
  check_same_type("add", a, out);
  check_same_type("add", b, out);
  with_type("add", a.type, isa, [&]<class T>(const TypedRowKernels<T>& k, T) {
    for_parts(pool, a.tokens, a.heads, a.width, [&](int64_t token, int64_t head, int64_t column, int64_t n) {
      k.add(a.row<T>(token, head) + column, b.row<T>(token, head) + column, n, out.row<T>(token, head) + column);
    });
  });
}

void mul(ThreadPool& pool, Isa isa, const ConstRows& x, float factor, const Rows& out) {
  map(pool, isa, "mul", x, out, [&](const auto& k, const auto* from, int64_t n, auto* to) { k.mul(from, factor, n, to); });
}

void softcap(ThreadPool& pool, Isa isa, const ConstRows& x, float cap, const Rows& out) {
  map(pool, isa, "softcap", x, out, [&](const auto& k, const auto* from, int64_t n, auto* to) { k.softcap(from, cap, n, to); });
}

void gelu_mul(ThreadPool& pool, Isa isa, const ConstRows& gate_up, const Rows& out) {
  gated(pool, isa, "gelu_mul", gate_up, out, [](const auto& k) { return k.gelu_mul; });
}

void silu_mul(ThreadPool& pool, Isa isa, const ConstRows& gate_up, const Rows& out) {
  gated(pool, isa, "silu_mul", gate_up, out, [](const auto& k) { return k.silu_mul; });
}

void relu2(ThreadPool& pool, Isa isa, const ConstRows& x, const Rows& out) {
  map(pool, isa, "relu2", x, out, [](const auto& k, auto* from, int64_t n, auto* to) { k.relu2(from, n, to); });
}

void select_rows(ThreadPool& pool, Isa isa, const ConstRows& x, std::span<const int64_t> rows, const Rows& out) {
  check_activations("select_rows", x);
  check_activations("select_rows", out);
  check(static_cast<int64_t>(rows.size()) == out.tokens && x.heads == out.heads && x.width == out.width, "select_rows: ", rows.size(),
        " rows of ", x.heads, " x ", x.width, " do not give ", out.tokens, " of ", out.heads, " x ", out.width);
  for (int64_t row : rows) check(row >= 0 && row < x.tokens, "select_rows: row ", row, " is outside 0..", x.tokens - 1);
  for_parts(pool, out.tokens, out.heads, out.width, [&](int64_t token, int64_t head, int64_t column, int64_t n) {
    convert_numbers(row_kernels(isa), x, rows[static_cast<size_t>(token)], head, out, token, column, n);
  });
}

void convert(ThreadPool& pool, Isa isa, const ConstRows& x, const Rows& out) {
  check_activations("convert", x);
  check_activations("convert", out);
  check_same_shape("convert", x, out);
  for_parts(pool, x.tokens, x.heads, x.width, [&](int64_t token, int64_t head, int64_t column, int64_t n) {
    convert_numbers(row_kernels(isa), x, token, head, out, token, column, n);
  });
}

}  // namespace tessera::cpu
