// The oracle: one key, one number at a time.
#include <bit>
#include <cmath>
#include <limits>

#include "core/block_float.h"
#include "core/data_type.h"
#include "cpu/kernels/attention_kernels.h"

namespace tessera::cpu {
namespace {

struct Float32 {
  static constexpr int64_t kPack = 1;
  static float dot(float sum, uint32_t a, uint32_t b) { return sum + std::bit_cast<float>(a) * std::bit_cast<float>(b); }
  static void put(float p, int64_t key, uint32_t* words) { words[key] = std::bit_cast<uint32_t>(p); }
  static uint32_t seen(bool first, bool) { return first ? ~0u : 0u; }
};

struct Bfloat16 {
  static constexpr int64_t kPack = 2;
  static float low(uint32_t pair) { return std::bit_cast<float>(pair << 16); }
  static float high(uint32_t pair) { return std::bit_cast<float>(pair & 0xFFFF0000u); }
  static float dot(float sum, uint32_t a, uint32_t b) { return (sum + low(a) * low(b)) + high(a) * high(b); }
  static void put(float p, int64_t key, uint32_t* words) {
    const uint32_t bits = to_bfloat16(p).bits;
    words[key / 2] = key % 2 == 0 ? (words[key / 2] & 0xFFFF0000u) | bits : (words[key / 2] & 0xFFFFu) | bits << 16;
  }
  static uint32_t seen(bool first, bool second) { return (first ? 0xFFFFu : 0u) | (second ? 0xFFFF0000u : 0u); }
};

template <class Path>
void scores(const KeyRange& range, const PageGroup& keys) {
  const int64_t words = range.head_dim / Path::kPack;
  for (int64_t row = 0; row < range.rows; ++row)
    for (int64_t page = 0; page < keys.count; ++page) {
      float* out = range.scores + row * kRangeTokens + (keys.first + page) * kPageTokens;
      for (int64_t key = 0; key < kPageTokens; ++key) out[key] = 0;
      for (int64_t d = 0; d < words; ++d)
        for (int64_t key = 0; key < kPageTokens; ++key)
          out[key] = Path::dot(out[key], range.q[row * words + d], keys.words[page][d * kPageTokens + key]);
    }
}

template <class Path>
void softmax(const KeyRange& range) {
  for (int64_t row = 0; row < range.rows; ++row) {
    const float* score = range.scores + row * kRangeTokens;
    uint32_t* p = range.p + row * kRangeTokens / Path::kPack;
    float max = -std::numeric_limits<float>::infinity(), sum = 0;
    for (int64_t key = range.begin[row]; key < range.end[row]; ++key) max = std::fmax(max, score[key] * range.scale);
    for (int64_t key = range.first_page * kPageTokens; key < range.last_page * kPageTokens; ++key) {
      const bool seen = key >= range.begin[row] && key < range.end[row];
      const float power = seen ? std::exp2(score[key] * range.scale - max) : 0;
      Path::put(power, key, p);
      sum += power;
    }
    range.max[row] = max;
    range.sum[row] = sum;
  }
}

template <class Path>
void accumulate(const KeyRange& range, const PageGroup& values) {
  for (int64_t row = 0; row < range.rows; ++row) {
    float* acc = range.acc + row * range.acc_stride;
    const auto sees = [&](int64_t key) { return key >= range.begin[row] && key < range.end[row]; };
    for (int64_t i = 0; i < values.count * kPageTokens; i += Path::kPack) {
      const int64_t key = values.first * kPageTokens + i;
      const uint32_t seen = Path::seen(sees(key), sees(key + 1)), p = range.p[(row * kRangeTokens + key) / Path::kPack];
      for (int64_t column = 0; column < range.head_dim; column += kColumn) {
        const int64_t width = range.head_dim - column < kColumn ? range.head_dim - column : kColumn;
        const uint32_t* value = values.words[i / kPageTokens] + (column * kPageTokens + i % kPageTokens * width) / Path::kPack;
        for (int64_t d = 0; d < width; ++d) acc[column + d] = Path::dot(acc[column + d], value[d] & seen, p);
      }
    }
  }
}

void merge(float* max, float* sum, float* acc, float next_max, float next_sum, const float* next_acc, int64_t n) {
  const float top = std::fmax(*max, next_max), old_factor = std::exp2(*max - top), next_factor = std::exp2(next_max - top);
  *max = top;
  *sum = *sum * old_factor + next_sum * next_factor;
  for (int64_t i = 0; i < n; ++i) acc[i] = acc[i] * old_factor + next_acc[i] * next_factor;
}

void finish_float32(const float* acc, float sum, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = acc[i] / sum;
}

void finish_bfloat16(const float* acc, float sum, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = to_bfloat16(acc[i] / sum).bits;
}

uint32_t decode(uint8_t exponent, uint8_t code) { return to_bfloat16(decode_block(DataType::bfloat8_b, exponent, code)).bits; }

void unpack_keys(const uint8_t* page, int64_t head_dim, uint32_t* pairs, const void*) {
  const uint8_t* exponents = page + kPageTokens * head_dim;
  for (int64_t i = 0; i < head_dim / 2 * kPageTokens; ++i) {
    const uint8_t exponent = exponents[i / kPageTokens / 8 * kPageTokens + i % kPageTokens];
    pairs[i] = decode(exponent, page[2 * i]) | decode(exponent, page[2 * i + 1]) << 16;
  }
}

void unpack_values(const uint8_t* page, int64_t head_dim, uint32_t* pairs, const void*) {
  const uint8_t* exponent = page + kPageTokens * head_dim;
  for (int64_t column = 0; column < head_dim; column += kColumn) {
    const int64_t width = head_dim - column < kColumn ? head_dim - column : kColumn;
    for (int64_t token = 0; token < kPageTokens; token += 2)
      for (int64_t d = 0; d < width; ++d, page += 2) {
        *pairs++ = decode(exponent[0], page[0]) | decode(exponent[1], page[1]) << 16;
        if (d % 16 == 15 || d == width - 1) exponent += 2;
      }
  }
}

void widen(const uint32_t* pairs, int64_t rows, int64_t width, float* out) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < width; ++i) {
      out[2 * row * width + i] = Bfloat16::low(pairs[row * width + i]);
      out[(2 * row + 1) * width + i] = Bfloat16::high(pairs[row * width + i]);
    }
}

template <class Path>
constexpr RangeKernels kRange{Path::kPack, scores<Path>, softmax<Path>, accumulate<Path>};

}  // namespace

constinit const AttentionKernels kAttentionPlain{kRange<Float32>, kRange<Bfloat16>, merge,         finish_float32,
                                                 finish_bfloat16, unpack_keys,      unpack_values, widen};

}  // namespace tessera::cpu
