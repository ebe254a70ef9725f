#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/cache_spec.h"
#include "core/special_tokens.h"
#include "core/tensor.h"
#include "ops/rotary.h"

namespace tessera {

class Step;

// What a model is to those who feed it.
struct ModelSpec {
  struct Rope {
    std::string layers;  // "all", "full" or "sliding"
    Rotary rotary;
  };

  int64_t vocab_size = 0;
  int64_t max_position_embeddings = 0;  // the longest context, in tokens
  bool tied = false;                    // the head is the embedding
  CacheSpec cache;
  bool attention_softcap = false;               // attention's scores are capped
  std::optional<int64_t> recompute_after = {};  // LongRoPE: a sequence that grows past this length is prefilled anew
  std::vector<Rope> ropes = {};
  SpecialTokens tokens = {};  // the class's own, for a checkpoint that names none
};

// A model is its weights; a conversation is its Sequence.
class Model {
 public:
  virtual ~Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // Logits [1, 1, wanted rows, vocab]. Only Device::run calls it.
  virtual Tensor forward(const Step& step) const = 0;

  const ModelSpec& spec() const { return spec_; }

  // Who it is, for what others keep of it: held weakly it is never another's, as an address may be, and tells when the model is gone.
  const std::shared_ptr<const void>& id() const { return id_; }

 protected:
  explicit Model(ModelSpec spec) : spec_(std::move(spec)) {}
  ModelSpec spec_;

 private:
  std::shared_ptr<const void> id_ = std::make_shared<char>();
};

}  // namespace tessera
