#include "token_ids.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <limits>

#include "core/error.h"

namespace nb = nanobind;

namespace tessera::python {
namespace {

template <class Integer>
bool read_array(nb::handle source, TokenIds& out) {
  nb::ndarray<const Integer, nb::ndim<1>, nb::device::cpu> array;
  if (!nb::try_cast(source, array, false)) return false;
  out.values.resize(array.shape(0));
  for (size_t i = 0; i < out.values.size(); ++i) out.values[i] = array(i);
  return true;
}

}  // namespace

bool read_token_ids(nb::handle source, TokenIds& out) noexcept {
  try {
    if (nb::ndarray_check(source)) return read_array<int64_t>(source, out) || read_array<int32_t>(source, out);
    return nb::try_cast(source, out.values, false);
  } catch (...) {
    return false;
  }
}

std::vector<TokenId> TokenIds::ids() const {
  std::vector<TokenId> ids;
  ids.reserve(values.size());
  for (int64_t value : values) {
    check(value >= 0 && value <= std::numeric_limits<TokenId>::max(), "token id ", value, " is outside every vocabulary");
    ids.push_back(static_cast<TokenId>(value));
  }
  return ids;
}

}  // namespace tessera::python
