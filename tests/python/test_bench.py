"""`tessera bench`: its rows, formats and refusals. What it measures is nobody's business here."""
import csv
import io
import json

import pytest
from tiny_checkpoints import TRAITS, make

MB = 1_000_000


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make(tmp_path_factory.mktemp("tiny") / "phi3", TRAITS["phi3-head-dim-96"])


SMALL = ("-p", "7,0", "-n", "3", "-d", "0,5", "-r", 2, "-t", "1,2")


def test_every_combination_is_a_row_with_all_its_samples(tessera, tiny):
    rows = json.loads(tessera.run("bench", "-m", tiny, *SMALL, "--parallel", "1,2", "-o", "json").stdout)
    assert [(r["n_threads"], r["n_depth"], r["n_parallel"], r["n_prompt"], r["n_gen"]) for r in rows] == [
        (threads, depth, parallel, *test) for threads in (1, 2) for depth in (0, 5) for parallel in (1, 2) for test in ((7, 0), (0, 3))]
    for row in rows:
        assert len(row["samples_ns"]) == len(row["samples_ts"]) == 2
        tokens = (row["n_prompt"] + row["n_gen"]) * row["n_parallel"]
        for nanoseconds, speed in zip(row["samples_ns"], row["samples_ts"]):
            assert speed == pytest.approx(tokens * 1e9 / nanoseconds)
        assert row["avg_ts"] == pytest.approx(sum(row["samples_ts"]) / 2)
        assert row["stddev_ts"] == pytest.approx(abs(row["samples_ts"][0] - row["samples_ts"][1]) / 2**0.5, abs=1e-6)
        assert (row["weights"], row["type_k"], row["backends"], row["model_filename"]) == ("bfloat16", "bfloat16", "cpu", str(tiny))


def test_the_formats_say_the_same(tessera, tiny):
    def output(kind):
        return tessera.run("bench", "-m", tiny, *SMALL, "-o", kind).stdout

    lines = [json.loads(line) for line in output("jsonl").splitlines()]
    table = list(csv.DictReader(io.StringIO(output("csv"))))
    markdown = output("md").splitlines()
    assert len(lines) == len(table) == len(markdown) - 2 == 8
    for line, row, text in zip(lines, table, markdown[2:], strict=True):
        assert list(row) == [key for key in line if not key.startswith("samples")]
        assert (int(row["n_prompt"]), int(row["n_depth"]), row["model_size"]) == (line["n_prompt"], line["n_depth"], str(line["model_size"]))
        test = (f"pp{line['n_prompt']}" if line["n_prompt"] else f"tg{line['n_gen']}") + (f" @ d{line['n_depth']}" if line["n_depth"] else "")
        assert f" {test} |" in text and f" {line['n_threads']} |" in text
    assert len({len(text) for text in markdown}) == 1


@pytest.mark.parametrize("arguments, said", [(("-p", 0, "-n", 0), "nothing to measure"), (("-n", "x"), "--n-gen"), (("-o", "xml"), "xml"), (("-r", 0), "--repetitions"),
                                             (("-d", 100000), "context")])
def test_what_cannot_be_measured_is_refused(tessera, tiny, arguments, said):
    assert said in tessera.run("bench", "-m", tiny, *arguments, expect=2).stderr


@pytest.mark.parametrize("weights", ["bfloat16", "bfloat8_b"])
def test_loading_and_running_take_little_more_than_weights_and_cache(tessera, gemma3_270m, weights, measured):
    depth = 1000
    row = json.loads(tessera.run("bench", "-m", gemma3_270m, "-p", 0, "-n", 1, "-d", depth, "-r", 1, "--weights", weights, "-o", "jsonl").stdout)
    caches = json.loads(tessera.run("inspect", "-m", gemma3_270m, "--json", "-").stdout)["cache_bytes"]
    cache = next(c["bfloat16"] for c in caches if c["context"] >= depth)
    measured(f"Gemma 3 270M in {weights}: {row['model_size'] / MB:.0f} MB of weights, at most {cache / MB:.0f} MB of cache, peak memory {row['peak_bytes'] / MB:.0f} MB")
    assert row["peak_bytes"] <= 1.1 * row["model_size"] + cache + 64 * MB
