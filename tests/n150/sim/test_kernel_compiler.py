"""The kernel compiler itself: what its vector operations compile to, run on a model of the vector unit, and what it refuses."""
import importlib.machinery
import importlib.util
import re
import subprocess

import numpy as np
import pytest
import runtime_root
import simulated_card
from vector_unit_model import VectorUnit, floats, words_of

COMPILER = simulated_card.COMPILER / "riscv-tt-elf-g++"


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """build(body) compiles `void kernel(int n)` as a kernel of the core that feeds the vector unit, and returns (its object file, what GCC said)."""
    if subprocess.run(["which", simulated_card.GCC], capture_output=True).returncode:
        pytest.skip(f"{simulated_card.GCC} is not there: run scripts/setup sim")
    folder, count = tmp_path_factory.mktemp("kernels"), iter(range(1000))

    def compile_body(body, *flags):
        source = folder / f"kernel{next(count)}.cc"
        source.write_text('#include "sfpi.h"\nusing namespace sfpi;\nextern "C" void kernel(int n) {\n' + body + "\n}\n")
        out = source.with_suffix(".o")
        done = subprocess.run([COMPILER, "-std=c++17", "-O3", "-mcpu=tt-wh-tensix", "-DCOMPILE_FOR_TRISC=1", "-flto=auto", "-MMD", "-c", "-o", out, source, *flags],
                              capture_output=True, text=True)
        return out if done.returncode == 0 else None, done.stderr

    return compile_body


X = np.concatenate([np.linspace(-3, 3, 16), [0, 4, 1, -1, 0.5, 1e-20, 100, -100], 2.0 ** np.arange(-4, 4)]).astype(np.float32)
Y = np.random.default_rng(1).standard_normal(32).astype(np.float32)


def run(build, body, *arguments):
    """Rows 0 and 1 of Dst hold X and Y; returns (the unit behind `kernel`, its row 2 as floats)."""
    out, said = build(body)
    assert out, said
    unit = VectorUnit([X, Y, np.full(32, np.nan), np.zeros(32)])
    unit.run(words_of(out), *arguments)
    assert not unit.stack and unit.on.all(), "lanes were left off"
    return unit, floats(unit.dst[2])


