"""Our safetensors reader beside the reference reader: it accepts no file that the reference refuses, and refuses what the reference
accepts only for the reasons that src/checkpoint/safetensors.h names."""

import json
import random
import struct
import subprocess

import pytest
from safetensors import SafetensorError, deserialize

STRICTER = (
    "stands twice",
    "header does not begin with '{'",
    "more than 8 dimensions",
    "a dimension must be below 2^63",
    "is an array, not an object",
    '"__metadata__" is null',
    "dtype is an object",
    "nested more than 64 levels deep",
)
DTYPES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1, "BOOL": 1, "C64": 8, "F8_E4M3": 1}


def file_of(header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def info(shape=(2,), dtype="F32", begin=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def named_cases():
    valid = file_of({"a": info()}, bytes(8))
    text = json.dumps(info()).encode()
    for length in range(len(valid)):
        yield valid[:length]
    yield valid
    yield valid + b"x"
    for n in (0, 1, 2**31, 2**63, 2**64 - 1, 100_000_000, 100_000_001):
        yield struct.pack("<Q", n) + valid[8:]
    for end in (b"\n\t\r ", b"\0", b"\0x", b",", b"{}"):
        yield file_of(b'{"a":' + text + b"}" + end, bytes(8))
    for begin in (b" ", b"\n", b"\xef\xbb\xbf", b"["):
        yield file_of(begin + b'{"a":' + text + b"}", bytes(8))
    for name in (b"", b"a\\u0000", b"a\x00", b"\xff", b"\\ud800", b"\\ud83d\\ude00", b"\xed\xa0\x80", b"../x", b"\\x", b"\t"):
        yield file_of(b'{"' + name + b'":' + text + b"}", bytes(8))
    for metadata in (b"null", b"{}", b'{"k":"v"}', b'{"k":1}', b'{"k":null}', b'{"k":"v","k":"w"}', b"[]", b'"x"', b'{"k":["v"]}'):
        yield file_of(b'{"__metadata__":' + metadata + b',"a":' + text + b"}", bytes(8))
    for value in (b"null", b"1", b'"x"', b"[]", b'["F32",[2],[0,8]]', b"{}", b"true"):
        yield file_of(b'{"a":' + value + b"}", bytes(8))
    for dtype in (b'"F32"', b'"f32"', b'"F33"', b'"F4"', b'"F6_E2M3"', b'""', b"null", b'{"F32":null}', b"32"):
        for size in (1, 2, 4, 8, 16):
            yield file_of(b'{"a":{"dtype":' + dtype + b',"shape":[2],"data_offsets":[0,' + str(size).encode() + b"]}}", bytes(size))
    for dimension in (b"2", b"-0", b"-2", b"2.0", b"2e0", b'"2"', b"null", b"true", b"[2]", b"02", b"18446744073709551616", b"9223372036854775808", b"1e999"):
        yield file_of(b'{"a":{"dtype":"F32","shape":[' + dimension + b'],"data_offsets":[0,8]}}', bytes(8))
    for offsets in (b"[0,8]", b"[0]", b"[]", b"[0,8,8]", b"[8,0]", b"[1,9]", b'{"0":0,"1":8}', b"8", b"[0.0,8]", b"[-0,8]"):
        yield file_of(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":' + offsets + b"}}", bytes(8))
    for field in (b'"dtype":"F32",', b'"x":1,', b'"x":{"y":[null,{}]},', b'"x":' + b"[" * 100 + b"]" * 100 + b","):
        yield file_of(b'{"a":{' + field + b'"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8))
    for count in (0, 1, 8, 9, 100_000):
        yield file_of({"a": info([1] * count, "U8", 0, 1)}, bytes(1))
    yield file_of({"a": info([2**33, 2**33], "U8", 0, 0)})
    yield file_of({"a": info([2**33, 0], "U8", 0, 0)})
    yield file_of({"a": info([2**61], "F64", 0, 0)})
    for second in ([8, 16], [0, 8], [4, 12], [7, 15], [9, 17], [16, 8], [8, 15]):
        yield file_of({"a": info(), "b": info(begin=second[0], end=second[1])}, bytes(second[1]))
        yield file_of({"b": info(begin=second[0], end=second[1]), "a": info()}, bytes(16))
    yield file_of(b'{"a":' + text + b',"a":' + text.replace(b"[0, 8]", b"[8, 16]") + b"}", bytes(16))


def random_header(rng):
    """A few tensors that cover the data exactly, and then sometimes not."""
    header, cursor = {}, 0
    if rng.random() < 0.2:
        header["__metadata__"] = {"format": "pt"}
    for i in range(rng.randrange(4)):
        dtype = rng.choice(list(DTYPES))
        shape = [rng.choice((0, 1, 2, 3)) for _ in range(rng.randrange(4))]
        size = DTYPES[dtype]
        for dimension in shape:
            size *= dimension
        tensor = info(shape, dtype, cursor, cursor + size)
        cursor += size
        if rng.random() < 0.15:
            tensor[rng.choice(list(tensor))] = rng.choice((None, "F16", [1], [0, 4], [[]], 3, -1, 2**64, {}, 1.5))
        if rng.random() < 0.05:
            tensor.pop(rng.choice(list(tensor)))
        if rng.random() < 0.1:
            tensor["data_offsets"] = [cursor + rng.choice((-1, 0, 1)) for _ in range(2)]
        header[rng.choice(("a", "b", "c", "ü", "")) + str(i)] = tensor
    items = list(header.items())
    rng.shuffle(items)
    return dict(items), max(0, cursor + rng.choice((0, 0, 0, 0, 0, -1, 1)))


def random_cases(count):
    rng = random.Random(20260914)
    for _ in range(count):
        header, size = random_header(rng)
        file = bytearray(file_of(header, bytes(size)))
        for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
            at = rng.randrange(len(file))
            if rng.random() < 0.5:
                file[at] = rng.choice((rng.randrange(256), *b'{}[]",:0129-.eE \\u'))
            elif rng.random() < 0.5:
                del file[at]
            else:
                file.insert(at, rng.choice(b'{}[]",:0129 '))
        yield bytes(file)


def reference_accepts(file):
    try:
        deserialize(file)
        return True
    except (SafetensorError, UnicodeEncodeError):
        return False


def verdicts(program, files):
    sent = b"".join(struct.pack("<Q", len(file)) + file for file in files)
    lines = subprocess.run([program], input=sent, capture_output=True, check=True).stdout.decode().splitlines()
    assert len(lines) == len(files)
    return lines


def test_accepts_nothing_that_the_reference_refuses_and_is_stricter_only_as_it_says(build, measured):
    program = build / "tests/checkpoint/safetensors_verdicts"
    if not program.exists():
        pytest.skip(f"{program} is not built: run `make build`")
    files = [*named_cases(), *random_cases(20_000)]
    both = stricter = 0
    for file, ours in zip(files, verdicts(program, files)):
        theirs = reference_accepts(file)
        if ours == "accepted":
            assert theirs, f"the reference refuses {file[:300]!r}"
            both += 1
        elif theirs:
            assert any(reason in ours for reason in STRICTER), f"{ours}: {file[:300]!r}"
            stricter += 1
    measured(f"safetensors: {len(files)} files, {both} accepted by both readers, {stricter} by the reference alone")
    assert both > 1000
