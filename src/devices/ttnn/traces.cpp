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
  Trace& trace = find(model, step);
  try {
    trace.inputs.write(step);
    if (programs() != programs_) drop();
    if (!replays_ || (!trace.id.is_valid() && !(trace.output && record(trace, forward)))) {
      Tensor called = forward(trace.inputs);
      if (!trace.output) keep_output(trace, called);
      return called;
    }
    ttnn_("execute_trace", ttnn_.card(), trace.id, "cq_id"_a = 0, "blocking"_a = false);
    return trace.replays++ % n150::kReplaysChecked == 0 ? checked(trace, step, forward) : trace.output;
  } catch (...) {
    clear();  // the room that all of them have together may be what was short
    throw;
  }
}

// Room for what replays give, and the program that brings it there.
void Traces::keep_output(Trace& trace, const Tensor& called) {
  trace.output = called;
  if (is_empty(called)) return;
  const auto other = std::find_if(traces_.begin(), traces_.end(),
                                  [&](const Trace& known) { return known.logits.is_valid() && known.model.lock() == trace.model.lock(); });
  const int64_t vocab = called.shape()[3];
  trace.logits = other != traces_.end() ? other->logits
                                        : ttnn_("empty", nb::make_tuple(1, 1, kTile, vocab), ttnn_.dtype(called.dtype()),
                                                ttnn_.object("TILE_LAYOUT"), ttnn_.card(), ttnn_.object("DRAM_MEMORY_CONFIG"));
  // A view of as many rows as the users are.
  nb::object seen = ttnn_("reshape", trace.logits, tensor(called).attr("shape"), nb::make_tuple(1, 1, kTile, round_up(vocab, kTile)));
  trace.output = Tensor(called.device(), called.shape(), called.dtype(),
                        std::make_shared<CardStorage>(std::vector<nb::object>{std::move(seen)}, storage(called).rows));
  copy_output(trace, called);
}

void Traces::copy_output(const Trace& trace, const Tensor& made) {
  if (!is_empty(made)) ttnn_("copy", tensor(made), tensor(trace.output));
}

// The replay that was just made, or, where it is not what `forward` gives, that.
Tensor Traces::checked(Trace& trace, const CardStep& step, const Forward& forward) {
  if (step.wanted_rows().empty()) return trace.output;
  const std::vector<std::byte> replayed = wanted_rows(trace.output, step);
  Tensor called = forward(trace.inputs);  // writes the same rows of the cache
  if (wanted_rows(called, step) == replayed) return trace.output;
  replays_ = false;
  drop();
  end(message("a replayed decode of ", step.rows(), " users differs from the same decode called op by op, which is taken"));
  return called;
}

std::vector<std::byte> Traces::wanted_rows(const Tensor& logits, const CardStep& step) {
  const auto [owner, bytes] = ttnn_.download(
      ttnn_("to_layout", tensor(logits), ttnn_.object("ROW_MAJOR_LAYOUT"), "memory_config"_a = ttnn_.object("DRAM_MEMORY_CONFIG")));
  const size_t row_bytes = bytes.size() / static_cast<size_t>(step.rows());
  std::vector<std::byte> wanted;
  for (const int64_t row : step.wanted_rows()) {
    const auto line = bytes.subspan(static_cast<size_t>(row) * row_bytes, row_bytes);
    wanted.insert(wanted.end(), line.begin(), line.end());
  }
  return wanted;
}

size_t Traces::programs() const { return nb::cast<size_t>(ttnn_.card().attr("num_program_cache_entries")()); }

void Traces::drop() {
  for (Trace& trace : traces_) release(trace);
}

void Traces::clear() {
  drop();
  traces_.clear();
}

void Traces::end(const std::string& why) {
  records_ = false;
  if (tell_) tell_("n150: " + why + "; no decode is recorded from now on");
}

Traces::Trace& Traces::find(const Model& model, const CardStep& step) {
  traces_.remove_if([&](Trace& trace) {
    const bool gone = trace.model.expired() || trace.cache.expired();
    if (gone) release(trace);
    return gone;
  });
  const std::shared_ptr<PagedCache> cache = cache_of(step).shared_from_this();
  const std::vector<int64_t> kind = step.kind();
  const auto found = std::find_if(traces_.begin(), traces_.end(), [&](const Trace& trace) {
    return trace.model.lock() == model.id() && trace.cache.lock() == cache && trace.kind == kind;
  });
  if (found != traces_.end()) {
    traces_.splice(traces_.begin(), traces_, found);
  } else {
    drop();  // for its inputs
    traces_.push_front({model.id(), cache, kind, Inputs(ttnn_)});
  }
  return traces_.front();
}

// Whether there is one now.
bool Traces::record(Trace& trace, const Forward& forward) {
  if (!records_) return false;
  const auto recorded = [](const Trace& other) { return other.id.is_valid(); };
  if (std::count_if(traces_.begin(), traces_.end(), recorded) == static_cast<std::ptrdiff_t>(n150::kTraces))
    release(*std::find_if(traces_.rbegin(), traces_.rend(), recorded));
  programs_ = programs();
  bool open = false;
  try {
    trace.id = ttnn_("begin_trace_capture", ttnn_.card(), "cq_id"_a = 0);
    open = true;
    copy_output(trace, forward(trace.inputs));
    open = false;
    ttnn_("end_trace_capture", ttnn_.card(), trace.id, "cq_id"_a = 0);
  } catch (const DeviceError&) {
    throw;
  } catch (const std::exception& error) {
    try {  // otherwise the card records whatever comes
      if (open) ttnn_("end_trace_capture", ttnn_.card(), trace.id, "cq_id"_a = 0);
    } catch (const std::exception&) {  // the first error is the one to tell
    }
    release(trace);
    // TTNN counts a refused recording's bytes for good: none would fit any more. Those that are there stay right.
    end(message("a decode cannot be recorded: ", error.what()));
    return false;
  }
  if (programs() == programs_) return true;
  release(trace);  // it may write where its own new program lies
  return false;
}

void Traces::release(Trace& trace) noexcept {
  trace.replays = 0;
  if (!trace.id.is_valid()) return;
  try {
    ttnn_("release_trace", ttnn_.card(), trace.id);
  } catch (const std::exception&) {  // the card is lost, and the recording with it
  }
  trace.id = {};
}

}  // namespace tessera::ttnn
