"""The block formats in NumPy, from their definition alone: what src/core/block_float.cpp is held against."""
import subprocess

import numpy as np

MAGNITUDE_BITS = {"bfloat8_b": 7, "bfloat4_b": 3}


def encode(values, bits):
    """Exponents [n] and codes [n, 16] of float32 values [n, 16]."""
    words = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.int64)
    fields = words >> 23 & 255
    shared = fields.max(axis=1, keepdims=True)
    whole = np.where(fields == 0, 0, 2**23 + (words & (2**23 - 1)))
    aligned = whole // 2 ** np.minimum(shared - fields, 40)  # bits that fall off do not count
    magnitude = np.minimum(np.rint(aligned / 2.0 ** (24 - bits)), 2**bits - 1).astype(np.int64)  # rint rounds to even
    negative = (words >> 31 == 1) & (magnitude > 0)
    return shared[:, 0].astype(np.uint8), (magnitude + 2**bits * negative).astype(np.uint8)


def decode(exponents, codes, bits):
    """The codes' values as float32 bits; exponent 255 is float32's own, from the leading bit down."""
    magnitude = (codes & (2**bits - 1)).astype(np.float64)
    exponent = exponents.astype(np.int64)[:, None] - 127 - (bits - 1)
    with np.errstate(over="ignore"):
        values = np.ldexp(magnitude, exponent)
        words = values.astype(np.float32).view(np.uint32)
    full = (exponents[:, None] == 255) & (magnitude >= 2 ** (bits - 1))
    special = 0x7F800000 + ((codes & (2 ** (bits - 1) - 1)).astype(np.uint32) << (24 - bits))
    return np.where(full, special, words).astype(np.uint32) | ((codes >> bits).astype(np.uint32) << 31)


def inputs(blocks=4096, seed=0):
    """(name, float32 values [blocks, 16]) for every kind of input."""
    random = np.random.default_rng(seed)
    normal = random.standard_normal((blocks, 16)).astype(np.float32)
    bits = random.integers(0, 2**32, (blocks, 16), dtype=np.uint32)
    some = random.random((blocks, 16)) < 0.1
    signs = np.sign(normal)
    yield "normal", normal
    yield "of many magnitudes", normal * np.exp2(random.integers(-40, 40, (blocks, 16))).astype(np.float32)
    yield "zero", np.where(some, np.float32(0), np.float32(-0.0))
    yield "zeros among normal", np.where(some, normal, np.float32(0) * signs)
    yield "ties", (bits & 0x83FF0000 | 0x3C000000).view(np.float32)
    yield "ties and a little", (bits & 0x83FE0003 | 0x3C000000).view(np.float32)
    yield "denormal", (bits & 0x807FFFFF).view(np.float32)
    yield "denormal and tiny", (bits & 0x81FFFFFF).view(np.float32)
    yield "huge", (bits & 0x80FFFFFF | 0x7E800000 & ~(some * np.uint32(0x1000000))).astype(np.uint32).view(np.float32)
    yield "infinite among normal", np.where(some, np.float32(np.inf) * signs, normal)
    yield "infinite among huge", np.where(some, np.float32(np.inf) * signs, normal * np.float32(1e37))
    yield "nan among normal", np.where(some, np.float32(np.nan), normal)
    yield "any bits", bits.view(np.float32)


def run_program(path, format_name, values, folder):
    """Exponents, codes and values (float32 bits) of the C++ code, through files."""
    values = np.ascontiguousarray(values, np.float32)
    values.tofile(folder / "in")
    subprocess.run([path, format_name, folder / "in", folder / "out"], check=True)
    raw = (folder / "out").read_bytes()
    blocks, count = len(values), values.size
    exponents = np.frombuffer(raw, np.uint8, blocks)
    codes = np.frombuffer(raw, np.uint8, count, blocks).reshape(blocks, 16)
    return exponents, codes, np.frombuffer(raw[blocks + count :], np.uint32).reshape(blocks, 16)
