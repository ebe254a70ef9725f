#pragma once
// Decodes that are recorded once and replayed: the card then takes one command for all ops of a step, and the host calls none of them.
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
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
//
// A recording writes wherever memory was free while it was made, so that whatever is there to stay must have been there before: the weights
// and caches, each kind's inputs and the logits of all, and the programs, which lie in the same memory. When one comes, all recordings are
// dropped, and made anew as their kinds come again; that costs about a step each.
class Traces {
 public:
  using Forward = std::function<Tensor(Inputs&)>;
  using Tell = std::function<void(const std::string&)>;

  // `tell` takes what people should know: that recording has ended, and why.
  Traces(Module& ttnn, Tell tell) : ttnn_(ttnn), tell_(std::move(tell)) {}
  ~Traces() { clear(); }
  Traces(const Traces&) = delete;
  Traces& operator=(const Traces&) = delete;

  // What `forward` gives for this Step. Replays of a model write it in one place: it is good until the next run. Of each recording the
  // first replay and every 256th are held against forward, bit for bit.
  Tensor run(const Model& model, const CardStep& step, const Forward& forward);

  // Drops all recordings: for who allocates memory of the card for good.
  void drop();

 private:
  struct Trace {
    std::weak_ptr<const void> model;  // Model::id
    std::weak_ptr<PagedCache> cache;
    std::vector<int64_t> kind;
    Inputs inputs;
    nb::object logits = {};  // of all kinds of the model: a tile's rows
    Tensor output = {};      // of them this kind's; none before it came once
    nb::object id = {};      // of the recording; none before it is made
    int64_t replays = 0;
  };

  Trace& find(const Model& model, const CardStep& step);
  void keep_output(Trace& trace, const Tensor& called);
  void copy_output(const Trace& trace, const Tensor& made);
  bool record(Trace& trace, const Forward& forward);
  Tensor checked(Trace& trace, const CardStep& step, const Forward& forward);
  std::vector<std::byte> wanted_rows(const Tensor& logits, const CardStep& step);
  size_t programs() const;
  void release(Trace& trace) noexcept;
  void clear();
  void end(const std::string& why);

  Module& ttnn_;
  Tell tell_;
  std::list<Trace> traces_;  // the last used first
  size_t programs_ = 0;      // of the card, when the recordings were made
  bool records_ = true, replays_ = true;
};

}  // namespace tessera::ttnn
