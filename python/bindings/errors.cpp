#include "core/error.h"

#include "bindings.h"

namespace tessera::python {

// std::invalid_argument is ValueError, std::runtime_error RuntimeError and std::bad_alloc MemoryError by nanobind's own rules.
void bind_errors(nb::module_& m) {
  nb::exception<FileError>(m, "FileError", PyExc_OSError).attr("__doc__") =
      "A model or file is bad: missing, truncated, unsupported. An OSError, as transformers raises for a checkpoint that it cannot load.";
  nb::exception<ResourceError>(m, "ResourceError", PyExc_MemoryError).attr("__doc__") = "Memory or disk is exhausted.";
  nb::exception<DeviceError>(m, "DeviceError", PyExc_RuntimeError).attr("__doc__") = "A device does not answer any more.";
}

}  // namespace tessera::python
