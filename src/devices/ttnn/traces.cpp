#include "ttnn/traces.h"

#include <algorithm>
#include <exception>

#include "core/error.h"
#include "ttnn/n150_memory.h"

namespace tessera::ttnn {

using namespace nb::literals;

const nb::object& Inputs::get(const Name& name, const CardStep& step, const std::function<Input()>& describe) {
  const auto known = inputs_.find(name);
  if (known != inputs_.end()) return known->second.tensor;
  Input input = describe();
  input.tensor = ttnn_.upload(input.shape, input.dtype, input.layout, ttnn_.object("DRAM_MEMORY_CONFIG"),
                              [&](std::span<std::byte> bytes) { input.fill(step, bytes); });
  return inputs_.emplace(name, std::move(input)).first->second.tensor;
}

void Inputs::write(const CardStep& step) {
  for (const auto& [name, input] : inputs_)
    ttnn_("copy_host_to_device_tensor",
          ttnn_.on_host(input.shape, input.dtype, input.layout, [&](std::span<std::byte> bytes) { input.fill(step, bytes); }),
          input.tensor);
}

Tensor Traces::run(const Model& model, const CardStep& step, const Forward& forward) {
  const Place trace = find(model, step);
  try {
    trace->inputs.write(step);
    if (!trace->compiled) {
      Tensor output = forward(trace->inputs);
      trace->compiled = true;
      return output;
    }
    if (!trace->id.is_valid()) record(*trace, forward);
    ttnn_("execute_trace", ttnn_.card(), trace->id, "cq_id"_a = 0, "blocking"_a = false);
    return trace->output;
  } catch (...) {
    clear();  // the room that all of them have together may be what was short
    throw;
  }
}

void Traces::clear() {
  for (const Trace& trace : traces_) release(trace);
  traces_.clear();
}

Traces::Place Traces::find(const Model& model, const CardStep& step) {
  traces_.remove_if([&](const Trace& trace) {
    const bool gone = trace.model.expired() || trace.cache.expired();
    if (gone) release(trace);
    return gone;
  });
  const std::shared_ptr<PagedCache> cache = cache_of(step).shared_from_this();
  const std::vector<int64_t> kind = step.kind();
  const Place found = std::find_if(traces_.begin(), traces_.end(), [&](const Trace& trace) {
    return trace.model.lock() == model.id() && trace.cache.lock() == cache && trace.kind == kind;
  });
  if (found != traces_.end()) {
    traces_.splice(traces_.begin(), traces_, found);
  } else {
    if (traces_.size() == n150::kTraces) {
      release(traces_.back());
      traces_.pop_back();
    }
    traces_.push_front({model.id(), cache, kind, Inputs(ttnn_)});
  }
  return traces_.begin();
}

void Traces::record(Trace& trace, const Forward& forward) {
  trace.id = ttnn_("begin_trace_capture", ttnn_.card(), "cq_id"_a = 0);
  const auto end = [&] { ttnn_("end_trace_capture", ttnn_.card(), trace.id, "cq_id"_a = 0); };
  try {
    trace.output = forward(trace.inputs);
  } catch (...) {
    try {  // otherwise the card records whatever comes
      end();
    } catch (const std::exception&) {  // the first error is the one to tell
    }
    throw;
  }
  end();
}

void Traces::release(const Trace& trace) noexcept {
  if (!trace.id.is_valid()) return;
  try {
    ttnn_("release_trace", ttnn_.card(), trace.id);
  } catch (const std::exception&) {  // the card is lost, and the recording with it
  }
}

}  // namespace tessera::ttnn
