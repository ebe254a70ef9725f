#include "evaluate/reference.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "core/error.h"
#include "cpu/cpu_device.h"
#include "last_logits.h"
#include "tiny_models.h"

namespace tessera {
namespace {

class ReferenceTest : public testing::Test {
 protected:
  struct Side {
    Side(const TinyCheckpoint& checkpoint, Device& device, const ModelOptions& options)
        : model(checkpoint.load(device, options)),
          cache(device, model->spec().cache, {.max_tokens = 400}),
          generator(*model, device, cache) {}
    std::unique_ptr<Model> model;
    Cache cache;
    Generator generator;
  };

  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path() const { return (folder_ / "reference.json").string(); }
  void write(const Json& json) { std::ofstream(path()) << json.dump(); }
  void expect_refused(const Json& json, const std::string& part) {
    write(json);
    try {
      read_reference(path(), 300);
      FAIL() << "was taken: " << json;
    } catch (const FileError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      EXPECT_EQ(std::string(error.what()).find(path()), 0u) << error.what();
    }
  }

  std::filesystem::path folder_ = std::filesystem::temp_directory_path() / ("tessera_reference_test_" + std::to_string(::getpid()));
  cpu::CpuDevice device_{{.threads = 2}};
};

TEST_F(ReferenceTest, holds_the_greedy_choices_and_their_log_probabilities) {
  Side side(tiny_phi3(false), device_, {});
  const Reference reference = make_reference(side.generator, random_tokens(12, 1), 20, {}, 8);
  ASSERT_EQ(reference.tokens.size(), 20u);
  const auto sequence = side.cache.create();
  sequence->tokens = random_tokens(12, 1);
  for (size_t i = 0; i < 20; ++i) {
    const std::vector<float> row = last_logits(side.generator, *sequence);
    const auto best = std::max_element(row.begin(), row.end());
    EXPECT_EQ(reference.tokens[i], best - row.begin());
    EXPECT_EQ(reference.top5[i][0], reference.tokens[i]);
    long double sum = 0;
    for (const float x : row) sum += std::exp(static_cast<long double>(x));
    ASSERT_EQ(reference.top_ids[i].size(), 8u);
    for (size_t k = 0; k < 8; ++k) {
      const float logit = row[static_cast<size_t>(reference.top_ids[i][k])];
      EXPECT_EQ(std::count_if(row.begin(), row.end(), [&](float x) { return x > logit; }), static_cast<int64_t>(k));
      EXPECT_NEAR(reference.top_log_probs[i][k], static_cast<double>(logit - std::log(sum)), 1e-12);
    }
    EXPECT_TRUE(std::equal(reference.top5[i].begin(), reference.top5[i].end(), reference.top_ids[i].begin()));
    sequence->tokens.push_back(reference.tokens[i]);
  }
}

TEST_F(ReferenceTest, ends_with_an_end_token) {
  Side side(tiny_phi3(false), device_, {});
  const Reference whole = make_reference(side.generator, random_tokens(12, 1), 6, {}, 0);
  const std::vector<TokenId> ends{299, whole.tokens[3]};
  const Reference cut = make_reference(side.generator, random_tokens(12, 1), 6, ends, 0);
  const auto first = std::find(whole.tokens.begin(), whole.tokens.end(), whole.tokens[3]);
  EXPECT_EQ(cut.tokens, std::vector(whole.tokens.begin(), first + 1));
  EXPECT_TRUE(cut.top_ids.empty());
}

TEST_F(ReferenceTest, comes_back_from_its_file_as_it_was) {
  Side side(tiny_phi3(false), device_, {});
  for (const size_t top : {0, 9}) {
    Reference made = make_reference(side.generator, random_tokens(5, 2), 7, {}, top);
    made.made_by = "a test with \"quotes\"";
    OutputFile file(path());
    write_reference(file, made);
    const Reference read = read_reference(path(), 300);
    EXPECT_EQ(read.made_by, made.made_by);
    EXPECT_EQ(read.prompt, made.prompt);
    EXPECT_EQ(read.tokens, made.tokens);
    EXPECT_EQ(read.top5, made.top5);
    EXPECT_EQ(read.top_ids, made.top_ids);
    EXPECT_EQ(read.top_log_probs, made.top_log_probs);
  }
}

TEST_F(ReferenceTest, its_own_model_agrees_with_all_of_it) {
  Side side(tiny_gemma3(), device_, {});
  const Reference reference = make_reference(side.generator, random_tokens(30, 3), 40, {}, 300);
  const ReferenceScore score = score_reference(side.generator, reference, 2);
  EXPECT_EQ(score.total, 40);
  EXPECT_EQ(score.top1, 40);
  EXPECT_EQ(score.top5, 40);
  EXPECT_EQ(score.choice_in_top5, 40);
  EXPECT_LT(score.kl.max(), 1e-12);
  double loss = 0;
  for (const auto& log_probs : reference.top_log_probs) loss -= log_probs[0];
  EXPECT_NEAR(score.loss.mean(), loss / 40, 1e-12);
  EXPECT_EQ(score.distinct, static_cast<int64_t>(std::set(reference.tokens.begin(), reference.tokens.end()).size()));
}

TEST_F(ReferenceTest, a_generation_across_longropes_boundary_is_scored_as_it_was_made) {
  Side side(tiny_phi3(true), device_, {});
  for (const size_t prompt : {size_t{40}, size_t{64}, size_t{65}, size_t{100}}) {  // the boundary is 64
    const Reference reference = make_reference(side.generator, random_tokens(prompt, 4), 40, {}, 300);
    const ReferenceScore score = score_reference(side.generator, reference, 2);
    EXPECT_EQ(score.total, 40) << prompt;
    EXPECT_EQ(score.top1, 40) << prompt;
    EXPECT_LT(score.kl.max(), 1e-12) << prompt;
  }
}

TEST_F(ReferenceTest, a_given_text_is_fed_in_one_forward_and_its_choices_judged) {
  Side side(tiny_phi3(true), device_, {});
  const std::vector<TokenId> ids = random_tokens(90, 6);  // LongRoPE's boundary is 64
  auto sequence = side.cache.create();
  sequence->tokens = {ids.begin(), ids.end() - 1};
  Generator::Request request{sequence.get(), 80};
  Reference reference{.made_by = "", .prompt = {ids.begin(), ids.begin() + 10}};
  reference.forced = {ids.begin() + 10, ids.end()};
  double loss = 0;
  side.generator.forward(std::span(&request, 1), [&](size_t, int64_t position, std::span<const float> row) {
    const auto best = static_cast<TokenId>(std::max_element(row.begin(), row.end()) - row.begin());
    reference.append(best, row, 300);
    loss += negative_log_likelihood(row, ids[static_cast<size_t>(position) + 1]);
  });
  sequence.reset();
  OutputFile file(path());
  write_reference(file, reference);
  const Reference read = read_reference(path(), 300);
  EXPECT_EQ(read.forced, reference.forced);
  ReferenceScore score = score_reference(side.generator, read, 2);
  EXPECT_EQ(score.total, 80);
  EXPECT_EQ(score.top1, 80);
  EXPECT_LT(score.kl.max(), 1e-12);
  EXPECT_NEAR(score.loss.mean(), loss / 80, 1e-9);
  const int64_t ties = score.ties;
  reference.top_log_probs[7][1] = reference.top_log_probs[7][0] - 0.0009;
  std::swap(reference.tokens[7], reference.top5[7][1]);
  score = score_reference(side.generator, reference, 2);
  EXPECT_EQ(score.top1, 79);
  EXPECT_EQ(score.ties, ties + 1);
  EXPECT_EQ(score.ties_missed, 1);
}

TEST_F(ReferenceTest, counts_choices_by_both_definitions_and_ties) {
  Side side(tiny_phi3(false), device_, {});
  Reference reference = make_reference(side.generator, random_tokens(30, 5), 10, {}, 12);
  // A reference that chose otherwise in its last place, where nothing follows: the fifth best, then the sixth, then with five strangers.
  const std::vector<TokenId> best = reference.top_ids.back();
  reference.tokens.back() = best[4];
  ReferenceScore score = score_reference(side.generator, reference, 2);
  EXPECT_EQ(score.top1, 9);
  EXPECT_EQ(score.top5, 10);
  EXPECT_EQ(score.choice_in_top5, 10);
  reference.tokens.back() = best[5];
  reference.top5.back() = {best[5], best[6], best[7], best[8], best[9]};
  reference.top_log_probs.back()[1] = reference.top_log_probs.back()[0] - 0.0009;
  score = score_reference(side.generator, reference, 2);
  EXPECT_EQ(score.top1, 9);
  EXPECT_EQ(score.top5, 9);
  EXPECT_EQ(score.choice_in_top5, 9);
  EXPECT_EQ(score.ties, 1);
}

std::vector<long double> softmax(std::span<const float> row) {
  long double sum = 0;
  for (const float x : row) sum += std::exp(static_cast<long double>(x));
  std::vector<long double> p;
  for (const float x : row) p.push_back(std::exp(static_cast<long double>(x)) / sum);
  return p;
}

TEST_F(ReferenceTest, the_divergence_takes_the_tokens_that_were_not_kept_as_one) {
  Side whole(tiny_phi3(false), device_, {}), blocks(tiny_phi3(false), device_, {.weights = DataType::bfloat4_b});
  const Reference reference = make_reference(whole.generator, random_tokens(30, 6), 1, {}, 64);
  const ReferenceScore score = score_reference(blocks.generator, reference, 2);
  const auto row_of = [&](Side& side) {
    const auto sequence = side.cache.create();
    sequence->tokens = reference.prompt;
    return softmax(last_logits(side.generator, *sequence));
  };
  const auto p = row_of(whole), q = row_of(blocks);
  long double kl = 0, p_rest = 0, q_rest = 0, full = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const auto& kept = reference.top_ids[0];
    full += p[i] * std::log(p[i] / q[i]);
    if (std::find(kept.begin(), kept.end(), static_cast<TokenId>(i)) != kept.end()) {
      kl += p[i] * std::log(p[i] / q[i]);
    } else {
      p_rest += p[i];
      q_rest += q[i];
    }
  }
  kl += p_rest * std::log(p_rest / q_rest);
  EXPECT_NEAR(score.kl.mean(), static_cast<double>(kl), 1e-12);
  EXPECT_GT(score.kl.mean(), 0);
  EXPECT_LT(score.kl.mean(), static_cast<double>(full));
}

TEST_F(ReferenceTest, of_no_tokens_scores_none) {
  Side side(tiny_phi3(false), device_, {});
  const ReferenceScore score = score_reference(side.generator, {.made_by = "", .prompt = {1, 2}}, 2);
  EXPECT_EQ(score.total, 0);
  EXPECT_EQ(score.loss.count(), 0);
}

TEST_F(ReferenceTest, files_that_are_none_are_refused_by_field) {
  const Json good{{"format", "tessera-reference-1"}, {"prompt_ids", {1, 2}}, {"reference_ids", {3}},
                  {"top5_ids", {{3, 4, 5, 6, 7}}},   {"top_ids", {{3, 4}}},  {"top_log_probs", {{-0.1, -2.5}}}};
  write(good);
  EXPECT_EQ(read_reference(path(), 300).tokens, std::vector<TokenId>{3});
  const auto with = [&](const char* field, Json value) {
    Json json = good;
    json[field] = std::move(value);
    return json;
  };
  const auto without = [&](const char* field) {
    Json json = good;
    json.erase(field);
    return json;
  };
  expect_refused(Json::array(), "format");
  expect_refused(with("format", "tessera-reference-2"), "format");
  for (const char* field : {"prompt_ids", "reference_ids", "top5_ids", "top_ids", "top_log_probs"}) {
    expect_refused(without(field), field);
    expect_refused(with(field, "text"), field);
  }
  expect_refused(with("prompt_ids", Json::array()), "prompt_ids");
  expect_refused(with("forced_ids", {1, 2}), "forced_ids");
  for (const Json& id : {Json(300), Json(-1), Json(1.0), Json("1"), Json(), Json(uint64_t{1} << 63)})
    expect_refused(with("reference_ids", Json::array({id})), "reference_ids");
  expect_refused(with("reference_ids", {3, 4}), "top5_ids");
  expect_refused(with("top5_ids", {{3, 4, 5, 6}}), "top5_ids");
  expect_refused(with("top5_ids", {3}), "top5_ids");
  expect_refused(with("top_ids", {{3, 3}}), "top_ids");
  expect_refused(with("top_ids", {{3, 4, 5}}), "top_ids");
  expect_refused(with("top_log_probs", {{-2.5, -0.1}}), "top_log_probs");
  expect_refused(with("top_log_probs", {{0.5, -0.1}}), "top_log_probs");
  expect_refused(with("top_log_probs", {{-0.1, -0.2}}), "top_log_probs");  // 0.9 + 0.8
}

}  // namespace
}  // namespace tessera
