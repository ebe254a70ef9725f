#pragma once
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "cpu/thread_pool.h"

namespace tessera {

// What the machine itself can do, measured right beside what is compared with it.

double seconds(const std::function<void()>& run);

// Bytes a second of plain reads of `blocks`, each of which starts at a cache line: the best of several prefetch distances.
double read_rate(cpu::ThreadPool& pool, std::span<const std::span<const std::byte>> blocks);

enum class Multiply { bfloat16, float32 };  // vdpbf16ps, fused multiply-add

// Floating-point operations a second of a loop of that instruction on 512 bits.
double multiply_rate(cpu::ThreadPool& pool, Multiply kind);

}  // namespace tessera
