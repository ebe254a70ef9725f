#pragma once
// The Python module tessera._core: one to one with the C++ names, and thin. What computes or reads files lets other Python threads run.
#include <nanobind/nanobind.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/data_type.h"
#include "ops/device.h"

namespace nb = nanobind;

namespace tessera::python {

void bind_card(nb::module_& m);
void bind_errors(nb::module_& m);
void bind_loading(nb::module_& m);
void bind_generation(nb::module_& m);
void bind_text(nb::module_& m);
void bind_evaluation(nb::module_& m);

// Data types are text in Python.
inline std::string text(DataType dtype) { return std::string(name(dtype)); }
inline std::optional<DataType> data_type(const std::optional<std::string>& text) {
  return text ? std::optional(parse_data_type(*text)) : std::nullopt;
}

// The n150 through the Python module `module`, or what TESSERA_TTNN_MODULE names, or "ttnn"; with `trace` its decodes are recorded and
// replayed. A call may take `timeout` seconds, 0: for ever; then `hung`, if given, is called as ttnn::Patience says. While it waits for the
// card, it says so on standard error: TTNN keeps the GIL, so that no warning of Python's could be given. `notice` takes what the device's
// user should know of, with the GIL held. Wants the GIL.
std::unique_ptr<Device> open_n150(const std::optional<std::string>& module, int device_id, bool trace, int timeout,
                                  std::function<void(const std::string&)> hung, std::function<void(const std::string&)> notice);

// Between two steps of something long: reports them to `progress` unless it is None, and lets Ctrl-C through as KeyboardInterrupt.
void report(const nb::object& progress, int64_t done, int64_t total);

}  // namespace tessera::python
