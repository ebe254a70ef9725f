#include "evaluate/observations.h"

#include <charconv>

namespace tessera {
namespace {

constexpr std::string_view kLayers = "layers.";

std::optional<int64_t> layer_of(std::string_view weight) {
  int64_t layer = 0;
  if (!weight.starts_with(kLayers) ||
      std::from_chars(weight.data() + kLayers.size(), weight.data() + weight.size(), layer).ec != std::errc())
    return {};
  return layer;
}

}  // namespace

void Observations::begin() {
  all_.clear();
  times_.clear();
  parts_.clear();
  layer_.reset();
}

void Observations::see(const Op& op, const Tensor& output) {
  std::string_view part = op.part;
  if (op.name == "rms_norm" || op.name == "rotary_embedding") {
    const auto of_input = parts_.find(&op.input->storage());
    if (of_input != parts_.end()) part = of_input->second;
  }
  if (!part.empty()) parts_[&output.storage()] = part;
  if (op.name == "select_rows") layer_.reset();  // what follows is the head
  std::string name;
  if (op.weight) {
    name = op.weight->storage().label;
    layer_ = layer_of(name);
    if (op.name == "linear" && name == "embed_tokens") name = "lm_head";  // a tied head
  } else {
    if (layer_) name = std::string(kLayers) + std::to_string(*layer_) + '.';
    name += op.name;
    if (!part.empty()) (name += '.') += part;
  }
  const int time = ++times_[name];
  if (time > 1) name += '_' + std::to_string(time);
  all_.push_back({std::move(name), op.name, layer_, output});
}

}  // namespace tessera
