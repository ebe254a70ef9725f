"""`tessera eval`: references of Hugging Face's and our own, and two precisions side by side against NumPy."""
import json
import re

import numpy as np
import pytest
from hf_reference import margin
from parity import DECIDED, PROMPTS, prompt_ids, random_ids
from row_measures import best, divergence_of_kept, divergences, log_softmax, losses_of
from tessera_program import FLOAT32
from tiny_checkpoints import TRAITS, make

KEPT = 64


def evaluate(tessera, checkpoint, *arguments):
    return json.loads(tessera.run("eval", "-m", checkpoint, "--json", "-", *arguments).stdout)


@pytest.fixture(scope="module", params=["gemma3-window-4", "phi3-head-dim-96"])
def tiny(request, tmp_path_factory):
    return make(tmp_path_factory.mktemp("tiny") / "model", TRAITS[request.param])


@pytest.fixture
def ids_file(tmp_path):
    path = tmp_path / "ids.json"
    path.write_text(json.dumps(random_ids(60, 190)))
    return path


def write_reference(path, prompt, tokens, rows, kept=KEPT):
    """As docs/evaluation.md describes it; `rows` are the logits that chose the tokens."""
    ids = best(rows, kept)
    path.write_text(json.dumps({
        "format": "tessera-reference-1", "made_by": "transformers", "prompt_ids": prompt, "reference_ids": tokens, "top5_ids": ids[:, :5].tolist(),
        "top_ids": ids.tolist(), "top_log_probs": np.take_along_axis(log_softmax(rows), ids, axis=1).tolist()}))


def test_float32_agrees_with_hugging_faces_reference(tessera, hf, phi3_smollm2, tmp_path, measured):
    total = top1 = ties = 0
    for prompt in PROMPTS[:1]:
        ids = prompt_ids(phi3_smollm2, prompt)
        tokens, _ = hf.greedy(phi3_smollm2, ids, 40)
        rows = hf.logits(phi3_smollm2, ids + tokens)[len(ids) - 1:-1]
        path = tmp_path / "reference.json"
        write_reference(path, ids, tokens, rows)
        facts = evaluate(tessera, phi3_smollm2, "--reference", path, *FLOAT32)
        assert facts["total"] == 40 and facts["distinct"] == len(set(tokens))
        assert facts["ties"] == sum(margin(row) < DECIDED for row in rows)
        assert facts["top5"] == facts["choice_in_reference_top5"] == 1
        assert facts["top1"] >= 1 - facts["ties"] / 40
        assert facts["kl_max"] < 1e-6
        assert facts["perplexity"] == pytest.approx(np.exp(losses_of(log_softmax(rows), tokens).mean()), rel=1e-4)
        total, top1, ties = total + 40, top1 + round(40 * facts["top1"]), ties + facts["ties"]
    measured(f"SmolLM2 as Phi-3, eval of Hugging Face's {total} greedy tokens in float32: top-1 {top1 / total:.2%}, {ties} ties")


def test_a_saved_reference_is_what_hugging_face_would_have_saved(tessera, hf, phi3_smollm2, tmp_path):
    path = tmp_path / "reference.json"
    printed = tessera.run("eval", "-m", phi3_smollm2, "-p", PROMPTS[0], "--save-reference", path, "--new", 40, *FLOAT32).stdout
    saved, ids = json.loads(path.read_text()), prompt_ids(phi3_smollm2, PROMPTS[0])
    tokens, _ = hf.greedy(phi3_smollm2, ids, 40)
    assert saved["prompt_ids"] == ids and saved["reference_ids"] == tokens
    rows = log_softmax(hf.logits(phi3_smollm2, ids + tokens)[len(ids) - 1:-1])
    for row, top5, kept, log_probs in zip(rows, saved["top5_ids"], saved["top_ids"], saved["top_log_probs"]):
        assert len(kept) == KEPT and top5 == kept[:5] and kept[0] == row.argmax()
        np.testing.assert_allclose(log_probs, row[kept], atol=1e-3)
        np.testing.assert_allclose(log_probs, np.sort(row)[::-1][:KEPT], atol=1e-3)
    assert f"saved 40 tokens after a prompt of {len(ids)}" in printed


