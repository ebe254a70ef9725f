#pragma once
// The Python module tessera._core: one to one with the C++ names, and thin. What computes or reads files lets other Python threads run.
#include <nanobind/nanobind.h>

#include <optional>
#include <string>

#include "core/data_type.h"

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

// Between two steps of something long: reports them to `progress` unless it is None, and lets Ctrl-C through as KeyboardInterrupt.
void report(const nb::object& progress, int64_t done, int64_t total);

}  // namespace tessera::python
