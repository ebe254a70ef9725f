// What belongs to the n150.
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <vector>

#include "bindings.h"
#include "core/error.h"
#include "core/machine.h"
#include "ttnn/tiles.h"

namespace tessera::python {
namespace {

using namespace nb::literals;
using Values = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

std::vector<ttnn::StoredRow> stored_rows(const Values& weight) {
  std::vector<ttnn::StoredRow> rows;
  for (size_t o = 0; o < weight.shape(0); ++o)
    rows.push_back({reinterpret_cast<const std::byte*>(weight.data() + o * weight.shape(1)), StoredType::float32});
  return rows;
}

nb::bytes pack_tiles(const Values& weight, const std::string& dtype, int threads) {
  const std::vector<ttnn::StoredRow> rows = stored_rows(weight);
  const auto in = static_cast<int64_t>(weight.shape(1));
  const DataType type = parse_data_type(dtype);
  std::vector<std::byte> bytes(static_cast<size_t>(ttnn::tiled_bytes(type, in, static_cast<int64_t>(rows.size()))));
  {
    const nb::gil_scoped_release release;
    ThreadPool pool(threads > 0 ? threads : available_threads());
    ttnn::pack_tiles(pool, type, rows, in, bytes);
  }
  return nb::bytes(bytes.data(), bytes.size());
}

nb::bytes pack_table(const Values& weight, const std::string& dtype) {
  const std::vector<ttnn::StoredRow> rows = stored_rows(weight);
  std::vector<bfloat16> values(weight.size());
  {
    const nb::gil_scoped_release release;
    ThreadPool pool(available_threads());
    ttnn::pack_table(pool, parse_data_type(dtype), rows, static_cast<int64_t>(weight.shape(1)), values);
  }
  return nb::bytes(values.data(), values.size() * sizeof(bfloat16));
}

}  // namespace

void bind_card(nb::module_& m) {
  m.def("pack_tiles", pack_tiles, "weight"_a, "dtype"_a, nb::kw_only(), "threads"_a = 0,
        "A float32 weight [out, in] as the bytes of the card's tiles, [in, out] padded to 32 x 32. dtype: \"bfloat16\", \"bfloat8_b\" or "
        "\"bfloat4_b\".");
  m.def("pack_table", pack_table, "weight"_a, "dtype"_a, "The values that pack_tiles gives a weight [out, in], as bfloat16 row by row.");
}

}  // namespace tessera::python
