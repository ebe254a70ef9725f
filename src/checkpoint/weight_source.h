#pragma once
// Where a model's weights come from: files, or a torch module's memory. A source lists its tensors under canonical names, lends their
// bytes one at a time and takes them back once they are packed.
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/stored_type.h"

namespace tessera {

struct StoredTensor {
  std::string name;                // canonical: "model.layers.0.self_attn.q_proj.weight"
  std::optional<StoredType> type;  // nullopt: not a type that weights are read from
  std::string dtype;               // as its source calls it ("BF16", "I64"), for messages
  std::vector<int64_t> shape;
  uint64_t bytes;
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // Sorted by name, each name once.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  const StoredTensor* find(std::string_view name) const;  // nullptr: absent

  // The tensor's bytes, row by row, aligned to its elements, lent until release(name) or the source's end. Throws FileError when the
  // file isn't any more what was opened.
  virtual std::span<const std::byte> lend(std::string_view name) = 0;

  // Memory that holds `bytes`, a piece of what is lent, may be given back: they can still be read, at the price of fetching them again.
  virtual void drop(std::span<const std::byte> /*bytes*/) {}

  // Gives the bytes and their pages back. Throws FileError when what was read since lend() may not be what the file held when it
  // was opened: nothing made of it may be used then.
  virtual void release(std::string_view name) = 0;

  // Whether two tensors of float values are one, or have one shape and equal values, whatever their types. NaN equals nothing. They are
  // read once.
  virtual bool equal(std::string_view a, std::string_view b);

  // Changes with the tensors and their bytes, as far as that can be told without reading them; empty: it cannot.
  virtual std::string identity() const { return {}; }

  // What is odd but harmless ("... is not listed in the index and was ignored"): for the user to see.
  const std::vector<std::string>& notes() const { return notes_; }

 protected:
  std::vector<StoredTensor> tensors_;
  std::vector<std::string> notes_;

 private:
  std::map<std::pair<std::string, std::string>, bool> compared_;
};

// The name that models know a stored tensor by; nullopt for one that is never loaded (a rotary embedding's buffer).
//   language_model.model.X, model.language_model.X, model.X  ->  model.X     the three layouts of multimodal checkpoints
//   language_model.X, X where X is layers, embed_tokens, norm ->  model.X    a model that was saved without its head
//   model.model.X                                            ->  model.X
//   language_model.lm_head.X                                 ->  lm_head.X
//   model.vision_tower.X, model.multi_modal_projector.X      ->  vision_tower.X, multi_modal_projector.X
std::optional<std::string> canonical_name(std::string_view stored);

// Whether every value is finite. The bytes are float values of `type`.
bool all_finite(std::span<const std::byte> bytes, StoredType type);

}  // namespace tessera
