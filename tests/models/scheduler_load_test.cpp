// One answer under load: what each request of a script is given beside all others is, bit for bit, what it is given alone.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

#include "core/error.h"
#include "cpu/cpu_device.h"
#include "last_logits.h"
#include "request_script.h"
#include "thinned.h"
#include "tiny_models.h"

namespace tessera {
namespace {

constexpr int64_t kBoundary = 64;  // of tiny_phi3

// Its answers come of its attention: as it is, it gives the last token again and again.
TinyCheckpoint attentive_gemma3(int64_t window) {
  TinyCheckpoint checkpoint = tiny_gemma3(window);
  for (const char* layer : {"0", "1", "2"}) checkpoint.scale(message("model.layers.", layer, ".post_attention_layernorm.weight"), 32);
  return checkpoint;
}

// A text's logits by a sequence of its own, in a cache where nothing is found again. A text that goes on is not computed again.
class Lone {
 public:
  explicit Lone(const TinyCheckpoint& checkpoint)
      : model_(checkpoint.load(device_, {})),
        cache_(device_, model_->spec().cache, {.max_tokens = 2000, .prefix_cache = false}),
        generator_(*model_, device_, cache_) {}

  std::vector<std::vector<float>> rows(std::span<const TokenId> text, size_t count) {
    const bool goes_on = sequence_ && count == 1 && sequence_->tokens.size() < text.size() &&
                         std::equal(sequence_->tokens.begin(), sequence_->tokens.end(), text.begin());
    if (!goes_on) {
      sequence_.reset();
      sequence_ = cache_.create();
    }
    sequence_->tokens.assign(text.begin(), text.end());
    std::vector<std::vector<float>> found;
    Generator::Request request{.sequence = sequence_.get(), .logit_rows = static_cast<int64_t>(count)};
    generator_.forward(std::span(&request, 1),
                       [&](size_t, int64_t, std::span<const float> row) { found.emplace_back(row.begin(), row.end()); });
    EXPECT_EQ(request.error, nullptr);
    return found;
  }

