"""How well each precision foretells prompts/perplexity.txt, all tokens in one window: Hugging Face's and ours side by side."""
import json
from pathlib import Path
from types import SimpleNamespace

import hf_precisions
import numpy as np
import pytest
import torch
from block_float_model import MAGNITUDE_BITS, decode, encode
from hf_precisions import perplexity
from parity import INSTRUCTION_SETS, prompt_ids, random_ids
from tiny_checkpoints import PHI3, TRAITS, make

PRECISIONS = {  # our flags
    "float32": ("--weights", "float32", "--activations", "float32"),
    "bfloat16": ("--weights", "bfloat16", "--activations", "bfloat16"),
    "bfloat8_b": ("--weights", "bfloat8_b", "--activations", "bfloat16"),
}
TEXT = Path(__file__).resolve().parents[2] / "prompts/perplexity.txt"


def score(tessera, checkpoint, *arguments):
    return json.loads(tessera.run("perplexity", "-m", checkpoint, "--json", "-", *arguments).stdout)


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in ("gemma3_270m", "phi3_smollm2")])
def case(request, tessera, long_text):
    checkpoint = request.getfixturevalue(request.param)
    ids = prompt_ids(checkpoint, long_text)
    return SimpleNamespace(name={"gemma3_270m": "Gemma 3 270M", "phi3_smollm2": "SmolLM2 as Phi-3"}[request.param], checkpoint=checkpoint, ids=ids,
                           hf=hf_precisions.reference(checkpoint, ids),
                           ours={precision: score(tessera, checkpoint, "-f", TEXT, *flags) for precision, flags in PRECISIONS.items()})


def test_all_tokens_are_scored_in_one_window(case, measured):
    hf = {"float32": perplexity(case.hf.float32_losses), "bfloat16": perplexity(case.hf.bfloat16_losses)}
    for precision, ours in case.ours.items():
        assert (ours["tokens"], ours["scored"], ours["windows"]) == (len(case.ids), len(case.ids) - 1, 1)
        beside = f", Hugging Face {hf[precision]:.4f}" if precision in hf else ""
        measured(f"{case.name}, perplexity of {ours['scored']} tokens in {precision}: {ours['perplexity']:.4f} ± {ours['perplexity_error']:.4f}{beside}")


def test_float32_equals_hugging_face(case):
    reference = case.hf.float32_losses
    ours = case.ours["float32"]
    assert ours["perplexity"] == pytest.approx(perplexity(reference), rel=1e-4)
    assert ours["mean_nll_error"] == pytest.approx(reference.std(ddof=1) / len(reference) ** 0.5, rel=1e-3)
    assert ours["perplexity_error"] == pytest.approx(ours["perplexity"] * ours["mean_nll_error"], rel=1e-9)


def test_bfloat16_is_as_near_to_float32_as_hugging_faces(case, measured):
    whole = perplexity(case.hf.float32_losses)
    theirs, ours = abs(perplexity(case.hf.bfloat16_losses) / whole - 1), abs(case.ours["bfloat16"]["perplexity"] / whole - 1)
    measured(f"{case.name}, bfloat16's perplexity is {ours:.3%} from float32's, Hugging Face's {theirs:.3%}")
    assert ours <= theirs + 0.005


def test_bfloat8_b_is_as_near_to_its_rounded_weights_as_hugging_faces_bfloat16_is_to_float32(case, tessera, tmp_path, measured):
    ids_file, out = tmp_path / "ids.json", tmp_path / "logits.npy"
    ids_file.write_text(json.dumps(case.ids))
    tessera.run("run", "-m", case.checkpoint, "--ids-file", ids_file, "--logits", out, "-n", 0, *PRECISIONS["bfloat8_b"])
    logits = np.load(out, mmap_mode="r")
    out.unlink()  # the array keeps the file's contents alive
    rounded_losses, losses, divergences = hf_precisions.compare_with_rounded(case.checkpoint, case.ids, case.hf.rounded_hidden, logits)
    ours, theirs = divergences.mean(), case.hf.bfloat16_divergences.mean()
    measured(f"{case.name}, mean KL: our bfloat8_b to Hugging Face with the same rounded weights {ours:.6f}, Hugging Face's bfloat16 to float32 {theirs:.6f}, "
             f"ratio {ours / theirs:.2f}; perplexity {perplexity(losses):.4f}, Hugging Face with rounded weights {perplexity(rounded_losses):.4f}")
    assert case.ours["bfloat8_b"]["perplexity"] == pytest.approx(perplexity(losses), rel=1e-6)
    assert ours <= 1.2 * theirs


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "bfloat8_b"])
def test_every_kernel_foretells_as_the_plain_ones_do(tessera, phi3_smollm2, monkeypatch, precision, measured):
    found = {}
    for isa in INSTRUCTION_SETS:
        monkeypatch.setenv("TESSERA_CPU_ISA", isa)
        found[isa] = score(tessera, phi3_smollm2, "-f", TEXT, *PRECISIONS[precision])["perplexity"]
    measured(f"SmolLM2 as Phi-3, perplexity in {precision}: " + ", ".join(f"{isa} {value:.4f}" for isa, value in found.items()))
    assert found == {isa: pytest.approx(found["plain"], rel=1e-3) for isa in INSTRUCTION_SETS}


