#include "evaluate/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>

#include "core/error.h"
#include "cpu/cpu_device.h"
#include "evaluate/observations.h"
#include "last_logits.h"
#include "tiny_models.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr ModelOptions kFloat32{.weights = DataType::float32, .activations = DataType::float32, .cache = DataType::float32};

// A loaded model with a device and a cache of its own.
struct Loaded {
  explicit Loaded(const TinyCheckpoint& tiny, const ModelOptions& options = kFloat32, int64_t chunk = 16)
      : model(tiny.load(device, options)),
        cache(device, model->spec().cache, {.dtype = options.cache, .max_tokens = 256, .max_sequences = 1}),
        generator(*model, device, cache, chunk) {}

  cpu::CpuDevice device{{.threads = 2}};
  std::unique_ptr<Model> model;
  Cache cache;
  Generator generator;
};

std::vector<std::string> names(const Comparison& comparison, std::optional<int64_t> layer) {
  std::vector<std::string> all;
  for (const OpComparison& op : comparison.ops)
    if (op.layer == layer) all.push_back(op.name);
  return all;
}

const OpComparison& op_named(const Comparison& comparison, const std::string& name) {
  for (const OpComparison& op : comparison.ops)
    if (op.name == name) return op;
  throw std::out_of_range(name);
}

// All rows of each op, from the device itself.
std::map<std::string, std::vector<float>> rows_of(Loaded& loaded, const std::vector<TokenId>& tokens) {
  std::map<std::string, std::vector<float>> all;
  Observations observations;
  const Observing observing(loaded.device, observations);
  const auto sequence = loaded.cache.create();
  sequence->tokens = tokens;
  Generator::Request request{sequence.get(), static_cast<int64_t>(tokens.size())};
  loaded.generator.begin(std::span(&request, 1));
  while (loaded.generator.step(std::span(&request, 1)))
    for (const Observation& seen : observations.all()) {
      std::vector<float> piece(static_cast<size_t>(volume(seen.output.shape())));
      loaded.device.read(seen.output, piece);
      all[seen.name].insert(all[seen.name].end(), piece.begin(), piece.end());
    }
  return all;
}

std::string write_recording(const std::string& name, const std::map<std::string, std::vector<float>>& rows,
                            const std::vector<int64_t>& ids) {
  const std::string path = testing::TempDir() + "/comparison_test_" + name + ".safetensors";
  Json header;
  std::string data(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int64_t));
  header["input_ids"] = {{"dtype", "I64"}, {"shape", {ids.size()}}, {"data_offsets", {0, data.size()}}};
  for (const auto& [op, values] : rows) {
    const size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    const size_t tokens = values.size() % ids.size() == 0 ? ids.size() : 1;
    header[op] = {{"dtype", "F32"}, {"shape", {tokens, values.size() / tokens}}, {"data_offsets", {begin, data.size()}}};
  }
  const std::string text = header.dump();
  const uint64_t length = text.size();
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(&length), sizeof length) << text << data;
  return path;
}

TEST(Comparison, ops_are_named_by_their_weights_in_the_order_of_the_forward) {
  Loaded gemma(tiny_gemma3()), gemma_again(tiny_gemma3());
  const Comparison gemma_ops = compare_forwards(gemma.generator, gemma_again.generator, random_tokens(5, 1));
  EXPECT_THAT(names(gemma_ops, {}), ElementsAre("embed_tokens", "mul", "select_rows", "norm", "lm_head"));
  const std::string at = "layers.1.";
  EXPECT_THAT(names(gemma_ops, 1),
              ElementsAre(at + "input_layernorm", at + "self_attn.qkv_proj", at + "nlp_create_qkv_heads.q", at + "nlp_create_qkv_heads.k",
                          at + "nlp_create_qkv_heads.v", at + "self_attn.q_norm", at + "rotary_embedding.q", at + "self_attn.k_norm",
                          at + "rotary_embedding.k", at + "attention", at + "nlp_concat_heads", at + "self_attn.o_proj",
                          at + "post_attention_layernorm", at + "add", at + "pre_feedforward_layernorm", at + "mlp.gate_up_proj",
                          at + "gelu_mul", at + "mlp.down_proj", at + "post_feedforward_layernorm", at + "add_2"));
  Loaded phi(tiny_phi3(false)), phi_again(tiny_phi3(false));
  const Comparison phi_ops = compare_forwards(phi.generator, phi_again.generator, random_tokens(5, 1));
  EXPECT_THAT(names(phi_ops, {}), ElementsAre("embed_tokens", "select_rows", "norm", "lm_head"));
  EXPECT_EQ(op_named(phi_ops, "layers.0.rotary_embedding.k").op, "rotary_embedding");
  EXPECT_EQ(op_named(phi_ops, "layers.0.silu_mul").width, 200);
}

TEST(Comparison, watching_changes_no_bit_and_two_equal_sides_do_not_differ) {
  const std::vector<TokenId> tokens = random_tokens(40, 2);
  cpu::CpuDevice device({.threads = 2});
  const auto model = tiny_gemma3().load(device, kFloat32);
  Cache cache(device, model->spec().cache, {.dtype = DataType::float32, .max_tokens = 256, .max_sequences = 1});
  const auto sequence = cache.create();
  sequence->tokens = tokens;
  Generator generator(*model, device, cache);
  const std::vector<float> expected = last_logits(generator, *sequence);

  Loaded a(tiny_gemma3()), b(tiny_gemma3());
  const std::vector<float> logits = rows_of(a, tokens)["lm_head"];
  EXPECT_EQ(std::vector<float>(logits.end() - 300, logits.end()), expected);
  const Comparison comparison = compare_forwards(a.generator, b.generator, tokens);
  EXPECT_EQ(comparison.tokens, 40);
  EXPECT_EQ(comparison.ops.size(), 3 * 20 + 5u);
  for (const OpComparison& op : comparison.ops) {
    EXPECT_EQ(op.difference.max_difference(), 0) << op.name;
    EXPECT_EQ(op.difference.rows().size(), 40u) << op.name;
  }
  EXPECT_EQ(first_below(comparison, 1), nullptr);
}

