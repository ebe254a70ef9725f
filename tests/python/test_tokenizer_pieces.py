"""Each piece of a tokenizer.json in small tokenizers of their own, against the `tokenizers` library: normalizers, pre-tokenizers, flags of
added tokens, decoders, templates, and the rarer options of byte pair encoding."""
import json
import random
import subprocess

import pytest
from tokenizers import Tokenizer

SPACE = "\u2581"
LETTERS = "abcdefABCxyz.,-!'0123456789 \n\t<>|_/" + SPACE + (
    "\u00e9\u0301\u00c4\u0130\u00df\u4e2d\ufb01\u2460\u212b\u1e9b\u0323\uac00\u00a0\u3000\u180e")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
MERGES = [["a", "b"], ["ab", "c"], ["c", "d"], ["b", "c"], ["a", "a"], ["aa", "aa"], [SPACE, "a"], [" ", "a"], [SPACE, SPACE], ["abc", "d"],
          [".", "."], ["-", "-"]]
TEXTS = ["", "a", " ", "  ", "abc", "abcd", "aaaaaaa", " abc  abcd ", "the-final--countdown", "-a-", "--", "a1b22c333", "abc\n\n\tabc", "<x>",
         " <x> ", "a<x>b", "<x><x>", "<x> <y>\n<z>a", "<X> <x", "a <x> b", "_<x>", "\u4e2d<x>\u4e2d", "1<x>.", "<xy>",
         "\u00c4\u0130\u00df \ufb01\u2460\u212b", "e\u0301 \u1e9b\u0323 \u1100\u1161", "\u2603 \u2603\u2603a\u2603", "\U0001F999",
         f"{SPACE}a{SPACE}{SPACE}b", "\u00a0a\u3000b\u180e", "a\u0000b", "x!y!z!", "don't we'll", "a<x>  <y>  b", "<y>abc<y>", "  <w>  <w>"]


def tokenizer(**parts):
    tokens = list(dict.fromkeys([*LETTERS, *(left + right for left, right in MERGES), "<unk>", *parts.pop("tokens", [])]))
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": {token: i for i, token in enumerate(tokens)},
        "merges": MERGES, **parts.pop("model", {})}
    everything = list(dict.fromkeys([*tokens, *(flags["content"] for flags in parts.get("added", []))]))
    added = [{"id": everything.index(flags["content"]), "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": False, **flags}
             for flags in parts.pop("added", [])]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": None, "model": model, **parts}


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def sequence(kind, *parts):
    return {"type": "Sequence", {"n": "normalizers", "p": "pretokenizers", "d": "decoders", "o": "processors"}[kind]: list(parts)}


PREPEND = {"type": "Prepend", "prepend": SPACE}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
SPACES_BACK = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
LETTERED = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
METASPACE = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}
BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
XYZ = [{"content": "<x>"}, {"content": "<y>", "special": True}, {"content": "<z>"}, {"content": "<w>"}, {"content": "<xy>"}]


def flagged(**flags):
    return [dict(token, **flags) for token in XYZ]


def template(ids):
    mark = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}
    text = lambda name: {"Sequence": {"id": name, "type_id": 0}}
    return {"type": "TemplateProcessing", "single": [mark("s"), text("A"), mark("e")], "pair": [text("A"), text("B")],
            "special_tokens": {"s": {"id": "s", "ids": ids, "tokens": ["a"] * len(ids)}, "e": {"id": "e", "ids": [3], "tokens": ["d"]}}}