def test_its_own_reference_gives_the_lines_of_full_agreement(tessera, tiny, ids_file, tmp_path):
    path = tmp_path / "reference.json"
    tessera.run("eval", "-m", tiny, "--ids-file", ids_file, "--save-reference", path, "--new", 30, "--top", 0)
    printed = tessera.run("eval", "-m", tiny, "--reference", path).stdout
    assert printed.endswith("Top-1 accuracy: 100.00% (1.0000)\nTop-5 accuracy: 100.00% (1.0000)\n")
    assert "KL" not in printed
    saved = json.loads(path.read_text())
    fourth = saved["top5_ids"][-1][3]
    tenth = next(id for id in range(190) if id not in saved["top5_ids"][-1])
    for last, lines in (fourth, "Top-1 accuracy: 96.67% (0.9667)\nTop-5 accuracy: 100.00% (1.0000)\n"), \
            (tenth, "Top-1 accuracy: 96.67% (0.9667)\nTop-5 accuracy: 96.67% (0.9667)\n"):
        path.write_text(json.dumps({**saved, "reference_ids": [*saved["reference_ids"][:-1], last]}))
        assert tessera.run("eval", "-m", tiny, "--reference", path).stdout.endswith(lines)


def test_the_kept_tokens_tell_most_of_the_divergence(tessera, phi3_smollm2, long_text, tmp_path, measured):
    """Of bfloat8_b from float32, over the same tokens: with all logits, and with the 64 kept ones and the rest as one."""
    path, ids_file = tmp_path / "reference.json", tmp_path / "ids.json"
    tessera.run("eval", "-m", phi3_smollm2, "-p", long_text[:400], "--save-reference", path, "--new", 100, *FLOAT32)
    kept = evaluate(tessera, phi3_smollm2, "--reference", path, "--weights", "bfloat8_b")
    saved = json.loads(path.read_text())
    ids_file.write_text(json.dumps(saved["prompt_ids"] + saved["reference_ids"]))
    logits = {}
    for name, flags in {"p": FLOAT32, "q": ("--weights", "bfloat8_b")}.items():
        tessera.run("run", "-m", phi3_smollm2, "--ids-file", ids_file, "--logits", tmp_path / f"{name}.npy", "-n", 0, *flags)
        logits[name] = log_softmax(np.load(tmp_path / f"{name}.npy")[len(saved["prompt_ids"]) - 1:-1])
    expected = [divergence_of_kept(ids, np.array(log_probs), q) for ids, log_probs, q in zip(saved["top_ids"], saved["top_log_probs"], logits["q"])]
    whole = divergences(logits["p"], logits["q"]).mean()
    measured(f"SmolLM2 as Phi-3, mean KL(float32 || bfloat8_b): {kept['kl_mean']:.6f} from {KEPT} kept tokens, {whole:.6f} from all")
    assert kept["kl_mean"] == pytest.approx(np.mean(expected), rel=1e-6) and kept["kl_max"] == pytest.approx(np.max(expected), rel=1e-6)
    assert 0.5 * whole < kept["kl_mean"] <= whole


@pytest.mark.parametrize("window", [(), ("--window", 24, "--stride", 12)])
def test_two_precisions_side_by_side_equal_numpy(tessera, tiny, ids_file, tmp_path, window):
    ids = json.loads(ids_file.read_text())
    facts = evaluate(tessera, tiny, "--ids-file", ids_file, "--weights", "bfloat4_b", "--against-weights", "bfloat16", "--against-activations", "float32", *window)
    rows = {"model": [], "against": []}
    pieces = [(0, 60, 1)] if not window else [(begin, begin + 24, 1 if begin == 0 else begin + 12) for begin in range(0, 37, 12)]
    for begin, end, first in pieces:
        piece = tmp_path / "piece.json"
        piece.write_text(json.dumps(ids[begin:end]))
        for side, flags in {"model": ("--weights", "bfloat4_b"), "against": ("--weights", "bfloat16", "--activations", "float32")}.items():
            out = tmp_path / f"{side}.npy"
            tessera.run("run", "-m", tiny, "--ids-file", piece, "--logits", out, "-n", 0, *flags)
            rows[side].append(np.load(out)[first - begin - 1:-1])
    q, p = (np.concatenate(rows[side]).astype(np.float64) for side in ("model", "against"))
    assert facts["scored"] == len(p) == 59
    log_p, log_q, targets = log_softmax(p), log_softmax(q), ids[1:]
    p_losses, q_losses, kl = losses_of(log_p, targets), losses_of(log_q, targets), divergences(log_p, log_q)
    assert facts["perplexity"] == pytest.approx(np.exp(q_losses.mean()), rel=1e-9)
    assert facts["against_perplexity"] == pytest.approx(np.exp(p_losses.mean()), rel=1e-9)
    assert facts["mean_nll_change"] == pytest.approx((q_losses - p_losses).mean(), rel=1e-9)
    assert facts["kl_mean"] == pytest.approx(kl.mean(), rel=1e-9) and facts["kl_mean"] > 1e-3
    assert facts["kl_max"] == pytest.approx(kl.max(), rel=1e-9)
    assert facts["kl_error"] == pytest.approx(kl.std(ddof=1) / len(kl) ** 0.5, rel=1e-9)
    assert facts["logit_difference_mean"] == pytest.approx(np.abs(p - q).mean(), rel=1e-9)
    assert facts["logit_difference_max"] == pytest.approx(np.abs(p - q).max(), rel=1e-9)
    assert facts["top1"] == (best(p, 1) == best(q, 1)).mean()
    assert facts["top5"] == (best(p, 1) == best(q, 5)).any(axis=1).mean()
    assert facts["precision"] == {"weights": "bfloat4_b", "activations": "bfloat16", "cache": "bfloat16"}
    assert facts["against"] == {"weights": "bfloat16", "activations": "float32", "cache": "float32"}


