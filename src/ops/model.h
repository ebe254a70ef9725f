#pragma once
#include "core/cache_spec.h"
#include "core/tensor.h"

namespace tessera {

class Step;

// A model is its weights; a conversation is its Sequence.
class Model {
 public:
  virtual ~Model() = default;

  // Logits [1, 1, wanted rows, vocab]. Only Device::run calls it.
  virtual Tensor forward(const Step& step) const = 0;

  virtual CacheSpec cache_spec() const = 0;
  virtual int64_t vocab_size() const = 0;
  virtual int64_t max_position_embeddings() const = 0;  // the longest context, in tokens
};

}  // namespace tessera