CASES = {
    "nothing": {},
    **{f"normalizer {n}": {"normalizer": {"type": n}} for n in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase")},
    **{f"strip {left} {right}": {"normalizer": {"type": "Strip", "strip_left": left, "strip_right": right}}
       for left in (False, True) for right in (False, True)},
    "replace text": {"normalizer": {"type": "Replace", "pattern": {"String": "ab"}, "content": "<x>"}},
    "replace regex": {"normalizer": {"type": "Replace", "pattern": {"Regex": "[abc]+|\\d"}, "content": "x"}},
    "replace empty matches": {"normalizer": {"type": "Replace", "pattern": {"Regex": "b*"}, "content": "-"}},
    "prepend and replace": {"normalizer": sequence("n", PREPEND, REPLACE), "added": XYZ},
    "normalizer sequence in a sequence": {"normalizer": sequence("n", sequence("n", {"type": "NFKC"}, {"type": "Lowercase"}), PREPEND)},
    "empty sequences": {"normalizer": sequence("n"), "pre_tokenizer": sequence("p"), "decoder": sequence("d"), "post_processor": sequence("o")},
    **{f"split text {b} {i}": {"pre_tokenizer": split({"String": "-"}, b, i)} for b in BEHAVIORS for i in (False, True)},
    **{f"split regex {b} {i}": {"pre_tokenizer": split({"Regex": "[ab]|\\s+|\\d{1,2}"}, b, i)} for b in BEHAVIORS for i in (False, True)},
    **{f"split at empty matches {b}": {"pre_tokenizer": split({"Regex": "a*"}, b)} for b in BEHAVIORS},
    **{f"regex {r}": {"pre_tokenizer": split({"Regex": r}, "Isolated")} for r in
       (r"\s", r"\S+", r"\p{L}+", r"\P{L}", r"[^\s\p{L}\p{N}]+", "(?i:AB|\u00c4)", r"^a|c$", r"a(?=b)|(?<=c)d",
        r"\p{Han}", r"[\x{61}-\x{63}]", r".", r"(?>a+)b|(a)(b)", r"a{2,3}|\.{2}", r"\d|\D", r"\v|\t")},
    "digits alone": {"pre_tokenizer": {"type": "Digits", "individual_digits": True}},
    "digits together": {"pre_tokenizer": {"type": "Digits", "individual_digits": False}},
    "punctuation": {"pre_tokenizer": {"type": "Punctuation"}},
    **{f"punctuation {b}": {"pre_tokenizer": {"type": "Punctuation", "behavior": b}} for b in BEHAVIORS},
    "white space split": {"pre_tokenizer": {"type": "WhitespaceSplit"}, "added": XYZ},
    **{f"byte level {p} {r}": {"pre_tokenizer": dict(LETTERED, add_prefix_space=p, use_regex=r), "added": XYZ, "decoder": LETTERED,
                               "tokens": ["\u0120", "\u0120a", "\u010a", "\u00e2", "\u0122", "\u0125"]}
       for p in (False, True) for r in (False, True)},
    **{f"metaspace {s} {c}": {"pre_tokenizer": dict(METASPACE, prepend_scheme=s, split=c), "added": XYZ,
                              "decoder": dict(METASPACE, prepend_scheme=s, split=c)}
       for s in ("always", "first", "never") for c in (False, True)},
    "pre-tokenizer sequence": {"added": XYZ, "pre_tokenizer": sequence("p", {"type": "WhitespaceSplit"},
                                                                       {"type": "Digits", "individual_digits": True}, METASPACE)},
    "split, then metaspace first": {"pre_tokenizer": sequence("p", split({"String": "a"}, "Removed"), dict(METASPACE, prepend_scheme="first"))},
    **{f"added {flag}": {"added": flagged(**{flag: True})} for flag in ("single_word", "lstrip", "rstrip", "special")},
    "added all flags": {"added": flagged(single_word=True, lstrip=True, rstrip=True)},
    "added strips both": {"added": flagged(lstrip=True, rstrip=True)},
    "added normalized": {"added": flagged(normalized=True), "normalizer": {"type": "Lowercase"}},
    "added normalized upper case": {"added": [{"content": "<X>", "normalized": True}, {"content": "<Y>", "special": True}],
                                    "normalizer": {"type": "Lowercase"}},
    "added normalized with prepend": {"added": flagged(normalized=True, rstrip=True), "normalizer": sequence("n", PREPEND, REPLACE)},
    "added white space": {"added": [{"content": "  "}, {"content": "\n", "rstrip": True}, {"content": " <x>"}, {"content": "<x>", "lstrip": True}]},
    "added prefixes of each other": {"added": [{"content": "a"}, {"content": "abcd"}, {"content": "ab"}, {"content": "cd--"},
                                               {"content": "-countdown"}]},
    "unknown fused": {"model": {"fuse_unk": True}},
    "no unknown token": {"model": {"unk_token": None}},
    "byte fallback": {"model": {"byte_fallback": True}, "tokens": BYTES, "decoder": sequence("d", {"type": "ByteFallback"}, {"type": "Fuse"})},
    "byte fallback with holes": {"model": {"byte_fallback": True, "fuse_unk": True}, "tokens": BYTES[:0xE2] + BYTES[0xE4:],
                                 "decoder": {"type": "ByteFallback"}},
    "byte fallback with holes, unknown not fused": {"model": {"byte_fallback": True}, "tokens": BYTES[:0xE2] + BYTES[0xE4:]},
    "ignore merges": {"model": {"ignore_merges": True}, "pre_tokenizer": split({"String": " "}, "Isolated"), "tokens": ["don't", "x!y!z!", "abcd"]},
    "merges as texts": {"model": {"merges": [" ".join(m) for m in MERGES if " " not in m]}},
    "merges twice": {"model": {"merges": MERGES[:3] + MERGES}},
    "gaps": {"model": {"vocab": {c: 3 * i for i, c in enumerate([*LETTERS, "<unk>", "ab"])}, "merges": MERGES[:1]}},
    "template": {"post_processor": template([1, 2, 1])},
    "template in a sequence": {"post_processor": sequence("o", LETTERED, template([1]))},
    "decoder replace": {"decoder": {"type": "Replace", "pattern": {"Regex": "[a" + SPACE + "]"}, "content": "_"}},
    **{f"decoder strip {start} {stop}": {"decoder": {"type": "Strip", "content": "a", "start": start, "stop": stop}}
       for start, stop in ((0, 0), (1, 0), (0, 1), (1, 1))},
    **{f"decoder fuse and strip {start} {stop}": {"decoder": sequence("d", SPACES_BACK, {"type": "ByteFallback"}, {"type": "Fuse"},
                                                                      {"type": "Strip", "content": " ", "start": start, "stop": stop})}
       for start, stop in ((1, 0), (0, 2), (2, 1))},
    "decoder of llama 2": {"normalizer": sequence("n", PREPEND, REPLACE), "model": {"byte_fallback": True, "fuse_unk": True}, "tokens": BYTES,
                           "added": flagged(rstrip=True),
                           "decoder": sequence("d", SPACES_BACK, {"type": "ByteFallback"}, {"type": "Fuse"},
                                               {"type": "Strip", "content": " ", "start": 1, "stop": 0})},
}


def texts_of(name):
    draw = random.Random(name)
    pieces = ["ab", "abc", " ", "  ", "\n", "<x>", "<y>", "<X>", "<z", "-", "--", "1", "23", SPACE, "\u2603", "\u4e2d", "\u00c4", "e\u0301",
              "a", "aaa", "."]
    return TEXTS + ["".join(draw.choice(pieces) for _ in range(draw.randint(1, 12))) for _ in range(150)]


@pytest.mark.parametrize("name", CASES)
def test_a_piece_works_as_in_the_library(name, build, tmp_path):
    tool = build / "tests/text/tokenize_tool"
    if not tool.exists():
        pytest.skip(f"{tool} is not built")
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer(**CASES[name])), encoding="utf-8")
    theirs = Tokenizer.from_file(str(path))
    texts = texts_of(name)
    draw = random.Random(name)
    size = theirs.get_vocab_size()
    rows = [[draw.randrange(size) for _ in range(draw.randint(0, 12))] for _ in range(100)]
    if name.startswith("decoder strip"):  # the library panics where the two ends of a Strip meet in one token
        rows = [[i for i in row if i != 0] for row in rows]
    if name.startswith("decoder fuse"):  # nor may they meet in the whole text
        rows = [[1, *row, 1] for row in rows]
    if name.startswith("added normalized"):  # the library gives their normalized form
        rows = [[i for i in row if i not in theirs.get_added_tokens_decoder()] for row in rows]
    requests = [{"text": t, "add_special": add, "parse_special": True} for t in texts for add in (False, True)]
    requests += [{"ids": row, "skip_special": skip} for row in rows for skip in (False, True)]
    done = subprocess.run([tool, path], input="".join(json.dumps(r) + "\n" for r in requests), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    answers = iter([json.loads(line) for line in done.stdout.split("\n")[:-1]])
    for text in texts:
        for add in (False, True):
            assert next(answers).get("ids") == theirs.encode(text, add_special_tokens=add).ids, repr(text)
    for row in rows:
        for skip in (False, True):
            answer = next(answers)
            assert answer["text"] == theirs.decode(row, skip_special_tokens=skip), row
            assert "".join(answer["pieces"]) == answer["text"], row


def test_every_character_that_is_punctuation_is_so_in_the_library(build, tmp_path):
    tool = build / "tests/text/tokenize_tool"
    if not tool.exists():
        pytest.skip(f"{tool} is not built")
    path = tmp_path / "tokenizer.json"  # each piece begins with a mark
    path.write_text(json.dumps(tokenizer(pre_tokenizer=sequence("p", {"type": "Punctuation"}, METASPACE))), encoding="utf-8")
    theirs = Tokenizer.from_file(str(path))
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    texts = ["".join(f"a{c}a" for c in characters[i:i + 256]) for i in range(0, len(characters), 256)]
    done = subprocess.run([tool, path], input="".join(json.dumps({"text": text, "add_special": False, "parse_special": True}) + "\n" for text in texts), capture_output=True, text=True, timeout=120)
    answers = [json.loads(line)["ids"] for line in done.stdout.split("\n")[:-1]]
    assert [text[:1] for text, ids in zip(texts, answers, strict=True) if ids != theirs.encode(text, add_special_tokens=False).ids] == []
