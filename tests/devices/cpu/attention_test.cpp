#include "cpu/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "core/block_float.h"
#include "core/error.h"
#include "thinned.h"

namespace tessera::cpu {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Heads {
  int64_t query, kv, head_dim;
};

// Float32 or bfloat16 numbers [tokens][heads][head_dim].
struct Numbers {
  Numbers(DataType dtype, int64_t tokens_, int64_t heads_, int64_t width_) : type(dtype), tokens(tokens_), heads(heads_), width(width_) {
    bytes.resize(static_cast<size_t>(tokens * heads * width) * (type == DataType::float32 ? 4 : 2));
  }
  Rows rows() { return {bytes.data(), type, tokens, heads, width, heads * width, width}; }
  Rows rows() const { return const_cast<Numbers*>(this)->rows(); }
  float get(int64_t token, int64_t head, int64_t i) const {
    return type == DataType::float32 ? rows().row<float>(token, head)[i] : to_float(rows().row<bfloat16>(token, head)[i]);
  }
  void set(int64_t token, int64_t head, int64_t i, float x) {
    if (type == DataType::float32)
      rows().row<float>(token, head)[i] = x;
    else
      rows().row<bfloat16>(token, head)[i] = to_bfloat16(x);
  }
  // Normal numbers, some tokens much larger than the others: so a key too many or too few shows.
  void fill(uint32_t seed, float spread) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int64_t t = 0; t < tokens; ++t) {
      const float scale = std::exp(spread * normal(random));
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t i = 0; i < width; ++i) set(t, h, i, scale * normal(random));
    }
  }
  size_t row_bytes() const { return bytes.size() / static_cast<size_t>(tokens); }

  DataType type;
  int64_t tokens, heads, width;
  std::vector<std::byte> bytes;
};

// The queries, keys and values of one sequence's tokens.
struct Tokens {
  Tokens(DataType type, Heads heads, int64_t count, uint32_t seed)
      : q(type, count, heads.query, heads.head_dim), k(type, count, heads.kv, heads.head_dim), v(type, count, heads.kv, heads.head_dim) {
    q.fill(seed, 0.3f), k.fill(seed + 1, 0.3f), v.fill(seed + 2, 2.0f);
  }
  Numbers q, k, v;
};

// A sequence that is fed to a cache, its pages in random order.
struct Fed {
  const Tokens* tokens;
  Numbers out;
  PageTable table;
  int64_t length = 0;

  Fed(const Tokens& t, std::vector<int32_t>& free_pages) : tokens(&t), out(t.q.type, t.q.tokens, t.q.heads, t.q.width) {
    for (int64_t page = 0; page * kPageTokens < t.q.tokens; ++page) {
      table.pages.push_back(free_pages.back());
      free_pages.pop_back();
    }
  }
};

struct Next {
  Fed* sequence;
  int64_t count;
};

class Feeder {
 public:
  Feeder(Isa isa, int threads, DataType cache_type, Heads heads, std::optional<int64_t> window, int64_t pages = 128)
      : pool_(threads),
        attention_(pool_, isa),
        cache_({{{heads.kv, heads.head_dim, window}}}, cache_type, std::array{pages}),
        window_(window) {
    free_pages.resize(static_cast<size_t>(pages));
    std::iota(free_pages.begin(), free_pages.end(), 0);
    std::shuffle(free_pages.begin(), free_pages.end(), std::mt19937(1));
  }

