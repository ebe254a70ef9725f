#pragma once
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "core/thread_pool.h"

namespace tessera {

// What the machine itself can do, measured right beside what is compared with it.

double seconds(const std::function<void()>& run);

// Bytes a second of plain reads of `blocks`, each of which starts at a cache line: the best of several prefetch distances.
// Throws std::invalid_argument on a processor without AVX2, as multiply_rate does.
double read_rate(ThreadPool& pool, std::span<const std::span<const std::byte>> blocks);

// bfloat16: vdpbf16ps where the cpu device has kernels for it, else as float32. float32: fused multiply-add.
enum class Multiply { bfloat16, float32 };

// Floating-point operations a second of a loop of that instruction, on the longest vectors that the cpu device has kernels for.
double multiply_rate(ThreadPool& pool, Multiply kind);

}  // namespace tessera
