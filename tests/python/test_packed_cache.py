"""What is kept for the next run: packed weights and tokenizers' tables. The same output with it and without, and no harm when it fails."""
import os
import shutil
import subprocess

import numpy as np
import pytest
import tokenizer_texts
from test_tokenizer_parity import Program, family, first_difference, tool  # noqa: F401

PROMPT = "The three primary colours are"


class Keeping:
    """The program with a folder of its own to keep things in."""

    def __init__(self, path, folder):
        self.path, self.folder = path, folder

    def logits(self, model, weights, *flags, expect=0, **environment):
        out = self.folder.parent / "logits.npy"
        out.unlink(missing_ok=True)
        done = subprocess.run([self.path, "run", "-m", model, "-p", PROMPT, "-n", "0", "--weights", weights, "--logits", out, *flags], text=True, capture_output=True,
                              env={**os.environ, "TESSERA_CACHE": str(self.folder), "TESSERA_PACKED_CACHE": "1", **environment}, timeout=300)
        assert done.returncode == expect, done.stderr
        return np.load(out)

    def files(self):
        return sorted((self.folder / "packed").iterdir()) if (self.folder / "packed").exists() else []


@pytest.fixture
def keeping(tessera, tmp_path):
    return Keeping(tessera.path, tmp_path / "cache")


@pytest.mark.parametrize("weights", ["bfloat16", "bfloat8_b"])
def test_a_model_gives_the_same_logits_packed_anew_and_kept(keeping, gemma3_270m, weights):
    plain = keeping.logits(gemma3_270m, weights, TESSERA_PACKED_CACHE="0")
    assert keeping.files() == []
    first = keeping.logits(gemma3_270m, weights)
    kept = {file.suffix: file.stat() for file in keeping.files()}
    assert sorted(kept) == [".tokenizer", ".weights"]
    second = keeping.logits(gemma3_270m, weights, "-t", "1")
    assert np.array_equal(first, plain) and np.array_equal(second, plain)
    assert {file.suffix: file.stat().st_ino for file in keeping.files()} == {suffix: stat.st_ino for suffix, stat in kept.items()}
    for file in keeping.files():
        os.truncate(file, file.stat().st_size // 2)
    assert np.array_equal(keeping.logits(gemma3_270m, weights), plain)
    assert {file.suffix: file.stat().st_size for file in keeping.files()} == {suffix: stat.st_size for suffix, stat in kept.items()}


def test_instruction_sets_share_a_file_and_other_types_and_models_have_their_own(keeping, phi3_smollm2, tmp_path):
    plain = keeping.logits(phi3_smollm2, "bfloat8_b", TESSERA_CPU_ISA="plain", TESSERA_PACKED_CACHE="0")
    keeping.logits(phi3_smollm2, "bfloat8_b")
    assert np.array_equal(keeping.logits(phi3_smollm2, "bfloat8_b", TESSERA_CPU_ISA="plain"), plain)
    weights = lambda: [file for file in keeping.files() if file.suffix == ".weights"]
    assert len(weights()) == 1
    keeping.logits(phi3_smollm2, "bfloat4_b")
    assert len(weights()) == 2
    shutil.copytree(phi3_smollm2, tmp_path / "copy")
    keeping.logits(tmp_path / "copy", "bfloat8_b")
    assert len(weights()) == 3


def test_a_folder_that_cannot_be_written_is_no_error(keeping, phi3_smollm2):
    keeping.folder.mkdir()
    (keeping.folder / "packed").write_text("a file where the folder should be")
    plain = keeping.logits(phi3_smollm2, "bfloat8_b", TESSERA_PACKED_CACHE="0")
    assert np.array_equal(keeping.logits(phi3_smollm2, "bfloat8_b"), plain)


def test_a_kept_tokenizer_gives_the_librarys_ids(family, tool, tmp_path):  # noqa: F811
    added = [token["content"] for token in family.added]
    texts = [text for kind in tokenizer_texts.KINDS for text in tokenizer_texts.texts(kind, added)]
    keeping = lambda: Program(tool, family.folder / "tokenizer.json", tmp_path / "kept")
    keeping().ids(texts[:1])
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert first_difference(texts, keeping().ids(texts), family.hf_ids(texts)) is None
