#include "cli/memory_plan.h"

#include <algorithm>

#include "cli/report.h"
#include "cli/session.h"
#include "core/error.h"
#include "generate/cache.h"
#include "ttnn/n150_memory.h"

namespace tessera {
namespace {

std::vector<int64_t> pages(const ModelDescription& model, const Load& load, const Limits& limits) {
  return page_counts(model.spec.cache, cache_options(load.cache, load.context, load.sequences, limits), limits);
}

int64_t widest(const ModelDescription& model) {
  int64_t widest = 0;
  for (const ModelDescription::Weight& weight : model.weights) widest = std::max(widest, n150::alive_values(weight.spec));
  return widest;
}

class Cpu final : public Machine {
 public:
  explicit Cpu(size_t memory) : memory_(memory > 0 ? memory : static_cast<size_t>(available_memory())) {}

  std::string name() const override { return "cpu"; }
  size_t memory() const override { return memory_; }
  Limits limits() const override { return limits_; }

  Need need(const ModelDescription& model, const Load& load) const override {
    Need need{};
    for (const ModelDescription::Weight& weight : model.weights) {
      WeightSpec spec = weight.spec;
      spec.options.weights = load.weights;
      need.weights += cpu::CpuDevice::weight_bytes(spec, weight.exact);
    }
    need.cache = cpu::CpuDevice::cache_bytes(model.spec.cache, load.cache, pages(model, load, limits_));
    const auto value = static_cast<int64_t>(load.activations == DataType::float32 ? sizeof(float) : sizeof(bfloat16));
    // The logits, and their copy that is read back.
    need.working = static_cast<size_t>(limits_.max_rows * widest(model) * value +
                                       limits_.max_logit_rows * model.spec.vocab_size * 2 * static_cast<int64_t>(sizeof(float)));
    return need;
  }

 private:
  size_t memory_;
  Limits limits_ = cpu::CpuDevice({.threads = 1}).limits();
};

class N150 final : public Machine {
 public:
  explicit N150(size_t memory) : memory_(memory > 0 ? memory : n150::kMemory) {}

  std::string name() const override { return "n150"; }
  size_t memory() const override { return memory_; }
  Limits limits() const override { return n150::limits(); }

  Need need(const ModelDescription& model, const Load& load) const override {
    check(load.activations == DataType::bfloat16, "n150: activations are bfloat16, not ", load.activations);
    check(load.weights != DataType::float32 && load.cache != DataType::float32,
          "n150: float32 weights or caches are not computed with; choose bfloat16 or bfloat8_b");
    check(load.sequences <= n150::kMaxUsers, "n150: ", load.sequences, " sequences at a time; it decodes at most ", n150::kMaxUsers);
    Need need{};
    for (const ModelDescription::Weight& weight : model.weights) {
      WeightSpec spec = weight.spec;
      spec.options.weights = load.weights;
      need.weights += n150::weight_bytes(spec);
    }
    need.cache = n150::cache_bytes(model.spec.cache, load.cache, pages(model, load, limits()));
    need.working = n150::working_bytes(limits().max_rows, widest(model), model.spec.vocab_size);
    if (load.traced) need.working += n150::kTraceBytes + n150::recorded_logits_bytes(model.spec.vocab_size);
    return need;
  }

 private:
  size_t memory_;
};

// The largest number in [1, most] for which `fits` holds, if it holds for all below it; 0: for none.
template <class Fits>
int64_t largest(int64_t most, const Fits& fits) {
  int64_t low = 0, high = most + 1;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

}  // namespace

std::unique_ptr<Machine> machine(const std::string& device, size_t memory) {
  check(device == "cpu" || device == "n150", "--device ", device, ": is not a device; choose n150 or cpu");
  if (device == "n150") return std::make_unique<N150>(memory);
  return std::make_unique<Cpu>(memory);
}

int64_t longest_context(const Machine& machine, const ModelDescription& model, Load load) {
  const int64_t page = machine.limits().page_tokens, most = model.spec.max_position_embeddings;
  const auto context = [&](int64_t count) { return std::min(count * page, most); };
  return context(largest((most + page - 1) / page, [&](int64_t count) {
    load.context = context(count);
    return machine.fits(model, load);
  }));
}

int64_t most_sequences(const Machine& machine, const ModelDescription& model, Load load) {
  return largest(load.sequences, [&](int64_t count) {
    load.sequences = count;
    return machine.fits(model, load);
  });
}

void expect_fits(const Machine& machine, const ModelDescription& model, const Load& load, const std::string& what) {
  const size_t total = machine.need(model, load).total();
  if (total <= machine.memory()) return;
  std::string others;
  for (const std::string& change : changes(machine, model, load)) others += (others.empty() ? "" : ", or ") + change;
  fail<ResourceError>(what, ": ", load.weights, " weights and a ", load.cache, " cache of ", load.sequences, " x ", load.context,
                      " tokens do not fit the ", machine.name(), ": ", gigabytes(total), " of ", gigabytes(machine.memory()), "; ",
                      others.empty() ? "nothing makes it fit" : "in tessera plan's flags it fits with " + others);
}

std::string gigabytes(size_t bytes) { return format("%.2f GB", static_cast<double>(bytes) / 1e9); }

std::vector<std::string> changes(const Machine& machine, const ModelDescription& model, const Load& load) {
  std::vector<std::string> all;
  const auto types = [&](DataType weights, DataType cache, const char* flags) {
    Load other = load;
    other.weights = weights;
    other.cache = cache;
    const bool fits = (weights != load.weights || cache != load.cache) && machine.fits(model, other);
    if (fits) all.push_back(flags);
    return fits;
  };
  constexpr DataType kBlocks = DataType::bfloat8_b;
  const DataType weights = load.weights == DataType::bfloat4_b ? load.weights : kBlocks;
  const bool cache_alone = types(load.weights, kBlocks, "--cache bfloat8_b"),
             weights_alone = types(weights, load.cache, "--weights bfloat8_b");
  if (!cache_alone && !weights_alone && weights != load.weights && load.cache != kBlocks)
    types(weights, kBlocks, "--weights bfloat8_b --cache bfloat8_b");
  if (const int64_t context = longest_context(machine, model, load); context > 0) all.push_back(message("-c ", context));
  if (const int64_t sequences = most_sequences(machine, model, load); sequences > 0) all.push_back(message("--sequences ", sequences));
  return all;
}

}  // namespace tessera
