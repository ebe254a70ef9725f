"""What the tests of eval.py and scripts/run_eval.py share: tiny checkpoints with a tokenizer, the scripts as modules, expected numbers."""
import importlib.util
import json
import shutil
from types import SimpleNamespace

import numpy as np
import tiny_checkpoints
import torch
from bringups import MODELS, load_bringup, load_hf
from row_measures import best, divergence_of_kept, log_softmax, losses_of
from tokenizers import Tokenizer, models, pre_tokenizers, processors

ROOT = MODELS.parent
WORDS = "The quick brown fox jumps over the lazy dog .".split() + [str(number) for number in range(1, 60)]
KEPT = 64


def load_script(path, root=ROOT):
    spec = importlib.util.spec_from_file_location("script", root / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_tokenizer(folder, bos):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "<s>": bos} | {word: 3 + i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "unk_token": "[UNK]"}))


def make_tiny(folder, family="PHI3", **changed):
    """With room for 2,048 tokens."""
    base = getattr(tiny_checkpoints, family)
    long = {"max_position_embeddings": 2048} | ({"original_max_position_embeddings": 2048} if family == "PHI3" else {})
    tiny_checkpoints.make(folder, tiny_checkpoints.row(base, **long | changed))
    write_tokenizer(folder, base["bos_token_id"])
    return folder


def put_into_hub(checkpoint, cache, name):
    """As an id's snapshot in a Hugging Face cache."""
    folder = cache / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("abc")
    shutil.copytree(checkpoint, folder / "snapshots/abc")


def expected_score(name, checkpoint, prompt, fed, choices=None, **precision):
    """Of Hugging Face's float32 and ours, each over the whole sequence in one forward, in float64. choices: Hugging Face's best if None."""
    ids = torch.tensor([[*prompt, *fed[:-1]]])
    with torch.no_grad():
        theirs = load_hf(checkpoint)(input_ids=ids).logits[0, len(prompt) - 1:].numpy()
        ours = load_bringup(name).build_model(checkpoint, "cpu", 2048, **precision)(input_ids=ids).logits[0, len(prompt) - 1:].numpy()
    choices = best(theirs, 1)[:, 0] if choices is None else np.array(choices)
    p, q = log_softmax(theirs), log_softmax(ours)
    kept = best(theirs, KEPT)
    kl = [divergence_of_kept(ids, row_p[ids], row_q) for ids, row_p, row_q in zip(kept, p, q)]
    return SimpleNamespace(top1=int((best(ours, 1)[:, 0] == choices).sum()), top5=int((best(ours, 5) == choices[:, None]).any(axis=1).sum()),
                           kl=float(np.mean(kl)), perplexity=float(np.exp(losses_of(q, fed).mean())), choices=choices.tolist())