  // One batch: the next tokens of some sequences, in a row of joined q | k | v as a model's.
  void feed(std::vector<Next> nexts) {
    int64_t tokens = 0;
    for (const Next& next : nexts) tokens += next.count;
    const Tokens& first = *nexts[0].sequence->tokens;
    const int64_t heads = first.q.heads + 2 * first.k.heads, width = first.q.width;
    Numbers qkv(first.q.type, tokens, heads, width), out(first.q.type, tokens, first.q.heads, width);
    std::vector<CacheSlice> slices;
    int64_t row = 0;
    for (const Next& next : nexts) {
      Fed& s = *next.sequence;
      slices.push_back({row, next.count, s.length, &s.table});
      for (int64_t t = 0; t < next.count; ++t, ++row) {
        std::byte* to = qkv.bytes.data() + static_cast<size_t>(row) * qkv.row_bytes();
        for (const Numbers* part : {&s.tokens->q, &s.tokens->k, &s.tokens->v}) {
          std::memcpy(to, part->bytes.data() + static_cast<size_t>(s.length + t) * part->row_bytes(), part->row_bytes());
          to += part->row_bytes();
        }
      }
    }
    const auto part = [&](int64_t from, int64_t count) {
      ConstRows rows = qkv.rows();
      rows.data =
          qkv.type == DataType::float32 ? static_cast<const void*>(qkv.rows().row<float>(0, from)) : qkv.rows().row<bfloat16>(0, from);
      rows.heads = count;
      return rows;
    };
    cache_.append(pool_, 0, slices, part(first.q.heads, first.k.heads), part(first.q.heads + first.k.heads, first.k.heads));
    attention_.attend(cache_, slices, part(0, first.q.heads), out.rows(),
                      {.layer = 0, .scale = scale(first.q.width), .window = window_, .softcap = softcap});
    row = 0;
    for (const Next& next : nexts) {
      Fed& s = *next.sequence;
      const size_t bytes = out.row_bytes();
      std::memcpy(s.out.bytes.data() + static_cast<size_t>(s.length) * bytes, out.bytes.data() + static_cast<size_t>(row) * bytes,
                  static_cast<size_t>(next.count) * bytes);
      row += next.count;
      s.length += next.count;
      drop_pages(s);
    }
  }

  void feed_all(Fed& s, int64_t chunk) {
    while (s.length < s.tokens->q.tokens) feed({{&s, std::min(chunk, s.tokens->q.tokens - s.length)}});
  }

  static float scale(int64_t head_dim) { return 1.3f / std::sqrt(static_cast<float>(head_dim)); }

  KvCache& cache() { return cache_; }
  ThreadPool& pool() { return pool_; }
  Attention& attention() { return attention_; }
  std::vector<int32_t> free_pages;
  std::optional<float> softcap;

 private:
  // A windowed sequence gives back the pages that no later token sees.
  void drop_pages(Fed& s) {
    if (!window_) return;
    while (!s.table.pages.empty() && (s.table.first + 1) * kPageTokens <= s.length - *window_ + 1) {
      free_pages.push_back(s.table.pages.front());
      s.table.pages.erase(s.table.pages.begin());
      ++s.table.first;
    }
  }

  ThreadPool pool_;
  Attention attention_;
  KvCache cache_;
  std::optional<int64_t> window_;
};

struct Types {
  DataType activations, cache;
};

constexpr DataType kF32 = DataType::float32, kBf16 = DataType::bfloat16, kBf8 = DataType::bfloat8_b;
constexpr Types kTypes[] = {{kF32, kF32}, {kBf16, kBf16}, {kBf16, kBf8}, {kF32, kBf16}, {kF32, kBf8}, {kBf16, kF32}};

struct Case {
  Isa isa;
  Types types;
  std::optional<int64_t> window;
};

std::string case_name(const Case& c) {
  return message(name(c.isa), "_", c.types.activations, "_on_", c.types.cache, "_window_", c.window ? std::to_string(*c.window) : "none");
}
void PrintTo(const Case& c, std::ostream* out) { *out << case_name(c); }

std::vector<Case> every_case(const std::vector<std::optional<int64_t>>& windows) {
  std::vector<Case> cases;
  for (Isa isa : supported_isas())
    for (Types types : kTypes)
      for (std::optional<int64_t> window : windows) cases.push_back({isa, types, window});
  return thinned(cases, 7);
}

class Attending : public testing::TestWithParam<Case> {
 protected:
  Feeder feeder(int threads, Heads heads) const { return {GetParam().isa, threads, GetParam().types.cache, heads, GetParam().window}; }
};

class AttendingInAnyWindow : public Attending {};

