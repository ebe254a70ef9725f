#pragma once
// Recording and replaying a core's instructions, under the names that TTNN's kernels use.
#include "vector_unit.h"

namespace lltt {

enum ExecBool : bool { NoExec, Exec };

template <ExecBool execute = NoExec>
SFPU_INLINE void record(unsigned start, unsigned length) {
  vector_unit::replay(start, length, execute, true);
}
SFPU_INLINE void replay(unsigned start, unsigned length) { vector_unit::replay(start, length, false, false); }
constexpr uint32_t replay_insn(unsigned start, unsigned length) { return vector_unit::replay_word(start, length, false, false); }

}  // namespace lltt
