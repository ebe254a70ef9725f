#include "ttnn/ttnn_module.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>

#include "core/error.h"

namespace tessera::ttnn {
namespace {

using namespace nb::literals;

// "TT_FATAL @ file:line: condition\ninfo:\nreason\nbacktrace:..." as "reason (condition)"; other texts' first line.
std::string reason_of(const nb::python_error& error) {
  const std::string text = nb::cast<std::string>(nb::str(error.value()));
  const size_t info = text.find("\ninfo:\n");
  if (!text.starts_with("TT_") || info == std::string::npos) {
    const size_t first = text.find_first_not_of('\n');
    return first == std::string::npos ? "no reason given" : text.substr(first, text.find('\n', first) - first);
  }
  const size_t begin = info + 7, end = text.find("\nbacktrace:", begin);
  std::string reason = text.substr(begin, end - begin);
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  const std::string head = text.substr(0, info);
  return reason + " (" + head.substr(head.rfind(": ") == std::string::npos ? 0 : head.rfind(": ") + 2) + ")";
}

constexpr std::chrono::seconds kOpening{5};  // longer than a card takes that nobody has

// TTNN 0.81.1 throws this, of a queue and of a wait for results, when TT_METAL_OPERATION_TIMEOUT_SECONDS are over.
bool is_timeout(const std::string& reason) { return reason.starts_with("TIMEOUT: device timeout"); }

std::string lost_in(const std::string& call, const std::string& how) {
  return message("the card did not answer: ", call, ' ', how,
                 ". Reset it with tt-smi -r and start the process anew; if it was no hang but a slow machine, allow a longer timeout");
}

nb::object import(const std::string& name) {
  try {
    return nb::module_::import_(name.c_str());
  } catch (nb::python_error& error) {
    fail<std::runtime_error>("n150: Python cannot import ", name, ": ", reason_of(error),
                             ". scripts/setup n150 makes an environment that has it");
  }
}

std::span<std::byte> bytes_of(const nb::object& host_tensor, const nb::object& coordinate) {
  const auto array = nb::cast<nb::ndarray<nb::ro>>(host_tensor.attr("host_buffer")().attr("get_shard")(coordinate));
  // TTNN lends the tensor's own memory, though marked as not to be written.
  return {static_cast<std::byte*>(const_cast<void*>(array.data())), array.nbytes()};
}

}  // namespace

CardStorage::~CardStorage() {
  let_go([this] { tensors.clear(); });
  for (nb::object& tensor : tensors) tensor.release();
}

Module::Module(const std::string& name, int device_id, size_t trace_bytes, const Patience& patience) {
  if (patience.timeout.count() > 0)  // TTNN may read it when it is imported
    nb::module_::import_("os").attr("environ").attr("setdefault")("TT_METAL_OPERATION_TIMEOUT_SECONDS",
                                                                  std::to_string(patience.timeout.count()));
  module_ = import(name);
  try {
    Watchdog opening(kOpening, [&patience](const char*) {
      if (patience.waiting) patience.waiting();
    });
    const Watchdog::Call call(&opening, "open_device");
    card_ = module_.attr("open_device")("device_id"_a = device_id, "trace_region_size"_a = trace_bytes);
    close_ = module_.attr("close_device");
  } catch (nb::python_error& error) {
    fail<std::runtime_error>("n150: cannot open card ", device_id, ": ", reason_of(error),
                             ". A card belongs to one process at a time: see that it is there (tt-smi -ls) and that no other process has "
                             "it; if it hangs, reset it (tt-smi -r)");
  }
  if (patience.timeout.count() > 0 && patience.hung)
    watchdog_ = std::make_unique<Watchdog>(patience.timeout, [patience](const char* op) {
      patience.hung(lost_in(op, message("has not returned for ", patience.timeout.count(), " s")));
    });
}

Module::Module(const std::string& name, nb::object device) : module_(import(name)), card_(std::move(device)) {
  if (!nb::hasattr(card_, "get_num_devices")) return;  // no mesh, but what a test puts in a card's place
  const auto chips = nb::cast<int64_t>(card_.attr("get_num_devices")());
  check(chips == 1, "n150: the ttnn device is a mesh of ", chips,
        " chips; meshes are not supported: pass one chip, ttnn.open_device(device_id=0)");
}

Module::~Module() {
  let_go([this] {
    try {
      const Watchdog::Call call(watchdog_.get(), "close_device");
      if (close_.is_valid() && lost_.empty()) close_(card_);
    } catch (nb::python_error& error) {
      error.discard_as_unraisable("n150: closing the card");
    }
    if (!lost_.empty()) card_.release();  // its last reference would close it
    objects_.clear();
    for (nb::object* object : {&close_, &card_, &module_}) object->reset();
  });
  for (auto& [path, object] : objects_) object.release();
  for (nb::object* object : {&close_, &card_, &module_}) object->release();
}

const nb::object& Module::object(const std::string& path) {
  const auto known = objects_.find(path);
  if (known != objects_.end()) return known->second;
  nb::object found = module_;
  for (size_t begin = 0; begin < path.size();) {
    const size_t dot = std::min(path.find('.', begin), path.size());
    const std::string part = path.substr(begin, dot - begin);
    check<std::runtime_error>(nb::hasattr(found, part.c_str()), "n150: this TTNN has no ", path, "; version 0.81.1 has");
    found = found.attr(part.c_str());
    begin = dot + 1;
  }
  return objects_.emplace(path, std::move(found)).first->second;
}

nb::object Module::on_host(std::span<const int64_t> shape, const nb::object& dtype, const char* layout,
                           const std::function<void(std::span<std::byte>)>& fill) {
  nb::list sizes;
  for (const int64_t size : shape) sizes.append(size);
  nb::object host = (*this)("allocate_tensor_on_host", (*this)("Shape", sizes), dtype, object(layout), card_);
  const std::span<std::byte> bytes = bytes_of(host, object("MeshCoordinate")(0, 0));
  if (!bytes.empty()) fill(bytes);
  return host;
}

nb::object Module::upload(std::span<const int64_t> shape, const nb::object& dtype, const char* layout, const nb::object& memory,
                          const std::function<void(std::span<std::byte>)>& fill) {
  return (*this)("to_device", on_host(shape, dtype, layout, fill), card_, "memory_config"_a = memory);
}

std::pair<nb::object, std::span<const std::byte>> Module::download(const nb::object& tensor) {
  nb::object host = (*this)("from_device", tensor);
  const std::span<const std::byte> bytes = bytes_of(host, object("MeshCoordinate")(0, 0));
  return {std::move(host), bytes};
}

void Module::describe_tensor(nb::handle tensor, std::string& shapes) {
  if (!nb::hasattr(tensor, "shape") || !nb::hasattr(tensor, "dtype")) return;
  const nb::object shape = tensor.attr("shape"), dtype = tensor.attr("dtype");
  shapes += (shapes.empty() ? " " : ", ") + nb::cast<std::string>(nb::str(shape)) + " " + nb::cast<std::string>(nb::str(dtype));
}

void Module::refuse(const char* op, nb::python_error& error, const std::string& shapes) {
  const std::string reason = reason_of(error);
  if (is_timeout(reason)) {
    lost_ = lost_in(op + shapes, "ended in " + reason);
    throw DeviceError(lost_);
  }
  check<ResourceError>(reason.find("Out of Memory") == std::string::npos, op, shapes, ": the card's memory is full: ", reason,
                       ". Shorten the context, take fewer sequences, or use a smaller weight or cache type");
  fail<std::runtime_error>(op, shapes, ": TTNN refuses: ", reason);
}

}  // namespace tessera::ttnn
