#pragma once
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "generate/cache.h"
#include "generate/logit_rows.h"
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
    int64_t share = std::numeric_limits<int64_t>::max();    // tokens that the next Batch takes of it at most; 0: none
    int64_t settled = std::numeric_limits<int64_t>::max();  // tokens that will not be taken back, as drafts may be
    std::exception_ptr error = nullptr;                     // set when this sequence could not go on: the cache is full, the context ended
  };
  // The row of a token of requests[request]. Rows of a request come in order of position.
  using RowSink = std::function<void(size_t request, int64_t position, const LogitRow& row)>;
  using RowsSink = std::function<void(LogitRows& rows)>;  // those of a Batch, if there are any
  // Called after each Batch, before its rows are given, with the tokens done and to do; throw to stop.
  using Progress = std::function<void(int64_t done, int64_t total)>;

  // `chunk`: the longest piece of a prompt in one Batch; at most, and by default (0), what the device takes.
  Generator(const Model& model, Device& device, Cache& cache, int64_t chunk = 0);

  // Sequences of one call are computed side by side. An error of one sequence stands in its request, the others go on; whatever else
  // is thrown leaves every sequence with the tokens that were committed.
  void forward(std::span<Request> requests, const RowSink& sink, const Progress& progress = {});

  void forward_rows(std::span<Request> requests, const RowsSink& sink, const Progress& progress = {});

  // The same in steps: begin each request once, an error of which is thrown, then step until it gives nothing, or all is computed. A step
  // runs one Batch, of those requests that have a share, and gives its rows, if there are any wanted: which are to be read before the next.
  // A device that begins pieces of a prompt aligned takes more than a smaller share.
  void begin(std::span<Request> requests);
  std::optional<LogitRows> step(std::span<Request> requests);

  // How many tokens may follow `known` ones in the model's context and the cache, and with the same set of LongRoPE's factors.
  int64_t room_behind(size_t known) const;

  const Model& model() const { return model_; }
  Device& device() const { return device_; }
  Cache& cache() const { return cache_; }
  int64_t chunk() const { return chunk_; }

 private:
  void prepare(Request& request);
  bool compose(std::span<Request> requests);
  int rope_set(int64_t known) const;
  int64_t room_for(const Request& request, int64_t pending) const;

  const Model& model_;
  Device& device_;
  Cache& cache_;
  int64_t chunk_;
  Limits limits_;
  std::vector<TokenId> tokens_;  // of the Batch being composed
  std::vector<Batch::Slice> slices_;
  std::vector<size_t> slice_requests_;
  std::shared_ptr<LogitRows::Buffer> buffer_;
};

}  // namespace tessera
