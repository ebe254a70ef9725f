#include "kinds/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/support.h"
#include "cpu/cpu_device.h"

namespace tessera {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;

constexpr int64_t kHidden = 4096, kVocab = 32'000;

// One head and one layer with 4 key heads of 128 values: 2 KB a token in bfloat16.
ModelDescription one_layer() {
  const auto weight = [](Role role, int64_t out, int64_t in) {
    return ModelDescription::Weight{{.role = role, .shape = {1, 1, out, in}}, true};
  };
  ModelDescription model{.spec = {.vocab_size = kVocab, .max_position_embeddings = 1 << 20, .cache = {{{4, 128, std::nullopt}}}}};
  model.weights = {weight(Role::tied_embedding, kVocab, kHidden), weight(Role::qkv, kHidden * 3 / 2, kHidden)};
  model.stored = DataType::bfloat16;
  return model;
}

struct Limited : TemporaryDirectory {
  Limited() {
    write("proc/meminfo", "MemAvailable: 64000000 kB\n");
    write("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    write("proc/self/cgroup", "0::/pod\n");
    write("sys/fs/cgroup/pod/memory.max", "1000000000\n");
    write("sys/fs/cgroup/pod/cpu.max", "100000 100000\n");
  }
};

TEST(MemoryPlan, a_cgroup_of_1_gb_is_the_limit_that_a_refusal_names) {
  const Limited root;
  EXPECT_EQ(available_threads(root.path()), 1);
  const ModelDescription model = one_layer();
  const MemoryPlan plan{device_kind("cpu"), model, machine_memory(root.path())};
  const Load load = plan.load({}, 500'000, 1, false);
  const std::string error = testing::error_of<ResourceError>([&] { plan.expect_fits(load, "tiny"); });
  EXPECT_THAT(error, HasSubstr("tiny: bfloat16 weights and a bfloat16 cache of 1 x 500000 tokens do not fit the cpu: "));
  EXPECT_THAT(
      error, HasSubstr("of 900.0 MB (the cgroup /pod is limited to 1.00 GB by memory.max); it fits with bfloat8_b weights and cache, or "));
  const int64_t longest = plan.load({}, 0, 1, false).context;
  EXPECT_THAT(error, HasSubstr(message("a context of ", longest, " tokens")));
  EXPECT_NO_THROW(plan.expect_fits(plan.load({}, longest, 1, false), "tiny"));
  EXPECT_THROW(plan.expect_fits(plan.load({}, longest + 1, 1, false), "tiny"), ResourceError);
}

TEST(MemoryPlan, a_need_is_the_sum_of_its_parts_written_out) {
  const ModelDescription model = one_layer();
  const MemoryPlan plan{device_kind("cpu"), model, {1 << 30}};
  const Need need = plan.need({DataType::bfloat16, DataType::float32, DataType::bfloat16, 32'000, 3});
  EXPECT_EQ(need.weights, size_t{2} * kHidden * (kVocab + kHidden * 3 / 2));
  EXPECT_EQ(need.cache, size_t{2048} * (3 * 32'000 + 32));                            // a page more for the pool
  EXPECT_EQ(need.working, size_t{512} * 5 * kHidden * 4 + size_t{128} * kVocab * 8);  // the stream, its norm, and q|k|v twice
  EXPECT_THROW(plan.need({DataType::bfloat16, DataType::bfloat16, DataType::bfloat16, 100, 1, true}), std::invalid_argument);
}

// Pages of `tokens` of one conversation and one more for each of the others that live.
TEST(LargestCache, takes_what_memory_holds) {
  const DeviceKind& cpu = device_kind("cpu");
  const CacheSpec full{std::vector<CacheLayer>(5, {4, 256, std::nullopt})};
  constexpr size_t kToken = 5 * 4096;
  // 16,000 tokens are 500 pages: a sixteenth of them, 31, for as many sequences beside the first.
  const CacheOptions made = largest_cache(cpu, {kToken * 16'000}, full, DataType::bfloat16, 1000);
  EXPECT_EQ(made.max_sequences, 32);
  EXPECT_EQ(made.max_tokens, (500 - 32) * 32);

  CacheSpec windowed{std::vector<CacheLayer>(29, {4, 256, 1024})};
  windowed.layers.insert(windowed.layers.end(), full.layers.begin(), full.layers.end());
  for (const size_t gigabytes : {4, 16, 256}) {
    const Memory memory{gigabytes << 30};
    const CacheOptions options = largest_cache(cpu, memory, windowed, DataType::bfloat16, 131072);
    EXPECT_GE(options.max_tokens, 131072);
    EXPECT_GE(options.max_sequences, 1);
    const size_t window_pages = static_cast<size_t>(options.max_sequences) * (1088 / 32 + 2) + 512 / 32;
    const size_t bytes =
        29 * size_t{4096} * 32 * window_pages + kToken * static_cast<size_t>(options.max_tokens + 32 * options.max_sequences);
    EXPECT_LE(bytes, memory.bytes);
    EXPECT_TRUE(options.max_tokens == 131072 * options.max_sequences || bytes + 2 * 32 * kToken > memory.bytes) << gigabytes;
  }
  const std::string error =
      testing::error_of<ResourceError>([&] { largest_cache(cpu, {size_t{1} << 30, "so it is"}, windowed, DataType::bfloat16, 131072); });
  EXPECT_THAT(error, HasSubstr("a bfloat16 cache of 131072 tokens does not fit the cpu: 2."));
  EXPECT_THAT(error, HasSubstr(" GB of 1.07 GB (so it is); choose fewer tokens or a cache of bfloat8_b"));
}

// What is free changes between two readings, but not each time by as much.
TEST(DeviceKinds, an_open_cpu_leaves_caches_what_its_forwards_do_not_take) {
  cpu::CpuDevice device({.threads = 1});
  const std::vector<uint16_t> values(64 * 100'000);
  const WeightPart part{reinterpret_cast<const std::byte*>(values.data()), StoredType::bfloat16, 100'000};
  const Tensor head = device.pack({&part, 1}, {.role = Role::head, .shape = {1, 1, 100'000, 64}}, {});
  std::vector<double> differences(100);
  for (double& bytes : differences) bytes = static_cast<double>(machine_memory().bytes) - static_cast<double>(device.free_memory().bytes);
  EXPECT_THAT(differences, ::testing::Contains(::testing::DoubleNear(128.0 * 100'000 * 8, 1e6)));  // logits and their copy
}

TEST(DeviceKinds, the_n150_refuses_models_that_it_has_no_ops_for_and_the_cpu_takes_them) {
  const auto refusal = [](const ModelDescription& model) {
    EXPECT_NO_THROW(device_kind("cpu").check_model(model));
    return testing::error_of<std::invalid_argument>([&] { device_kind("n150").check_model(model); });
  };
  const auto with = [](const WeightSpec& spec, int64_t head_dim = 128) {
    ModelDescription model = one_layer();
    model.weights.push_back({spec, true});
    model.spec.cache.layers.front().head_dim = head_dim;
    return model;
  };
  EXPECT_NO_THROW(device_kind("n150").check_model(one_layer()));
  ModelDescription capped = one_layer();
  capped.spec.attention_softcap = true;
  EXPECT_EQ(refusal(capped), "n150: attention with a softcap is not supported; choose the cpu");
  for (const Role role : {Role::router, Role::experts_gate_up, Role::experts_down})
    EXPECT_EQ(refusal(with({.role = role})), "n150: mixtures of experts are not supported; choose the cpu");
  EXPECT_EQ(refusal(with({.role = Role::qkv, .num_heads = 40, .head_dim = 128})),
            "n150: 40 heads are not supported; up to 32 are, or choose the cpu");
  EXPECT_EQ(refusal(with({.role = Role::qkv, .num_heads = 8, .head_dim = 48})),
            "n150: heads of 48 values are not supported; a multiple of 32 is, or choose the cpu");
  const WeightSpec norm{.role = Role::norm, .name = "model.layers.0.self_attn.k_norm.weight"};
  EXPECT_EQ(refusal(with(norm, 96)), "n150: a norm of heads of 96 values is not supported; 32 or a multiple of 64 is, or choose the cpu");
  EXPECT_NO_THROW(device_kind("n150").check_model(with(norm, 64)));
}

TEST(MemoryPlan, refuses_a_model_that_the_device_does_not_compute_with) {
  ModelDescription model = one_layer();
  const MemoryPlan plan{device_kind("n150"), model};
  const Load load = plan.load({}, 64, 1, false);
  model.spec.attention_softcap = true;
  EXPECT_THROW(plan.expect_fits(load, "tiny"), std::invalid_argument);
  EXPECT_THROW(plan.load({}, 0, 1, false), std::invalid_argument);
}

TEST(DeviceKinds, what_is_another_device_s_is_refused) {
  const auto error = [](std::string_view name, const OpenOptions& options) {
    return testing::error_of<std::invalid_argument>([&] { open_device(name, options); });
  };
  EXPECT_EQ(error("gpu", {}), "'gpu' is not a device; choose cpu or n150");
  EXPECT_THAT(error("cpu", {.trace = true}), HasSubstr("trace: only the n150"));
  EXPECT_THAT(error("cpu", {.device_id = 2}), HasSubstr("device_id: 2: the cpu is one device"));
  EXPECT_THAT(error("n150", {.twin = "card"}), HasSubstr("twin: only the cpu"));
  EXPECT_THAT(error("n150", {}), HasSubstr("n150: this program has the cpu only"));
}

}  // namespace
}  // namespace tessera
