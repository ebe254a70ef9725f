#include "kinds/device_kinds.h"

#include <algorithm>

#include "core/error.h"
#include "cpu/cpu_device.h"
#include "ttnn/n150_memory.h"
#include "ttnn/n150_model.h"

namespace tessera {
namespace {

std::unique_ptr<Device> open_cpu(const OpenOptions& options) {
  cpu::CpuOptions made{.twin = cpu::parse_twin(options.twin)};
  if (options.threads > 0) made.threads = options.threads;
  return std::make_unique<cpu::CpuDevice>(made);
}

void check_n150(const Load& load) {
  check(load.activations == DataType::bfloat16, "n150: activations are bfloat16, not ", load.activations);
  check(load.weights != DataType::float32 && load.cache != DataType::float32,
        "n150: float32 weights or caches are not computed with; choose bfloat16 or bfloat8_b");
  check(load.sequences <= n150::kMaxUsers, "n150: ", load.sequences, " sequences at a time; it decodes at most ", n150::kMaxUsers);
}

void check_n150_model(const ModelDescription& model) {
  n150::check_attention(model.spec.attention_softcap);
  for (const auto& [spec, exact] : model.weights) {
    n150::check_weight(spec);
    const std::string label = spec.label();
    if (label.ends_with(".q_norm") || label.ends_with(".k_norm")) n150::check_norm_of_heads(model.spec.cache.layers.front().head_dim);
  }
}

std::vector<DeviceKind>& table() {
  static std::vector<DeviceKind> kinds = {
      {.name = "cpu",
       .is_card = false,
       .open = open_cpu,
       .memory = [] { return machine_memory(); },
       .limits = cpu::CpuDevice({.threads = 1}).limits(),
       .check_load = [](const Load& load) { check(!load.traced, "trace: only the n150 records and replays its decodes"); },
       .check_model = [](const ModelDescription&) {},
       .weight_bytes = cpu::CpuDevice::weight_bytes,
       .cache_bytes = cpu::CpuDevice::cache_bytes,
       .working_bytes = [](const Load& load, int64_t widest,
                           int64_t vocab) { return cpu::CpuDevice::working_bytes(load.activations, widest, vocab); }},
      {.name = "n150",
       .is_card = true,
       .memory = [] { return Memory{n150::kMemory}; },
       .limits = n150::limits(),
       .check_load = check_n150,
       .check_model = check_n150_model,
       .weight_bytes = [](const WeightSpec& spec, bool) { return n150::weight_bytes(spec); },
       .cache_bytes = n150::cache_bytes,
       .working_bytes =
           [](const Load& load, int64_t widest, int64_t vocab) {
             const size_t recordings = load.traced ? n150::kTraceBytes + n150::recorded_logits_bytes(vocab) : 0;
             return n150::working_bytes(n150::limits().max_rows, widest, vocab) + recordings;
           }}};
  return kinds;
}

DeviceKind& find(std::string_view name) {
  std::string known;
  for (DeviceKind& kind : table()) {
    if (kind.name == name) return kind;
    known += (known.empty() ? "" : " or ") + kind.name;
  }
  fail("'", name, "' is not a device; choose ", known);
}

}  // namespace

const std::vector<DeviceKind>& device_kinds() { return table(); }

const DeviceKind& device_kind(std::string_view name) { return find(name); }

void set_open(std::string_view name, std::function<std::unique_ptr<Device>(const OpenOptions&)> open) { find(name).open = std::move(open); }

std::unique_ptr<Device> open_device(std::string_view name, const OpenOptions& options) {
  const DeviceKind& kind = find(name);
  check(options.threads >= 0, "threads: ", options.threads, " is negative; 0 takes all that the process may use");
  check(options.timeout >= 0, "timeout: ", options.timeout, " s is negative; 0 waits for ever");
  check(!options.twin || !kind.is_card, "twin: only the cpu computes as another device does; leave it out with ", name);
  check(!options.trace || kind.is_card, "trace: only the n150 records and replays its decodes");
  check(options.device_id == 0 || kind.is_card, "device_id: ", options.device_id, ": the cpu is one device, 0");
  check(static_cast<bool>(kind.open), name, ": this program has the cpu only; the tessera command of the Python package has the ", name);
  return kind.open(options);
}

}  // namespace tessera
