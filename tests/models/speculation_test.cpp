// The token loop against a plain one, one token a forward from all logits: the same tokens, whatever the drafts.
#include "generate/speculation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>

#include "core/error.h"
#include "cpu/cpu_device.h"
#include "generate/random.h"
#include "last_logits.h"
#include "thinned.h"
#include "tiny_models.h"

namespace tessera {
namespace {

constexpr int64_t kMost = 24;

// Knows what comes, and is wrong at some places: of the token at position i when `wrong(i)`.
class Oracle final : public Drafter {
 public:
  Oracle(std::vector<TokenId> text, std::function<bool(size_t)> wrong) : text_(std::move(text)), wrong_(std::move(wrong)) {}
  std::vector<TokenId> draft(std::span<const TokenId> tokens, size_t, int64_t count) override {
    std::vector<TokenId> draft;
    for (size_t i = tokens.size(); i < text_.size() && count-- > 0; ++i) draft.push_back(wrong_(i) ? (text_[i] + 1) % 300 : text_[i]);
    ++calls;
    return draft;
  }
  int64_t calls = 0;

 private:
  std::vector<TokenId> text_;
  std::function<bool(size_t)> wrong_;
};

using Ends = std::vector<TokenId>;

bool never(size_t) { return false; }
bool always(size_t) { return true; }
bool sometimes(size_t i) { return uniform(5, 0, i) < 0.15; }

// A model with a cache that keeps few tokens behind a window: fewer than the longest draft.
struct Loaded {
  Loaded(const TinyCheckpoint& tiny, cpu::CpuDevice& device,
         CacheOptions options = {.max_tokens = 2000, .max_sequences = 8, .rewind_tokens = kMost, .prefix_cache = false})
      : model(tiny.load(device, {})), cache(device, model->spec().cache, options), generator(*model, device, cache) {}

  std::unique_ptr<Sequence> sequence(std::vector<TokenId> tokens) {
    auto made = cache.create();
    made->tokens = std::move(tokens);
    return made;
  }

  // Prompt and output of the loop that everyone would write.
  std::vector<TokenId> plain(const std::vector<TokenId>& prompt, int64_t count, const SamplingParams& params, const Ends& ends = {}) {
    const auto s = sequence(prompt);
    Sampler sampler(params, ends);
    while (count-- > 0) {
      const TokenId token = sampler.sample(last_logits(generator, *s), s->tokens, prompt.size());
      if (!params.ignore_eos && std::find(ends.begin(), ends.end(), token) != ends.end()) break;
      s->tokens.push_back(token);
    }
    return s->tokens;
  }

  struct Run {
    std::vector<TokenId> tokens;
    int64_t forwards = 0, drafted, accepted;
  };
  Run speculative(const std::vector<TokenId>& prompt, int64_t count, const SamplingParams& params, Drafter* drafter, int64_t most = kMost,
                  const Ends& ends = {}) {
    const auto s = sequence(prompt);
    Sampler sampler(params, ends);
    Run run;
    size_t known = prompt.size();  // tokens chosen so far included
    const auto goes_on = [&](const NewToken&) { return ++known > 0; };
    Generation generation{
        .sequence = *s, .sampler = sampler, .max_new_tokens = count, .drafter = drafter, .max_draft = most, .goes_on = goes_on};
    generate(generator, std::span(&generation, 1), [&](int64_t, int64_t total) {
      const bool anew = static_cast<int64_t>(known) == model->spec().recompute_after.value_or(-1) + 1;
      if (run.forwards++ > 0 && !anew) {
        EXPECT_EQ(total, s->tokens.size() - known + 1) << "all but the last token stay in the cache";
      }
    });
    run.tokens = s->tokens;
    run.drafted = generation.drafted;
    run.accepted = generation.accepted;
    return run;
  }

