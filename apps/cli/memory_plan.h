#pragma once
#include <memory>
#include <string>
#include <vector>

#include "models/description.h"

namespace tessera {

// What a model would be run with.
struct Load {
  DataType weights, activations, cache;
  int64_t context;      // tokens of a sequence, prompt and answer
  int64_t sequences;    // that live at a time
  bool traced = false;  // a card records its decodes
};

// The bytes that it takes.
struct Need {
  size_t weights, cache, working;
  size_t total() const { return weights + cache + working; }
};

// A device as far as its memory goes; no device is opened.
class Machine {
 public:
  virtual ~Machine() = default;
  virtual std::string name() const = 0;
  virtual size_t memory() const = 0;  // that may be taken
  // Throws std::invalid_argument for what it does not compute with, and for more sequences than it decodes at a time.
  virtual Need need(const ModelDescription& model, const Load& load) const = 0;
  virtual Limits limits() const = 0;

  bool fits(const ModelDescription& model, const Load& load) const { return need(model, load).total() <= memory(); }
};

// "n150", or "cpu": this machine's. `memory`: in place of what is there; 0: what is there.
std::unique_ptr<Machine> machine(const std::string& device, size_t memory);

// The longest context with which the load fits, whole pages of it; 0: none does.
int64_t longest_context(const Machine& machine, const ModelDescription& model, Load load);
// The most sequences with which it does.
int64_t most_sequences(const Machine& machine, const ModelDescription& model, Load load);

// Throws ResourceError, in plan's words, when it does not fit. `what`: the model's name.
void expect_fits(const Machine& machine, const ModelDescription& model, const Load& load, const std::string& what);

std::string gigabytes(size_t bytes);  // "12.87 GB"

// What makes a load fit that does not: other types, a shorter context, fewer sequences, each by itself and as flags; empty: nothing does.
std::vector<std::string> changes(const Machine& machine, const ModelDescription& model, const Load& load);

}  // namespace tessera
