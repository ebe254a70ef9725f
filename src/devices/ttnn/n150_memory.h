#pragma once
// What a model takes of an n150's DRAM, by TTNN's layouts: tensors lie in tiles of 32 x 32, interleaved over 12 banks.
#include <cstdint>
#include <span>

#include "core/cache_spec.h"
#include "ops/device.h"

namespace tessera::n150 {

inline constexpr size_t kBanks = 12, kBankBytes = 1'072'693'184;  // that tensors may take
inline constexpr size_t kMemory = kBanks * kBankBytes;            // 12.87 GB
inline constexpr size_t kPrograms = size_t{32} << 20;             // which lie in the same memory, and between tensors: an estimate
inline constexpr int64_t kMaxUsers = 32;                          // rows of one decode: a tile's
inline constexpr int64_t kPageTokens = 64;
inline constexpr int64_t kChunk = 128;  // queries and keys that attention takes at a time; a prompt's pieces start at multiples of it

inline constexpr size_t kTraces = 8;  // recordings of decodes at a time
inline constexpr size_t kTraceBytes =
    kTraces * 16'000'000;                        // of the DRAM, for their commands, if they are asked for; not measured on silicon
inline constexpr int64_t kReplaysChecked = 256;  // one of so many is held against the same decode called op by op

// Prompts in pieces of up to 512 rows, each alone; up to 32 sequences together, a token of each: paged_update_cache reads whole tiles of 32
// rows and writes them back, so that of two tokens in a tile one would be lost.
Limits limits();

// The pages that a cache has for `pages` of them: one takes what padding writes, and TTNN wants no page table, which it reads in pieces of
// 8 entries, to be wider than the cache.
int64_t cache_pages(int64_t pages);

// bfloat16, bfloat8_b or bfloat4_b in tiles; a lookup's table in rows of bfloat16, beside the head's tiles when it is tied to it.
size_t weight_bytes(const WeightSpec& spec);

// Of bfloat16 or bfloat8_b.
size_t cache_bytes(const CacheSpec& spec, DataType dtype, std::span<const int64_t> pages);

// What is alive at the widest place of a forward of `rows` tokens, `widest` values of each, and one tile of logits, in tiles and in rows,
// and the programs.
size_t working_bytes(int64_t rows, int64_t widest, int64_t vocab);

// What recordings of decodes take beside kTraceBytes: the logits that they give, float32 in tiles.
size_t recorded_logits_bytes(int64_t vocab);

}  // namespace tessera::n150
