"""wolfpine's server of a Wormhole, which divides by zero as RISC-V does: the quotient is all ones, the remainder the dividend. TTNN's firmware does so
once; wolfpine 2.2 ends there."""
import runpy

from framework.pe.rv.isa.m_isa import RV_M_ISA

as_it_is = RV_M_ISA.run.__func__


def run(cls, registers, memory, snoop, instruction=None):
    divides = instruction is not None and instruction & 0xFE00407F == 0x02004033
    if not divides or registers[instruction >> 20 & 31].read_uint():
        return as_it_is(cls, registers, memory, snoop, instruction)
    remainder = instruction >> 13 & 1
    result = registers[instruction >> 15 & 31].read_uint() if remainder else 0xFFFFFFFF
    registers[instruction >> 7 & 31].write(result.to_bytes(4, "little"))
    return True


RV_M_ISA.run = classmethod(run)
runpy.run_module("framework.sim.wormhole", run_name="__main__")
