#pragma once
#include <string_view>

#include "core/tensor.h"

namespace tessera {

// Who is shown what each op of a device's forwards gave: Device::observe.
class Observer {
 public:
  struct Op {
    std::string_view name;           // as in ops.h
    const Tensor* weight = nullptr;  // of an op that has one
    const Tensor* input = nullptr;   // what it took, but for embedding
    std::string_view part = {};      // "q", "k" or "v" of nlp_create_qkv_heads, which is shown three times
  };

  virtual ~Observer() = default;
  virtual void begin() = 0;  // a forward begins
  virtual void see(const Op& op, const Tensor& output) = 0;
};

// Has `observer` see what runs on `device` for as long as this lives.
class Observing {
 public:
  Observing(Device& device, Observer& observer);
  ~Observing();
  Observing(const Observing&) = delete;
  Observing& operator=(const Observing&) = delete;

 private:
  Device& device_;
};

}  // namespace tessera
