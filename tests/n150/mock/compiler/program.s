# The one kernel of a mock card. It has code, data and a relocation between them, as TTNN's loader expects.
  .section .start, "ax"
  .globl _start
_start:
  lui a5, %hi(count)
  lw a0, %lo(count)(a5)
  addi a0, a0, 1
  sw a0, %lo(count)(a5)
  ret
  .data
  .globl count
count:
  .word 1
