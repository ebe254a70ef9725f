#!/usr/bin/env python3
"""Tessera beside other engines: the same model, the same work, by turns, with a probe of the machine around every run.

Fetches and builds llama.cpp from the llama-cpp-python sdist (once, in Tessera's cache), makes the models, and prints every command line,
every sample and a table: best and median of each engine, the median of the rounds' ratios, and how much of the machine's limit is used.

usage: scripts/bench_peers.py [--rounds N] [--rows REGEX] [--json FILE] [--page docs/performance.md]       prepared by: scripts/setup bench
"""
import argparse
import datetime
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts" / "weights"))
import make_gemma3_270m  # noqa: E402
import make_tokenizers  # noqa: E402
import make_tokenizers  # noqa: E402
import pinned_wheels  # noqa: E402
from checkpoint_folder import cache_folder  # noqa: E402

PROGRAM = ROOT / "build/release/apps/cli/tessera"
PROBE = ROOT / "build/release/bench/machine_probe"
LINEAR_BENCH = ROOT / "build/release/bench/linear_bench"
PEERS = cache_folder() / "peers"


@dataclass(frozen=True)
class Row:
    name: str
    weights: str  # ours
    peer: str  # the peer's type of file
    threads: int
    prompt: int = 0
    generated: int = 0
    depth: int = 0
    parallel: int = 1
    isa: str = ""  # forced, for our own other paths

    @property
    def decodes(self):
        return self.generated > 0


ROWS = [
    Row("270M bf16 prefill 512", "bfloat16", "BF16", 2, prompt=512),
    Row("270M bf16 prefill 4096", "bfloat16", "BF16", 2, prompt=4096),
    Row("270M bf16 decode @0", "bfloat16", "BF16", 2, generated=128),
    Row("270M bf16 decode @512", "bfloat16", "BF16", 2, generated=64, depth=512),
    Row("270M bf16 decode @4096", "bfloat16", "BF16", 2, generated=64, depth=4096),
    Row("270M bf16 decode @0, 1 thread", "bfloat16", "BF16", 1, generated=128),
    Row("270M 8-bit prefill 512", "bfloat8_b", "Q8_0", 2, prompt=512),
    Row("270M 8-bit decode @128", "bfloat8_b", "Q8_0", 2, generated=128, depth=128),
    Row("270M 8-bit decode @4096", "bfloat8_b", "Q8_0", 2, generated=64, depth=4096),
    Row("270M bf16 decode, 8 rows", "bfloat16", "BF16", 2, generated=64, depth=64, parallel=8),
    Row("270M bf16 decode, 32 rows", "bfloat16", "BF16", 2, generated=64, depth=64, parallel=32),
]


@dataclass
class Samples:
    rates: list = field(default_factory=list)  # tokens/s
    probes: list = field(default_factory=list)  # of the machine, just before
    memory: int = 0  # bytes, peak


