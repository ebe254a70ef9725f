"""A model of the vector unit of a Wormhole Tensix core, as far as compiled kernels of the tests go: 32 lanes, written from the instructions' public
description. It runs the words of a compiled function, and of the core's own instructions those that make an instruction at run time."""
import subprocess

import numpy as np

LANES, BUFFER = 32, 0xFFE40000
FLOAT = np.float32


def words_of(object_file):
    """The 32-bit words of the function `kernel`."""
    binary = object_file.with_suffix(".bin")
    subprocess.run(["riscv64-unknown-elf-objcopy", "-O", "binary", "--only-section=.text.kernel", object_file, binary], check=True)
    return np.fromfile(binary, np.uint32).tolist()


def floats(bits):
    return bits.view(FLOAT)


def bits(values):
    return np.asarray(values, FLOAT).view(np.uint32)


class VectorUnit:
    def __init__(self, dst):
        """dst: float32 [rows, 32], what SFPLOAD and SFPSTORE see at the addresses 0, 2, 4, ..."""
        self.dst = [bits(row).copy() for row in dst]
        self.row = 0
        self.registers = np.zeros((16, LANES), np.uint32)
        for number, value in ((8, 0.8373), (9, 0), (10, 1), (11, -1)):
            self.registers[number] = bits(np.full(LANES, value))
        self.on = np.ones(LANES, bool)
        self.stack = []
        self.executed = []

    def put(self, number, value, everywhere=False):
        self.registers[number] = np.where(self.on | everywhere, value, self.registers[number])

    def run(self, words, *arguments):
        core = dict(enumerate([0] * 32))
        core.update({10 + i: int(value) & 0xFFFFFFFF for i, value in enumerate(arguments)})
        for word in words:
            if word & 3 != 3:
                self.execute((word >> 2 | word << 30) & 0xFFFFFFFF)
            elif not self.core(core, word):
                return

    def core(self, x, word):
        """RISC-V's lui, addi, andi, slli, srli, or and sw; False: it returns. The only symbol is the instruction buffer, at address 0 before linking."""
        opcode, rd, kind, a, b = word & 0x7F, word >> 7 & 31, word >> 12 & 7, x[word >> 15 & 31], x[word >> 20 & 31]
        imm = word >> 20 if not word >> 31 else (word >> 20) - 4096
        if opcode == 0x37:
            value = word & 0xFFFFF000
        elif opcode == 0x13:
            value = {0: a + imm, 1: a << (imm & 31), 4: a ^ imm, 5: a >> (imm & 31), 6: a | imm, 7: a & imm}[kind]
        elif opcode == 0x33:
            value = {0: a + b if not word >> 30 else a - b, 6: a | b, 7: a & b, 4: a ^ b}[kind]
        elif opcode == 0x23:
            if a == 0 and word >> 7 & 31 == 0 and word >> 25 == 0 and b >> 24 >= 0x70:
                self.execute(b)
            return True
        elif opcode in (0x03, 0x17):
            value = 0
        elif opcode == 0x67:
            return False
        else:
            raise ValueError(f"instruction {word:08x} of the core")
        if rd:
            x[rd] = value & 0xFFFFFFFF
        return True

    def execute(self, word):
        op, imm, c, d, mode = word >> 24, word >> 12 & 0xFFF, word >> 8 & 15, word >> 4 & 15, word & 15
        source, old = self.registers[c], self.registers[d]
        signed = imm - 4096 if imm >> 11 else imm
        self.executed.append(op)
        if op in (0x70, 0x71, 0x72):
            self.memory(op, word >> 20 & 15, word >> 16 & 15, word & 0xFFFF)
        elif op in (0x84, 0x86):
            f, g, h = (floats(self.registers[n]).astype(np.float64) for n in (word >> 16 & 15, word >> 12 & 15, c))
            self.put(d, bits(f * g + h))
        elif op == 0x7C:
            self.put(d, source ^ np.uint32(0x80000000) if mode == 1 else source, everywhere=mode == 2)
        elif op == 0x7B:
            value = source.view(np.int32)
            self.on &= {0: value < 0, 2: value != 0, 4: value >= 0, 6: value == 0}[mode]
        elif op == 0x87:
            self.stack.append(self.on.copy())
        elif op == 0x88:
            self.on = self.stack.pop()
        elif op == 0x8B:
            self.on = (self.stack[-1] if self.stack else True) & ~self.on
        elif op == 0x8A:
            self.on[:] = True
        elif op == 0x7D:
            self.put(d, source & np.uint32(0x7FFFFFFF) if mode == 1 else np.abs(source.view(np.int32)).view(np.uint32))
        elif op in (0x7E, 0x7F, 0x8D):
            self.put(d, {0x7E: np.bitwise_and, 0x7F: np.bitwise_or, 0x8D: np.bitwise_xor}[op](old, source))
        elif op == 0x80:
            self.put(d, ~source)
        elif op == 0x81:
            self.put(d, np.array([32 - int(value).bit_length() for value in source], np.uint32))
        elif op == 0x79:
            self.put(d, source + np.uint32(signed & 0xFFFFFFFF) if mode & 1 else source - old if mode & 2 else source + old)
        elif op == 0x7A:
            by = np.full(LANES, signed) if mode & 1 else source.view(np.int32)
            self.put(d, np.array([(int(v) << n if n >= 0 else int(v) >> -n) & 0xFFFFFFFF for v, n in zip(old, by)], np.uint32))
        elif op == 0x77:
            exponent = (source >> 23 & 255).astype(np.int32)
            self.put(d, (exponent if mode & 1 else exponent - 127).view(np.uint32))
        elif op == 0x78:
            self.put(d, source & 0x7FFFFF | (0 if mode & 1 else 1 << 23))
        elif op == 0x82:
            exponent = np.uint32(imm & 255) if mode & 1 else old >> 23 & 255 if mode & 2 else old & 255
            self.put(d, source & ~np.uint32(255 << 23) | exponent << 23)
        elif op == 0x83:
            self.put(d, source & ~np.uint32(0x7FFFFF) | old & 0x7FFFFF)
        elif op == 0x89:
            self.put(d, source & 0x7FFFFFFF | (np.uint32(imm & 1) << 31 if mode & 1 else old & np.uint32(1 << 31)))
        elif op == 0x76:
            self.put(d, source & ~np.uint32(255 << 23) | ((source >> 23) + np.uint32(imm & 255) & 255) << 23)
        elif op == 0x90:
            magnitude = (source & 0x7FFFFFFF).astype(FLOAT)
            self.put(d, bits(np.where(source >> 31, -magnitude, magnitude)))
        elif op == 0x92:
            low, high = np.minimum(floats(old), floats(source)), np.maximum(floats(old), floats(source))
            if mode != 1:
                low, high = floats(source), floats(old)
            low, high = bits(low).copy(), bits(high).copy()
            self.put(d, low)
            self.put(c, high)
        elif op == 0x91:
            self.registers[d] = self.registers[0]
        elif op == 0x38:
            self.row += (word >> 14 & 15) // 2
        elif op != 0x8F:
            raise ValueError(f"instruction {word:08x}")

    def memory(self, op, register, mode, value):
        at = self.row + (value & 0x3FFF) // 2
        if op == 0x70:
            self.put(register, self.dst[at])
        elif op == 0x72:
            self.dst[at] = np.where(self.on, self.registers[register], self.dst[at])
        elif mode in (8, 10):
            kept = self.registers[register]
            self.put(register, kept & 0xFFFF | np.uint32(value) << 16 if mode == 8 else kept & 0xFFFF0000 | np.uint32(value))
        else:
            self.put(register, np.uint32({0: value << 16, 2: value, 4: (value ^ 0x8000) - 0x8000 & 0xFFFFFFFF}[mode]))
