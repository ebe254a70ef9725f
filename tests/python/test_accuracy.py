"""How near each precision comes to Hugging Face's float32 on the real models, beside Hugging Face's own bfloat16: over the tokens that
Hugging Face chose behind prompts/evaluation.txt, and over a given text, both fed as they stand."""
import gc
import json
from dataclasses import dataclass
from types import SimpleNamespace

import hf_precisions
import pytest
from bringups import MODELS, load_hf
from parity import prompt_ids
from tessera_package import need_package

tessera_package = need_package()
torch = pytest.importorskip("torch")
from tessera import evaluation  # noqa: E402

PRECISIONS = {"float32": ("--weights", "float32", "--activations", "float32"), "bfloat16": ("--weights", "bfloat16"), "bfloat8_b": ("--weights", "bfloat8_b")}
NAMES = {"gemma3_270m": "Gemma 3 270M", "phi3_smollm2": "SmolLM2 as Phi-3"}
POINTS = 0.015  # of top-1 that ours may be behind Hugging Face's bfloat16
RATIO = 1.2  # of mean KL


@dataclass
class Agreement:
    total: int
    top1: float
    top5: float
    kl: float

    def __str__(self):
        return f"top-1 {self.top1:.2%}, top-5 {self.top5:.2%}, mean KL {self.kl:.6f}"


def together(parts):
    """Of scores over several references."""
    total = sum(part.total for part in parts)
    return Agreement(total, *(sum(getattr(part, name) * part.total for part in parts) / total for name in ("top1", "top5", "kl")))


@torch.no_grad()
def judge_hf(model, reference):
    """Fed in one forward."""
    ids = reference.prompt + reference.fed
    rows = (row.numpy() for rows in evaluation.logits_of_text(model, ids[:-1]) for row in rows)
    first = len(reference.prompt) - 1
    judged = [tessera_package.judge_row(reference, i - first, row) for i, row in enumerate(rows) if i >= first]
    score = tessera_package.sum_up(reference, judged)
    return Agreement(score.total, score.top1 / score.total, score.top5 / score.total, score.kl.mean)


def hugging_face(checkpoint, text_tokens, new_tokens, text):
    """The references that Hugging Face makes in float32, and how near its bfloat16 comes, with the weights as they are and block-rounded."""
    prompt = (MODELS.parent / "prompts/evaluation.txt").read_text(encoding="utf-8")
    whole = load_hf(checkpoint)
    references = [evaluation.generate_reference(whole, prompt_ids(checkpoint, prompt), new_tokens),
                  evaluation.reference_of_text(whole, prompt_ids(checkpoint, text)[:text_tokens + 1])]
    del whole
    gc.collect()
    half = hf_precisions.load(checkpoint, torch.bfloat16)
    bfloat16 = together([judge_hf(half, reference) for reference in references])
    hf_precisions.round_weights(half)  # whose values are bfloat16's too
    return references, {"bfloat16": bfloat16, "bfloat8_b": together([judge_hf(half, reference) for reference in references])}


def ours(tessera, checkpoint, references, folder):
    scores = {}
    for precision, flags in PRECISIONS.items():
        parts = []
        for i, reference in enumerate(references):
            path = folder / f"{i}.json"
            tessera_package.write_reference(str(path), reference)
            facts = json.loads(tessera.run("eval", "-m", checkpoint, "--reference", path, "--json", "-", *flags).stdout)
            parts.append(SimpleNamespace(kl=facts["kl_mean"], **facts))
        scores[precision] = together(parts), parts
    return scores


@pytest.mark.parametrize("checkpoint, text_tokens, new_tokens", [
    pytest.param("phi3_smollm2", 100, 24, id="SmolLM2 as Phi-3, a part"), pytest.param("phi3_smollm2", 1000, 100, id="SmolLM2 as Phi-3", marks=pytest.mark.slow),
    pytest.param("gemma3_270m", 1000, 100, id="Gemma 3 270M", marks=pytest.mark.slow)])
def test_each_precision_agrees_with_float32_as_hugging_faces_does(request, tessera, tmp_path, measured, long_text, checkpoint, text_tokens, new_tokens):
    name, checkpoint = NAMES[checkpoint], request.getfixturevalue(checkpoint)
    references, hf = hugging_face(checkpoint, text_tokens, new_tokens, long_text)
    scores = ours(tessera, checkpoint, references, tmp_path)
    whole, parts = scores["float32"]
    ties, missed = sum(part.ties for part in parts), sum(part.ties_missed for part in parts)
    distinct = "; ".join(f"{part.total} with {part.distinct} distinct" for part in parts)
    measured(f"{name}, {whole.total} tokens ({distinct}), ours in float32: {whole}; {ties} ties, {missed} of them chosen otherwise")
    for precision, theirs in hf.items():
        measured(f"{name}, {precision}: ours {scores[precision][0]}; Hugging Face's {theirs}; KL ratio {scores[precision][0].kl / theirs.kl:.2f}")
    assert whole.total >= min(text_tokens, 1000) and whole.total - round(whole.top1 * whole.total) == missed and whole.kl < 1e-6
    for precision, theirs in hf.items():
        assert scores[precision][0].top1 >= theirs.top1 - POINTS, precision
        assert scores[precision][0].kl <= RATIO * theirs.kl, precision