def test_the_rounding_of_the_reference_is_that_of_the_format():
    weight = torch.randn(4096, 40, generator=torch.Generator().manual_seed(1))
    weight *= torch.exp2(torch.randint(-12, 12, weight.shape, generator=torch.Generator().manual_seed(2)))
    weight[:16, 0] = 0
    weight = weight.bfloat16().float()
    blocks = weight.reshape(256, 16, 40).transpose(1, 2).reshape(-1, 16).numpy()
    bits = MAGNITUDE_BITS["bfloat8_b"]
    expected = decode(*encode(blocks, bits), bits).view(np.float32).reshape(256, 40, 16).transpose(0, 2, 1).reshape(4096, 40)
    np.testing.assert_array_equal(hf_precisions.block_rounded(weight).numpy(), expected)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make(tmp_path_factory.mktemp("tiny") / "phi3", TRAITS["phi3-head-dim-96"])


def strided_losses(model, ids, window, stride, start):
    """As in transformers' guide to perplexity: windows every `stride` tokens, each token scored in the first window that has it."""
    losses, scored = [], 1
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        piece = list(ids[begin:end])
        if start is not None and begin > 0:
            piece[0] = start
        with torch.no_grad():
            log_probs = hf_precisions.log_softmax(model(torch.tensor([piece])).logits[0])
        losses += [-log_probs[i - begin - 1, ids[i]].item() for i in range(scored, end)]
        scored = end
        if end == len(ids):
            return np.array(losses)


@pytest.mark.parametrize("window, stride", [(32, 16), (32, 31), (20, 5), (100, 50)])
@pytest.mark.parametrize("begins", [True, False])
def test_strided_windows_equal_hugging_face(tessera, hf, tiny, tmp_path, window, stride, begins):
    bos = PHI3["bos_token_id"]
    ids = ([bos] if begins else []) + random_ids(90, PHI3["vocab_size"])
    file = tmp_path / "ids.json"
    file.write_text(json.dumps(ids))
    ours = score(tessera, tiny, "--ids-file", file, "--window", window, "--stride", stride, *PRECISIONS["float32"])
    expected = strided_losses(hf.model(tiny), ids, window, stride, bos if begins else None)
    assert ours["scored"] == len(expected) == len(ids) - 1
    assert ours["mean_nll"] == pytest.approx(expected.mean(), rel=1e-5)
    assert ours["perplexity"] == pytest.approx(perplexity(expected), rel=1e-4)
    assert score(tessera, tiny, "--ids-file", file, "--window", window, "--stride", stride, *PRECISIONS["float32"], "-t", 1)["mean_nll"] == ours["mean_nll"]


def test_the_text_says_what_the_json_says(tessera, tiny, tmp_path):
    ids, out = tmp_path / "ids.json", tmp_path / "out.json"
    ids.write_text(json.dumps(random_ids(50, 200)))
    printed = tessera.run("perplexity", "-m", tiny, "--ids-file", ids, "-c", 32, "--json", out).stdout
    facts = json.loads(out.read_text())
    assert facts["windows"] == 3 and facts["window"] == 32  # every 16 tokens: 0..31, 16..47, 32..49
    assert printed == f"scored 49 of 50 tokens in 3 windows of 32\nperplexity {facts['perplexity']:.4f} ± {facts['perplexity_error']:.4f}\n"
    assert facts["precision"] == {"weights": "bfloat16", "activations": "bfloat16", "cache": "bfloat16"}


@pytest.mark.parametrize("arguments, code, said", [
    (("--window", 1), 2, "window"),
    (("--window", 32, "--stride", 32), 2, "stride"),
    (("--window", 0), 2, "--window"),
    (("--window", 600), 2, "600"),
    (("-p", "text"), 2, "--ids-file"),
    (("--json", "/no/such/folder/out.json"), 3, "/no/such/folder/out.json"),
])
def test_what_cannot_be_done_is_refused(tessera, tiny, tmp_path, arguments, code, said):
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps(random_ids(50, 200)))
    assert said in tessera.run("perplexity", "-m", tiny, "--ids-file", ids, *arguments, expect=code).stderr


def test_texts_too_short_or_absent_are_refused(tessera, tiny, tmp_path):
    ids = tmp_path / "ids.json"
    ids.write_text("[5]")
    assert "at least 2" in tessera.run("perplexity", "-m", tiny, "--ids-file", ids, expect=2).stderr
    tessera.run("perplexity", "-m", tiny, "--ids-file", tmp_path / "none", expect=3)
    tessera.run("perplexity", "-m", tiny, expect=2)
    tessera.run("perplexity", "-m", tmp_path / "none", "--ids-file", ids, expect=3)