TEST_P(AttendingInAnyWindow, gives_the_same_bits_for_any_chunks_neighbours_and_threads) {
  const Heads heads{2, 1, 32};
  const Tokens tokens(GetParam().types.activations, heads, 600, 1), neighbour(GetParam().types.activations, heads, 600, 100);
  Feeder reference_feeder(GetParam().isa, 1, GetParam().types.cache, heads, GetParam().window);
  Fed reference(tokens, reference_feeder.free_pages);
  reference_feeder.feed_all(reference, 600);
  for (int threads : {1, 2, 4})
    for (int64_t chunk : {600, 512, 31, 1}) {
      if (chunk == 1 && threads != 2) continue;  // one by one is slow
      Feeder f(GetParam().isa, threads, GetParam().types.cache, heads, GetParam().window);
      Fed alone(tokens, f.free_pages);
      f.feed_all(alone, chunk);
      ASSERT_EQ(alone.out.bytes, reference.out.bytes) << "chunks of " << chunk << " on " << threads << " threads";
    }
  for (int threads : {1, 2, 4}) {
    Feeder f(GetParam().isa, threads, GetParam().types.cache, heads, GetParam().window);
    Fed a(tokens, f.free_pages), b(neighbour, f.free_pages), c(tokens, f.free_pages);
    f.feed({{&b, 70}});
    f.feed({{&a, 200}, {&b, 1}});
    f.feed({{&b, 40}, {&a, 37}, {&c, 600}});
    f.feed({{&b, 1}, {&a, 1}});
    f.feed({{&a, 362}, {&b, 300}});
    ASSERT_EQ(a.out.bytes, reference.out.bytes) << "among others on " << threads << " threads";
    ASSERT_EQ(c.out.bytes, reference.out.bytes) << "among others on " << threads << " threads";
  }
}

TEST_P(Attending, gives_the_same_bits_when_sums_vanish) {
  const Heads heads{2, 1, 32};
  Tokens tokens(GetParam().types.activations, heads, 80, 3);
  for (int64_t t = 0; t < 80; ++t)
    for (int64_t i = 0; i < 32; ++i) tokens.v.set(t, 0, i, tokens.v.get(t, 0, i) * 3e-38f);
  Feeder reference_feeder = feeder(1, heads);
  Fed reference(tokens, reference_feeder.free_pages);
  reference_feeder.feed_all(reference, 80);
  for (int64_t chunk : {1, 31}) {
    Feeder f = feeder(2, heads);
    Fed fed(tokens, f.free_pages);
    f.feed_all(fed, chunk);
    EXPECT_EQ(fed.out.bytes, reference.out.bytes) << "chunks of " << chunk;
  }
}

// What float64 makes of the same numbers, for one row and head, and how far float32 arithmetic may be from it.
struct Expected {
  std::vector<double> out, bound;
};

// As the cache holds them.
Numbers rounded(const Numbers& x, DataType cache_type) {
  Numbers y(kF32, x.tokens, x.heads, x.width);
  for (int64_t t = 0; t < x.tokens; ++t)
    for (int64_t h = 0; h < x.heads; ++h)
      for (int64_t i = 0; i < x.width; i += 16) {
        std::array<float, 16> values{};
        std::array<uint8_t, 16> codes;
        const int64_t count = std::min<int64_t>(16, x.width - i);
        for (int64_t j = 0; j < count; ++j) values[static_cast<size_t>(j)] = x.get(t, h, i + j);
        const uint8_t exponent = encode_block(kBf8, values, codes);
        for (int64_t j = 0; j < count; ++j) {
          const float value = values[static_cast<size_t>(j)];
          const float in_block = exponent < 7 ? 0 : decode_block(kBf8, exponent, codes[static_cast<size_t>(j)]);
          y.set(t, h, i + j, cache_type == kBf8 ? in_block : cache_type == kBf16 ? round_to_bfloat16(value) : value);
        }
      }
  return y;
}

