#!/usr/bin/env python3
"""Real vocabularies of the Phi-3, Llama 2, Llama 3 and Qwen2 families as the tokenizer.json files that their Hugging Face originals have.

The vocabularies lie as GGUF files in the source package of llama-cpp-python (models/ggml-vocab-*.gguf, no weights), beside texts and the ids that
each family's original Hugging Face tokenizer gives for them (*.gguf.inp, *.gguf.out). Those become original.json: they show that the rest of a
tokenizer.json, which a GGUF does not hold, is restored rightly here.

usage: make_tokenizers.py FAMILY [OUT_DIR]      FAMILY: phi-3, llama-2, llama-3 or qwen2; prints the directory
"""
import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from checkpoint_folder import cache_folder, publish, recipe_of, write_json
from gguf import GGUFReader
from pinned_wheels import sha256_of

VERSION, BYTES, SHA256 = "0.3.36", 76589250, "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
SDIST = f"llama_cpp_python-{VERSION}.tar.gz"
MODELS = f"llama_cpp_python-{VERSION}/vendor/llama.cpp/models"
GGUF_NAMES = {"phi-3": "phi-3", "llama-2": "llama-spm", "llama-3": "llama-bpe", "qwen2": "qwen2"}
ABOUT = "A tokenizer.json restored from a GGUF vocabulary: of the Hugging Face original in content, not its very file."

CONTROL, USER_DEFINED = 3, 4  # GGUF token types
SPACE = "\u2581"
# The words of Llama 3 and Qwen2 differ in how many digits go together.
WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


@dataclass(frozen=True)
class Vocabulary:
    tokens: list
    scores: list
    kinds: list
    merges: list
    adds_bos: bool
    bos: str

    @staticmethod
    def read(path):
        fields = GGUFReader(path).fields
        get = lambda key, default=None: fields["tokenizer.ggml." + key].contents() if "tokenizer.ggml." + key in fields else default
        tokens = get("tokens")
        # The embedding has more rows than the tokenizer has tokens: a GGUF names them [PADn].
        count = next((i for i, token in enumerate(tokens) if token == f"[PAD{i}]"), len(tokens))
        return Vocabulary(tokens[:count], get("scores", [])[:count], get("token_type")[:count], get("merges"), get("add_bos_token", True),
                          tokens[get("bos_token_id")])


def sentencepiece_merges(tokens, scores):
    """Merges for a SentencePiece vocabulary: every split of a token into two, the token with the best score first, then the longest parts."""
    ids = {token: i for i, token in enumerate(tokens)}
    merges = []
    for token, score in zip(tokens, scores, strict=True):
        splits = [(token[:i], token[i:], score) for i in range(1, len(token)) if token[:i] in ids and token[i:] in ids]
        merges += sorted(splits, key=lambda split: (ids[split[0]], ids[split[1]]))
    merges.sort(key=lambda merge: (merge[2], len(merge[0]), len(merge[1])), reverse=True)
    return [[left, right] for left, right, _ in merges]


def added_token(index, content, special, rstrip=False):
    return {"id": index, "content": content, "single_word": False, "lstrip": False, "rstrip": rstrip, "normalized": False, "special": special}


def template(vocabulary):
    """A post-processor that puts the bos token before a text; None where the family adds nothing."""
    if not vocabulary.adds_bos:
        return None
    bos, text = vocabulary.bos, lambda name, type_id: {"Sequence": {"id": name, "type_id": type_id}}
    mark = lambda type_id: {"SpecialToken": {"id": bos, "type_id": type_id}}
    return {"type": "TemplateProcessing", "single": [mark(0), text("A", 0)], "pair": [mark(0), text("A", 0), mark(1), text("B", 1)],
            "special_tokens": {bos: {"id": bos, "ids": [vocabulary.tokens.index(bos)], "tokens": [bos]}}}


def model(vocab, merges, **options):
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
            "byte_fallback": False, "ignore_merges": False, **options, "vocab": vocab, "merges": merges}


def document(**parts):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": None, **parts}


def sentencepiece(vocabulary, added):
    """Llama 2's form, as transformers' conversion of a SentencePiece model makes it: spaces are U+2581, each text begins with one, unknown
    characters become bytes. The first 32,000 tokens are the model's, later ones only added."""
    size = next((i for i, token in enumerate(vocabulary.tokens) if token.startswith("<|")), len(vocabulary.tokens))
    tokens = [token.replace(" ", SPACE) for token in vocabulary.tokens[:size]]
    return document(
        added_tokens=added,
        normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE},
                                                        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]},
        post_processor=template(vocabulary),
        decoder={"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"},
                                                  {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        model=model({token: i for i, token in enumerate(tokens)}, sentencepiece_merges(tokens, vocabulary.scores[:size]), unk_token="<unk>",
                    fuse_unk=True, byte_fallback=True))


