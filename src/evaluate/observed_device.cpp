#include "evaluate/observed_device.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "ops/model.h"

namespace tessera {
namespace {

struct Labelled : Storage {
  Labelled(std::shared_ptr<Storage> storage, std::string text) : inner(std::move(storage)), label(std::move(text)) {}
  std::shared_ptr<Storage> inner;
  std::string label;  // a weight's name; q, k or v of a tensor of heads
};

const Labelled& labelled(const Tensor& x) { return static_cast<const Labelled&>(x.storage()); }

Tensor wrap(Device& device, const Tensor& x, std::string label) {
  return Tensor(device, x.shape(), x.dtype(), std::make_shared<Labelled>(x.shared_storage(), std::move(label)));
}

// "model.layers.3.self_attn.q_proj.weight" -> "layers.3.self_attn.qkv_proj"
std::string short_name(const WeightSpec& spec) {
  std::string_view name = spec.name;
  if (name.starts_with("model.")) name.remove_prefix(6);
  if (name.ends_with(".weight")) name.remove_suffix(7);
  const std::string module(name.substr(0, name.find_last_of('.') + 1));
  if (spec.role == Role::qkv) return module + "qkv_proj";
  if (spec.role == Role::gate_up) return module + "gate_up_proj";
  return std::string(name);
}

constexpr std::string_view kLayers = "layers.";

std::optional<int64_t> layer_of(const std::string& weight) {
  int64_t layer = 0;
  if (!weight.starts_with(kLayers) ||
      std::from_chars(weight.data() + kLayers.size(), weight.data() + weight.size(), layer).ec != std::errc())
    return {};
  return layer;
}

}  // namespace

Tensor ObservedDevice::bare(const Tensor& x) const { return Tensor(*inner_, x.shape(), x.dtype(), labelled(x).inner); }

Tensor ObservedDevice::keep(std::string_view op, std::string name, const Tensor& output, std::string label) {
  const std::string first = name;
  const auto is_taken = [&](const Observation& seen) { return seen.name == name; };
  for (int number = 2; std::any_of(observations_.begin(), observations_.end(), is_taken); ++number)
    name = first + '_' + std::to_string(number);
  Tensor kept = wrap(*this, output, std::move(label));
  observations_.push_back({std::move(name), op, layer_, kept});
  return kept;
}

Tensor ObservedDevice::keep(std::string_view op, const Tensor& output, std::string label) {
  std::string name = layer_ ? std::string(kLayers) + std::to_string(*layer_) + '.' : std::string();
  name += op;
  if (!label.empty()) name += '.' + label;
  return keep(op, std::move(name), output, std::move(label));
}

Tensor ObservedDevice::keep_weighted(std::string_view op, const std::string& weight, const Tensor& output, std::string label) {
  layer_ = layer_of(weight);
  return keep(op, weight, output, std::move(label));
}

Tensor ObservedDevice::run(const Model& model, const Batch& batch) {
  Batch watched = batch;
  watched.watched = true;
  struct Bared final : Model {
    Bared(ObservedDevice& device, const Model& model) : Model(model.spec()), observer(device), observed(model) {}
    Tensor forward(const Step& step) const override {
      observer.forget();
      observer.layer_.reset();
      const Tensor made = observed.forward(step);
      return made ? observer.bare(made) : made;
    }
    ObservedDevice& observer;
    const Model& observed;
  };
  const Tensor logits = inner_->run(Bared(*this, model), watched);
  return logits ? wrap(*this, logits, {}) : logits;
}

Tensor ObservedDevice::pack(std::span<const WeightPart> parts, const WeightSpec& spec) {
  return wrap(*this, inner_->pack(parts, spec), short_name(spec));
}

Tensor ObservedDevice::restore(const KeptPieces& kept, const WeightSpec& spec) {
  const Tensor restored = inner_->restore(kept, spec);
  return restored ? wrap(*this, restored, short_name(spec)) : restored;
}

void ObservedDevice::read(const Tensor& x, std::span<float> out) { inner_->read(bare(x), out); }

Tensor ObservedDevice::embedding(const Step& step, const Tensor& table) {
  return keep_weighted("embedding", labelled(table).label, inner_->embedding(step, bare(table)));
}

Tensor ObservedDevice::linear(const Tensor& x, const Tensor& weight) {
  const std::string& name = labelled(weight).label;
  return keep_weighted("linear", name == "embed_tokens" ? "lm_head" : name, inner_->linear(bare(x), bare(weight)));  // a tied head
}

Tensor ObservedDevice::rms_norm(const Tensor& x, const Tensor& weight, float epsilon) {
  return keep_weighted("rms_norm", labelled(weight).label, inner_->rms_norm(bare(x), bare(weight), epsilon), labelled(x).label);
}

Tensor ObservedDevice::rotary_embedding(const Tensor& x, const Rotary& rotary, const Step& step) {
  return keep("rotary_embedding", inner_->rotary_embedding(bare(x), rotary, step), labelled(x).label);
}

QkvHeads ObservedDevice::nlp_create_qkv_heads(const Tensor& qkv, int64_t num_heads, int64_t num_kv_heads) {
  constexpr std::string_view kOp = "nlp_create_qkv_heads";
  const QkvHeads heads = inner_->nlp_create_qkv_heads(bare(qkv), num_heads, num_kv_heads);
  return {keep(kOp, heads.q, "q"), keep(kOp, heads.k, "k"), keep(kOp, heads.v, "v")};
}

Tensor ObservedDevice::attention(const Tensor& q, const Tensor& k, const Tensor& v, const Step& step, const AttentionParams& params) {
  layer_ = params.layer;
  return keep("attention", inner_->attention(bare(q), bare(k), bare(v), step, params));
}

Tensor ObservedDevice::nlp_concat_heads(const Tensor& x) { return keep("nlp_concat_heads", inner_->nlp_concat_heads(bare(x))); }
Tensor ObservedDevice::gelu_mul(const Tensor& gate_up) { return keep("gelu_mul", inner_->gelu_mul(bare(gate_up))); }
Tensor ObservedDevice::silu_mul(const Tensor& gate_up) { return keep("silu_mul", inner_->silu_mul(bare(gate_up))); }
Tensor ObservedDevice::add(const Tensor& a, const Tensor& b) { return keep("add", inner_->add(bare(a), bare(b))); }
Tensor ObservedDevice::mul(const Tensor& a, float b) { return keep("mul", inner_->mul(bare(a), b)); }
Tensor ObservedDevice::softcap(const Tensor& x, float cap) { return keep("softcap", inner_->softcap(bare(x), cap)); }

Tensor ObservedDevice::select_rows(const Tensor& x, const Step& step) {
  layer_.reset();  // what follows is the head
  return keep("select_rows", inner_->select_rows(bare(x), step));
}

}  // namespace tessera
