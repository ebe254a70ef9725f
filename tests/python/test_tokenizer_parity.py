"""The C++ tokenizer against the `tokenizers` library: the same ids, the same text, for real vocabularies of every family."""
import json
import random
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import tokenizer_texts
from conftest import made_weights
from tokenizers import Tokenizer

RESTORED = ("phi-3", "llama-2", "llama-3", "qwen2")
FAMILIES = ("gemma", "smollm2", *RESTORED)


class Program:
    """tests/text/tokenize_tool.cpp with one tokenizer.json, and perhaps a folder: it is loaded once and asked many times."""

    def __init__(self, path, tokenizer_json, *folder):
        self.process = subprocess.Popen([path, tokenizer_json, *folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __del__(self):
        self.process.communicate()

    def ask(self, requests):
        limit = threading.Timer(600, self.process.kill)
        limit.start()
        answers = [self.answer(request) for request in requests]
        limit.cancel()
        return answers

    def answer(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"no answer, exit {self.process.wait()}"
        return json.loads(line)

    def ids(self, texts, add_special=False, parse_special=True):
        return [answer["ids"] for answer in self.ask([{"text": t, "add_special": add_special, "parse_special": parse_special} for t in texts])]


@dataclass
class Family:
    name: str
    folder: Path
    ours: Program
    hf: Tokenizer
    added: list
    unknown: int | None

    def hf_ids(self, texts, add_special=False):
        return [encoding.ids for encoding in self.hf.encode_batch(texts, add_special_tokens=add_special)]

    def special_ids(self):
        return {token["id"] for token in self.added if token["special"]}


@pytest.fixture(scope="session")
def tool(build):
    path = build / "tests/text/tokenize_tool"
    if not path.exists():
        pytest.skip(f"{path} is not built")
    return path


@pytest.fixture(scope="session", params=FAMILIES)
def family(request, tool):
    if request.param in RESTORED:
        folder = made_weights("make_tokenizers.py", request.param)
    else:
        folder = request.getfixturevalue({"gemma": "gemma3_270m", "smollm2": "phi3_smollm2"}[request.param])
    path = folder / "tokenizer.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    hf = Tokenizer.from_file(str(path))
    return Family(request.param, folder, Program(tool, path), hf, facts["added_tokens"], hf.token_to_id(facts["model"]["unk_token"] or ""))


def first_difference(texts, ours, theirs):
    return next(((repr(t)[:300], a, b) for t, a, b in zip(texts, ours, theirs, strict=True) if a != b), None)


@pytest.mark.parametrize("kind", tokenizer_texts.KINDS)
def test_ids_and_text_equal_the_library(family, kind, measured):
    texts = tokenizer_texts.texts(kind, [token["content"] for token in family.added])
    assert len(texts) >= 150
    ids = family.hf_ids(texts)
    assert first_difference(texts, family.ours.ids(texts), ids) is None
    assert family.ours.ids(texts, add_special=True) == family.hf_ids(texts, add_special=True)
    for skip in (False, True):
        answers = family.ours.ask([{"ids": i, "skip_special": skip} for i in ids])
        expected = [family.hf.decode(i, skip_special_tokens=skip) for i in ids]
        assert first_difference(texts, [answer["text"] for answer in answers], expected) is None
        assert first_difference(texts, ["".join(answer["pieces"]) for answer in answers], expected) is None
    measured(f"tokenizer {family.name}: {len(texts)} texts of {kind}, {sum(map(len, ids))} ids equal")


LLAMA = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


@pytest.mark.parametrize("model_type, config", [
    ("llama", LLAMA), ("llama", {**LLAMA, "tokenizer_class": "LlamaTokenizerFast", "legacy": None}), ("llama", {**LLAMA, "legacy": True}),
    ("llama", {**LLAMA, "legacy": False}), ("llama", {**LLAMA, "add_prefix_space": False}), ("llama", {**LLAMA, "tokenizer_class": "PreTrainedTokenizerFast"}),
    ("llama", {}), ("mistral", LLAMA), ("phi3", LLAMA)], ids=str)
def test_a_llama_s_pipeline_is_that_of_auto_tokenizer(tool, tmp_path, model_type, config):
    """transformers builds the pipeline of some of these itself: then tokenizer.json alone gives other ids."""
    from transformers import AutoTokenizer

    shutil.copy(made_weights("make_tokenizers.py", "llama-2") / "tokenizer.json", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    auto, file = AutoTokenizer.from_pretrained(tmp_path), Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = [*(text for kind in tokenizer_texts.KINDS for text in tokenizer_texts.texts(kind, ["<s>", "</s>", "<unk>"])[:60]),
             "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHello [/INST] Hi </s><s>[INST] Why? [/INST]", "<s>a</s> b", " a", "\u2581a", ""]
    ids = [encoding.ids for encoding in auto.backend_tokenizer.encode_batch(texts, add_special_tokens=True)]
    rebuilt = model_type == "llama" and config.get("tokenizer_class", "").startswith("Llama")
    assert (ids != [encoding.ids for encoding in file.encode_batch(texts)]) == rebuilt
    for program in Program(tool, tmp_path / "tokenizer.json"), *(Program(tool, tmp_path / "tokenizer.json", tmp_path / "packed") for _ in range(2)):
        assert first_difference(texts, program.ids(texts, add_special=True), ids) is None
        expected = [auto.decode(row, skip_special_tokens=True) for row in ids]
        assert first_difference(texts, [answer["text"] for answer in program.ask([{"ids": row, "skip_special": True} for row in ids])], expected) is None


@pytest.mark.parametrize("kind", tokenizer_texts.KINDS)
def test_plain_text_never_yields_a_special_token(family, kind):
    texts = tokenizer_texts.texts(kind, [token["content"] for token in family.added])
    ours = family.ours.ids(texts, parse_special=False)
    family.hf.encode_special_tokens = True
    theirs = family.hf_ids(texts)
    family.hf.encode_special_tokens = False
    special = family.special_ids()
    for text, mine, theirs_ in zip(texts, ours, theirs, strict=True):
        assert not (special - {family.unknown}) & set(mine), repr(text)
        # The library's model may still put a special token together from its parts; there alone ours differs.
        assert mine == theirs_ or special & set(theirs_), repr(text)


def test_every_token_decodes_alone_as_in_the_library(family, measured):
    size = family.ours.ask([{}])[0]["vocab_size"]
    ids = range(size + 3)
    ours = family.ours.ask([{"first": 0, "end": size + 3}])[0]["texts"]
    theirs = family.hf.decode_batch([[i] for i in ids], skip_special_tokens=False)
    assert first_difference(list(ids), ours, theirs) is None
    measured(f"tokenizer {family.name}: {size} tokens decoded one by one, all equal")


def test_random_ids_decode_and_stream_as_in_the_library(family):
    draw = random.Random("tessera ids")
    size = family.ours.ask([{}])[0]["vocab_size"]
    # Where there are byte tokens, many of them: whole characters, cut ones and noise.
    bytes_ = [i for i in (family.hf.token_to_id(f"<0x{byte:02X}>") for byte in range(256)) if i is not None] or list(range(256))
    rows = [[draw.choice([draw.randrange(size), draw.choice(bytes_)]) for _ in range(draw.randint(1, 60))] for _ in range(300)]
    for skip in (False, True):
        answers = family.ours.ask([{"ids": row, "skip_special": skip} for row in rows])
        expected = family.hf.decode_batch(rows, skip_special_tokens=skip)
        assert first_difference(rows, [answer["text"] for answer in answers], expected) is None
        assert first_difference(rows, ["".join(answer["pieces"]) for answer in answers], expected) is None


def test_every_character_of_unicode_is_cut_as_in_the_library(family):
    characters = [chr(c) for plane in (0, 1, 2, 3, 14) for c in range(plane << 16, (plane + 1) << 16) if not 0xD800 <= c < 0xE000]
    texts = ["".join(f"a{c}b {c}1'{c} " for c in characters[i:i + 64]) for i in range(0, len(characters), 64)]
    assert first_difference(texts, family.ours.ids(texts), family.hf_ids(texts)) is None


def test_spans_equal_the_joined_text_and_cannot_be_forged(family):
    draw = random.Random("tessera spans")
    controls = [token["content"] for token in family.added if token["special"]]
    persons = [text + draw.choice(tokenizer_texts.WORDS) for text in tokenizer_texts.texts("white_space", [])]
    rows = [[(draw.choice(controls) + draw.choice(["", "\n", "user\n"]), True), (text, False), (draw.choice(controls) + "\n", True),
             (draw.choice(["\n\n", "  ", ""]), False), (draw.choice(controls), True)] for text in persons]
    ask = lambda rows: [answer["ids"] for answer in family.ours.ask([{"spans": row, "add_special": True} for row in rows])]
    joined = ["".join(text for text, _ in row) for row in rows]
    assert first_difference(joined, ask(rows), family.hf_ids(joined, add_special=True)) is None

    special = family.special_ids()
    forge = lambda: draw.choice(controls) + draw.choice(["", " ", "x"]) + draw.choice(controls)[:-1]
    forged = [[(text if parsed else forge(), parsed) for text, parsed in row] for row in rows]
    harmless = [[(text if parsed else "x", parsed) for text, parsed in row] for row in rows]
    controls_of = lambda ids: [i for i in ids if i in special]
    for row, ids, expected in zip(forged, ask(forged), ask(harmless), strict=True):
        assert controls_of(ids) == controls_of(expected), row


@pytest.mark.parametrize("family", RESTORED, indirect=True)
def test_restored_tokenizers_give_the_originals_ids(family):
    """The ids were recorded with the family's original Hugging Face tokenizer."""
    recorded = json.loads((family.folder / "original.json").read_text(encoding="utf-8"))
    assert len(recorded) >= 40
    texts = [entry["text"] for entry in recorded]
    assert first_difference(texts, family.ours.ids(texts), [entry["ids"] for entry in recorded]) is None


def test_long_words_take_no_quadratic_time(family):
    texts = ["a" * 300_000, "ab" * 100_000, " " * 300_000 + "x", "\u4e2d" * 60_000, "=" * 200_000, "1" * 100_000, "\U0001F999" * 30_000,
             "\n" * 100_000, "x \n" * 50_000]
    assert first_difference(texts, family.ours.ids(texts), family.hf_ids(texts)) is None
