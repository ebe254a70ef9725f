#include "generate/score_order.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

namespace tessera {
namespace {

constexpr size_t kChunk = 32;            // loops that the compiler makes vectors of, and does not unroll before that
constexpr size_t kSummed = 64 * kChunk;  // so many are summed in float32
constexpr int kReach = 12, kWidths = 32, kBuckets = kReach * kWidths;  // a window's: 12 factors of e, of 32 buckets each
constexpr float kNever = -std::numeric_limits<float>::infinity(), kLeast = std::numeric_limits<float>::lowest();

bool comes_first(const auto& a, const auto& b) { return a.score > b.score || (a.score == b.score && a.token < b.token); }

#define TESSERA_INLINE inline __attribute__((always_inline))

// exp of a number that is not above 0, to 2e-16 and below exp(-700) 0: 2^n exp(r) with |r| <= log(2) / 2, a polynomial of least largest
// relative error.
TESSERA_INLINE double exp_below_0(double x) {
  const double clamped = x < -700.0 ? -700.0 : x;
  const double shifted = clamped * 0x1.71547652b82fep0 + 0x1.8p52, n = shifted - 0x1.8p52;  // rounds; its lowest bits are n
  const double r = (clamped - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
  double y = 0x1.28a2ca617b969p-22;
  y = y * r + 0x1.72fafebdaf273p-19;
  y = y * r + 0x1.a019a6611cad5p-16;
  y = y * r + 0x1.a01978b8b3d18p-13;
  y = y * r + 0x1.6c16c17f46982p-10;
  y = y * r + 0x1.1111112ddae8bp-7;
  y = y * r + 0x1.55555555520a4p-5;
  y = y * r + 0x1.555555554b736p-3;
  y = y * r + 0x1.0000000000005p-1;
  y = y * r + 1.0;
  y = y * r + 1.0;
  const auto scaled = std::bit_cast<double>(std::bit_cast<uint64_t>(y) + (std::bit_cast<uint64_t>(shifted) << 52));
  return x < -700.0 ? 0.0 : scaled;
}

// The same to 2e-7, below exp(-80) 0.
TESSERA_INLINE float exp_below_0(float x) {
  const float clamped = x < -80.0f ? -80.0f : x;
  const float shifted = clamped * 0x1.715476p0f + 0x1.8p23f, n = shifted - 0x1.8p23f;
  const float r = (clamped - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
  float y = 0x1.123d9p-7f;
  y = y * r + 0x1.57637ep-5f;
  y = y * r + 0x1.55547cp-3f;
  y = y * r + 0x1.fffd08p-2f;
  y = y * r + 1.0f;
  y = y * r + 0x1.000002p0f;
  const auto scaled = std::bit_cast<float>(std::bit_cast<uint32_t>(y) + (std::bit_cast<uint32_t>(shifted) << 23));
  return x < -80.0f ? 0.0f : scaled;
}

// The scores from a least one up to another, exclusive.
struct Range {
  double largest, inverse;  // of all scores; of the temperature
  int index;                // the window's
  float least, above;
};

TESSERA_INLINE double weight_of(float score, const Range& range) {
  return exp_below_0((static_cast<double>(score) - range.largest) * range.inverse);
}

// The first bucket has the largest scores. What rounding puts outside is in the first or the last.
TESSERA_INLINE int bucket_of(float score, const Range& range) {
  const double place = (static_cast<double>(score) - range.largest) * range.inverse * -kWidths - range.index * kBuckets;
  const double clamped = place < kBuckets - 1 ? place : kBuckets - 1;
  return static_cast<int>(clamped > 0 ? clamped : 0);
}

TESSERA_INLINE int is_in(float score, const Range& range) { return (score >= range.least ? 1 : 0) & (score < range.above ? 1 : 0); }

// Room for as many as there are scores, and one chunk more.
struct Members {
  float* scores;
  TokenId* tokens;
  int* buckets;
  size_t count;
};

// Gathers a range's scores, and returns the weights of all lower ones, which are summed in float32.
TESSERA_INLINE double gather(std::span<const float> scores, const Range& range, Members& members) {
  const auto largest = static_cast<float>(range.largest), inverse = static_cast<float>(range.inverse);
  size_t count = 0;
  double lower = 0;
  for (size_t start = 0; start < scores.size(); start += kSummed) {
    float sums[kChunk] = {};
    for (size_t at = start; at < start + kSummed && at < scores.size(); at += kChunk) {
      const float* chunk = scores.data() + at;
      float last[kChunk];
      if (scores.size() - at < kChunk) {
        for (size_t i = 0; i < kChunk; ++i) last[i] = at + i < scores.size() ? chunk[i] : kNever;
        chunk = last;
      }
      int any = 0;
      for (size_t i = 0; i < kChunk; ++i) {
        const float weight = exp_below_0((chunk[i] - largest) * inverse);
        sums[i] += chunk[i] < range.least ? weight : 0.0f;
        any |= is_in(chunk[i], range);
      }
      if (any == 0) continue;
      for (size_t i = 0; i < kChunk; ++i) {
        members.scores[count] = chunk[i];
        members.tokens[count] = static_cast<TokenId>(at + i);
        count += static_cast<size_t>(is_in(chunk[i], range));
      }
    }
    for (size_t i = 0; i < kChunk; ++i) lower += static_cast<double>(sums[i]);
  }
  members.count = count;
  return lower;
}

// The weights of a range's buckets, and of all lower scores.
TESSERA_INLINE void weigh_row(std::span<const float> scores, const Range& range, Members& members, double* weights) {
  weights[kBuckets] = gather(scores, range, members);
  double odd[kBuckets] = {};  // neighbours do not wait for each other
  for (size_t at = 0; at < members.count; at += kChunk) {
    double chunk[kChunk];
    if (members.count - at < kChunk)
      for (size_t i = members.count; i < at + kChunk; ++i) members.scores[i] = range.least;
    for (size_t i = 0; i < kChunk; ++i) chunk[i] = weight_of(members.scores[at + i], range);
    for (size_t i = 0; i < kChunk; ++i) members.buckets[at + i] = bucket_of(members.scores[at + i], range);
    const size_t count = members.count - at < kChunk ? members.count - at : kChunk;
    for (size_t i = 0; i < count; ++i) (i % 2 == 0 ? weights : odd)[members.buckets[at + i]] += chunk[i];
  }
  for (int i = 0; i < kBuckets; ++i) weights[i] += odd[i];
}

using Weigh = void (*)(std::span<const float>, const Range&, Members&, double*);

void weigh_plain(std::span<const float> scores, const Range& range, Members& members, double* weights) {
  weigh_row(scores, range, members, weights);
}

// No contraction, and sums in the order that is written: the same bits.
#if defined(__x86_64__)
__attribute__((target("avx2"))) void weigh_avx2(std::span<const float> scores, const Range& range, Members& members, double* weights) {
  weigh_row(scores, range, members, weights);
}

__attribute__((target("avx512f,avx512dq,avx512vl"))) void weigh_avx512(std::span<const float> scores, const Range& range, Members& members,
                                                                       double* weights) {
  weigh_row(scores, range, members, weights);
}

Weigh fastest_weigh() {
  if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) return weigh_avx512;
  return __builtin_cpu_supports("avx2") ? weigh_avx2 : weigh_plain;
}
#else
Weigh fastest_weigh() { return weigh_plain; }
#endif

// The first with which the weights, in this order, add up to more than `sum`, `before` of them before the first of all; else the last.
template <class Scored>
ScoreOrder::Place first_past(std::vector<Scored> scored, double before, double sum, auto comes_first) {
  auto first = scored.begin(), last = scored.end();
  while (last - first > 1) {
    const auto middle = first + (last - first) / 2;
    std::nth_element(first, middle, last, comes_first);
    double half = before;
    for (auto i = first; i != middle; ++i) half += i->weight;
    if (half > sum) {
      last = middle;
    } else {
      first = middle;
      before = half;
    }
  }
  return {first->score, first->token, before};
}

}  // namespace

// The scores whose weights are from exp(-12 (index + 1)) up to exp(-12 index), in buckets.
struct ScoreOrder::Window {
  Window(std::span<const float> all, const Range& bounds)
      : range(bounds),
        scores(std::make_unique_for_overwrite<float[]>(all.size() + kChunk)),
        tokens(std::make_unique_for_overwrite<TokenId[]>(all.size() + kChunk)),
        buckets(std::make_unique_for_overwrite<int[]>(all.size() + kChunk)) {
    static const Weigh kWeigh = fastest_weigh();
    Members members{scores.get(), tokens.get(), buckets.get(), 0};
    kWeigh(all, range, members, weights.data());
    count = members.count;
  }