def llama_2(vocabulary):
    return sentencepiece(vocabulary, [added_token(i, vocabulary.tokens[i], special=True) for i in range(3)])  # <unk>, <s>, </s>


def phi_3(vocabulary):
    """Llama 2's vocabulary and chat tokens behind it. White space after a chat token is swallowed: all but <unk>, <s> and <|endoftext|> have
    rstrip, </s> too, which is not special (llama.cpp's src/llama-vocab.cpp lists the same for Phi-3)."""
    plain = ("<unk>", "<s>", "<|endoftext|>")
    return sentencepiece(vocabulary, [added_token(i, token, special=kind != USER_DEFINED, rstrip=token not in plain)
                                      for i, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
                                      if kind in (CONTROL, USER_DEFINED)])


def byte_level(vocabulary, digits, post_processor, **parts):
    """Bytes as printable letters; a regular expression cuts the words. Control tokens are only added, not in the model's vocabulary."""
    regex = {"Regex": WORDS.replace("DIGITS", digits)}
    letters = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    tokens = list(enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True)))
    added = [added_token(i, token, special=True) for i, (token, kind) in tokens if kind == CONTROL]
    vocab = {token: i for i, (token, kind) in tokens if kind != CONTROL}
    ignore_merges = parts.pop("ignore_merges", False)
    return document(added_tokens=added,
                    pre_tokenizer={"type": "Sequence", "pretokenizers": [
                        {"type": "Split", "pattern": regex, "behavior": "Isolated", "invert": False}, letters]},
                    post_processor=post_processor(letters), decoder=letters,
                    model=model(vocab, [merge.split(" ") for merge in vocabulary.merges], ignore_merges=ignore_merges), **parts)


def llama_3(vocabulary):
    """A word that is a token is taken whole, whatever the merges make of it: the vocabulary came from tiktoken."""
    return byte_level(vocabulary, "{1,3}", lambda letters: {"type": "Sequence", "processors": [letters, template(vocabulary)]}, ignore_merges=True)


def qwen2(vocabulary):
    return byte_level(vocabulary, "", lambda letters: letters, normalizer={"type": "NFC"})


FAMILIES = {"phi-3": phi_3, "llama-2": llama_2, "llama-3": llama_3, "qwen2": qwen2}


def originals(texts, ids):
    """[{text, ids}, ...] from the .inp and .out files: the ids without special tokens around them."""
    texts = texts.decode("utf-8").removesuffix("\n__ggml_vocab_test__\n").split("\n__ggml_vocab_test__\n")
    lines = ids.decode("utf-8").removesuffix("\n").split("\n")
    return [{"text": text, "ids": [int(number) for number in line.split()]} for text, line in zip(texts, lines, strict=True)]


def fetch_sdist(folder):
    """The source package's path, downloaded by pip where it is absent or damaged. (pip also prepares its build, some seconds.)"""
    path = folder / SDIST
    is_intact = lambda: path.is_file() and path.stat().st_size == BYTES and sha256_of(path) == SHA256
    if is_intact():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    print(f"downloading {SDIST}, {BYTES / 1e6:.0f} MB, into {folder}", file=sys.stderr, flush=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(f"llama-cpp-python=={VERSION} --hash=sha256:{SHA256}\n")
        requirements.flush()
        done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--no-binary", "llama-cpp-python",
                               "--dest", str(folder), "--requirement", requirements.name], stdout=sys.stderr)
    if done.returncode or not is_intact():
        raise RuntimeError(f"cannot download {SDIST}: see pip's message above; with no network, put the file into {folder} by hand")
    return path


def make(folder, family):
    name = f"ggml-vocab-{GGUF_NAMES[family]}.gguf"
    wanted = {f"{MODELS}/{name}{ending}": ending for ending in ("", ".inp", ".out")}
    with tarfile.open(fetch_sdist(cache_folder() / "downloads")) as archive:
        parts = {wanted[member.name]: archive.extractfile(member).read() for member in archive if member.name in wanted}
    with tempfile.NamedTemporaryFile(suffix=".gguf") as gguf:
        gguf.write(parts[""])
        gguf.flush()
        write_json(folder / "tokenizer.json", FAMILIES[family](Vocabulary.read(gguf.name)))
    write_json(folder / "original.json", originals(parts[".inp"], parts[".out"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("out", nargs="?", type=Path, help="the directory to make (default: in weights/ of Tessera's cache)")
    a = parser.parse_args()
    out = a.out or cache_folder() / "weights" / f"tokenizer-{a.family}"
    print(publish(out, recipe_of({"family": a.family}, __file__), ABOUT, lambda folder: make(folder, a.family)))


if __name__ == "__main__":
    main()
