#include "onednn_matmul.h"

#ifdef TESSERA_ONEDNN
#include <omp.h>

#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#endif

#include "core/error.h"

namespace tessera {

#ifdef TESSERA_ONEDNN
namespace {

Yardstick make_matmul(dnnl::memory::data_type type, int64_t rows, int64_t out, int64_t in) {
  using dnnl::memory;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const memory::desc x({rows, in}, type, memory::format_tag::ab), weights({in, out}, type, memory::format_tag::any);
  const memory::desc y({rows, out}, memory::data_type::f32, memory::format_tag::ab);
  const dnnl::matmul::primitive_desc made({x, weights, y}, engine);
  std::unordered_map<int, memory> arguments{{DNNL_ARG_SRC, memory(made.src_desc(), engine)},
                                            {DNNL_ARG_WEIGHTS, memory(made.weights_desc(), engine)},
                                            {DNNL_ARG_DST, memory(made.dst_desc(), engine)}};
  for (auto& [argument, buffer] : arguments) std::memset(buffer.get_data_handle(), 0, buffer.get_desc().get_size());
  const dnnl_version_t& version = *dnnl::version();
  const char* type_name = type == memory::data_type::bf16 ? "bfloat16" : "float32";
  return {message("oneDNN ", version.major, ".", version.minor, ".", version.patch, " ", type_name),
          [matmul = dnnl::matmul(made), stream = dnnl::stream(engine), arguments]() mutable {
            matmul.execute(stream, arguments);
            stream.wait();
          }};
}

}  // namespace

std::optional<Yardstick> onednn_matmul(Multiply kind, int64_t rows, int64_t out, int64_t in, int threads) {
  omp_set_num_threads(threads);
  using dtype = dnnl::memory::data_type;
  if (kind == Multiply::float32) return make_matmul(dtype::f32, rows, out, in);
  try {
    return make_matmul(dtype::bf16, rows, out, in);
  } catch (const dnnl::error& error) {
    if (error.status != dnnl_unimplemented) throw;
    return make_matmul(dtype::f32, rows, out, in);
  }
}
#else
std::optional<Yardstick> onednn_matmul(Multiply, int64_t, int64_t, int64_t, int) { return std::nullopt; }
#endif

}  // namespace tessera