Expected expected(const Case& c, const Tokens& tokens, const Numbers& k, const Numbers& v, int64_t position, int64_t head,
                  std::optional<float> softcap) {
  const int64_t width = tokens.q.width, kv_head = head / (tokens.q.heads / tokens.k.heads);
  const int64_t first = c.window ? std::max<int64_t>(0, position - *c.window + 1) : 0;
  constexpr double u = 0x1p-24;
  std::vector<double> score;
  double score_error = 0, top = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t key = first; key <= position; ++key) {
    double s = 0, size = 0;
    for (int64_t i = 0; i < width; ++i) {
      const double product = static_cast<double>(tokens.q.get(position, head, i)) * k.get(key, kv_head, i);
      s += product, size += std::abs(product);
    }
    const double scale = Feeder::scale(width);
    score.push_back(softcap ? *softcap * std::tanh(s * scale / *softcap) : s * scale);
    top = std::max(top, score.back());
    // width products and sums, scaled twice; the same again for the maximum that is taken off; the power itself.
    score_error = std::max(score_error, 2 * (static_cast<double>(width) + 4) * u * size * scale + 8 * u + 16 * u * softcap.value_or(0));
  }
  Expected e{std::vector<double>(static_cast<size_t>(width)), std::vector<double>(static_cast<size_t>(width))};
  std::vector<double> size(static_cast<size_t>(width));
  for (int64_t key = first; key <= position; ++key) {
    const double p = std::exp(score[static_cast<size_t>(key - first)] - top);
    sum += p;
    for (int64_t i = 0; i < width; ++i) {
      e.out[static_cast<size_t>(i)] += p * v.get(key, kv_head, i);
      size[static_cast<size_t>(i)] += p * std::abs(v.get(key, kv_head, i));
    }
  }
  const bool pairs = c.types.activations == kBf16 && c.types.cache != kF32;
  const double rounding_of_p = pairs ? 0x1p-8 : 0, sums = (static_cast<double>(position - first + 1) + 16) * u;
  const double rounding = c.types.activations == kBf16 ? 0x1p-8 : u;
  for (size_t i = 0; i < e.out.size(); ++i) {
    e.out[i] /= sum, size[i] /= sum;
    const double error = (score_error + sums) * (size[i] + std::abs(e.out[i])) + rounding_of_p * size[i] + 1e-37;
    e.bound[i] = error + (std::abs(e.out[i]) + error) * rounding;
  }
  return e;
}

void expect_close(const Case& c, const Fed& fed, std::optional<float> softcap = {}) {
  const Tokens& tokens = *fed.tokens;
  const Numbers k = rounded(tokens.k, c.types.cache), v = rounded(tokens.v, c.types.cache);
  for (int64_t position = 0; position < tokens.q.tokens; position += position < 40 || position > tokens.q.tokens - 40 ? 1 : 11)
    for (int64_t head = 0; head < tokens.q.heads; ++head) {
      const Expected want = expected(c, tokens, k, v, position, head, softcap);
      for (int64_t i = 0; i < tokens.q.width; ++i)
        ASSERT_NEAR(fed.out.get(position, head, i), want.out[static_cast<size_t>(i)], want.bound[static_cast<size_t>(i)])
            << "position " << position << " head " << head << " of " << tokens.q.heads << " number " << i << " of " << tokens.q.width;
    }
}

TEST_P(AttendingInAnyWindow, matches_a_float64_loop_past_a_range) {
  const Tokens tokens(GetParam().types.activations, {2, 1, 32}, 600, 7);
  Feeder f = feeder(2, {2, 1, 32});
  Fed fed(tokens, f.free_pages);
  f.feed_all(fed, 300);
  expect_close(GetParam(), fed);
}

TEST_P(AttendingInAnyWindow, matches_a_float64_loop_with_capped_scores) {
  const Tokens tokens(GetParam().types.activations, {2, 1, 32}, 300, 11);
  Feeder f = feeder(2, {2, 1, 32});
  f.softcap = 1.5f;
  Fed fed(tokens, f.free_pages), alone(tokens, f.free_pages);
  f.feed_all(fed, 300);
  expect_close(GetParam(), fed, f.softcap);
  f.feed_all(alone, 31);
  EXPECT_EQ(alone.out.bytes, fed.out.bytes);
}

