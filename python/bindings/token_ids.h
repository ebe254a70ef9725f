#pragma once
#include <nanobind/nanobind.h>

#include <cstdint>
#include <vector>

#include "core/types.h"

namespace tessera::python {

// Token ids as Python has them: a list, or a NumPy or torch array of integers.
struct TokenIds {
  std::vector<int64_t> values;

  // Throws std::invalid_argument for an id that is no TokenId.
  std::vector<TokenId> ids() const;
};

// False: `source` is neither.
bool read_token_ids(nanobind::handle source, TokenIds& out) noexcept;

}  // namespace tessera::python

namespace nanobind::detail {

template <>
struct type_caster<tessera::python::TokenIds> {
  NB_TYPE_CASTER(tessera::python::TokenIds, const_name("collections.abc.Sequence[int] | numpy.typing.NDArray[numpy.integer]"))

  bool from_python(handle source, uint32_t, cleanup_list*) noexcept { return tessera::python::read_token_ids(source, value); }
};

}  // namespace nanobind::detail