def test_the_table_names_both_sides(tessera, tiny, ids_file):
    printed = tessera.run("eval", "-m", tiny, "--ids-file", ids_file, "--weights", "bfloat8_b", "--against-weights", "float32").stdout
    assert re.search(r"^model +bfloat8_b +bfloat16 +bfloat16 +\d+\.\d{4} ± \d+\.\d{4}$", printed, re.M)
    assert re.search(r"^against +float32 +bfloat16 +bfloat16 +\d+\.\d{4} ± \d+\.\d{4}$", printed, re.M)
    assert re.search(r"^Top-1 agreement: \d+\.\d\d% \([01]\.\d{4}\)$", printed, re.M)


def test_a_generation_that_ends_early_is_said_and_kept(tessera, tiny, ids_file, tmp_path):
    path = tmp_path / "reference.json"
    tessera.run("eval", "-m", tiny, "--ids-file", ids_file, "--save-reference", path, "--new", 5, "--top", 7)
    first = json.loads(path.read_text())["reference_ids"][0]
    config = tiny / "generation_config.json"
    before = config.read_text()
    try:
        config.write_text(json.dumps({"eos_token_id": first}))
        printed = tessera.run("eval", "-m", tiny, "--ids-file", ids_file, "--save-reference", path, "--new", 5).stdout
    finally:
        config.write_text(before)
    assert json.loads(path.read_text())["reference_ids"] == [first]
    assert "Reference generation stopped early (requested 5, got 1)." in printed


def test_a_reference_of_no_tokens_says_so(tessera, tiny, tmp_path):
    path = tmp_path / "reference.json"
    path.write_text(json.dumps({"format": "tessera-reference-1", "prompt_ids": [5], "reference_ids": [], "top5_ids": []}))
    assert tessera.run("eval", "-m", tiny, "--reference", path).stdout == "No tokens to evaluate.\n"


@pytest.mark.parametrize("arguments, code, said", [
    ((), 2, "--reference"),
    (("--reference", "r.json", "--save-reference", "s.json"), 2, "--save-reference"),
    (("--save-reference", "s.json"), 2, "--ids-file"),
    (("--against-weights", "bfloat8_b"), 2, "--ids-file"),
    (("--against-weights", "int8", "-p", "x"), 2, "int8"),
    (("--against-activations", "bfloat8_b", "--ids-file", "IDS"), 2, "bfloat8_b"),
    (("--reference", "r.json", "-p", "x"), 2, "own prompt"),
    (("--reference", "/no/such/file"), 3, "/no/such/file"),
    (("--save-reference", "/no/such/folder/r.json", "--ids-file", "IDS"), 3, "/no/such/folder"),
    (("--save-reference", "s.json", "--ids-file", "IDS", "--new", 500), 2, "context"),
])
def test_what_cannot_be_done_is_refused(tessera, tiny, ids_file, tmp_path, arguments, code, said):
    arguments = [ids_file if argument == "IDS" else tmp_path / argument if str(argument).endswith(".json") and "/" not in str(argument) else argument for argument in arguments]
    assert said in tessera.run("eval", "-m", tiny, *arguments, expect=code).stderr
    assert not (tmp_path / "s.json").exists()


@pytest.mark.parametrize("field, value", [("format", "other"), ("reference_ids", [10**6]), ("top5_ids", [[1, 2]]), ("prompt_ids", [])])
def test_bad_references_are_refused_by_field(tessera, tiny, tmp_path, field, value):
    path = tmp_path / "reference.json"
    good = {"format": "tessera-reference-1", "prompt_ids": [5], "reference_ids": [6], "top5_ids": [[6, 7, 8, 9, 10]]}
    path.write_text(json.dumps(good))
    tessera.run("eval", "-m", tiny, "--reference", path)
    path.write_text(json.dumps({**good, field: value}))
    assert field in tessera.run("eval", "-m", tiny, "--reference", path, expect=3).stderr