TEST_P(Attending, matches_a_float64_loop_at_every_length) {
  for (int64_t count : {1, 31, 32, 33, 255}) {
    const Heads heads{4, 2, 32};
    const Tokens tokens(GetParam().types.activations, heads, count, 7);
    Feeder f = feeder(2, heads);
    Fed fed(tokens, f.free_pages);
    f.feed_all(fed, 300);
    expect_close(GetParam(), fed);
    if (HasFatalFailure()) return;
  }
}

TEST_P(Attending, matches_a_float64_loop_for_every_shape_of_heads) {
  for (Heads heads : {Heads{2, 1, 64}, {1, 1, 96}, {3, 3, 128}, {2, 1, 256}, {4, 4, 8}, {6, 2, 48}, {5, 1, 34}, {2, 2, 2}, {33, 1, 16}}) {
    const Tokens tokens(GetParam().types.activations, heads, 70, 8);
    Feeder f = feeder(2, heads);
    Fed fed(tokens, f.free_pages);
    f.feed_all(fed, 40);
    expect_close(GetParam(), fed);
    if (HasFatalFailure()) return;
  }
}

TEST_P(Attending, never_lets_an_unseen_key_through_even_if_it_is_nan) {
  const Heads heads{4, 2, 48};
  const Tokens tokens(GetParam().types.activations, heads, 140, 9);
  Tokens poison(GetParam().types.activations, heads, 128 * kPageTokens, 10), ends_badly = tokens;
  for (float bad : {kNan, std::numeric_limits<float>::infinity()}) {
    for (Numbers* x : {&poison.k, &poison.v})
      for (int64_t t = 0; t < x->tokens; ++t)
        for (int64_t i = 0; i < x->width; ++i) x->set(t, 0, i, bad), x->set(t, 1, i, bad);
    for (Numbers* x : {&ends_badly.k, &ends_badly.v})
      for (int64_t t = 100; t < x->tokens; ++t) x->set(t, 0, 5, bad), x->set(t, 1, 7, -bad);
    Feeder clean = feeder(2, heads);
    Fed reference(tokens, clean.free_pages);
    clean.feed_all(reference, 50);
    for (int64_t chunk : {1, 50, 140}) {
      Feeder f = feeder(2, heads);
      const std::vector<int32_t> all = f.free_pages;
      Fed stale(poison, f.free_pages);
      f.cache().append(f.pool(), 0, std::vector{CacheSlice{0, poison.k.tokens, 0, &stale.table}}, poison.k.rows(), poison.v.rows());
      f.free_pages = all;
      Fed fed(tokens, f.free_pages);
      f.feed_all(fed, chunk);
      EXPECT_EQ(fed.out.bytes, reference.out.bytes) << "stale pages, chunks of " << chunk;
      f.free_pages = all;
      Fed bad_end(ends_badly, f.free_pages);
      f.feed_all(bad_end, chunk);
      EXPECT_EQ(std::memcmp(bad_end.out.bytes.data(), reference.out.bytes.data(), 100 * reference.out.row_bytes()), 0)
          << "later tokens, chunks of " << chunk;
      EXPECT_TRUE(std::isnan(bad_end.out.get(100, 0, 5)));
    }
  }
}

TEST_P(Attending, recomputes_and_overwrites_to_the_same_bits) {
  const Heads heads{4, 1, 64};
  const Tokens tokens(GetParam().types.activations, heads, 90, 11), other(GetParam().types.activations, heads, 90, 12);
  Feeder f = feeder(2, heads);
  Fed fed(tokens, f.free_pages), wrong = fed;
  f.feed({{&fed, 70}});
  wrong.tokens = &other, wrong.length = fed.length, wrong.table = fed.table;
  f.feed({{&wrong, 5}});  // a draft that is rejected
  f.feed_all(fed, 3);
  Feeder g = feeder(1, heads);
  Fed reference(tokens, g.free_pages);
  g.feed_all(reference, 90);
  EXPECT_EQ(fed.out.bytes, reference.out.bytes);
}

