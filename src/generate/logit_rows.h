#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "ops/device.h"

namespace tessera {

class LogitRows;

// One row of a Batch's logits [vocab]. Lives as long as its LogitRows, and does not move with them.
class LogitRow {
 public:
  LogitRow(LogitRows& rows, size_t index) : rows_(&rows), index_(index) {}
  int64_t vocab() const;
  int64_t position() const;                 // of its token in the sequence
  operator std::span<const float>() const;  // all of them
  TokenId argmax() const;                   // as the device finds it; a card's tells nothing of logits that are no numbers
  TopK topk(int64_t k) const;               // of this row alone, at least the k largest; as Device's

 private:
  LogitRows* rows_;
  size_t index_;
};

// The logits of a Batch, which stay on the device until they are asked for: of many greedy rows a few numbers come, and not all logits.
// A card's must be read before its next Batch. What was not fetched before is fetched when it is asked for, of all rows at once.
class LogitRows {
 public:
  struct Place {
    size_t request;  // index among those of the step
    int64_t position;
  };

  // Memory to read into, which grows as need be: one after the other may use it.
  struct Buffer {
    std::unique_ptr<float[]> values;
    size_t size = 0;
  };

  LogitRows(Device& device, Tensor logits, std::vector<Place> places, std::shared_ptr<Buffer> buffer);

  size_t size() const { return places_.size(); }
  const Place& place(size_t row) const { return places_[row]; }
  int64_t vocab() const { return vocab_; }
  LogitRow operator[](size_t row) { return LogitRow(*this, row); }

  // `enough`: what is needed of each row: 1: the largest; k > 1: so many of the largest; 0: all (Sampler::enough); -1: nothing. Afterwards
  // any threads may ask for it at the same time.
  void fetch(std::span<const int64_t> enough);

 private:
  friend class LogitRow;
  void fetch_all(int64_t enough) { fetch(std::vector<int64_t>(size(), enough)); }

  Device* device_;
  Tensor logits_;
  std::vector<Place> places_;
  int64_t vocab_;
  std::shared_ptr<Buffer> buffer_;
  std::vector<std::optional<TokenId>> best_;
  std::vector<TopK> largest_;
  std::vector<bool> read_;  // into its place in the buffer
};

}  // namespace tessera
