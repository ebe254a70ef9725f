#include "ops/device.h"

#include "core/error.h"
#include "ops/check_batch.h"
#include "ops/model.h"

namespace tessera {
namespace {

[[noreturn]] void refuse_pages(const std::string& device) {
  fail(device, ": its cache's pages cannot be read or written; sequences are saved on the cpu only");
}

}  // namespace

std::string WeightSpec::label() const {
  std::string_view label = name;
  if (label.starts_with("model.")) label.remove_prefix(6);
  if (label.ends_with(".weight")) label.remove_suffix(7);
  const std::string module(label.substr(0, label.find_last_of('.') + 1));
  if (role == Role::qkv) return module + "qkv_proj";
  if (role == Role::gate_up) return module + "gate_up_proj";
  // "layers.3.mlp.experts.0.gate_proj"
  if (role == Role::experts_gate_up || role == Role::experts_down)
    return module.substr(0, module.find(".experts.")) + (role == Role::experts_down ? ".experts.down_proj" : ".experts.gate_up_proj");
  return std::string(label);
}

int64_t alive_values(const WeightSpec& spec) {
  const int64_t sums = spec.bias == Bias::none ? 0 : 2 * spec.shape[2];  // of float32, before biases are added
  if (spec.role == Role::qkv) return 2 * spec.shape[3] + 2 * spec.shape[2] + sums;
  if (spec.role == Role::up) return 2 * spec.shape[3] + 2 * spec.shape[2] + sums;
  if (spec.role == Role::experts_gate_up)
    return 6 * spec.shape[3] + spec.shape[2] + spec.shape[2] / 2;  // the sum of the experts is float32
  if (spec.role == Role::gate_up) return 2 * spec.shape[3] + spec.shape[2] + spec.shape[2] / 2 + sums;
  return 0;
}

size_t Device::page_bytes(const Storage&, size_t) const { refuse_pages(name()); }

void Device::read_page(const Storage&, size_t, int32_t, int64_t, std::span<std::byte>) const { refuse_pages(name()); }

void Device::write_page(Storage&, size_t, int32_t, std::span<const std::byte>) { refuse_pages(name()); }

Tensor Device::run(const Model& model, const Batch& batch) {
  check_batch(batch, limits());
  check_rope_lengths(batch, model.spec().recompute_after);
  const auto turn = take_turn();
  if (observer_) observer_->begin();
  Tensor logits = execute(model, batch);
  for (const Batch::Slice& slice : batch.slices) slice.sequence->commit(slice.position + slice.count, slice.rope_length);
  return logits;
}

void Device::observe(Observer* observer) {
  const auto turn = take_turn();
  check<std::logic_error>(!observer || !observer_, "observe: ", name(), " is observed already");
  observer_ = observer;
}

Observing::Observing(Device& device, Observer& observer) : device_(device) { device_.observe(&observer); }

Observing::~Observing() { device_.observe(nullptr); }

}  // namespace tessera
