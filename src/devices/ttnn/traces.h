#pragma once
// Decodes that are recorded once and replayed: the card then takes one command for all ops of a step, and the host calls none of them.
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "ops/model.h"
#include "ttnn/card_step.h"
#include "ttnn/ttnn_storage.h"

namespace tessera::ttnn {

// What a forward takes from the host: tensors in the card's DRAM, made when they are first asked for. They stay where they are, so that a
// recording can read them, and are written anew for each Step of it.
class Inputs {
 public:
  using Fill = std::function<void(const CardStep&, std::span<std::byte>)>;
  using Name = std::pair<std::string_view, const void*>;  // what it is, and of what
  struct Input {
    std::vector<int64_t> shape;
    nb::object dtype;
    const char* layout;
    Fill fill;  // kept: it may refer to what the model and the cache keep, not to a Step
    nb::object tensor = {};
  };

  explicit Inputs(Module& ttnn) : ttnn_(ttnn) {}

  const nb::object& get(const Name& name, const CardStep& step, const std::function<Input()>& describe);
  void write(const CardStep& step);

 private:
  Module& ttnn_;
  std::map<Name, Input> inputs_;
};

// A decode of the same model, cache, rows and widths of page tables is the same commands. The first one of a kind runs as it comes, which
// compiles its programs; the second is recorded; from then on it is replayed.
class Traces {
 public:
  using Forward = std::function<Tensor(Inputs&)>;

  explicit Traces(Module& ttnn) : ttnn_(ttnn) {}
  ~Traces() { clear(); }
  Traces(const Traces&) = delete;
  Traces& operator=(const Traces&) = delete;

  // What `forward` gives for this Step. A replay writes it where the last one of its kind did.
  Tensor run(const Model& model, const CardStep& step, const Forward& forward);

  // Forgets all. A recording writes to memory that was free while it was made: whatever comes to lie there to stay would be overwritten.
  void clear();

 private:
  struct Trace {
    std::weak_ptr<const void> model;  // Model::id
    std::weak_ptr<PagedCache> cache;
    std::vector<int64_t> kind;
    Inputs inputs;
    bool compiled = false;
    nb::object id;  // of the recording; none before it is made
    Tensor output;
  };
  using Place = std::list<Trace>::iterator;

  Place find(const Model& model, const CardStep& step);
  void record(Trace& trace, const Forward& forward);
  void release(const Trace& trace) noexcept;

  Module& ttnn_;
  std::list<Trace> traces_;  // the last used first
};

}  // namespace tessera::ttnn
