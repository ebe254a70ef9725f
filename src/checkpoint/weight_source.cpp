#include "checkpoint/weight_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace tessera {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 12> kPrefixes = {{
    {"language_model.model.", "model."},
    {"language_model.layers.", "model.layers."},
    {"language_model.embed_tokens.", "model.embed_tokens."},
    {"language_model.norm.", "model.norm."},
    {"language_model.lm_head.", "lm_head."},
    {"model.language_model.", "model."},
    {"model.vision_tower.", "vision_tower."},
    {"model.multi_modal_projector.", "multi_modal_projector."},
    {"model.model.", "model."},
    {"layers.", "model.layers."},
    {"embed_tokens.", "model.embed_tokens."},
    {"norm.", "model.norm."},
}};

// Whether no element has all bits of `exponent` set: those are the infinities and NaNs of an IEEE format.
template <class Bits>
bool no_element_has(std::span<const std::byte> bytes, Bits exponent) {
  Bits found = 0;
  for (size_t i = 0; i + sizeof(Bits) <= bytes.size(); i += sizeof(Bits)) {
    Bits element;
    std::memcpy(&element, bytes.data() + i, sizeof(Bits));
    found |= static_cast<Bits>((element & exponent) == exponent ? ~Bits{0} : Bits{0});  // as wide as an element, so that vectors do it
  }
  return found == 0;
}

}  // namespace

const StoredTensor* WeightSource::find(std::string_view name) const {
  const auto found = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                      [](const StoredTensor& tensor, std::string_view wanted) { return tensor.name < wanted; });
  return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

bool WeightSource::equal(std::string_view a, std::string_view b) {
  constexpr int64_t kPiece = int64_t{4} << 20;  // values that are read, then dropped
  const StoredTensor *const left = find(a), *const right = find(b);
  if (!left || !right || left->shape != right->shape || !left->type || !right->type) return false;
  const std::pair names{std::string(a), std::string(b)};
  if (const auto compared = compared_.find(names); compared != compared_.end()) return compared->second;
  const std::span<const std::byte> x = lend(a), y = lend(b);
  const int64_t x_bytes = bytes_of(*left->type), y_bytes = bytes_of(*right->type), count = static_cast<int64_t>(x.size()) / x_bytes;
  const bool same = x.data() == y.data() && left->type == right->type;
  bool equal = true;
  for (int64_t first = 0; equal && !same && first < count; first += kPiece) {
    const int64_t last = std::min(count, first + kPiece);
    for (int64_t i = first; i < last; ++i) equal &= load_stored(*left->type, x.data(), i) == load_stored(*right->type, y.data(), i);
    drop(x.subspan(static_cast<size_t>(first * x_bytes), static_cast<size_t>((last - first) * x_bytes)));
    drop(y.subspan(static_cast<size_t>(first * y_bytes), static_cast<size_t>((last - first) * y_bytes)));
  }
  release(a);
  release(b);
  return compared_[names] = equal;
}

std::optional<std::string> canonical_name(std::string_view stored) {
  if (stored.ends_with("rotary_emb.inv_freq")) return std::nullopt;
  for (const auto& [prefix, canonical] : kPrefixes) {
    if (stored.starts_with(prefix)) return std::string(canonical) += stored.substr(prefix.size());
  }
  return std::string(stored);
}

bool all_finite(std::span<const std::byte> bytes, StoredType type) {
  switch (type) {
    case StoredType::float32:
      return no_element_has<uint32_t>(bytes, 0x7F800000u);
    case StoredType::bfloat16:
      return no_element_has<uint16_t>(bytes, 0x7F80u);
    case StoredType::float16:
      return no_element_has<uint16_t>(bytes, 0x7C00u);
  }
  return false;
}

}  // namespace tessera