TEST(Comparison, each_op_s_numbers_are_those_of_all_its_rows_however_the_prompt_is_cut) {
  const std::vector<TokenId> tokens = random_tokens(37, 3);
  ModelOptions rounded;
  Loaded a(tiny_gemma3(), rounded, 16), b(tiny_gemma3(), kFloat32, 16), whole_a(tiny_gemma3(), rounded, 64),
      whole_b(tiny_gemma3(), kFloat32, 64);
  const Comparison pieces = compare_forwards(a.generator, b.generator, tokens),
                   whole = compare_forwards(whole_a.generator, whole_b.generator, tokens);
  auto a_rows = rows_of(a, tokens), b_rows = rows_of(b, tokens);
  for (size_t i = 0; i < whole.ops.size(); ++i) {
    const OpComparison& op = pieces.ops[i];
    double most = 0, apart = 0, reference = 0;
    for (size_t k = 0; k < a_rows[op.name].size(); ++k) {
      const double x = a_rows[op.name][k], y = b_rows[op.name][k];
      most = std::max(most, std::abs(x - y));
      apart += (x - y) * (x - y);
      reference += y * y;
    }
    EXPECT_EQ(op.difference.max_difference(), most) << op.name;
    EXPECT_NEAR(op.difference.relative_error(), std::sqrt(apart / reference), 1e-12) << op.name;
    EXPECT_NEAR(whole.ops[i].difference.pcc(), op.difference.pcc(), 1e-12) << op.name;
    EXPECT_EQ(op.a_type, op.name == "lm_head" ? DataType::float32 : DataType::bfloat16) << op.name;
  }
  EXPECT_GT(op_named(pieces, "layers.2.add_2").difference.max_difference(), 0);
}

TEST(Comparison, the_first_op_below_the_threshold_is_the_one_that_differs) {
  TinyCheckpoint faulty = tiny_gemma3();
  faulty.scale("model.layers.1.mlp.down_proj.weight", -1);
  Loaded a(faulty), b(tiny_gemma3());
  const Comparison comparison = compare_forwards(a.generator, b.generator, random_tokens(20, 4));
  ASSERT_NE(first_below(comparison, 0.99), nullptr);
  EXPECT_EQ(first_below(comparison, 0.99)->name, "layers.1.mlp.down_proj");
  EXPECT_EQ(first_below(comparison, -1), nullptr);
}

TEST(Comparison, a_recording_takes_the_place_of_a_side) {
  const std::vector<TokenId> tokens = random_tokens(20, 5);
  Loaded a(tiny_phi3(false)), b(tiny_phi3(false));
  auto rows = rows_of(b, tokens);
  rows.erase("layers.0.attention");
  rows["layers.1.gate"] = std::vector<float>(20);
  rows["layers.1.silu_mul"][7 * 200 + 3] += 100;
  const RecordedRows recorded(write_recording("good", rows, {tokens.begin(), tokens.end()}));
  EXPECT_EQ(recorded.tokens(), tokens);
  const Comparison comparison = compare_with_recording(a.generator, recorded);
  EXPECT_THAT(comparison.only_a, ElementsAre("layers.0.attention"));
  EXPECT_THAT(comparison.only_b, ElementsAre("layers.1.gate"));
  for (const OpComparison& op : comparison.ops) EXPECT_EQ(op.difference.max_difference() > 0, op.name == "layers.1.silu_mul") << op.name;
  EXPECT_EQ(op_named(comparison, "layers.1.silu_mul").difference.max_row(), 7);
}

template <class Error, class Work>
void expect_refused(const std::string& said, const Work& work) {
  try {
    work();
    ADD_FAILURE() << "not refused: " << said;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(said));
  }
}

TEST(Comparison, sides_that_are_not_the_same_model_are_refused) {
  const std::vector<TokenId> tokens = random_tokens(3, 6);
  Loaded a(tiny_gemma3()), phi(tiny_phi3(false));
  expect_refused<std::invalid_argument>("embed_tokens has 96 values a token, and 384",
                                        [&] { compare_forwards(a.generator, phi.generator, tokens); });
  Loaded other_pieces(tiny_gemma3(), kFloat32, 2);
  expect_refused<std::invalid_argument>("to token 3, the other to 2",
                                        [&] { compare_forwards(a.generator, other_pieces.generator, tokens); });
  const RecordedRows strange(write_recording("strange", {{"h.0", std::vector<float>(3)}}, {1, 2, 3}));
  expect_refused<std::invalid_argument>("no op in common; the other has h.0", [&] { compare_with_recording(a.generator, strange); });
}

TEST(Comparison, a_file_that_is_no_recording_is_refused) {
  const auto refused = [](const std::string& said, const std::string& path) {
    expect_refused<FileError>(said, [&] { RecordedRows recorded(path); });
  };
  refused("-1 is not a token id", write_recording("negative", {}, {5, -1}));
  refused("input_ids", write_recording("empty", {}, {}));
  refused("\"x\" is not one row for each of the 2 tokens", write_recording("rows", {{"x", std::vector<float>(1)}}, {1, 2}));
  refused("cannot be opened", testing::TempDir() + "/no_such_recording");
}

}  // namespace
}  // namespace tessera
