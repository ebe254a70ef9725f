#pragma once
#include <string>
#include <vector>

#include "generate/cache.h"
#include "kinds/device_kinds.h"
#include "models/description.h"
#include "models/registry.h"

namespace tessera {

constexpr int64_t kLongestContext = int64_t{1} << 30;  // that can be asked for, in tokens

// The bytes that a model takes.
struct Need {
  size_t weights, cache, working;
  size_t total() const { return weights + cache + working; }
};

size_t weight_bytes(const DeviceKind& kind, const ModelDescription& model, DataType weights);
size_t cache_bytes(const DeviceKind& kind, const CacheSpec& spec, DataType dtype, int64_t context, int64_t sequences);

// A model on a device as far as memory goes: the one reckoning of it. No device is opened.
struct MemoryPlan {
  const DeviceKind& kind;
  const ModelDescription& model;
  Memory memory = kind.memory();

  // The types that are asked for or the model's own. `context`: 0: the longest that fits, or 1 if none does. Throws std::invalid_argument
  // beyond the model's own context.
  Load load(const Precision& precision, int64_t context, int64_t sequences, bool traced) const;
  // Throws std::invalid_argument for a model or types that the device does not compute with, and for more sequences than it decodes at a
  // time.
  Need need(const Load& load) const;
  bool fits(const Load& load) const { return need(load).total() <= memory.bytes; }
  // The longest context with which the load fits, whole pages of it; 0: none does.
  int64_t longest_context(Load load) const;
  // The most sequences with which it does.
  int64_t most_sequences(Load load) const;
  // Loads that fit in place of one that does not: with other types, a shorter context, fewer sequences, each by itself; empty: none does.
  std::vector<Load> changes(const Load& load) const;
  // A cache that the load's sequences share, in at most `bytes`, or, with 0, in what memory leaves beside the model; no larger than what
  // they all fill. Throws ResourceError when not even one of them can be as long as the context.
  CacheOptions shared_cache(const Load& load, size_t bytes) const;
  // The most sequences, at most the load's, for which there is one; 0: none.
  int64_t most_sharing(const Load& load, size_t bytes) const;
  // Throws ResourceError, in plan's words, when it does not fit. `what`: the model's name.
  void expect_fits(const Load& load, const std::string& what) const;

 private:
  size_t shared_bytes(const Load& load, int64_t tokens) const;
};

// A cache for as many tokens and sequences of up to `context` tokens as the memory holds: for who does not know how many there will be. It
// takes address space at first, and on the cpu memory as it fills. What further sequences take however short they are may be a sixteenth of
// it, or half where layers have shorter windows, which each fills. Throws ResourceError when there is no room for one sequence.
CacheOptions largest_cache(const DeviceKind& kind, const Memory& memory, const CacheSpec& spec, DataType dtype, int64_t context);

}  // namespace tessera
