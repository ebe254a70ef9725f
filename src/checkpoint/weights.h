#pragma once
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/kept_weights.h"
#include "checkpoint/weight_source.h"
#include "ops/device.h"

namespace tessera {

// Hands a checkpoint's tensors to a device. Each name is taken once, skipped or left over (expect_all_taken); an absent name, a wrong
// shape or a type that weights are not read from is a FileError that names it. Shapes are checked before anything is allocated.
class Weights {
 public:
  using Progress = std::function<void(int64_t done_bytes, int64_t total_bytes)>;

  // `kept`: what this device packed of this source before, or null.
  Weights(WeightSource& source, Device& device, const ModelOptions& options, Progress progress = {}, KeptWeights* kept = nullptr);
  // Without a source: every weight is there, in the shape asked for, and has no values. For a device that does not look at them.
  explicit Weights(Device& device) : device_(device) {}

  // A weight [1, 1, out, in], or an embedding [1, 1, vocab, hidden]. With biases "X.weight" is taken with "X.bias" [out].
  Tensor take(std::string_view name, const Shape& shape, Role role, Bias bias = Bias::none);

  // Those of `count` experts, [1, count, out, in] together: names in the experts' order, of each as many as shapes.
  Tensor take_experts(std::span<const std::string> names, std::span<const Shape> shapes, int64_t count, Role role);

  // Several weights of the same input, their outputs laid end to end: q|k|v, gate|up.
  Tensor take_joined(std::span<const std::string> names, std::span<const Shape> shapes, Role role, Bias bias);

  // The q, k and v projections, or one stored joined, [1, 1, (num_heads + 2 num_kv_heads) * head_dim, hidden] in all.
  struct Heads {
    int64_t num_heads, num_kv_heads, head_dim;
  };
  Tensor take_qkv(std::span<const std::string> names, int64_t hidden, const Heads& heads, Bias bias);

  // float32 [1, 1, 1, width]: weight + offset.
  Tensor take_norm(std::string_view name, int64_t width, float offset);

  // These names are not the model's: left where they are.
  void skip_prefix(std::string_view prefix);
  // What is left is a note, as it is to transformers. But a weight or a bias in the model's own place is an error, however small: its
  // config.json then describes another model, whose numbers would be wrong without a word.
  void expect_all_taken();
  bool is_left(std::string_view name) const { return left_.contains(name); }

  bool has(std::string_view name) const { return source_ && source_->find(name) != nullptr; }
  // Of two tensors that are there (WeightSource::equal).
  bool equal(std::string_view a, std::string_view b) const { return source_->equal(a, b); }

  int64_t num_parameters() const { return num_parameters_; }  // values taken so far; a tied embedding's count once

  // What is odd but harmless, such as tensors that hold NaN or infinity: for the user to see.
  const std::vector<std::string>& notes() const { return notes_; }
  void note(std::string text) { notes_.push_back(std::move(text)); }

 private:
  StoredType claim(const std::string& name, std::span<const int64_t> shape);
  std::span<const std::byte> lend_checked(const std::string& name);
  Tensor pack(std::span<const std::string> names, std::span<const Shape> shapes, WeightSpec spec);
  Tensor pack_anew(std::span<const std::string> names, std::vector<WeightPart>& parts, const WeightSpec& spec, const Device::Keep& keep);

  WeightSource* source_ = nullptr;
  Device& device_;
  ModelOptions options_{};
  Progress progress_;
  KeptWeights* kept_ = nullptr;
  std::set<std::string, std::less<>> left_;
  std::vector<std::string> notes_;
  int64_t done_bytes_ = 0, total_bytes_ = 0, num_parameters_ = 0;
};

}  // namespace tessera
