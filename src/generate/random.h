#pragma once
#include <array>
#include <cstdint>

namespace tessera {

// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a draw depends on its key and counter alone.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Uniform in [0, 1), 53 bits: the draw of the token at `position` of sample `sample` of a request with this seed.
double uniform(uint64_t seed, uint64_t sample, uint64_t position);

}  // namespace tessera
