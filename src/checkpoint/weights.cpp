#include "checkpoint/weights.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace {

constexpr size_t kPieceBytes = size_t{16} << 20;  // of a large tensor are read, then dropped

std::string text(std::span<const int64_t> shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

// "X.weight" -> "X.bias"
std::string bias_of(const std::string& weight) { return weight.substr(0, weight.rfind('.')) + ".bias"; }

// Whether a name is where a decoder has its weights. An adapter's tensors, which stand there too, are not the model's.
bool is_a_models_own(std::string_view name) {
  return (name.starts_with("model.") || name.starts_with("lm_head.")) && name.find(".lora_") == std::string_view::npos &&
         (name.ends_with(".weight") || name.ends_with(".bias"));
}

}  // namespace

Weights::Weights(WeightSource& source, Device& device, const ModelOptions& options, Progress progress, KeptWeights* kept)
    : source_(&source), device_(device), options_(options), progress_(std::move(progress)), kept_(kept) {
  for (const StoredTensor& tensor : source.tensors()) {
    left_.insert(tensor.name);
    total_bytes_ += static_cast<int64_t>(tensor.bytes);
  }
}

Tensor Weights::take(std::string_view name, const Shape& shape, Role role, Bias bias) {
  const std::string names[] = {std::string(name)};
  return pack(names, std::span(&shape, 1), {.role = role, .shape = shape, .bias = bias});
}

Tensor Weights::take_joined(std::span<const std::string> names, std::span<const Shape> shapes, Role role, Bias bias) {
  Shape joined = shapes.front();
  for (const Shape& shape : shapes.subspan(1)) joined[2] += shape[2];
  return pack(names, shapes, {.role = role, .shape = joined, .bias = bias});
}

Tensor Weights::take_experts(std::span<const std::string> names, std::span<const Shape> shapes, int64_t count, Role role) {
  Shape joined = shapes.front();
  for (const Shape& shape : shapes.subspan(1)) joined[2] += shape[2];
  joined[1] = count;
  std::vector<Shape> all;
  for (int64_t expert = 0; expert < count; ++expert) all.insert(all.end(), shapes.begin(), shapes.end());
  return pack(names, all, {.role = role, .shape = joined});
}

Tensor Weights::take_qkv(std::span<const std::string> names, int64_t hidden, const Heads& heads, Bias bias) {
  const auto rows = [&](int64_t count) { return Shape{1, 1, count * heads.head_dim, hidden}; };
  const Shape joined = rows(heads.num_heads + 2 * heads.num_kv_heads);
  const Shape parts[] = {rows(heads.num_heads), rows(heads.num_kv_heads), rows(heads.num_kv_heads)};
  return pack(names, names.size() == 1 ? std::span(&joined, 1) : std::span<const Shape>(parts),
              {.role = Role::qkv,
               .shape = joined,
               .bias = bias,
               .num_heads = heads.num_heads,
               .num_kv_heads = heads.num_kv_heads,
               .head_dim = heads.head_dim});
}

Tensor Weights::take_norm(std::string_view name, int64_t width, float offset) {
  const std::string names[] = {std::string(name)};
  const Shape shape{1, 1, 1, width};
  return pack(names, std::span(&shape, 1), {.role = Role::norm, .shape = shape, .offset = offset});
}

void Weights::skip_prefix(std::string_view prefix) {
  std::erase_if(left_, [&](const std::string& name) {
    if (!name.starts_with(prefix)) return false;
    total_bytes_ -= static_cast<int64_t>(source_->find(name)->bytes);
    return true;
  });
}

void Weights::expect_all_taken() {
  if (left_.empty()) return;
  const auto own = std::find_if(left_.begin(), left_.end(), is_a_models_own);
  if (own != left_.end())
    fail<FileError>("the checkpoint holds ", left_.size(), " tensors that the model does not use, ", printable(*own),
                    " among them; its config.json does not describe it");
  note(message("the checkpoint holds ", left_.size(), " tensors that the model does not use, ", printable(*left_.begin()),
               " first; they are ignored, as transformers does"));
}

