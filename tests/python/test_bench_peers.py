"""scripts/bench_peers.py: what it computes from what was measured. The figures here are made up."""
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from peers import report  # noqa: E402
from peers.rows import ROWS, Layout, Row, Side  # noqa: E402

PROBE = {"read_bytes_per_second": 40e9, "bfloat16_flop_per_second": 400e9}
LAYOUT = Layout(hidden=8, intermediate=16, layers=2, heads=4, kv_heads=2, head_dim=4, vocabulary=100, windows=(3, None))
LAYER = 8 * 16 + 2 * 8 * 8 + 16 * 8 + 3 * 8 * 16  # q; k and v; o; gate, up and down


def samples(rates):
    return [{"rate": rate, "probe": PROBE, "peak_bytes": 10**9, "load_seconds": None} for rate in rates]


def row(**more):
    return Row("a row", "gemma3-270m", "bfloat16", (Side("llama.cpp", "BF16"), Side("ctranslate2", "int8")), **more)


def test_rows_have_names_of_their_own_and_each_has_a_peer():
    assert len({r.name for r in ROWS}) == len(ROWS)
    for r in ROWS:
        assert r.peers and len({side.name for side in (r.ours, *r.peers)}) == 1 + len(r.peers)
        assert bool(r.prompt) != bool(r.generated)


def test_ratios_are_of_the_same_round_and_to_the_peer_with_the_best_median():
    result = report.summary(row(generated=4, ratio=1.5), {"tessera": samples([10, 40, 30]), "slow": samples([5, 4, 90]), "fast": samples([10, 20, 10])}, LAYOUT)
    assert result["best_peer"] == "fast"
    assert result["ratios"] == [1, 2, 3] and result["ratio"] == 2 and result["met"] is True


@pytest.mark.parametrize("decodes, ratio, share, met", [(True, 1.3, 0.5, True), (True, 1.1, 0.95, True), (True, 1.1, 0.5, False),
                                                        (False, 1.3, 0.5, False), (False, 1.3, 0.95, True)])
def test_decoding_is_good_at_either_bound_and_prompts_at_both(decodes, ratio, share, met):
    assert report.is_met({"ratio": ratio, "wanted_ratio": 1.25, "share": share, "wanted_share": 0.9}, decodes) is met


def test_nothing_wanted_is_neither_met_nor_missed():
    assert report.is_met({"ratio": 1, "wanted_ratio": None, "share": 1, "wanted_share": None}, True) is None


def test_a_step_reads_all_weights_once_and_the_keys_that_each_sequence_sees():
    one = row(generated=2, depth=9, parallel=5)
    keys = min(11, 3) + 11  # at position 10, in the middle
    expected = 2 * (2 * LAYER + 8 * 100) + 5 * keys * (2 * 4) * 2 * 2
    assert LAYOUT.bytes_of_step(one) == expected
    assert LAYOUT.limit(one, PROBE) == pytest.approx(5 * 40e9 / expected)


def test_steps_of_many_sequences_are_limited_by_what_is_multiplied():
    one = row(generated=2, depth=9, parallel=64)
    keys = 64 * (min(11, 3) + 11)
    expected = 64 * (2 * 2 * LAYER + 2 * 8 * 100) + 2 * 2 * 4 * 4 * keys
    assert LAYOUT.operations(one) == expected
    slow = PROBE | {"bfloat16_flop_per_second": 4e9}
    assert LAYOUT.limit(one, slow) == pytest.approx(64 * 4e9 / expected)


def test_a_prompt_multiplies_by_the_layers_each_token_and_by_the_head_once():
    one = row(prompt=5)
    keys = (1 + 2 + 3 + 3 + 3) + (1 + 2 + 3 + 4 + 5)
    expected = 2 * 2 * LAYER * 5 + 2 * 2 * 4 * 4 * keys + 2 * 8 * 100
    assert LAYOUT.operations(one) == expected
    assert LAYOUT.limit(one, PROBE) == pytest.approx(5 * 400e9 / expected)


def test_a_layout_is_read_from_a_configuration(tmp_path):
    config = {"hidden_size": 12, "intermediate_size": 5, "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 1, "vocab_size": 7,
              "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Layout.of(tmp_path) == Layout(12, 5, 2, 3, 1, 4, 7, (None, 4))


def test_the_table_shows_a_start_in_seconds_and_a_verdict_as_data():
    start = report.summary(row(generated=1, start=True), {"tessera": samples([4, 5]), "peer": samples([2, 2])}, LAYOUT)
    speed = report.summary(row(prompt=8, ratio=3.0), {"tessera": samples([4, 6]), "peer": samples([2, 2])}, LAYOUT)
    lines = report.table([start, speed]).splitlines()
    assert "| 0.20 s / 0.22 s | peer | 0.50 s / 0.50 s | 2.25 | 2.00 | – | – |" in lines[2]
    assert "| 6.0 / 5.0 | peer | 2.0 / 2.0 | 2.50 | 2.00 |" in lines[3] and "| 3.0 ×: no |" in lines[3]
    assert {line.count("|") for line in lines} == {lines[0].count("|")}


def test_a_page_keeps_what_stands_around_its_table(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- table avx2: begin -->\nold\n<!-- table avx2: end -->\nbelow\n")
    report.write_page(page, "new", "avx2")
    assert page.read_text() == "above\n<!-- table avx2: begin -->\nnew\n<!-- table avx2: end -->\nbelow\n"
    with pytest.raises(ValueError, match="avx512"):
        report.write_page(page, "lost", "avx512")


@pytest.mark.parametrize("flags, kernels", [("sse2", "plain"), ("avx2 fma", "plain"), ("avx2 fma f16c", "avx2"), ("avx2 fma f16c avx512f avx512_bf16", "avx2"),
                                            ("avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512vbmi avx512_bf16", "avx512")])
def test_a_table_belongs_to_the_kernels_that_a_processor_runs(flags, kernels):
    assert report.default_kernels(flags.split()) == kernels