  std::unique_ptr<Model> model;
  Cache cache;
  Generator generator;
};

const SamplingParams kGreedy{.temperature = 0};

class SpeculationTest : public testing::Test {
 protected:
  void expect_same_tokens(Loaded& loaded, size_t prompt_tokens, int64_t count, const SamplingParams& params, const Ends& ends = {}) {
    const std::vector<TokenId> prompt = random_tokens(prompt_tokens, 1), expected = loaded.plain(prompt, count, params, ends);
    PromptLookup lookup;
    Oracle right(expected, never), wrong(expected, always), mixed(expected, sometimes);
    for (Drafter* drafter : std::initializer_list<Drafter*>{nullptr, &lookup, &right, &wrong, &mixed})
      EXPECT_EQ(loaded.speculative(prompt, count, params, drafter, kMost, ends).tokens, expected);
    EXPECT_LT(loaded.speculative(prompt, count, params, &mixed, kMost, ends).forwards,
              static_cast<int64_t>(expected.size() - prompt_tokens));
  }

  cpu::CpuDevice device_{{.threads = 2}};
};

TEST_F(SpeculationTest, any_drafts_give_the_tokens_of_the_plain_loop) {
  Loaded phi(tiny_phi3(false), device_);
  expect_same_tokens(phi, 40, 120, kGreedy);
}

TEST_F(SpeculationTest, drafts_that_fail_go_back_over_pages_of_a_window_of_4) {
  Loaded gemma(tiny_gemma3(4), device_, {.max_tokens = 2000, .max_sequences = 8, .rewind_tokens = 40, .prefix_cache = false});
  const std::vector<TokenId> prompt = random_tokens(75, 1), expected = gemma.plain(prompt, 140, kGreedy);
  Oracle once_a_page(expected, [](size_t i) { return i % 33 == 0; });  // drafts of up to 40 tokens, pages of 32
  const Loaded::Run run = gemma.speculative(prompt, 140, kGreedy, &once_a_page, 40);
  EXPECT_EQ(run.tokens, expected);
  EXPECT_LT(run.accepted, run.drafted);
  Loaded forgetful(tiny_gemma3(4), device_, {.max_tokens = 2000, .max_sequences = 8, .rewind_tokens = 5, .prefix_cache = false});
  Oracle before_a_page_ends(expected, [](size_t i) { return i == 121; });
  EXPECT_EQ(forgetful.speculative(prompt, 140, kGreedy, &before_a_page_ends, 40).tokens, expected);
  expect_same_tokens(gemma, 3, 100, kGreedy);
}

TEST_F(SpeculationTest, drafts_stop_where_longrope_changes_its_factors) {
  Loaded phi(tiny_phi3(true), device_);  // after 64 tokens
  for (const size_t prompt : {40, 62, 63, 64, 65}) expect_same_tokens(phi, prompt, 50, kGreedy);
}

TEST_F(SpeculationTest, penalties_biases_and_end_tokens_count_as_in_the_plain_loop) {
  Loaded phi(tiny_phi3(false), device_);
  const std::vector<SamplingParams> all{
      {.temperature = 0, .repetition_penalty = 1.5},
      {.temperature = 0, .presence_penalty = 1.0, .frequency_penalty = 0.7},
      {.temperature = 0, .repetition_penalty = 0.8, .logit_bias = {{7, 30.0}}, .min_new_tokens = 20},
      {.temperature = 0, .logit_bias = {{8, 30.0}}, .ignore_eos = true},
  };
  for (const SamplingParams& params : all) expect_same_tokens(phi, 20, 40, params, {7, 8});
  EXPECT_EQ(phi.plain(random_tokens(20, 1), 40, all[2], {7, 8}).size(), 40u) << "an end token comes as soon as it may";
  EXPECT_EQ(phi.plain(random_tokens(20, 1), 40, all[3], {7, 8}).size(), 60u);
}

TEST_F(SpeculationTest, an_answer_ends_inside_a_draft_where_it_ends_without) {
  Loaded gemma(tiny_gemma3(4), device_);
  const std::vector<TokenId> prompt = random_tokens(30, 1), expected = gemma.plain(prompt, 60, kGreedy);
  for (const size_t place : {30, 31, 33, 40, 57}) {
    const TokenId last = expected[place];
    const auto first = std::find(expected.begin() + 30, expected.end(), last);
    for (const bool is_end : {false, true}) {  // an end token, which is not kept, or the last one that is wanted
      const auto s = gemma.sequence(prompt);
      Oracle oracle(expected, never);
      Sampler sampler(kGreedy, is_end ? Ends{last} : Ends{});
      std::vector<TokenId> seen;
      const auto goes_on = [&](const NewToken& token) {
        seen.push_back(token.id);
        EXPECT_EQ(token.end, is_end && token.id == last);
        const std::span<const float> logits = token.row;
        EXPECT_EQ(std::max_element(logits.begin(), logits.end()) - logits.begin(), token.id);
        return is_end || token.id != last;
      };
      Generation generation{
          .sequence = *s, .sampler = sampler, .max_new_tokens = 60, .drafter = &oracle, .max_draft = kMost, .goes_on = goes_on};
      generate(gemma.generator, std::span(&generation, 1));
      EXPECT_EQ(seen, std::vector(expected.begin() + 30, first + 1));
      EXPECT_EQ(s->tokens, std::vector(expected.begin(), first + !is_end));
      Sampler further(kGreedy, {});
      Generation rest{.sequence = *s, .sampler = further, .max_new_tokens = 5};
      generate(gemma.generator, std::span(&rest, 1));
      EXPECT_TRUE(std::equal(s->tokens.end() - 5, s->tokens.end(), first + !is_end)) << "the cache is of these tokens";
    }
  }
}

TEST_F(SpeculationTest, a_limit_of_0_computes_the_tokens_and_chooses_none) {
  Loaded phi(tiny_phi3(false), device_);
  const auto s = phi.sequence(random_tokens(30, 1));
  Sampler sampler(kGreedy, {});
  Generation generation{.sequence = *s, .sampler = sampler, .max_new_tokens = 0, .goes_on = [](const NewToken&) -> bool {
                          throw std::logic_error("a token was chosen");
                        }};
  generate(phi.generator, std::span(&generation, 1));
  EXPECT_EQ(s->length(), 30);
  EXPECT_EQ(s->tokens, random_tokens(30, 1));
}

TEST_F(SpeculationTest, sampled_tokens_are_those_of_the_plain_loop_with_the_same_seed) {
  Loaded gemma(tiny_gemma3(4), device_);
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    expect_same_tokens(gemma, 30, 60, {.temperature = 0.9, .top_k = 50, .seed = seed});
    expect_same_tokens(gemma, 30, 60, {.temperature = 1.5, .top_p = 0.9, .min_p = 0.01, .repetition_penalty = 1.2, .seed = seed});
  }
}

TEST_F(SpeculationTest, sequences_that_share_their_forwards_do_not_notice) {
  Loaded gemma(tiny_gemma3(4), device_);
  struct One {
    std::vector<TokenId> expected;
    std::unique_ptr<Sequence> sequence;
    std::unique_ptr<Oracle> oracle;
  };
  Sampler sampler(kGreedy, {});
  std::vector<One> all;
  std::vector<Generation> generations;
  for (uint32_t i = 0; i < 4; ++i) {
    const std::vector<TokenId> prompt = random_tokens(5 + 20 * i, i);
    const int64_t count = 60 - 5 * i;
    One& one = all.emplace_back(One{gemma.plain(prompt, count, kGreedy), gemma.sequence(prompt), nullptr});
    one.oracle = std::make_unique<Oracle>(one.expected, [i](size_t position) { return uniform(i, 0, position) < 0.1 * i; });
    generations.push_back({.sequence = *one.sequence,
                           .sampler = sampler,
                           .max_new_tokens = count,
                           .drafter = i < 3 ? one.oracle.get() : nullptr,
                           .max_draft = 8});
  }
  generate(gemma.generator, generations);
  for (const One& one : all) EXPECT_EQ(one.sequence->tokens, one.expected);
}

TEST_F(SpeculationTest, sequences_without_drafts_are_chosen_for_from_their_own_rows) {
  Loaded phi(tiny_phi3(false), device_);
  for (const SamplingParams& params : {kGreedy, SamplingParams{.temperature = 1.3, .top_k = 5, .seed = 2}}) {
    Sampler sampler(params, {});
    std::vector<std::unique_ptr<Sequence>> sequences;
    std::vector<Generation> generations;
    for (uint32_t i = 0; i < 3; ++i)
      generations.push_back(
          {.sequence = *sequences.emplace_back(phi.sequence(random_tokens(9 + i, i))), .sampler = sampler, .max_new_tokens = 20});
    generate(phi.generator, generations);
    for (uint32_t i = 0; i < 3; ++i) EXPECT_EQ(sequences[i]->tokens, phi.plain(random_tokens(9 + i, i), 20, params));
  }
}

TEST_F(SpeculationTest, a_draft_model_helps_as_far_as_it_agrees) {
  Loaded target(tiny_phi3(false), device_), same(tiny_phi3(false), device_), other(tiny_gemma3(4), device_), rope(tiny_phi3(true), device_);
  for (const SamplingParams& params : {kGreedy, SamplingParams{.temperature = 1.0, .top_p = 0.95, .repetition_penalty = 1.1, .seed = 3}}) {
    const std::vector<TokenId> prompt = random_tokens(30, 2), expected = target.plain(prompt, 80, params);
    const auto run = [&](Loaded& helper) {
      DraftModel drafter(helper.generator, Sampler(params, {}), 300);
      return target.speculative(prompt, 80, params, &drafter, 8);
    };
    const Loaded::Run twin = run(same), stranger = run(other), crossing = run(rope);
    EXPECT_EQ(twin.tokens, expected);
    EXPECT_EQ(twin.accepted, twin.drafted);
    EXPECT_LT(twin.forwards, 15);
    EXPECT_EQ(stranger.tokens, expected);
    EXPECT_EQ(crossing.tokens, expected);
    EXPECT_GT(crossing.drafted, 0);
  }
}

TEST_F(SpeculationTest, a_draft_model_with_fewer_tokens_or_a_shorter_context_is_asked_no_more_than_it_knows) {
  Loaded target(tiny_phi3(false), device_),
      short_one(tiny_phi3(false), device_, {.max_tokens = 50, .max_sequences = 1, .prefix_cache = false});
  const std::vector<TokenId> prompt = random_tokens(30, 2);
  DraftModel drafter(short_one.generator, Sampler(kGreedy, {}), 300);
  EXPECT_EQ(target.speculative(prompt, 60, kGreedy, &drafter).tokens, target.plain(prompt, 60, kGreedy));
  DraftModel larger(target.generator, Sampler({.temperature = 0, .logit_bias = {{299, 100.0}}}, {}), 400);  // of the model that is helped
  EXPECT_EQ(larger.draft(prompt, 30, 3).size(), 3u);
  std::vector<TokenId> unknown = prompt;
  unknown.push_back(301);
  EXPECT_TRUE(larger.draft(unknown, 30, 3).empty());
  DraftModel smaller(target.generator, Sampler(kGreedy, {}), 100);
  for (const TokenId token : smaller.draft(prompt, 30, 10)) EXPECT_LT(token, 100);
}

TEST_F(SpeculationTest, drafts_grow_while_they_come_true_and_rest_while_none_does) {
  Loaded phi(tiny_phi3(false), device_);
  const std::vector<TokenId> prompt = random_tokens(10, 1), expected = phi.plain(prompt, 200, kGreedy);
  Oracle right(expected, never), wrong(expected, always);
  const Loaded::Run good = phi.speculative(prompt, 200, kGreedy, &right), bad = phi.speculative(prompt, 200, kGreedy, &wrong);
  EXPECT_EQ(good.accepted, good.drafted);
  EXPECT_LE(good.forwards, 12);  // 5 + 9 + 17 tokens, then 25 a forward
  EXPECT_EQ(bad.forwards, 200);
  EXPECT_EQ(bad.accepted, 0);
  EXPECT_LE(bad.drafted, 40);
  EXPECT_LE(wrong.calls, 35);
}

TEST_F(SpeculationTest, an_error_leaves_the_sequence_with_right_tokens) {
  Loaded phi(tiny_phi3(false), device_, {.max_tokens = 64, .max_sequences = 2, .prefix_cache = false});
  const std::vector<TokenId> prompt = random_tokens(30, 1), expected = phi.plain(prompt, 60, kGreedy);
  const auto neighbour = phi.sequence(random_tokens(60, 2));
  last_logits(phi.generator, *neighbour);  // two of the four pages
  const auto s = phi.sequence(prompt);
  Sampler sampler(kGreedy, {});
  Oracle oracle(expected, never);
  Generation generation{.sequence = *s, .sampler = sampler, .max_new_tokens = 100, .drafter = &oracle, .max_draft = 40};
  EXPECT_THROW(generate(phi.generator, std::span(&generation, 1)), ResourceError);
  EXPECT_TRUE(std::equal(s->tokens.begin(), s->tokens.end(), expected.begin()));
}

TEST(PromptLookupTest, gives_what_followed_the_longest_match_that_stands_last) {
  PromptLookup lookup;
  const auto draft = [&](const std::vector<TokenId>& tokens, int64_t count) { return lookup.draft(tokens, tokens.size(), count); };
  using Tokens = std::vector<TokenId>;
  EXPECT_EQ(draft({1, 2, 3, 4, 5, 2, 3}, 2), (Tokens{4, 5}));
  EXPECT_EQ(draft({1, 2, 3, 9, 2, 8, 1, 2}, 1), (Tokens{3}));  // two tokens match there, one where 8 followed
  EXPECT_EQ(draft({1, 2, 7, 1, 2, 8, 1, 2}, 1), (Tokens{8}));
  EXPECT_EQ(draft({5, 6, 5, 6, 5}, 6), (Tokens{6, 5, 6, 5, 6, 5}));  // goes on in what it has drafted
  EXPECT_TRUE(draft({1, 2, 3}, 4).empty());
  EXPECT_TRUE(draft({1}, 4).empty());
  EXPECT_TRUE(draft({}, 4).empty());
}

// Pairs of sampled tokens against the exact joint probabilities, which come from the sampler's candidates row by row.
TEST_F(SpeculationTest, sampled_tokens_are_distributed_as_the_model_says_whatever_drafts) {
  Loaded target(tiny_phi3(false), device_), helper(tiny_phi3(true), device_);
  const std::vector<TokenId> prompt = random_tokens(20, 4);
  const SamplingParams params{.temperature = 1.3, .top_k = 5};
  std::map<std::vector<TokenId>, double> exact;
  const auto sequence = target.sequence(prompt);
  Sampler exact_sampler(params, {});
  for (const TokenProbability& first :
       exact_sampler.candidates(last_logits(target.generator, *sequence), sequence->tokens, prompt.size())) {
    sequence->tokens.push_back(first.token);
    for (const TokenProbability& second :
         exact_sampler.candidates(last_logits(target.generator, *sequence), sequence->tokens, prompt.size()))
      exact[{first.token, second.token}] = first.probability * second.probability;
    target.cache.truncate(*sequence, static_cast<int64_t>(prompt.size()));
  }
  ASSERT_EQ(exact.size(), 25u);
  constexpr int kRuns = kSanitizerBuild ? 300 : 1500;
  std::vector<TokenId> guess = prompt;
  guess.push_back(exact.begin()->first[0]);
  for (const bool model : {false, true}) {
    std::map<std::vector<TokenId>, int> seen;
    for (uint64_t seed = 0; seed < kRuns; ++seed) {
      SamplingParams seeded = params;
      seeded.seed = seed;
      Sampler sampler(seeded, {});
      DraftModel draft(helper.generator, sampler, 300);
      Oracle fixed(guess, never);
      const auto s = target.cache.fork(*sequence);
      Generation generation{.sequence = *s,
                            .sampler = sampler,
                            .max_new_tokens = 2,
                            .drafter = model ? static_cast<Drafter*>(&draft) : &fixed,
                            .max_draft = 2};
      generate(target.generator, std::span(&generation, 1));
      ++seen[{s->tokens.end() - 2, s->tokens.end()}];
    }
    double chi_square = 0;
    int counted = 0;
    for (const auto& [tokens, probability] : exact) {
      const double expected = probability * kRuns;
      chi_square += (seen[tokens] - expected) * (seen[tokens] - expected) / expected;
      counted += seen[tokens];
    }
    EXPECT_EQ(counted, kRuns);
    EXPECT_LT(chi_square, 51.2) << "24 degrees of freedom: 0.1 % of right samplers are above";
  }
}

}  // namespace
}  // namespace tessera
