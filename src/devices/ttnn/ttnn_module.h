#pragma once
// TTNN as C++ calls it: a Python module, an open card, tensors made of bytes, and errors that name the op. Every call wants the GIL.
#include <nanobind/nanobind.h>

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/data_type.h"
#include "core/error.h"
#include "core/tensor.h"
#include "ttnn/watchdog.h"

namespace tessera::ttnn {

namespace nb = nanobind;

// Runs what drops references to Python's objects, on any thread, with or without the GIL; not any more when the interpreter has ended and
// the objects with it.
template <class Drop>
void let_go(const Drop& drop) {
  if (PyGILState_Check()) {
    drop();
  } else if (Py_IsInitialized()) {
    const nb::gil_scoped_acquire gil;
    drop();
  }
}

// What keeps TTNN tensors behind a Tensor or a cache. It may be let go by any thread, with or without the GIL.
struct CardStorage : Storage {
  explicit CardStorage(std::vector<nb::object> objects = {}, std::vector<int64_t> places = {})
      : tensors(std::move(objects)), rows(std::move(places)) {}
  ~CardStorage() override;
  int64_t row(int64_t token) const { return rows.empty() ? token : rows[static_cast<size_t>(token)]; }
  std::vector<nb::object> tensors;
  std::vector<int64_t> rows;  // where the rows of a Tensor stand in the tensor; empty: from its first row on
};

// How long a call to TTNN may take, and who is told. Both functions are called on a thread of their own and without the GIL, which TTNN
// keeps while it waits.
struct Patience {
  // Of a card that is at work, 0: for ever. Programs are compiled in a shape's first calls. TTNN itself gives up after as long, by
  // TT_METAL_OPERATION_TIMEOUT_SECONDS, unless that is set or TTNN has been used before in this process.
  std::chrono::seconds timeout{0};
  // Once, when the card has not opened for 5 seconds. Opening may take for ever.
  std::function<void()> waiting;
  // Once, with the error's text, when a call has taken longer than `timeout`. It is to leave the process.
  std::function<void(const std::string&)> hung;
};

// When TTNN gives a call up because the card does not answer, the card is lost: that call and all later ones are a DeviceError, and TTNN is
// not called any more, not to close the card either. It would wait for the card again.
class Module {
 public:
  // Imports `name` ("ttnn", or what a test puts in its place) and opens the card. Throws std::runtime_error: TTNN is not installed; there
  // is no such card. While another process has the card, TTNN waits.
  // `trace_bytes` of its memory are kept for recordings.
  Module(const std::string& name, int device_id, size_t trace_bytes, const Patience& patience);
  // A card that is open already stays open. Throws std::invalid_argument for a mesh of several chips.
  Module(const std::string& name, nb::object device);
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Calls the op of this path, "transformer.paged_scaled_dot_product_attention_decode". What TTNN refuses is a std::runtime_error with
  // TTNN's reason, the op and the shapes; ResourceError where memory is short; DeviceError where the card is lost.
  template <class... Arguments>
  nb::object operator()(const char* op, const Arguments&... arguments) {
    check<DeviceError>(lost_.empty(), lost_);
    try {
      const Watchdog::Call call(watchdog_.get(), op);
      return object(op)(arguments...);
    } catch (nb::python_error& error) {
      std::string shapes;
      (describe(arguments, shapes), ...);
      refuse(op, error, shapes);
    }
  }

  // An attribute by its path, looked up once.
  const nb::object& object(const std::string& path);
  nb::object dtype(DataType dtype) { return object(std::string(name(dtype))); }
  const nb::object& card() const { return card_; }

  // A tensor of the bytes that `fill` writes: those of its layout, "TILE_LAYOUT" or "ROW_MAJOR_LAYOUT"; here, or on the card. A
  // place-holder for TTNN that keeps no values lends no bytes, and then none are made.
  nb::object on_host(std::span<const int64_t> shape, const nb::object& dtype, const char* layout,
                     const std::function<void(std::span<std::byte>)>& fill);
  nb::object upload(std::span<const int64_t> shape, const nb::object& dtype, const char* layout, const nb::object& memory,
                    const std::function<void(std::span<std::byte>)>& fill);
  // The bytes of a row-major tensor of the card, and who keeps them.
  std::pair<nb::object, std::span<const std::byte>> download(const nb::object& tensor);

 private:
  template <class Argument>
  static void describe(const Argument& argument, std::string& shapes) {
    if constexpr (std::is_base_of_v<nb::handle, Argument>) describe_tensor(argument, shapes);
  }
  static void describe_tensor(nb::handle tensor, std::string& shapes);
  [[noreturn]] void refuse(const char* op, nb::python_error& error, const std::string& shapes);

  nb::object module_, card_;
  nb::object close_;  // what closes the card; none if it was open before
  std::unordered_map<std::string, nb::object> objects_;
  std::unique_ptr<Watchdog> watchdog_;  // none: calls may take for ever
  std::string lost_;                    // the error's text when the card is lost
};

}  // namespace tessera::ttnn