PROLOGUE = "vFloat x = dst_reg[0], y = dst_reg[1];"
EXPRESSIONS = {
    "a product": ("x * y", X * Y),
    "a product and a sum": ("x * y + 1.0f", X * Y + 1),
    "a difference": ("x - y * x", X - Y * X),
    "constants": ("x * 0.1f + 3.0f + vFloat(1e-30f)", X * np.float32(0.1) + 3),
    "constants in registers": ("x * vConstNeg1 + vConst1", 1 - X),
    "a factor twice": ("x * y + x * y", 2 * X * Y),
    "a product that is used twice": ("(x * y) * (x * y)", (X * Y)**2),
    "signs": ("copysgn(abs(x), y) + setsgn(y, 1)", np.copysign(np.abs(X), Y) - np.abs(Y)),
    "the larger": ("max(x, y)", np.maximum(X, Y)),
    "the smaller": ("min(x, y) * 2.0f", 2 * np.minimum(X, Y)),
    "a clamp": ("clamp(x, vFloat(-1.5f), vFloat(0.25f))", np.clip(X, -1.5, 0.25)),
    "an exponent": ("convert<vFloat>(exexp(x + 200.0f), RoundMode::Nearest)", np.floor(np.log2(X + 200))),
    "a mantissa": ("setexp(x, 127)", np.where(X == 0, 1, np.abs(X) / 2.0**np.floor(np.log2(np.abs(X) + (X == 0)))) * np.where(np.signbit(X), -1, 1)),
    "a power of two": ("addexp(y, 3)", Y * 8),
    "integers": ("convert<vFloat>(exexp(x + 200.0f) * 1 + 5 - 7000, RoundMode::Nearest)".replace(" * 1", ""), np.floor(np.log2(X + 200)) - 6995),
    "bits": ("as<vFloat>((as<vInt>(x) & vInt(0x7fffffff)) | (as<vInt>(y) & vInt(int(0x80000000))))", np.copysign(X, Y)),
    "shifts": ("convert<vFloat>((as<vUInt>(vFloat(1.0f)) >> 23) << 1, RoundMode::Nearest)", np.full(32, 254.0)),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_computes(build, name):
    expression, exact = EXPRESSIONS[name]
    _, found = run(build, f"{PROLOGUE} dst_reg[2] = {expression};")
    np.testing.assert_allclose(found, exact, rtol=2e-6, atol=1e-7)


STATEMENTS = {
    "if": ("vFloat r = y; v_if(x < 0.0f) { r = -y; } v_endif;", np.where(X < 0, -Y, Y)),
    "if and else": ("vFloat r; v_if(x >= 0.5f) { r = x * y; } v_else { r = x + y; } v_endif;", np.where(X >= 0.5, X * Y, X + Y)),
    "if, else if and else": ("vFloat r = 0.0f; v_if(x > 1.0f) { r = 1.0f; } v_elseif(x > 0.0f) { r = 2.0f; } v_else { r = y * x; } v_endif;",
                             np.where(X > 1, 1, np.where(X > 0, 2, X * Y))),
    "if within if": ("vFloat r = x; v_if(x > 0.0f) { v_if(y > 0.0f) { r = y; } v_else { r = 3.0f; } v_endif; r = r + 1.0f; } v_endif;",
                     np.where(X > 0, np.where(Y > 0, Y, 3) + 1, X)),
    "both": ("vFloat r = 0.0f; v_if(x > -1.0f && x <= 1.0f) { r = 1.0f; } v_endif;", (X > -1) & (X <= 1)),
    "either": ("vFloat r = 0.0f; v_if(x < -1.0f || y > 0.5f) { r = 1.0f; } v_endif;", (X < -1) | (Y > 0.5)),
    "neither of them": ("vFloat r = 0.0f; v_if(!(x < -1.0f || y > 0.5f)) { r = 1.0f; } v_endif;", ~((X < -1) | (Y > 0.5))),
    "either, and one more": ("vFloat r = 0.0f; v_if((x < -1.0f || y > 0.5f) && x != 0.0f) { r = 1.0f; } v_endif;", ((X < -1) | (Y > 0.5)) & (X != 0)),
    "two vectors compared": ("vFloat r = 0.0f; v_if(x >= y) { r = 1.0f; } v_endif;", X >= Y),
    "integers compared": ("vFloat r = 0.0f; v_if(exexp(y) < -1) { r = 1.0f; } v_endif;", np.floor(np.log2(np.abs(Y))) < -1),
    "a constant that stays in the other lanes": ("vFloat r = 2.5f; v_if(x > 0.0f) { r = x * x; } v_endif;", np.where(X > 0, X * X, 2.5)),
    "a product of before": ("vFloat p = x * y; vFloat r = x; v_if(y > 0.0f) { r = p; } v_endif;", np.where(Y > 0, X * Y, X)),
    "a product that is assigned and summed": ("vFloat p = x * y; vFloat r = p + x; v_if(y > 0.0f) { r = p + 1.0f; } v_endif; r = r + p;",
                                              np.where(Y > 0, X * Y + 1, X * Y + X) + X * Y),
    "a value that changes between": ("vFloat r = y; vFloat z = x; v_if(x > 0.0f) { z = y; } v_endif; r = z * 2.0f; v_if(x > 0.0f) { r = r - z; } v_endif;",
                                     np.where(X > 0, Y, 2 * X)),
    "and narrower": ("vFloat r = 0.0f; v_block { v_and(x > 0.0f); r = 1.0f; v_and(y > 0.0f); r = 2.0f; } v_endblock;", np.where(X > 0, np.where(Y > 0, 2, 1), 0)),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_lanes_stay_apart(build, name):
    statements, exact = STATEMENTS[name]
    _, found = run(build, f"{PROLOGUE} {statements} dst_reg[2] = r;")
    np.testing.assert_allclose(found, np.asarray(exact, np.float32), rtol=2e-6, atol=1e-7)


def test_a_product_and_a_sum_are_one_instruction(build):
    unit, _ = run(build, f"{PROLOGUE} dst_reg[2] = x * y + x;")
    assert unit.executed.count(0x84) == 1 and 0x86 not in unit.executed


def test_what_is_known_at_run_time_only(build):
    _, found = run(build, f"{PROLOGUE} dst_reg[2] = addexp(x, n);", 2)
    np.testing.assert_array_equal(found[X != 0], 4 * X[X != 0])
    _, found = run(build, f"{PROLOGUE} dst_reg[2] = as<vFloat>(vInt(n)) * x;", 0x40490FDB)
    np.testing.assert_allclose(found, np.float32(np.pi) * X, rtol=1e-6)


def test_rows_go_on(build):
    _, found = run(build, "vFloat x = dst_reg[0]; dst_reg++; vFloat y = dst_reg[0]; dst_reg++; dst_reg[0] = x + y;")
    np.testing.assert_allclose(found, X + Y, rtol=1e-6, atol=1e-7)


EIGHT = " ".join(f"vFloat v{i} = dst_reg[{i}] * y;" for i in range(9)) + " ".join(f"dst_reg[{i}] = v{i} * v{8 - i};" for i in range(9))
REFUSED = {
    "more than eight vectors": (f"vFloat y = dst_reg[1]; {EIGHT}", "more than eight vectors are alive"),
    "a float of the core": ("volatile float f = 1.5f; volatile float g = f * 2.0f;", "floats on the core"),
    "a shift of the sign": ("vInt i = as<vInt>(vFloat(dst_reg[0])); dst_reg[2] = shft(i, 2, ShiftMode::Arithmetic);", "an arithmetic shift is not made"),
    "a table of 8 bits": ("vLut8si t(1.0f, 2.0f); dst_reg[2] = vUInt(t);", "tables of 8 bits are not made"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(build, name):
    body, reason = REFUSED[name]
    out, said = build(body)
    assert out is None and reason in said


def test_instructions_have_the_numbers_of_the_wheel():
    operations = (runtime_root.package() / "tt_metal/tt-llk/tt_llk_wormhole_b0/common/inc/ckernel_ops.h").read_text()
    theirs = dict(re.findall(r"#define TT_OP_(\w+?)(?:\(.*?\))?\s*(?:\\\s*)?TT_OP\((0x\w+),", operations))
    ours = re.findall(r"^  (\w+) = (0x\w+),$", (simulated_card.COMPILER / "vector_unit.h").read_text(), re.MULTILINE)
    assert len(ours) > 30
    assert {name: int(number, 16) for name, number in ours} == {name: int(theirs[name], 16) for name, _ in ours}


def module():
    loader = importlib.machinery.SourceFileLoader("kernel_compiler", str(COMPILER))
    loaded = importlib.util.module_from_spec(importlib.util.spec_from_loader("kernel_compiler", loader))
    loader.exec_module(loaded)
    return loaded


def test_refuses_to_be_where_a_card_is(monkeypatch, tmp_path):
    compiler = module()
    monkeypatch.setattr(compiler, "CARDS", tmp_path)
    with pytest.raises(SystemExit, match="a card wants the real compiler"):
        compiler.main(["--version"])


def test_says_the_version_that_the_wheel_wants(tmp_path, capsys, monkeypatch):
    place = runtime_root.make(tmp_path / "root", simulated_card.COMPILER)
    compiler = module()
    monkeypatch.setattr(compiler, "HERE", place)
    assert compiler.main(["--version"]) == 0
    wanted = dict(re.findall(r"^sfpi_(\w+)='(.*)'$", (runtime_root.package() / "tt_metal/sfpi-version").read_text(), re.MULTILINE))
    assert f"tenstorrent/sfpi:{wanted['version']}[{wanted['build']}]" in capsys.readouterr().out


def test_drops_what_gcc_12_and_the_simulator_do_not_take(monkeypatch):
    source = "  #pragma GCC unroll N\nfor (;;) ;\n#pragma GCC unroll 8\ninline void unpack_to_dest_tile_done(int a) {\n  TT(0x42 << 24);\n  TT(0x43 << 24);\n}\nTT(0x42 << 24);\n"
    kept = module().mended(source)
    assert "unroll N" not in kept and "unroll 8" in kept
    assert kept.count("0x42 << 24") == 1 and "0x43 << 24" in kept
    monkeypatch.setenv("TESSERA_KEEP_TEN3868", "1")
    assert module().mended(source).count("0x42 << 24") == 2
