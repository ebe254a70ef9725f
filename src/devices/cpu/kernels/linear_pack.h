// Packing of one panel (linear_kernels.h tells the layouts), written as plain loops that each instruction set's file compiles for itself:
// included once by each linear_<isa>.cpp, everything internal to it. Block formats are rounded as core/block_float.h tells, except that a
// block whose largest value is below 2^-120 is stored as zeros.
#pragma once
#include <cstring>

#include "cpu/kernels/linear_kernels.h"

namespace tessera::cpu {
namespace {

constexpr uint32_t kSmallestExponent = 7, kExponentOfZeros = 127;

using Tile = uint32_t[kPanel][kBlock];  // float32 bits of [o][k]

inline uint32_t half_bits_to_float_bits(uint32_t half) {
  const float magnitude = __builtin_bit_cast(float, (half & 0x7FFFu) << 13) * 0x1p112f;
  const uint32_t special = (half & 0x7C00u) == 0x7C00u ? 0x7F800000u : 0u;
  return __builtin_bit_cast(uint32_t, magnitude) | special | (half & 0x8000u) << 16;
}

inline uint32_t round_to_bfloat16_bits(uint32_t bits) {
  const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  return (bits & 0x7FFFFFFFu) > 0x7F800000u ? bits >> 16 | 0x40u : rounded;
}

void load_row(const PackRow& row, int64_t first, int64_t count, uint32_t* to) {
  if (count < kBlock || !row.data) std::memset(to, 0, kBlock * 4);
  if (!row.data) return;
  const int64_t size = row.type == PackRow::float32 ? 4 : 2;
  const std::byte* data = row.data + first * size;
  // 64 rows are read side by side, more than the processor can follow by itself: the block after the next is fetched.
  for (int64_t i = 2 * kBlock * size; i < 3 * kBlock * size; i += 64) __builtin_prefetch(data + i);
  if (row.type == PackRow::float32) {
    std::memcpy(to, data, static_cast<size_t>(count * size));
    return;
  }
  uint16_t from[kBlock];
  std::memcpy(from, data, static_cast<size_t>(count * size));
  if (row.type == PackRow::bfloat16)
    for (int64_t k = 0; k < count; ++k) to[k] = static_cast<uint32_t>(from[k]) << 16;
  else
    for (int64_t k = 0; k < count; ++k) to[k] = half_bits_to_float_bits(from[k]);
}

void load_tile(const PackRow* rows, int64_t in, int64_t first, Tile& tile) {
  const int64_t count = in - first < kBlock ? in - first : kBlock;
  for (int64_t o = 0; o < kPanel; ++o) load_row(rows[o], first, count, tile[o]);
}

void pack_float32(const PackRow* rows, int64_t in, std::byte* panel) {
  alignas(64) Tile tile;
  for (int64_t first = 0; first < in; first += kBlock, panel += kPanel * kBlock * 4) {
    load_tile(rows, in, first, tile);
    uint32_t* block = reinterpret_cast<uint32_t*>(panel);
    for (int64_t k = 0; k < kBlock; ++k)
      for (int64_t o = 0; o < kPanel; ++o) block[k * kPanel + o] = tile[o][k];
  }
}

void pack_bfloat16(const PackRow* rows, int64_t in, std::byte* panel) {
  alignas(64) Tile tile;
  alignas(64) uint32_t pairs[kPanel][kBlock / 2];
  for (int64_t first = 0; first < in; first += kBlock, panel += kPanel * kBlock * 2) {
    load_tile(rows, in, first, tile);
    for (int64_t o = 0; o < kPanel; ++o)
      for (int64_t j = 0; j < kBlock / 2; ++j)
        pairs[o][j] = round_to_bfloat16_bits(tile[o][2 * j]) | round_to_bfloat16_bits(tile[o][2 * j + 1]) << 16;
    uint32_t* block = reinterpret_cast<uint32_t*>(panel);
    for (int64_t j = 0; j < kBlock / 2; ++j)
      for (int64_t o = 0; o < kPanel; ++o) block[j * kPanel + o] = pairs[o][j];
  }
}

// Exponents [o / 16][k] and codes [o][k] of a tile in a block format with `bits` magnitude bits.
template <uint32_t bits>
void encode_tile(const Tile& tile, uint8_t (&exponents)[4][kBlock], uint8_t (&codes)[kPanel][kBlock]) {
  constexpr uint32_t dropped = 24 - bits, largest = (1u << bits) - 1;
  for (int64_t n = 0; n < 4; ++n) {
    alignas(64) uint32_t shared[kBlock] = {};
    for (int64_t o = 16 * n; o < 16 * n + 16; ++o)
      for (int64_t k = 0; k < kBlock; ++k) {
        const uint32_t field = tile[o][k] >> 23 & 0xFFu;
        shared[k] = field > shared[k] ? field : shared[k];
      }
    for (int64_t k = 0; k < kBlock; ++k) {
      shared[k] = shared[k] < kSmallestExponent ? 0 : shared[k];
      exponents[n][k] = static_cast<uint8_t>(shared[k] == 0 ? kExponentOfZeros : shared[k]);
    }
    for (int64_t o = 16 * n; o < 16 * n + 16; ++o)
      for (int64_t k = 0; k < kBlock; ++k) {
        const uint32_t word = tile[o][k], field = word >> 23 & 0xFFu,
                       full = field == 0 || shared[k] == 0 ? 0 : 0x800000u | (word & 0x7FFFFFu);
        const uint32_t distance = shared[k] - field, mantissa = full >> (distance < 31 ? distance : 31);
        const uint32_t rounded = (mantissa + (1u << (dropped - 1)) - 1 + (mantissa >> dropped & 1u)) >> dropped;
        const uint32_t magnitude = rounded < largest ? rounded : largest;
        codes[o][k] = static_cast<uint8_t>(magnitude | (magnitude == 0 ? 0 : word >> 31 << bits));
      }
  }
}

void pack_bfloat8_b(const PackRow* rows, int64_t in, std::byte* panel) {
  alignas(64) Tile tile;
  alignas(64) uint8_t exponents[4][kBlock], codes[kPanel][kBlock];
  for (int64_t first = 0; first < in; first += kBlock) {
    load_tile(rows, in, first, tile);
    encode_tile<7>(tile, exponents, codes);
    std::memcpy(panel, exponents, sizeof exponents);
    panel += sizeof exponents;
    for (int64_t quad = 0; quad < kBlock / 4; ++quad)
      for (int64_t n = 0; n < 4; ++n, panel += 64)
        for (int64_t o = 0; o < 16; ++o) {
          std::memcpy(panel + o / 4 * 16 + o % 4 * 2, &codes[16 * n + o][4 * quad], 2);
          std::memcpy(panel + o / 4 * 16 + 8 + o % 4 * 2, &codes[16 * n + o][4 * quad + 2], 2);
        }
  }
}

void pack_bfloat4_b(const PackRow* rows, int64_t in, std::byte* panel) {
  alignas(64) Tile tile;
  alignas(64) uint8_t exponents[4][kBlock], codes[kPanel][kBlock];
  alignas(64) uint16_t words[16][kBlock];
  for (int64_t first = 0; first < in; first += kBlock) {
    load_tile(rows, in, first, tile);
    encode_tile<3>(tile, exponents, codes);
    std::memcpy(panel, exponents, sizeof exponents);
    panel += sizeof exponents;
    for (int64_t o = 0; o < 16; ++o)
      for (int64_t k = 0; k < kBlock; ++k)
        words[o][k] = static_cast<uint16_t>(codes[o][k] | codes[16 + o][k] << 4 | codes[32 + o][k] << 8 | codes[48 + o][k] << 12);
    for (int64_t pair = 0; pair < kBlock / 2; ++pair)
      for (int64_t o = 0; o < 16; ++o, panel += 4) std::memcpy(panel, &words[o][2 * pair], 4);
  }
}

void widen(const uint16_t* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = __builtin_bit_cast(float, static_cast<uint32_t>(from[i]) << 16);
}

void narrow(const float* from, uint16_t* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<uint16_t>(round_to_bfloat16_bits(__builtin_bit_cast(uint32_t, from[i])));
}

}  // namespace
}  // namespace tessera::cpu
