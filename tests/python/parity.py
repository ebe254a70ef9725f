"""What float32 mode promises against Hugging Face's float32, said once for every model."""
import json
from pathlib import Path

import numpy as np
from hf_reference import margin, max_difference
from tokenizers import Tokenizer

TOLERANCE = 1e-3  # on logits, against Hugging Face
COUNTED_TOLERANCE = 1e-2  # on a text of counted numbers, where Hugging Face's own attentions are further apart than TOLERANCE
DECIDED = 1e-3  # a greedy choice is compared where the reference's margin is over this
PROMPTS = ["Once upon a time, there was a", "def fibonacci(n):\n", "The three primary colours are", "Water boils at a temperature of",
           "Dear Sir or Madam,\n\nI am writing to"]


def instruction_sets():
    """The kernels that this machine can run, by the names of TESSERA_CPU_ISA."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    return ["plain"] + ["avx2"] * ({"avx2", "fma", "f16c"} <= flags) + ["avx512"] * ({"avx512_bf16", "avx512vbmi"} <= flags)


INSTRUCTION_SETS = instruction_sets()


def prompt_ids(checkpoint, text):
    return Tokenizer.from_file(str(checkpoint / "tokenizer.json")).encode(text).ids


def random_ids(count, vocabulary):
    return np.random.default_rng(count).integers(3, vocabulary, count).tolist()


def assert_same_logits(ours, reference, label, measured):
    difference, row = max_difference(ours, reference)
    measured(f"{label}, {len(ours)} tokens: max |logit difference| to Hugging Face {difference:.1e}")
    assert difference <= TOLERANCE, f"row {row} of {len(ours)}"


def compare_choices(ours, reference, label, measured):
    """Of a text that both were fed; returns how many were compared."""
    decided = [row for row in range(len(reference)) if margin(reference[row]) > DECIDED]
    for row in decided:
        assert ours[row].argmax() == reference[row].argmax(), f"position {row} of {len(reference)}"
    measured(f"{label}, teacher forced: the same choice at all {len(decided)} of {len(reference)} positions, those whose margin is over {DECIDED}")
    return len(decided)


def assert_lively(reference):
    """Guards the tests themselves: a tiny model whose logits hardly move would forgive anything."""
    assert reference.std() > 1 and len(set(reference.argmax(axis=1).tolist())) > 1


def assert_cut_does_not_matter(tessera, checkpoint, ids, cuts, measured, whole=None):
    whole = tessera.logits(checkpoint, ids, "-b", len(ids)) if whole is None else whole
    for cut in cuts:
        difference, row = max_difference(tessera.logits(checkpoint, ids, "-b", cut), whole)
        measured(f"{checkpoint.name}, {len(ids)} tokens in chunks of {cut}: max |logit difference| to one piece {difference:.1e}")
        assert difference == 0, f"chunks of {cut}, row {row}"


def assert_same_greedy_ids(tessera, hf, checkpoint, ids, count, measured):
    """One token at a time, to an end token; the two may part only where the reference itself is undecided."""
    end = json.loads((checkpoint / "generation_config.json").read_text())["eos_token_id"]
    reference, margins = hf.greedy(checkpoint, ids, count)
    stop = next((i for i in range(count) if reference[i] == end or margins[i] <= DECIDED), count)
    ours = tessera.greedy(checkpoint, ids, count)
    measured(f"{checkpoint.name}, prompt of {len(ids)}: {stop} greedy ids compared with Hugging Face's generate()")
    assert ours[:stop] == reference[:stop]
    return stop
