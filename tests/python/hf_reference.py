"""Hugging Face's own numbers, in float32, computed once a run and kept in files."""
import hashlib
import os

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

ROWS = 64  # rows of logits computed and compared at a time: 64 x 262,144 floats are 67 MB


class HfReference:
    def __init__(self, folder):
        self.folder = folder
        self.path, self.loaded = None, None
        self.files, self.generated = {}, {}

    def close(self):
        self.path, self.loaded = None, None
        for file in self.files.values():
            os.unlink(file)
        self.files.clear()

    def model(self, checkpoint):
        """Loaded directly in float32: a conversion afterwards would keep Gemma's rounded embedding scale. One model is held at a time."""
        if self.path != checkpoint:
            self.loaded = None
            self.loaded = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
            self.loaded.generation_config = GenerationConfig()  # else generate() samples, and stops at an end token
            self.path = checkpoint
        return self.loaded

    @torch.no_grad()
    def logits(self, checkpoint, ids):
        """The logits of every row of the prompt `ids`: a float32 array [rows, vocabulary] on disk."""
        key = hashlib.sha256(repr((str(checkpoint), list(ids))).encode()).hexdigest()
        if key not in self.files:
            model = self.model(checkpoint)
            hidden = model.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
            cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
            shape = (len(ids), model.lm_head.out_features)
            out = np.lib.format.open_memmap(self.folder / f"{key}.npy", mode="w+", dtype=np.float32, shape=shape)
            for begin in range(0, len(ids), ROWS):
                logits = model.lm_head(hidden[begin:begin + ROWS]) / getattr(model.config, "logits_scaling", 1)  # Granite's
                out[begin:begin + ROWS] = logits if cap is None else cap * torch.tanh(logits / cap)
            self.files[key] = out.filename
            del out
        return np.load(self.files[key], mmap_mode="r")

    @torch.no_grad()
    def greedy(self, checkpoint, ids, count):
        """`count` greedy ids after the prompt, past any end token, and each one's margin over the second best."""
        key = (str(checkpoint), tuple(ids), count)
        if key not in self.generated:
            out = self.model(checkpoint).generate(torch.tensor([ids]), do_sample=False, max_new_tokens=count, pad_token_id=0,
                                                  return_dict_in_generate=True, output_logits=True)
            self.generated[key] = out.sequences[0, len(ids):].tolist(), [margin(row[0].numpy()) for row in out.logits]
        return self.generated[key]


def margin(row):
    second, first = np.partition(row, -2)[-2:]
    return float(first - second)


def max_difference(ours, reference):
    """The largest |difference| of two arrays of logits, and its row. NaN anywhere gives NaN."""
    assert ours.shape == reference.shape, f"logits {ours.shape}, reference {reference.shape}"
    worst, row = 0.0, 0
    for begin in range(0, len(ours), ROWS):
        by_row = np.abs(np.subtract(ours[begin:begin + ROWS], reference[begin:begin + ROWS], dtype=np.float32)).max(axis=1)
        at = int(by_row.argmax())  # argmax finds a NaN first
        if not by_row[at] <= worst:
            worst, row = float(by_row[at]), begin + at
    return worst, row
