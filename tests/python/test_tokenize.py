"""tessera tokenize against the tokenizers library: ids, pieces, and the text of ids."""
import json
import shutil
import subprocess

import pytest
from tokenizers import Tokenizer

TEXTS = ["ab", "[INST] a text [/INST]", "[a,b]", "{}", "%%", "  two  blanks ", "two\nlines\n", "<bos>a<end_of_turn>", "\u00e9\u4f60", "--", "-n", "--top_k", "a" * 300]


@pytest.fixture(scope="module", params=["tiny", "phi3_smollm2"])
def folder(request, bases):
    return bases["gemma"] if request.param == "tiny" else request.getfixturevalue(request.param)


def told(tessera, folder, *flags, **more):
    done = subprocess.run([tessera.path, "tokenize", "-m", folder, *flags], capture_output=True, timeout=60, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_ids_pieces_and_text_are_those_of_the_tokenizers_library(tessera, folder, tmp_path):
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS:
        facts = json.loads(told(tessera, folder, "-p", text, "--json", "-"))
        expected = theirs.encode(text)
        assert [token["id"] for token in facts["tokens"]] == expected.ids, text
        assert [token["piece"] for token in facts["tokens"]] == expected.tokens, text
        assert facts["count"] == len(expected.ids) and facts["text"] == theirs.decode(expected.ids, skip_special_tokens=False), text
        (tmp_path / "text").write_text(text)
        ids = told(tessera, folder, "-f", tmp_path / "text", "--ids")
        assert ids == " ".join(map(str, expected.ids)) + "\n"
        back = json.loads(told(tessera, folder, "--ids-file", "-", "--json", "-", input=ids.encode()))
        assert (back["tokens"], back["text"]) == (facts["tokens"], facts["text"]), text


def test_a_line_for_each_token_is_fit_for_a_terminal(tessera, bases, tmp_path):
    assert told(tessera, bases["gemma"], "-p", "ab c\nd").splitlines() == ["     102  ab", "       6  \u2581", "      74  c", "       7  \\u{a}", "      75  d"]


def test_a_chat_has_its_template_around_it(tessera, bases):
    text = json.loads(told(tessera, bases["gemma"], "--chat", "--system", "Short.", "-p", " a<end_of_turn>b", "--json", "-"))
    assert text["text"] == "<start_of_turn>systemShort.<end_of_turn><start_of_turn>user a<end_of_turn>b<end_of_turn><start_of_turn>assistant"
    assert [token["piece"] for token in text["tokens"]].count("<end_of_turn>") == 2  # what people type is text


def test_no_weights_are_read(tessera, bases, tmp_path):
    for name in "config.json", "tokenizer.json":
        shutil.copy(bases["gemma"] / name, tmp_path)
    assert told(tessera, tmp_path, "-p", "ab", "--ids") == "102\n"


def test_an_id_is_opened_at_a_revision(tessera, bases, tmp_path):
    snapshots = tmp_path / "models--a--b/snapshots"
    snapshots.mkdir(parents=True)
    environment = {"HF_HUB_CACHE": str(tmp_path)}
    for commit in "0123", "4567":
        (snapshots / commit).symlink_to(bases["gemma"])
        assert told(tessera, "a/b", "-p", "ab", "--ids", "--revision", commit, env=environment) == "102\n"
    for command, flags in {"run": ["-p", "ab", "-n", "1"], "inspect": [], "plan": ["--device", "cpu"], "tokenize": ["-p", "ab"]}.items():
        for revision, code in {"4567": 0, "89ab": 3, "../x": 2}.items():
            done = subprocess.run([tessera.path, command, "-m", "a/b", "--revision", revision, *flags], capture_output=True, env=environment)
            assert done.returncode == code, done.stderr
            assert code != 3 or b"hf download a/b --revision 89ab" in done.stderr
