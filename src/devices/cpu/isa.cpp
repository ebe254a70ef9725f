#include "cpu/isa.h"

#include <array>
#include <cstdlib>

#include "core/error.h"

namespace tessera::cpu {
namespace {

constexpr std::array kIsas{Isa::plain, Isa::avx2, Isa::avx512};

}  // namespace

std::string_view name(Isa isa) {
  constexpr std::array<std::string_view, 4> names{"plain", "avx2", "avx512", "card"};
  return names[static_cast<size_t>(isa)];
}

bool supported(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  switch (isa) {
    case Isa::plain:
      return true;
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    case Isa::avx512:
#if defined(TESSERA_EMULATE_AVX512)
      return supported(Isa::avx2);
#endif
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16");
    case Isa::card:
      return false;
  }
#endif
  return isa == Isa::plain;
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (Isa isa : kIsas)
    if (supported(isa)) isas.push_back(isa);
  return isas;
}

Isa default_isa() {
  if (const char* forced = std::getenv("TESSERA_CPU_ISA"); forced && *forced) {
    for (Isa isa : kIsas)
      if (name(isa) == forced) {
        check(supported(isa), "TESSERA_CPU_ISA=", forced, ": this machine lacks these instructions; choose one of its own or unset it");
        return isa;
      }
    fail("TESSERA_CPU_ISA=", forced, " is unknown; choose plain, avx2 or avx512");
  }
  return supported_isas().back();
}

}  // namespace tessera::cpu
