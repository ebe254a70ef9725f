"""Teacher forcing against Hugging Face: what eval.py and scripts/run_eval.py share. docs/evaluation.md says what is measured."""
import importlib.util
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig, LogitsProcessor

import tessera
from tessera.bringup import open_checkpoint

KEPT = 64  # log-probabilities of each token in a reference
ROWS = 64  # rows of logits held at a time: 64 x 262,144 floats are 67 MB
ANY_VOCABULARY = 2**31 - 1  # a reference is read before the model is there; judging it looks at the ids again


def bar(total: int, label: str) -> Any:
    """On standard error, where that is a terminal."""
    return tqdm(total=total, desc=label, unit="token", file=sys.stderr, disable=None, leave=False)


def load_bringup(path: str | Path) -> ModuleType:
    """The module of a bring-up's model.py; its folder's name is no module name."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a bring-up is models/<org>/<name>/<system>/functional/model.py")
    spec = importlib.util.spec_from_file_location("bringup", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "build_model"):
        raise ValueError(f"{path}: has no build_model(hf_model, tt_device, max_seq_len)")
    return module


def find_bringup(models: Path, name: str, system: str) -> Path:
    """models/<id>/<system>/functional/model.py. Of a directory: the bring-up of its architecture on that system that is named as the directory
    is, or else the first."""
    path = models / name / system / "functional/model.py"
    if path.is_file():
        return path
    if not Path(name).is_dir():
        raise FileNotFoundError(f"no bring-up {path}; scripts/new_bringup.py {name} {system} writes one")
    model_type = open_checkpoint(name).model_type
    found = [path for path in sorted(models.glob(f"*/*/{system}/functional/model.py")) if load_bringup(path).BRINGUP.serves(model_type)]
    if not found:
        raise FileNotFoundError(f"{name}: no bring-up of a {model_type} on {system} in {models}; docs/add_a_bringup.md says how to add one")
    return next((path for path in found if path.parts[-4] == Path(name).resolve().name), found[0])


def precision_of(dtype: str | None) -> dict[str, str]:
    """What build_model is told for --dtype."""
    return {} if dtype is None else {"weights": dtype, "activations": "float32" if dtype == "float32" else "bfloat16"}


def load_reference_model(name: str, cache_dir: str | None = None) -> Any:
    """Hugging Face's model in float32 on the CPU, and nothing but greedy."""
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    is_mistral3 = AutoConfig.from_pretrained(name, cache_dir=cache_dir).model_type == "mistral3"  # which is no causal model there
    kind: Any = AutoModelForImageTextToText if is_mistral3 else AutoModelForCausalLM
    model = kind.from_pretrained(name, dtype=torch.float32, cache_dir=cache_dir).eval()
    model.generation_config = plain(model.generation_config)
    return model


def plain(config: GenerationConfig) -> GenerationConfig:
    """Without samplers and penalties: generate() takes from here what it is not told."""
    return GenerationConfig(bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id)


def made_by(model: Any) -> str:
    return f"transformers {transformers.__version__}, {type(model).__name__}, {str(model.dtype).removeprefix('torch.')}"


class BarStreamer:
    def __init__(self, shown: Any) -> None:
        self.shown, self.prompt = shown, True

    def put(self, ids: torch.Tensor) -> None:
        self.shown.update(0 if self.prompt else len(ids))
        self.prompt = False

    def end(self) -> None:
        pass


@torch.no_grad()
def generate_reference(model: Any, prompt: list[int], max_new_tokens: int, min_new_tokens: int | None = None) -> tessera.Reference:
    """The greedy choices of a Hugging Face model behind `prompt`, to an end token at most. min_new_tokens: no end token before."""
    reference = tessera.Reference(prompt, made_by=made_by(model))
    if max_new_tokens:
        with bar(max_new_tokens, "reference") as shown:
            made = model.generate(torch.tensor([prompt]), attention_mask=torch.ones((1, len(prompt)), dtype=torch.long), do_sample=False,
                                  max_new_tokens=max_new_tokens, min_new_tokens=min_new_tokens, return_dict_in_generate=True,
                                  output_logits=True, streamer=BarStreamer(shown))
        for token, logits in zip(made.sequences[0, len(prompt):].tolist(), made.logits):
            reference.append(token, logits[0].float().contiguous().numpy(), KEPT)
    return reference


