# What the wrapper has the assembler read before each file of a Tensix core. docs/simulated_card.md tells of it.

# A Tensix instruction lies among RISC-V's rotated left by two bits (Wormhole).
.macro .ttinsn word
  .4byte (((\word) << 2) | (((\word) >> 30) & 3)) & 0xffffffff
.endm

# The compiler's f0 to f7, which it calls ft0 to ft7, stand for L0 to L7 of the vector unit.
.set L_ft0, 0
.set L_ft1, 1
.set L_ft2, 2
.set L_ft3, 3
.set L_ft4, 4
.set L_ft5, 5
.set L_ft6, 6
.set L_ft7, 7

.set SFPMOV, 0x7c
.set SFPNOP, 0x8f

# A vector instruction by its fields: an immediate or none, register C, the destination, a mode.
.macro sfp_unary op, imm, c, d, mode
  .ttinsn ((\op) << 24) | (((\imm) & 0xfff) << 12) | ((\c) << 8) | ((\d) << 4) | (\mode)
.endm

# A * B + C. It takes two cycles: no other may follow at once.
.macro sfp_mad op, a, b, c, d, mode
  .ttinsn ((\op) << 24) | ((\a) << 16) | ((\b) << 12) | ((\c) << 8) | ((\d) << 4) | (\mode)
  .ttinsn SFPNOP << 24
.endm

# Loads, stores and tables: a register, a mode, and 16 bits of an immediate or an address.
.macro sfp_memory op, register, mode, bits
  .ttinsn ((\op) << 24) | ((\register) << 20) | ((\mode) << 16) | ((\bits) & 0xffff)
.endm

# An instruction whose immediate is known at run time only: \word holds it at its place, the other bits are added, and the word is stored
# where the unit takes its instructions from.
.macro sfp_at_run_time word, scratch, buffer, bits
  .set sfp_bits, (\bits)
  li \scratch, sfp_bits
  or \scratch, \scratch, \word
  sw \scratch, 0(\buffer)
.endm

# Moves that the compiler makes by itself are of all lanes, whatever the lane flags say (mode 2); L9 is zero.
.macro fmv.s d, s
  sfp_unary SFPMOV, 0, L_\s, L_\d, 2
.endm
.macro fsgnj.s d, s, t
  sfp_unary SFPMOV, 0, L_\s, L_\d, 2
.endm
.macro fmv.w.x d, s
  .ifc \s,zero
  sfp_unary SFPMOV, 0, 9, L_\d, 2
  .else
  .error "a number of the core went to a vector register: the vector unit has no such move"
  .endif
.endm

# What the vector unit has not: a compilation that needs it fails, and never gives wrong code.
.macro fmv.x.w d, s
  .error "a vector register went to the core: the vector unit has no such move"
.endm
.macro flw operands:vararg
  .error "a vector register is loaded from memory: more than eight vectors are alive, or the kernel computes with floats on the core"
.endm
.macro fsw operands:vararg
  .error "a vector register is stored to memory: more than eight vectors are alive, or the kernel computes with floats on the core"
.endm
