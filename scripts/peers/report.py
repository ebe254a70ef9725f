"""From samples to a table and its page."""
import datetime
import os
import re
import statistics
from pathlib import Path

median = statistics.median


def paired_ratios(ours, theirs):
    """Round by round: a shared machine changes from minute to minute."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def summary(row, samples, layout):
    """What a table's line says. `samples`: of each side by name, a list of {rate, probe, peak_bytes, load_seconds}, one a round; ours first."""
    rates = {name: [s["rate"] for s in of_side] for name, of_side in samples.items()}
    mine, *peers = rates
    best = max(peers, key=lambda name: median(rates[name]))
    ratios = paired_ratios(rates[mine], rates[best])
    shares = [] if row.start else [s["rate"] / layout.limit(row, s["probe"]) for s in samples[mine]]
    result = {"row": row.name, "start": row.start, "rates": rates, "best_peer": best, "ratios": ratios, "ratio": median(ratios),
              "share": median(shares) if shares else None, "wanted_ratio": row.ratio, "wanted_share": row.share,
              "peak_bytes": {name: max(s["peak_bytes"] for s in of_side) for name, of_side in samples.items()}}
    loads = {name: [s["load_seconds"] for s in of_side if s["load_seconds"] is not None] for name, of_side in samples.items()}
    return result | {"load_seconds": {name: median(seconds) for name, seconds in loads.items() if seconds}, "met": is_met(result, row.generated > 0)}


def is_met(result, decodes):
    """Decoding is good at either, prompts at both; None: nothing is wanted."""
    wanted = [(result["ratio"], result["wanted_ratio"]), (result["share"], result["wanted_share"])]
    reached = [value >= bound for value, bound in wanted if bound is not None]
    return (any if decodes else all)(reached) if reached else None


def table(results):
    lines = ["| row | tessera best / median | best peer | best / median | ratio | least | of the limit | wanted | GB, ours / peer | s to load, ours / peer |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for r in results:
        mine, peer = next(iter(r["rates"])), r["best_peer"]
        speed = lambda name: f"{shown(max(r['rates'][name]), r)} / {shown(median(r['rates'][name]), r)}"
        memory = " / ".join(f"{r['peak_bytes'][name] / 1e9:.2f}" for name in (mine, peer))
        load = " / ".join(f"{r['load_seconds'][name]:.1f}" if name in r["load_seconds"] else "–" for name in (mine, peer))
        share = "–" if r["share"] is None else f"{100 * r['share']:.0f} %"
        lines.append(f"| {r['row']} | {speed(mine)} | {peer} | {speed(peer)} | {r['ratio']:.2f} | {min(r['ratios']):.2f} | {share} | {wanted(r)} | {memory} | {load} |")
    return "\n".join(lines)


def shown(rate, result):
    return f"{1 / rate:.2f} s" if result["start"] else f"{rate:.1f}"


def wanted(result):
    bounds = [f"{result['wanted_ratio']} ×"] if result["wanted_ratio"] is not None else []
    bounds += [f"{100 * result['wanted_share']:.0f} %"] if result["wanted_share"] is not None else []
    return "–" if result["met"] is None else f"{', '.join(bounds)}: {'yes' if result['met'] else 'no'}"


def cpuinfo(key):
    return re.search(rf"^{key}\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M).group(1).strip()


def default_kernels(flags):
    """Which of our kernels a processor with these flags runs: src/devices/cpu/isa.cpp."""
    known = {"avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512_bf16"}, "avx2": {"avx2", "fma", "f16c"}}
    return next((name for name, needed in known.items() if needed <= set(flags)), "plain")


def processor():
    sets = [name for name in ("avx2", "avx512f", "avx512_bf16", "avx512vbmi") if name in cpuinfo("flags").split()]
    return f"{cpuinfo('model name')} (family {cpuinfo('cpu family')}, model {cpuinfo('model')}), {os.cpu_count()} processors, {' '.join(sets)}"


def about(documents):
    """What a reader must know beside the table: when, where, and what the machine itself reached meanwhile."""
    probes = [sample["probe"] for d in documents if d["threads"] == 2 for of_side in d["samples"].values() for sample in of_side]
    speed = lambda key, unit: f"{max(p[key] for p in probes) / 1e9:.0f} / {median(p[key] for p in probes) / 1e9:.0f} {unit}"
    rounds = sorted({len(next(iter(d["samples"].values()))) for d in documents})
    reached = (f" The machine on 2 threads, best / median: reads {speed('read_bytes_per_second', 'GB/s')}, "
               f"multiplies bfloat16 at {speed('bfloat16_flop_per_second', 'GFLOP/s')}.") if probes else ""
    return f"{datetime.date.today()}, {processor()}; rounds a row: {', '.join(map(str, rounds))}.{reached}"


def write_page(path, text, kernels):
    """Puts the text between the page's two marks for these kernels; the rest of the page is written by hand."""
    begin, end = f"<!-- table {kernels}: begin -->\n", f"<!-- table {kernels}: end -->\n"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path}: no marks for a table of {kernels} kernels: {begin.strip()} {end.strip()}")
    path.write_text(f"{before}{begin}{text}\n{end}{after}", encoding="utf-8")
