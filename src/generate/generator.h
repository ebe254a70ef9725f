#pragma once
#include <cstdint>
#include <exception>
#include <functional>
#include <span>
#include <vector>

#include "generate/cache.h"
#include "ops/model.h"
#include "ops/selection.h"

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
  // A row of a Batch's logits [vocab], which stays on the device until it is asked for. Lives as long as the call that it is given to.
  class Row {
   public:
    int64_t vocab() const { return generator_.model_.spec().vocab_size; }
    operator std::span<const float>() const;  // all of them; valid until the next step
    TokenId argmax() const;                   // as the device finds it; a card's tells nothing of logits that are no numbers
    TopK topk(int64_t k) const;               // of this row alone; k and what is given as Device's

   private:
    friend class Generator;
    Row(Generator& generator, size_t index) : generator_(generator), index_(index) {}
    Generator& generator_;
    size_t index_;
  };
  // The row of the token at `position` of requests[request]. Rows of a request come in order of position.
  using RowSink = std::function<void(size_t request, int64_t position, const Row& row)>;
  // Called after each Batch, before its rows are given, with the tokens done and to do; throw to stop.
  using Progress = std::function<void(int64_t done, int64_t total)>;

  // `chunk`: the longest piece of a prompt in one Batch; at most, and by default (0), what the device takes.
  Generator(const Model& model, Device& device, Cache& cache, int64_t chunk = 0);

  // Sequences of one call are computed side by side. An error of one sequence stands in its request, the others go on; whatever else
  // is thrown leaves every sequence with the tokens that were committed.
  void forward(std::span<Request> requests, const RowSink& sink, const Progress& progress = {});

  // The same in steps: begin once, then step until it gives false. A step runs one Batch.
  void begin(std::span<Request> requests);
  bool step(std::span<Request> requests, const RowSink& sink);

  // How many tokens may follow `known` ones in the model's context and the cache, and with the same set of LongRoPE's factors.
  int64_t room_behind(size_t known) const;

  const Model& model() const { return model_; }
  Device& device() const { return device_; }
  Cache& cache() const { return cache_; }
  int64_t chunk() const { return chunk_; }

 private:
  void prepare(Request& request);
  bool compose(std::span<Request> requests);
  bool run(std::span<Request> requests);
  void give_rows(const RowSink& sink);
  int64_t room_for(int64_t pending) const;

  const Model& model_;
  Device& device_;
  Cache& cache_;
  int64_t chunk_;
  Limits limits_;
  std::vector<TokenId> tokens_;  // of the Batch being composed
  std::vector<Batch::Slice> slices_;
  std::vector<size_t> slice_requests_;
  Tensor made_;  // the logits of the last Batch, while its rows are given, and what was asked of them
  std::vector<float> logits_;
  bool read_ = false;
  std::vector<TokenId> best_;
  TopK largest_;
};

}  // namespace tessera