 private:
  cpu::CpuDevice device_{{.threads = 1}};
  std::unique_ptr<Model> model_;
  Cache cache_;
  Generator generator_;
  std::unique_ptr<Sequence> sequence_;
};

struct Setting {
  int64_t budget;
  bool few_pages, prefix_cache;
  int threads;
};

// All with TESSERA_WHOLE_MATRIX set (make check), which takes minutes; else every 7th, in sanitizer builds every 23rd, from `first` on.
// Both have no factor in common with the sizes of what is multiplied.
std::vector<Setting> settings(size_t first) {
  std::vector<Setting> all;
  for (const int64_t budget : {1, 7, 32, 512})
    for (const bool few_pages : {false, true})
      for (const bool prefix_cache : {false, true})
        for (const int threads : {1, 2, 4}) all.push_back({budget, few_pages, prefix_cache, threads});
  if (std::getenv("TESSERA_WHOLE_MATRIX")) return all;
  std::vector<Setting> kept;
  for (size_t i = first; i < all.size(); i += kSanitizerBuild ? 23 : 7) kept.push_back(all[i]);
  return kept;
}

// How often there happened what is to make no difference.
struct Happened {
  int64_t preempted = 0, cached = 0, forked = 0, crossed = 0, accepted = 0, rejected = 0, waited = 0;
  int64_t cancelled_early = 0, cancelled_late = 0;  // before its first token, and behind some
};

void expect_all_happened(const Happened& happened, bool boundary) {
  EXPECT_GT(happened.preempted, 0);
  EXPECT_GT(happened.cached, 0);
  EXPECT_GT(happened.forked, 0);
  EXPECT_EQ(happened.crossed > 0, boundary);
  EXPECT_GT(happened.accepted, 0);
  EXPECT_GT(happened.rejected, 0);
  EXPECT_GT(happened.waited, 0);
  EXPECT_GT(happened.cancelled_early, 0);
  EXPECT_GT(happened.cancelled_late, 0);
}

Happened expect_one_answer_under_load(const TinyCheckpoint& checkpoint, const ScriptOptions& options, std::optional<int64_t> boundary,
                                      size_t first) {
  const std::vector<Scripted> script = make_script(options);
  Lone lone(checkpoint);
  std::vector<std::vector<Given>> alone;
  for (const Scripted& one : script)
    alone.push_back(run_alone(one, [&](std::span<const TokenId> text, size_t count) { return lone.rows(text, count); }));
  Happened happened;
  const auto longest = static_cast<int64_t>(options.stem + options.tail + 6 + options.most_new);
  for (const Setting& setting : settings(first)) {
    SCOPED_TRACE(message("budget ", setting.budget, setting.few_pages ? ", few pages" : "", setting.prefix_cache ? ", prefix cache" : "",
                         ", ", setting.threads, " threads"));
    cpu::CpuDevice device({.threads = setting.threads});
    const auto model = checkpoint.load(device, {});
    Cache cache(device, model->spec().cache,
                {.max_tokens = setting.few_pages ? longest : 12 * longest, .max_sequences = 12, .prefix_cache = setting.prefix_cache});
    Generator generator(*model, device, cache);
    Scheduler scheduler(generator, {.budget = setting.budget});
    int64_t waited = 0;
    const auto given = run_script(scheduler, script, [&](int64_t) { waited += scheduler.counts().waiting; });
    expect_as_alone(script, given, alone);
    expect_nothing_left(scheduler, cache);
    const Scheduler::Counts counts = scheduler.counts();
    EXPECT_EQ(counts.cached > 0, setting.prefix_cache);
    happened.preempted += counts.preempted;
    happened.cached += counts.cached;
    happened.waited += waited;
    for (size_t i = 0; i < script.size(); ++i)
      for (const Given& one : given[i]) {
        const auto prompt = std::ssize(script[i].request.prompt);
        happened.forked += one.end->sample > 0 && one.end->cached_tokens == prompt;
        happened.crossed += boundary && prompt <= *boundary && prompt + one.end->new_tokens > *boundary + 1;
        happened.accepted += one.end->accepted;
        happened.rejected += one.end->drafted - one.end->accepted;
        if (one.end->reason == FinishReason::cancelled) ++(one.ids.empty() ? happened.cancelled_early : happened.cancelled_late);
      }
  }
  if (!kSanitizerBuild) expect_all_happened(happened, boundary.has_value());  // there are too few requests there
  std::cout << "preempted " << happened.preempted << ", tokens found again " << happened.cached << ", forked " << happened.forked
            << ", crossed LongRoPE's boundary " << happened.crossed << ", drafted tokens that came true " << happened.accepted
            << " and that did not " << happened.rejected << ", cancelled before a token " << happened.cancelled_early << " and behind some "
            << happened.cancelled_late << "\n";
  return happened;
}

ScriptOptions script_options(uint32_t seed, size_t stem, size_t tail, size_t most_new) {
  return {.requests = kSanitizerBuild ? 60u : 200u, .seed = seed, .vocab = 300, .stem = stem, .tail = tail, .most_new = most_new};
}

TEST(scheduler_under_load, gemma3_with_a_window_of_4) {
  expect_one_answer_under_load(attentive_gemma3(4), script_options(1, 50, 20, 60), {}, 0);
}

TEST(scheduler_under_load, gemma3_with_a_window_of_512_and_prompts_around_it) {
  ScriptOptions options = script_options(2, 500, 40, 40);
  options.requests = kSanitizerBuild ? 12 : 60;
  expect_one_answer_under_load(attentive_gemma3(512), options, {}, 1);
}

TEST(scheduler_under_load, phi3_across_the_boundary_of_longrope) {
  expect_one_answer_under_load(tiny_phi3(true), script_options(3, 40, 16, 60), kBoundary, 2);
}

}  // namespace
}  // namespace tessera
