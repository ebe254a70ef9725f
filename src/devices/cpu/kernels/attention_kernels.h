#pragma once
// The loops behind attention.h, one table an instruction set; the rules of row_kernels.h hold. Words and pages are those of kv_cache.h.
#include <cstdint>

namespace tessera::cpu {

constexpr int64_t kPageTokens = 32;
constexpr int64_t kRangeTokens = 256;  // keys whose softmax is one piece of work
constexpr int64_t kColumn = 64;        // numbers of head_dim that lie together in a page of values

// Some query rows of one key head against one range of keys. Keys are numbered from the range's start.
struct KeyRange {
  int64_t rows;
  int64_t head_dim;
  const uint32_t* q;     // [rows][head_dim numbers as words, row_pack a word]
  const int32_t* begin;  // [rows]: the row sees the keys [begin, end); none if they are equal
  const int32_t* end;
  int64_t first_page, last_page;  // pages of the range that some row sees: [first_page, last_page)
  float scale;                    // > 0, times log2(e): the softmax is in powers of two
  float* scores;                  // [rows][kRangeTokens]
  uint32_t* p;                    // [rows][kRangeTokens numbers as words, row_pack a word]
  float* max;                     // [rows]
  float* sum;                     // [rows]
  float* acc;                     // [rows][acc_stride]
  int64_t acc_stride;             // head_dim rounded up to 16
};

// Up to four successive pages of a range, worked on together.
constexpr int64_t kGroupPages = 4;
struct PageGroup {
  int64_t first, count;                // pages of the range
  const uint32_t* words[kGroupPages];  // keys or values
  const void* next[kGroupPages];       // what will be read next, as many bytes, to be fetched meanwhile; or null
};

// In one arithmetic: words of float32, or of pairs of bfloat16.
struct RangeKernels {
  int64_t row_pack;  // numbers in a word of q and p: 2 are bfloat16, 1 is a float32 (beside pairs: one that is exact in bfloat16)
  // scores = q k^T for the keys of some pages.
  void (*scores)(const KeyRange& range, const PageGroup& keys);
  // max and sum of each row's softmax, and p = 2^(scale * score - max), 0 for keys not seen.
  void (*softmax)(const KeyRange& range);
  // acc += p v over the keys of some pages, in order; a key not seen adds nothing, even if it is NaN.
  void (*accumulate)(const KeyRange& range, const PageGroup& values);
};

struct AttentionKernels {
  RangeKernels float32, bfloat16;
  // The softmax over keys [a, b) from those over [a, c) and [c, b): the first becomes the result. n is a multiple of 16.
  void (*merge)(float* max, float* sum, float* acc, float next_max, float next_sum, const float* next_acc, int64_t n);
  void (*finish_float32)(const float* acc, float sum, int64_t n, float* out);
  void (*finish_bfloat16)(const float* acc, float sum, int64_t n, uint16_t* out);
  // bfloat8_b keys and values of one page to pairs of bfloat16, exactly.
  void (*unpack_keys)(const uint8_t* page, int64_t head_dim, uint32_t* pairs, const void* next);
  void (*unpack_values)(const uint8_t* page, int64_t head_dim, uint32_t* pairs, const void* next);
  // Pairs [rows][width] to float32 [rows][2][width].
  void (*widen)(const uint32_t* pairs, int64_t rows, int64_t width, float* out);
};

extern const AttentionKernels kAttentionPlain;
#if defined(__x86_64__)
extern const AttentionKernels kAttentionAvx2;
extern const AttentionKernels kAttentionAvx512;
#endif

}  // namespace tessera::cpu
