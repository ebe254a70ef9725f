// What comes from pages that were found again equals, bit for bit, what a cache that finds nothing gives.
#include <gtest/gtest.h>

#include "cpu/cpu_device.h"
#include "generate/generation.h"
#include "generate/speculation.h"
#include "tiny_models.h"

namespace tessera {
namespace {

constexpr int64_t kPage = 32;

struct Loaded {
  Loaded(const TinyCheckpoint& tiny, cpu::CpuDevice& device)
      : model(tiny.load(device, {})),
        cache(device, model->spec().cache, options(true)),
        cold(device, model->spec().cache, options(false)),
        generator(*model, device, cache),
        cold_generator(*model, device, cold) {}
  static CacheOptions options(bool prefix_cache) { return {.max_tokens = 2000, .max_sequences = 6, .prefix_cache = prefix_cache}; }

  // All logits behind `first`, and how many tokens were computed for them.
  static std::pair<std::vector<float>, int64_t> rows(Generator& generator, const std::vector<TokenId>& tokens, size_t first,
                                                     const std::string& salt = {}) {
    const auto sequence = generator.cache().create(salt);
    sequence->tokens = tokens;
    std::vector<float> all;
    int64_t computed = 0;
    Generator::Request request{sequence.get(), static_cast<int64_t>(tokens.size() - first)};
    generator.forward(
        std::span(&request, 1), [&](size_t, int64_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); },
        [&](int64_t, int64_t total) { computed = total; });
    if (request.error) std::rethrow_exception(request.error);
    return {all, computed};
  }

  std::vector<TokenId> generated(Generator& g, const std::vector<TokenId>& prompt, int64_t count, Drafter* drafter) {
    const auto sequence = g.cache().create();
    sequence->tokens = prompt;
    const Sampler greedy({.temperature = 0}, {});
    Generation generation{.sequence = *sequence, .sampler = greedy, .max_new_tokens = count, .drafter = drafter, .max_draft = 40};
    generate(g, std::span(&generation, 1));
    return sequence->tokens;
  }

  std::unique_ptr<Model> model;
  Cache cache, cold;
  Generator generator, cold_generator;
};

std::vector<TokenId> joined(std::vector<TokenId> tokens, size_t first, const std::vector<TokenId>& rest) {
  tokens.resize(first);
  tokens.insert(tokens.end(), rest.begin(), rest.end());
  return tokens;
}

class PrefixCache : public testing::Test {
 protected:
  // Texts that share so many tokens with one that was computed and is gone.
  void expect_the_rows_of_a_cold_run(Loaded& loaded, const std::vector<TokenId>& text, std::initializer_list<size_t> shared, int64_t hit) {
    Loaded::rows(loaded.generator, text, text.size() - 1);
    for (const size_t same : shared) {
      const std::vector<TokenId> other = joined(text, same, random_tokens(40, static_cast<uint32_t>(same)));
      const auto [warm, computed] = Loaded::rows(loaded.generator, other, same);
      const auto [cold, all] = Loaded::rows(loaded.cold_generator, other, same);
      EXPECT_EQ(warm, cold) << same << " tokens are shared";
      EXPECT_EQ(all, static_cast<int64_t>(other.size()));
      const int64_t found = std::min(static_cast<int64_t>(same) / kPage * kPage, hit);
      EXPECT_EQ(computed, all - found) << same << " tokens are shared";
    }
  }

