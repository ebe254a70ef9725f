#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ops/observer.h"

namespace tessera {

// What an op gave. Its name is the weight's in the checkpoint ("layers.3.self_attn.q_norm"; joined weights are self_attn.qkv_proj and
// mlp.gate_up_proj), or else the op's own ("layers.3.attention", "layers.3.rotary_embedding.q"). One that comes again in its layer is
// numbered ("layers.3.add_2"). A name says the same of every device and precision.
struct Observation {
  std::string name;
  std::string_view op;           // as in ops.h
  std::optional<int64_t> layer;  // nullopt: before the first, after the last
  Tensor output;
};

// Keeps what the ops of a forward gave until the next one begins, in the order in which the model asked for them. A card that replays
// recordings writes where these lie once it is not observed any more: read them before.
class Observations final : public Observer {
 public:
  void begin() override;
  void see(const Op& op, const Tensor& output) override;

  const std::vector<Observation>& all() const { return all_; }

 private:
  std::vector<Observation> all_;
  std::map<std::string, int, std::less<>> times_;     // that a name came
  std::map<const Storage*, std::string_view> parts_;  // q, k or v of heads
  std::optional<int64_t> layer_;                      // of the last weight used
};

}  // namespace tessera
