#include "checkpoint/weights.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace {

constexpr size_t kPieceBytes = size_t{16} << 20;  // of a large tensor are read, then dropped

std::string text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

// A stored shape [out, in] or [width] as ours.
Shape as_shape(const std::vector<int64_t>& stored) {
  Shape shape{1, 1, 1, 1};
  if (stored.size() > 4) return {};
  for (size_t i = 0; i < stored.size(); ++i) shape[4 - stored.size() + i] = stored[i];
  return shape;
}

}  // namespace

Weights::Weights(WeightSource& source, Device& device, const ModelOptions& options, Progress progress, PackedWeights* kept)
    : source_(&source), device_(device), options_(options), progress_(std::move(progress)), kept_(kept) {
  for (const StoredTensor& tensor : source.tensors()) {
    left_.insert(tensor.name);
    total_bytes_ += static_cast<int64_t>(tensor.bytes);
  }
}

Tensor Weights::take(std::string_view name, const Shape& shape, Role role) {
  const std::string names[] = {std::string(name)};
  return pack(names, std::span(&shape, 1), {.role = role, .shape = shape});
}

Tensor Weights::take_joined(std::span<const std::string> names, std::span<const Shape> shapes, Role role) {
  Shape joined = shapes.front();
  for (const Shape& shape : shapes.subspan(1)) joined[2] += shape[2];
  return pack(names, shapes, {.role = role, .shape = joined});
}

Tensor Weights::take_qkv(std::span<const std::string> names, int64_t hidden, const Heads& heads) {
  const auto rows = [&](int64_t count) { return Shape{1, 1, count * heads.head_dim, hidden}; };
  const Shape joined = rows(heads.num_heads + 2 * heads.num_kv_heads);
  const Shape parts[] = {rows(heads.num_heads), rows(heads.num_kv_heads), rows(heads.num_kv_heads)};
  return pack(
      names, names.size() == 1 ? std::span(&joined, 1) : std::span<const Shape>(parts),
      {.role = Role::qkv, .shape = joined, .num_heads = heads.num_heads, .num_kv_heads = heads.num_kv_heads, .head_dim = heads.head_dim});
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

void Weights::expect_all_taken() const {
  check<FileError>(left_.empty(), "the checkpoint holds ", left_.size(), " tensors that the model does not use, ",
                   printable(left_.empty() ? "" : *left_.begin()), " first; its config.json does not describe it");
}

Tensor Weights::pack(std::span<const std::string> names, std::span<const Shape> shapes, WeightSpec spec) {
  std::vector<WeightPart> parts;
  spec.options = options_;
  spec.name = names.front();
  if (!source_) {
    for (const Shape& shape : shapes) parts.push_back({nullptr, StoredType::bfloat16, shape[2]});
    return device_.pack(parts, spec);
  }
  for (size_t i = 0; i < names.size(); ++i) {
    const StoredTensor* tensor = source_->find(names[i]);
    check<FileError>(tensor != nullptr, "the checkpoint lacks tensor ", printable(names[i]), ", which its config.json asks for");
    check<FileError>(left_.erase(names[i]) == 1, "tensor ", printable(names[i]), " is taken twice");
    check<FileError>(as_shape(tensor->shape) == shapes[i], "tensor ", printable(names[i]), " has shape ", text(tensor->shape),
                     "; config.json asks for [", shapes[i][2], ", ", shapes[i][3], "]");
    check<FileError>(tensor->type.has_value(), "tensor ", printable(names[i]), " is stored as ", tensor->dtype,
                     "; weights are read from F32, F16 and BF16");
    parts.push_back({nullptr, *tensor->type, shapes[i][2]});
  }
  Tensor packed = kept_ && spec.role != Role::norm ? kept_->take(device_, spec) : Tensor();
  if (!packed) packed = pack_anew(names, parts, spec);
  for (const std::string& name : names) done_bytes_ += static_cast<int64_t>(source_->find(name)->bytes);
  if (progress_) progress_(done_bytes_, total_bytes_);
  return packed;
}

Tensor Weights::pack_anew(std::span<const std::string> names, std::vector<WeightPart>& parts, const WeightSpec& spec) {
  for (size_t i = 0; i < names.size(); ++i) {
    const std::span<const std::byte> bytes = source_->lend(names[i]);
    const auto row_bytes = bytes.size() / static_cast<size_t>(parts[i].rows);
    parts[i].data = bytes.data();
    parts[i].done = [this, bytes, row_bytes](int64_t first, int64_t count) {
      source_->drop(bytes.subspan(static_cast<size_t>(first) * row_bytes, static_cast<size_t>(count) * row_bytes));
    };
    bool finite = true;
    for (size_t at = 0; at < bytes.size(); at += kPieceBytes) {
      const std::span<const std::byte> piece = bytes.subspan(at, std::min(kPieceBytes, bytes.size() - at));
      finite = finite && all_finite(piece, parts[i].type);
      if (bytes.size() > kPieceBytes) source_->drop(piece);
    }
    if (!finite) notes_.push_back(message("tensor ", printable(names[i]), " holds values that are not finite"));
  }
  Tensor packed = device_.pack(parts, spec);
  for (const std::string& name : names) source_->release(name);
  return packed;
}

}  // namespace tessera