INSTANTIATE_TEST_SUITE_P(attention, AttendingInAnyWindow, testing::ValuesIn(every_case({std::nullopt, 4, 9, 512})),
                         [](const auto& c) { return case_name(c.param); });
INSTANTIATE_TEST_SUITE_P(attention, Attending, testing::ValuesIn(every_case({std::nullopt, 9})),
                         [](const auto& c) { return case_name(c.param); });

class EveryIsa : public testing::TestWithParam<Isa> {};

const AttentionKernels& kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return kAttentionAvx512;
  if (isa == Isa::avx2) return kAttentionAvx2;
#endif
  return kAttentionPlain;
}

TEST_P(EveryIsa, unpacks_every_code_under_every_exponent_exactly) {
  for (int64_t head_dim : {16, 64, 80}) {
    const auto size = static_cast<size_t>(kPageTokens * head_dim), blocks = static_cast<size_t>(head_dim / 16);
    std::vector<uint8_t> page(size + 32 * blocks);
    std::vector<uint32_t> pairs(size / 2);
    std::mt19937 random(1);
    for (int trial = 0; trial < 100; ++trial) {
      for (uint8_t& byte : page) byte = static_cast<uint8_t>(random());
      for (size_t i = size; i < page.size(); ++i) page[i] = std::max<uint8_t>(page[i], 7);
      const auto expect = [&](size_t word, size_t half, uint8_t exponent) {
        const uint8_t code = page[2 * word + half];
        const float got = std::bit_cast<float>(half ? pairs[word] & 0xFFFF0000u : pairs[word] << 16),
                    want = decode_block(kBf8, exponent, code);
        ASSERT_TRUE(std::isnan(want) ? std::isnan(got) : got == want) << int{exponent} << " " << int{code} << " " << got;
      };
      for (size_t i = 0; i < size; ++i) page[i] = page[i] & 0x7F ? page[i] : uint8_t{0};  // zeros have no sign
      kernels(GetParam()).unpack_keys(page.data(), head_dim, pairs.data(), nullptr);
      for (size_t word = 0; word < pairs.size(); ++word)
        for (size_t half : {0, 1}) expect(word, half, page[size + word / 32 / 8 * 32 + word % 32]);
      kernels(GetParam()).unpack_values(page.data(), head_dim, pairs.data(), nullptr);
      for (size_t word = 0; word < pairs.size(); ++word)
        for (size_t half : {0, 1}) {
          const size_t column = word / (16 * 64), width = std::min<size_t>(64, static_cast<size_t>(head_dim) - 64 * column),
                       in = word % (16 * 64);
          expect(word, half, page[size + column * 16 * 4 * 2 + (in / width * (width / 16) + in % width / 16) * 2 + half]);
        }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(attention, EveryIsa, testing::ValuesIn(supported_isas()),
                         [](const auto& isa) { return std::string(name(isa.param)); });

TEST(attention, refuses_what_does_not_fit) {
  Feeder f(Isa::plain, 1, kF32, {4, 2, 16}, std::nullopt);
  const Tokens tokens(kF32, {4, 2, 16}, 40, 1);
  Fed fed(tokens, f.free_pages);
  Numbers out(kF32, 40, 4, 16), narrow(kF32, 40, 4, 8), other_type(kBf16, 40, 4, 16);
  const auto attend = [&](const std::vector<CacheSlice>& slices, const Numbers& q, Numbers& to, std::optional<int64_t> window = {}) {
    f.attention().attend(f.cache(), slices, q.rows(), to.rows(), {.layer = 0, .scale = 1, .window = window});
  };
  EXPECT_NO_THROW(attend({{0, 40, 0, &fed.table}}, tokens.q, out));
  EXPECT_THROW(attend({{0, 40, 0, &fed.table}}, tokens.q, narrow), std::invalid_argument);
  EXPECT_THROW(attend({{0, 40, 0, &fed.table}}, narrow, narrow), std::invalid_argument);
  EXPECT_THROW(attend({{0, 40, 0, &fed.table}}, tokens.q, other_type), std::invalid_argument);
  EXPECT_THROW(attend({{1, 40, 0, &fed.table}}, tokens.q, out), std::invalid_argument);
  EXPECT_THROW(attend({{0, 40, 30, &fed.table}}, tokens.q, out), std::invalid_argument);
  EXPECT_THROW(attend({{0, 40, 0, &fed.table}}, tokens.q, out, 0), std::invalid_argument);
  EXPECT_THROW(f.cache().append(f.pool(), 0, std::vector{CacheSlice{0, 40, 30, &fed.table}}, tokens.k.rows(), tokens.v.rows()),
               std::invalid_argument);
  EXPECT_THROW(f.cache().append(f.pool(), 0, std::vector{CacheSlice{0, 40, 0, &fed.table}}, tokens.q.rows(), tokens.v.rows()),
               std::invalid_argument);
  fed.table.pages[0] = 128;
  EXPECT_THROW(attend({{0, 40, 0, &fed.table}}, tokens.q, out), std::invalid_argument);
  fed.table.pages[0] = 0, fed.table.first = 1;
  EXPECT_THROW(attend({{0, 8, 32, &fed.table}}, tokens.q, out), std::invalid_argument);
  EXPECT_NO_THROW(attend({{0, 8, 40, &fed.table}}, tokens.q, out, 9));
}

TEST(kv_cache, copies_pages_of_one_group_only) {
  ThreadPool pool(2);
  KvCache cache({{{1, 8, std::nullopt}, {2, 16, 64}, {1, 8, std::nullopt}}}, kBf16, std::array<int64_t, 2>{4, 3});
  PageTable table{.pages = {1}};
  for (int64_t layer : {0, 1, 2}) {
    const KvCache::Layer& shape = cache.layer(layer);
    EXPECT_EQ(shape.group, layer == 1);
    Numbers k(kBf16, 5, shape.num_kv_heads, shape.head_dim), v = k;
    k.fill(1, 0), v.fill(2, 0);
    cache.append(pool, layer, std::vector{CacheSlice{0, 5, 3, &table}}, k.rows(), v.rows());
  }
  const auto page = [&](int64_t layer, int32_t index) {
    const KvCache::Layer& shape = cache.layer(layer);
    std::vector<std::byte> bytes;
    for (int64_t head = 0; head < shape.num_kv_heads; ++head)
      for (const std::byte* part : {cache.keys(shape, index, head), cache.values(shape, index, head)})
        bytes.insert(bytes.end(), part, part + shape.part_bytes);
    return bytes;
  };
  cache.copy_page(0, 1, 2);
  EXPECT_EQ(page(0, 2), page(0, 1));
  EXPECT_EQ(page(2, 2), page(2, 1));
  EXPECT_NE(page(1, 2), page(1, 1));
  cache.copy_page(1, 1, 2);
  EXPECT_EQ(page(1, 2), page(1, 1));
  EXPECT_THROW(cache.copy_page(1, 1, 3), std::invalid_argument);
}

TEST(kv_cache, takes_address_space_for_its_pages_and_says_when_there_is_none) {
  const CacheSpec spec{{{8, 256, std::nullopt}}};
  EXPECT_NO_THROW(KvCache(spec, kBf16, std::array<int64_t, 1>{1 << 20}));  // 274 GB
  EXPECT_THROW(KvCache(spec, kBf16, std::array<int64_t, 1>{int64_t{1} << 40}), ResourceError);
  EXPECT_THROW(KvCache(spec, kBf16, std::array<int64_t, 1>{std::numeric_limits<int64_t>::max()}), ResourceError);
  EXPECT_THROW(KvCache(spec, DataType::int32, std::array<int64_t, 1>{1}), std::invalid_argument);
  EXPECT_THROW(KvCache({{{8, 255, std::nullopt}}}, kBf16, std::array<int64_t, 1>{1}), std::invalid_argument);
  EXPECT_THROW(KvCache(spec, kBf16, std::array<int64_t, 2>{1, 1}), std::invalid_argument);
}

}  // namespace
}  // namespace tessera::cpu