@torch.no_grad()
def logits_of_text(model: Any, ids: list[int]) -> Iterator[torch.Tensor]:
    """The logits behind every token, of one forward, in pieces of rows."""
    config = model.config.get_text_config()
    scaling, cap = getattr(config, "logits_scaling", 1), getattr(config, "final_logit_softcapping", None)  # of Granite, of Gemma
    hidden = model.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
    for rows in hidden.split(ROWS):
        logits = model.get_output_embeddings()(rows) / scaling
        yield (logits if cap is None else cap * torch.tanh(logits / cap)).float().contiguous()


def reference_of_text(model: Any, ids: list[int]) -> tessera.Reference:
    """A Hugging Face model's choice behind every token of a text."""
    if len(ids) < 2:
        raise ValueError(f"the text has {len(ids)} tokens; at least 2 are needed")
    reference = tessera.Reference(ids[:1], forced=ids[1:], made_by=made_by(model))
    with bar(len(ids) - 1, "reference") as shown:
        for rows in logits_of_text(model, ids[:-1]):
            for row, choice in zip(rows, rows.argmax(dim=1).tolist()):
                reference.append(choice, row.numpy(), KEPT)
            shown.update(len(rows))
    return reference


def save_reference(path: str | Path, reference: tessera.Reference, model: Any) -> None:
    """As JSON, or as .refpt: a torch file of {"reference_tokens": [1, T], "top5_tokens": [T - 1, 5]}. `model` tells a .refpt's rows of the prompt."""
    if not str(path).endswith(".refpt"):
        return tessera.write_reference(str(path), reference)
    before = [rows.topk(5).indices for rows in logits_of_text(model, reference.prompt[:-1])] if len(reference.prompt) > 1 else []
    torch.save({"reference_tokens": torch.tensor([reference.prompt + reference.fed]), "prompt_tokens": len(reference.prompt),
                "top5_tokens": torch.cat([*before, torch.tensor(reference.top5, dtype=torch.long).reshape(-1, 5)])}, path)