StoredType Weights::claim(const std::string& name, std::span<const int64_t> shape) {
  const StoredTensor* tensor = source_->find(name);
  if (tensor == nullptr) {
    const auto other = std::find_if(left_.begin(), left_.end(), [&](const std::string& left) { return left.ends_with("." + name); });
    fail<FileError>("the checkpoint lacks tensor ", printable(name), ", which its config.json asks for",
                    other == left_.end() ? std::string() : message("; it has ", printable(*other), ": save the model that it wraps"));
  }
  if (left_.erase(name) != 1) throw std::logic_error(message("Weights: tensor ", name, " is taken twice"));
  check<FileError>(std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end()), "tensor ", printable(name),
                   " has shape ", text(tensor->shape), "; config.json asks for ", text(shape));
  check<FileError>(tensor->type.has_value(), "tensor ", printable(name), " is stored as ", tensor->dtype,
                   "; weights are read from F32, F16 and BF16");
  done_bytes_ += static_cast<int64_t>(tensor->bytes);
  num_parameters_ += std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  return *tensor->type;
}

Tensor Weights::pack(std::span<const std::string> names, std::span<const Shape> shapes, WeightSpec spec) {
  std::vector<WeightPart> parts;
  spec.options = options_;
  spec.name = names.front();
  if (!source_) {
    for (const Shape& shape : shapes) parts.push_back({nullptr, StoredType::bfloat16, shape[2]});
    return device_.pack(parts, spec, {});
  }
  for (size_t i = 0; i < names.size(); ++i) {
    const int64_t rows = shapes[i][2];
    // A norm is stored as [width].
    const auto shape = std::span(shapes[i]).subspan(spec.role == Role::norm ? 3 : 2);
    parts.push_back({nullptr, claim(names[i], shape), rows});
    if (spec.bias == Bias::each_output) parts.back().bias.type = claim(bias_of(names[i]), std::span(&rows, 1));
  }
  KeptWeights* const kept = spec.role == Role::norm ? nullptr : kept_;
  Tensor packed = kept ? kept->take(device_, spec) : Tensor();
  if (!packed) packed = pack_anew(names, parts, spec, kept ? kept->keep_of(spec) : Device::Keep());
  if (packed) packed.storage().label = spec.label();
  if (progress_) progress_(done_bytes_, total_bytes_);
  return packed;
}

// A tensor's bytes, and a note if they hold what is no number.
std::span<const std::byte> Weights::lend_checked(const std::string& name) {
  const std::span<const std::byte> bytes = source_->lend(name);
  bool finite = true;
  for (size_t at = 0; at < bytes.size(); at += kPieceBytes) {
    const std::span<const std::byte> piece = bytes.subspan(at, std::min(kPieceBytes, bytes.size() - at));
    finite = finite && all_finite(piece, *source_->find(name)->type);
    if (bytes.size() > kPieceBytes) source_->drop(piece);
  }
  if (!finite) note(message("tensor ", printable(name), " holds values that are not finite"));
  return bytes;
}

Tensor Weights::pack_anew(std::span<const std::string> names, std::vector<WeightPart>& parts, const WeightSpec& spec,
                          const Device::Keep& keep) {
  for (size_t i = 0; i < names.size(); ++i) {
    const std::span<const std::byte> bytes = lend_checked(names[i]);
    const auto row_bytes = bytes.size() / static_cast<size_t>(parts[i].rows);
    parts[i].data = bytes.data();
    parts[i].done = [this, bytes, row_bytes](int64_t first, int64_t count) {
      source_->drop(bytes.subspan(static_cast<size_t>(first) * row_bytes, static_cast<size_t>(count) * row_bytes));
    };
    if (spec.bias == Bias::each_output) parts[i].bias.data = lend_checked(bias_of(names[i])).data();
  }
  Tensor packed = device_.pack(parts, spec, keep);
  for (const std::string& name : names) {
    source_->release(name);
    if (spec.bias == Bias::each_output) source_->release(bias_of(name));
  }
  return packed;
}

}  // namespace tessera