  std::vector<Scored> members(int bucket) const {
    std::vector<Scored> found;
    for (size_t i = 0; i < count; ++i)
      if (buckets[i] == bucket) found.push_back({scores[i], tokens[i], weight_of(scores[i], range)});
    return found;
  }

  Range range;
  size_t count;
  std::unique_ptr<float[]> scores;
  std::unique_ptr<TokenId[]> tokens;
  std::unique_ptr<int[]> buckets;
  std::array<double, kBuckets + 1> weights{};  // of each bucket, and of all lower scores
};

ScoreOrder::ScoreOrder(std::span<const float> scores, float largest, double temperature)
    : scores_(scores), largest_(largest), temperature_(std::max(temperature, 1e-30)), first_(window(0)) {
  for (const double weight : first_->weights) total_ += weight;
}

std::shared_ptr<const ScoreOrder::Window> ScoreOrder::window(int index) const {
  const auto bound = [&](int windows) { return std::max(static_cast<float>(largest_ - windows * kReach * temperature_), kLeast); };
  return std::make_shared<const Window>(scores_, Range{.largest = largest_,
                                                       .inverse = 1.0 / temperature_,
                                                       .index = index,
                                                       .least = bound(index + 1),
                                                       .above = index == 0 ? -kNever : bound(index)});
}

// Window by window, bucket by bucket, then within the one in which the sum is reached. A window's buckets, with all lower scores as the
// last, go from `first` by steps of `step`.
ScoreOrder::Place ScoreOrder::walk(double sum, int first, int step, auto comes_first) const {
  double before = 0;
  for (auto in = first_;; in = window(in->range.index + 1)) {
    int found = 0;
    double next = before;
    for (int bucket = first; bucket >= 0 && bucket <= kBuckets && next <= sum; bucket += step) {
      const double weight = in->weights[static_cast<size_t>(bucket)];
      if (weight == 0.0) continue;
      found = bucket;
      before = next;
      next += weight;
    }
    if (found < kBuckets) return first_past(in->members(found), before, sum, comes_first);
  }
}

ScoreOrder::Place ScoreOrder::from_first(double sum) const {
  return walk(sum, 0, 1, [](const Scored& a, const Scored& b) { return comes_first(a, b); });
}

ScoreOrder::Place ScoreOrder::from_last(double sum) const {
  return walk(sum, kBuckets, -1, [](const Scored& a, const Scored& b) { return comes_first(b, a); });
}

ScoreOrder::Place ScoreOrder::at_least(double weight) const {
  const double bound = largest_ + temperature_ * std::log(weight);
  auto in = first_;
  while (static_cast<float>(bound) < in->range.least) in = window(in->range.index + 1);
  int bucket = bucket_of(static_cast<float>(bound), in->range);
  double before = 0;
  for (int lower = kBuckets; lower > bucket; --lower) before += in->weights[static_cast<size_t>(lower)];
  for (;; --bucket) {
    if (bucket < 0) {
      in = window(in->range.index - 1);
      bucket = kBuckets - 1;
    }
    std::optional<Scored> last;
    for (const Scored& scored : in->members(bucket)) {
      if (scored.score < bound)
        before += scored.weight;
      else if (!last || comes_first(*last, scored))
        last = scored;
    }
    if (last) return {last->score, last->token, before};
  }
}

}  // namespace tessera