def load_reference(path: str | Path) -> tessera.Reference:
    """JSON, or a .refpt, whose text is fed as it stands; where it does not say how long its prompt is, the first half is the prompt."""
    if not str(path).endswith(".refpt"):
        return tessera.read_reference(str(path), ANY_VOCABULARY)
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
        tokens, top5 = saved["reference_tokens"][0].tolist(), saved["top5_tokens"].tolist()
        prompt = int(saved.get("prompt_tokens", len(tokens) // 2))
        if not 0 < prompt <= len(tokens) <= len(top5) + 1 <= len(tokens) + 1:
            raise ValueError(f"{len(tokens)} reference_tokens, {prompt} of them the prompt's, and {len(top5)} top5_tokens do not go together")
        reference = tessera.Reference(tokens[:prompt], made_by=Path(path).name, forced=tokens[prompt:])
        for row in top5[prompt - 1:len(tokens) - 1]:
            reference.append_top5(row[0], row)
        return reference
    except Exception as error:
        raise tessera.FileError(f"{path}: is no reference: {error}") from error


class TeacherForcing(LogitsProcessor):
    """Inside generate(): judges each row's logits, and has the reference's token chosen."""

    def __init__(self, references: list[tessera.Reference], shown: Any) -> None:
        self.references, self.shown = references, shown
        self.fed = [reference.fed for reference in references]
        self.judged: list[list[tessera.JudgedRow]] = [[] for _ in references]
        self.step, self.seconds = 0, 0.0
        self.left: float | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.left is not None:
            self.seconds += time.perf_counter() - self.left
        chosen = torch.full_like(scores, -math.inf)
        for row, (reference, fed) in enumerate(zip(self.references, self.fed)):
            if self.step < len(fed):
                self.judged[row].append(tessera.judge_row(reference, self.step, scores[row].contiguous().numpy()))
            chosen[row, fed[min(self.step, len(fed) - 1)]] = 0
        self.step += 1
        self.shown.update(1)
        self.left = time.perf_counter()
        return chosen


@dataclass
class Score:
    total: int
    top1: int
    top5: int
    distinct: int  # ids among the reference's tokens
    ties: int | None  # places where the reference's best two are less than 0.001 apart; None: not known
    ties_missed: int | None
    kl: float | None  # mean KL(reference || model); None: the reference has no log-probabilities
    perplexity: float  # of the fed tokens
    tokens_per_second: float | None  # of decoding, without judging

    @classmethod
    def of(cls, references: list[tessera.Reference], scores: list[tessera.ReferenceScore], tokens_per_second: float | None = None) -> "Score":
        total = sum(score.total for score in scores)
        known = [score for score in scores if score.kl.count]

        def over(means: list[tessera.Mean]) -> float:
            return sum(mean.mean * mean.count for mean in means) / total

        return cls(total=total, top1=sum(score.top1 for score in scores), top5=sum(score.top5 for score in scores),
                   distinct=len({token for reference in references for token in reference.tokens}), ties=sum(score.ties for score in known) if known else None,
                   ties_missed=sum(score.ties_missed for score in known) if known else None,
                   kl=over([score.kl for score in known]) if known else None,
                   perplexity=math.exp(over([score.loss for score in scores])) if total else math.nan, tokens_per_second=tokens_per_second)


@torch.no_grad()
def teacher_force(model: Any, references: list[tessera.Reference], prefill_decode: bool = False) -> Score:
    """Feeds prompts of one length, one a row, and the references' tokens behind them through the model's own generate(): the first choice
    is judged from the prompt's last row. prefill_decode: the prompt goes in one token at a time too."""
    steps = max(len(reference.tokens) for reference in references)
    if steps == 0:
        return Score.of(references, [tessera.sum_up(reference, []) for reference in references])
    with bar(steps, "teacher forcing") as shown:
        forcing = TeacherForcing(references, shown)
        prompts = torch.tensor([reference.prompt for reference in references])
        model.generation_config = plain(model.generation_config)
        # The end token comes last in a row if at all, and other rows go on after it.
        model.generate(prompts, attention_mask=torch.ones_like(prompts), do_sample=False, max_new_tokens=steps, logits_processor=[forcing],
                       pad_token_id=0, prefill_chunk_size=1 if prefill_decode else None)
    rate = (steps - 1) * len(references) / forcing.seconds if steps > 1 else None
    return Score.of(references, [tessera.sum_up(*pair) for pair in zip(references, forcing.judged)], rate)


def score_text(model: Any, reference: tessera.Reference) -> Score:
    """The choices behind a given text, in one forward, whose logits are judged as they come."""
    engine = getattr(model, "engine", None)
    if engine is None:
        raise ValueError("a given text is judged by models that tessera.bringup builds; this bring-up's is another")
    length = len(reference.prompt) + len(reference.fed) - 1
    if length > engine.context:
        raise ValueError(f"the text has {length + 1} tokens; max_seq_len or the model's context ends at {engine.context}")
    with bar(length, "teacher forcing") as shown, engine.lock:
        score = engine.generator.score_reference(reference, torch.get_num_threads(), lambda done, total: shown.update(done - shown.n))
    return Score.of([reference], [score])


def judge(model: Any, references: list[tessera.Reference], prefill_decode: bool = False) -> Score:
    if references[0].forced:
        return score_text(model, references[0])
    return teacher_force(model, references, prefill_decode)


def accuracy_lines(score: Score) -> list[str]:
    if score.total == 0:
        return ["No tokens to evaluate."]
    return [f"Top-{k} accuracy: {100 * hits / score.total:.2f}% ({hits / score.total:.4f})" for k, hits in ((1, score.top1), (5, score.top5))]


def further_lines(score: Score) -> list[str]:
    ties = "" if score.ties is None else f", {score.ties} ties, {score.ties_missed} of them chosen otherwise"
    divergence = "" if score.kl is None else f"KL(reference || model): {score.kl:.6f}; "
    return [f"Reference: {score.total} tokens, {score.distinct} distinct{ties}", f"{divergence}perplexity: {score.perplexity:.4f}"]