def run(command, env=None):
    """Standard output, and the peak memory in bytes, of a command that must succeed."""
    print("$", " ".join(map(str, command)), file=sys.stderr, flush=True)
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    out, err = process.communicate()
    if process.returncode:
        sys.exit(f"{command[0]} failed with {process.returncode}:\n{err[-2000:]}")
    return out, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def llama_cpp():
    """The folder of llama.cpp's programs, built as its own wheel builds them: for this very machine."""
    folder = PEERS / f"llama.cpp-{make_tokenizers.VERSION}"
    binaries = folder / "build" / "bin"
    if not (folder / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with tarfile.open(make_tokenizers.fetch_sdist(cache_folder() / "downloads")) as archive:
            archive.extractall(folder, filter="data")
        source = next(folder.glob("*/vendor/llama.cpp"))
        print("building llama.cpp: about 6 minutes on 2 cores", file=sys.stderr)
        run(["cmake", "-S", source, "-B", folder / "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF"])
        run(["cmake", "--build", folder / "build", "--target", "llama-bench", "llama-batched-bench", "llama-quantize"])
        (folder / "complete").touch()
    return binaries


def gguf_270m(binaries, kind):
    """Gemma 3 270M as GGUF: of the same numbers as our checkpoint, bfloat16 (BF16) or rounded once more (Q8_0)."""
    path = PEERS / f"gemma3-270m-{kind}.gguf"
    if not path.is_file():
        original = PEERS / "gemma3-270m-Q4_K_M.gguf"
        wheels = make_gemma3_270m.WHEELS
        with open(original, "wb") as out:
            pinned_wheels.join_members(wheels, pinned_wheels.fetch(wheels, cache_folder() / "downloads"), out)
        run([binaries / "llama-quantize", "--allow-requantize", original, path.with_suffix(".part"), kind])
        path.with_suffix(".part").rename(path)
        original.unlink()
    return path


def ours(row, checkpoint):
    command = [PROGRAM, "bench", "-m", checkpoint, "-o", "json", "-r", 1, "-p", row.prompt, "-n", row.generated, "-d", row.depth, "-t", row.threads,
               "--parallel", row.parallel, "--weights", row.weights]
    out, _ = run(command, {"TESSERA_CPU_ISA": row.isa} if row.isa else None)
    result = json.loads(out)[0]
    return result["samples_ts"][0], result


def theirs(row, binaries):
    model = gguf_270m(binaries, row.peer)
    if row.parallel == 1:
        out, memory = run([binaries / "llama-bench", "-m", model, "-o", "json", "-r", 1, "-p", row.prompt, "-n", row.generated, "-d", row.depth, "-t", row.threads])
        return json.loads(out)[0]["samples_ts"][0], memory
    out, memory = run([binaries / "llama-batched-bench", "-m", model, "-c", row.parallel * (row.depth + row.generated), "-npp", row.depth, "-ntg", row.generated,
                       "-npl", row.parallel, "-t", row.threads, "--output-format", "jsonl"])
    return next(json.loads(line)["speed_tg"] for line in out.splitlines() if line.startswith("{")), memory


def limit(row, result, probe):
    """Tokens/s if the machine did nothing but read the weights (decode) or multiply by them (prefill)."""
    if row.decodes:
        return row.parallel * probe["read_bytes_per_second"] / result["model_size"]
    head = 262144 * 640  # only the last row goes through it
    return probe["bfloat16_flop_per_second"] / (2 * (result["model_n_params"] - head))


def measure(row, rounds, checkpoint, binaries):
    mine, peer, shares = Samples(), Samples(), []
    for turn in range(rounds):
        for side in ("mine", "peer") if turn % 2 == 0 else ("peer", "mine"):
            probe = json.loads(run([PROBE, row.threads])[0])
            if side == "mine":
                rate, result = ours(row, checkpoint)
                mine.rates.append(rate)
                mine.probes.append(probe)
                mine.memory = max(mine.memory, result["peak_bytes"])
                shares.append(rate / limit(row, result, probe))
            else:
                rate, _ = theirs(row, binaries)
                peer.rates.append(rate)
                peer.probes.append(probe)
    ratios = [a / b for a, b in zip(mine.rates, peer.rates)]
    return {"row": row.name, "threads": row.threads, "tessera": mine.rates, "llama.cpp": peer.rates, "ratios": ratios, "ratio": statistics.median(ratios),
            "share_of_limit": statistics.median(shares), "probes": mine.probes + peer.probes, "peak_bytes": mine.memory}


def table(results):
    lines = ["| row | tessera best / median | llama.cpp best / median | median of ratios | least ratio | of the limit |", "|---|---|---|---|---|---|"]
    for r in results:
        best = lambda key: f"{max(r[key]):.1f} / {statistics.median(r[key]):.1f}"
        lines.append(f"| {r['row']} | {best('tessera')} | {best('llama.cpp')} | {r['ratio']:.2f} | {min(r['ratios']):.2f} | {100 * r['share_of_limit']:.0f} % |")
    return "\n".join(lines)


def processor():
    text = Path("/proc/cpuinfo").read_text()
    flags = re.search(r"^flags\s*: (.*)$", text, re.M).group(1).split()
    sets = [name for name in ("avx2", "avx512f", "avx512_bf16", "avx512vbmi") if name in flags]
    name = re.search(r"^model name\s*: (.*)$", text, re.M).group(1).strip()
    return f"{name}, {os.cpu_count()} processors, {' '.join(sets)}"


def write_page(path, results, rounds):
    """Puts the table between the page's two marks; the rest of the page is written by hand."""
    begin, end = "<!-- table: begin -->\n", "<!-- table: end -->\n"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    probes = [probe for r in results if r["threads"] == 2 for probe in r["probes"]]
    speed = lambda key, unit: f"{max(p[key] for p in probes) / 1e9:.0f} / {statistics.median(p[key] for p in probes) / 1e9:.0f} {unit}"
    about = (f"{datetime.date.today()}, {processor()}; {rounds} rounds; llama.cpp of llama-cpp-python {make_tokenizers.VERSION}, built for this machine, "
             f"its default flags. The machine on 2 threads, best / median: reads {speed('read_bytes_per_second', 'GB/s')}, "
             f"multiplies bfloat16 at {speed('bfloat16_flop_per_second', 'GFLOP/s')}. Tokens/s:")
    path.write_text(f"{before}{begin}{about}\n\n{table(results)}\n{end}{after}", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds a row (default 5)")
    parser.add_argument("--rows", default="", help="only rows whose name this regular expression finds")
    parser.add_argument("--json", type=Path, help="where every sample goes")
    parser.add_argument("--page", type=Path, help="a page between whose marks the table is put")
    options = parser.parse_args()
    checkpoint = run([sys.executable, ROOT / "scripts/weights/make_gemma3_270m.py"])[0].strip()
    binaries = llama_cpp()
    results = []
    for row in ROWS:
        if re.search(options.rows, row.name):
            results.append(measure(row, options.rounds, checkpoint, binaries))
            one = results[-1]
            print(row.name, *(f"{key}: " + " ".join(f"{x:.1f}" for x in one[key]) for key in ("tessera", "llama.cpp")), sep="\n  ", flush=True)
            if options.json:
                options.json.write_text(json.dumps(results, indent=1))
    print(table(results))
    if options.page:
        write_page(options.page, results, options.rounds)


if __name__ == "__main__":
    main()
