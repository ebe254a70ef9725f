#pragma once
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "generate/cache.h"
#include "generate/sampler.h"
#include "ops/model.h"

namespace tessera {

// Feeds sequences through a model in Batches that the device takes. Where those start aligned, a sequence is taken back to the last such
// place, and the tokens from there on are computed again.
class Generator {
 public:
  // Forward the tokens of `sequence` that are not cached yet, and give the logits of its last `logit_rows` tokens; cached tokens among
  // those are computed again.
  struct Request {
    Sequence* sequence;
    int64_t logit_rows;
    std::exception_ptr error = nullptr;  // set when this sequence could not go on: the cache is full, the context ended
  };
  // One row of logits [vocab], of the token at `position` of requests[request]. Rows of a request come in order of position.
  using RowSink = std::function<void(size_t request, int64_t position, std::span<const float> logits)>;
  // Called after each Batch with the tokens done and to do; throw to stop.
  using Progress = std::function<void(int64_t done, int64_t total)>;

  // `chunk`: the longest piece of a prompt in one Batch; at most, and by default (0), what the device takes.
  Generator(const Model& model, Device& device, Cache& cache, int64_t chunk = 0);

  // Sequences of one call are computed side by side. An error of one sequence stands in its request, the others go on; whatever else
  // is thrown leaves every sequence with the tokens that were committed.
  void forward(std::span<Request> requests, const RowSink& sink, const Progress& progress = {});

  // The same in steps: begin once, then step until it gives false. A step runs one Batch; the rows that it gives stay until the next one.
  void begin(std::span<Request> requests);
  bool step(std::span<Request> requests, const RowSink& sink);

  // The logits of the sequence's last token; throws what stopped it.
  std::vector<float> forward(Sequence& sequence, const Progress& progress = {});

  // The token that `sampler` takes after those of the sequence, the first `prompt` of which are the prompt's: as from all logits, of which
  // the device gives only as many as it needs. A card's argmax tells nothing of logits that are no numbers. Throws what stopped it.
  TokenId sample(Sequence& sequence, Sampler& sampler, size_t prompt, uint64_t sample = 0);

  const Model& model() const { return model_; }
  Device& device() const { return device_; }
  Cache& cache() const { return cache_; }
  int64_t chunk() const { return chunk_; }

 private:
  void prepare(Request& request);
  bool compose(std::span<Request> requests);
  std::optional<Tensor> run(std::span<Request> requests);
  std::span<const float> read(const Tensor& logits);
  int64_t room_for(int64_t pending) const;

  const Model& model_;
  Device& device_;
  Cache& cache_;
  int64_t chunk_;
  Limits limits_;
  std::vector<TokenId> tokens_;  // of the Batch being composed
  std::vector<Batch::Slice> slices_;
  std::vector<size_t> slice_requests_;
  std::vector<float> logits_;
};

}  // namespace tessera
