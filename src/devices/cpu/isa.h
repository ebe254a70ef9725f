#pragma once
// The instruction sets that the cpu device has kernels for. Each set's kernels give the same bits for the same numbers, whatever the
// threads, rows or chunks; two sets may differ in the last bits.
#include <string_view>
#include <vector>

namespace tessera::cpu {

enum class Isa {
  plain,   // C++ only: the oracle
  avx2,    // AVX2, FMA, F16C
  avx512,  // AVX-512 F, BW, DQ, VL, VBMI and BF16
  card,    // none of this machine's: plain loops that round as TTNN's kernels on an n150 do, for rows.h
};

std::string_view name(Isa isa);
bool supported(Isa isa);
std::vector<Isa> supported_isas();

// TESSERA_CPU_ISA (plain, avx2 or avx512) if set, else the best that this machine has.
// Throws std::invalid_argument for an unknown name or a set that the machine lacks.
Isa default_isa();

}  // namespace tessera::cpu