  cpu::CpuDevice device_{{.threads = 2}};
};

constexpr int64_t kAny = 1 << 20;

TEST_F(PrefixCache, a_text_on_a_found_prefix_has_the_bits_of_a_cold_run) {
  Loaded phi(tiny_phi3(false), device_);
  expect_the_rows_of_a_cold_run(phi, random_tokens(200, 1), {200, 199, 192, 191, 97, 64, 33, 31}, kAny);
}

TEST_F(PrefixCache, windows_have_the_bits_of_a_cold_run) {
  Loaded wide(tiny_gemma3(512), device_), narrow(tiny_gemma3(4), device_);
  expect_the_rows_of_a_cold_run(wide, random_tokens(700, 2), {700, 690, 650, 320, 40}, kAny);
  expect_the_rows_of_a_cold_run(narrow, random_tokens(300, 3), {300, 289, 270, 130, 40}, kAny);
}

TEST_F(PrefixCache, the_same_text_again_computes_its_last_page_and_at_least_its_last_token) {
  Loaded phi(tiny_phi3(false), device_);
  for (const size_t length : {96, 97, 127}) {
    const std::vector<TokenId> text = random_tokens(length, static_cast<uint32_t>(length));
    const auto [cold, all] = Loaded::rows(phi.generator, text, length - 1);
    const auto [warm, computed] = Loaded::rows(phi.generator, text, length - 1);
    EXPECT_EQ(all, static_cast<int64_t>(length));
    EXPECT_EQ(computed, static_cast<int64_t>(length) - (static_cast<int64_t>(length) - 1) / kPage * kPage);
    EXPECT_EQ(warm, cold);
    EXPECT_EQ(Loaded::rows(phi.generator, text, 0).second, static_cast<int64_t>(length)) << "all rows are wanted";
  }
}

TEST_F(PrefixCache, the_sets_of_longrope_do_not_mix) {
  Loaded phi(tiny_phi3(true), device_);  // changes behind 64 tokens
  const std::vector<TokenId> text = random_tokens(100, 4), brief = joined(text, 60, {});
  Loaded::rows(phi.generator, text, 99);
  EXPECT_EQ(Loaded::rows(phi.generator, brief, 59), Loaded::rows(phi.cold_generator, brief, 59)) << "nothing is found";
  const auto [warm, computed] = Loaded::rows(phi.generator, joined(text, 64, random_tokens(20, 5)), 64);
  EXPECT_EQ(computed, 20);
  EXPECT_EQ(warm, Loaded::rows(phi.cold_generator, joined(text, 64, random_tokens(20, 5)), 64).first);
  // One that grows past the boundary goes on from the long text's pages.
  const std::vector<TokenId> grown = phi.generated(phi.generator, joined(text, 63, {}), 10, nullptr);
  EXPECT_EQ(grown, phi.generated(phi.cold_generator, joined(text, 63, {}), 10, nullptr));
}

TEST_F(PrefixCache, salts_do_not_mix) {
  Loaded phi(tiny_phi3(false), device_);
  const std::vector<TokenId> text = random_tokens(100, 6);
  EXPECT_EQ(Loaded::rows(phi.generator, text, 99, "a").second, 100);
  EXPECT_EQ(Loaded::rows(phi.generator, text, 99, "b").second, 100);
  EXPECT_EQ(Loaded::rows(phi.generator, text, 99).second, 100);
  EXPECT_EQ(Loaded::rows(phi.generator, text, 99, "a").second, 4);
}

// Wrong from a page's beginning on, so that whole pages of drafts are forwarded and taken back.
class Wrong final : public Drafter {
 public:
  std::vector<TokenId> draft(std::span<const TokenId> tokens, size_t, int64_t count) override {
    std::vector<TokenId> draft(static_cast<size_t>(count), 7);
    for (size_t i = 0; i < draft.size(); ++i) draft[i] = static_cast<TokenId>((tokens.size() + i) % 5 + 1);
    drafts.push_back({tokens.begin(), tokens.end()});
    drafts.back().insert(drafts.back().end(), draft.begin(), draft.end());
    return draft;
  }
  std::vector<std::vector<TokenId>> drafts;
};

TEST_F(PrefixCache, what_is_drafted_and_taken_back_is_not_found_and_what_comes_instead_is) {
  for (const TinyCheckpoint& tiny : {tiny_gemma3(4), tiny_gemma3(512), tiny_phi3(false)}) {
    Loaded loaded(tiny, device_);
    const std::vector<TokenId> prompt = random_tokens(61, 7), expected = loaded.generated(loaded.cold_generator, prompt, 150, nullptr);
    Wrong wrong;
    PromptLookup lookup;
    EXPECT_EQ(loaded.generated(loaded.generator, prompt, 150, &wrong), expected);
    for (const std::vector<TokenId>& draft : wrong.drafts)
      EXPECT_LE(loaded.cache.cached(draft, "", 0, kAny).tokens, std::ranges::mismatch(draft, expected).in1 - draft.begin());
    for (const size_t same : {211, 140, 100, 70}) {
      const std::vector<TokenId> next = joined(expected, same, random_tokens(10, static_cast<uint32_t>(same)));
      EXPECT_EQ(loaded.generated(loaded.generator, next, 60, &lookup), loaded.generated(loaded.cold_generator, next, 60, nullptr));
    }
  }
}

}  // namespace
}  // namespace tessera
