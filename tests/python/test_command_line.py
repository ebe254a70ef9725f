"""The program's arguments and standard streams: what is wrong with them is said in one line, and a closed pipe is no error."""
import os
import re
import subprocess

import pytest

UNFIT = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
COMMANDS = ("run", "chat", "perplexity", "inspect", "eval", "bench")


@pytest.fixture(scope="module")
def tiny(bases):
    return bases["gemma"]


@pytest.fixture(scope="module")
def call(tessera):
    def run(*arguments, **more):
        return subprocess.run([tessera.path, *arguments], **{"capture_output": True, "timeout": 60, "stdin": subprocess.DEVNULL, **more})
    return run


def said(done, exit):
    text = done.stderr.decode()
    assert done.returncode == exit, text
    assert not UNFIT.search(text), repr(text)
    return text


CASES = {  # name -> (arguments, exit code, words)
    "no arguments": ([], 2, "name a command"),
    "unknown command": (["walk"], 2, "walk"),
    "unknown flag": (["run", "-m", "TINY", "-p", "ab", "--speed"], 2, "--speed"),
    "flag that writes to the terminal": (["run", "-m", "TINY", "-p", "ab", "--\x1b[2J"], 2, r"--\u{1b}[2J"),
    "flag without its value": (["run", "-m"], 2, "--model"),
    "no model": (["run", "-p", "ab"], 2, "--model is required"),
    "no prompt": (["run", "-m", "TINY"], 2, "prompt"),
    "two prompts": (["run", "-m", "TINY", "-p", "ab", "-f", "x"], 2, "prompt"),
    "words for a number": (["run", "-m", "TINY", "-p", "ab", "-n", "abc"], 2, "--predict"),
    "half a number": (["run", "-m", "TINY", "-p", "ab", "-n", "1.5"], 2, "--predict"),
    "negative number": (["run", "-m", "TINY", "-p", "ab", "-n", "-1"], 2, "--predict"),
    "no threads": (["run", "-m", "TINY", "-p", "ab", "-t", "0"], 2, "--threads"),
    "a hundred thousand threads": (["run", "-m", "TINY", "-p", "ab", "-t", "100000"], 2, "--threads"),
    "no context": (["run", "-m", "TINY", "-p", "ab", "-c", "0"], 2, "--ctx-size"),
    "context beyond the model's": (["run", "-m", "TINY", "-p", "ab", "-c", "513"], 2, "a context of 513 tokens: the model's ends at 512"),
    "unknown type": (["run", "-m", "TINY", "-p", "ab", "--weights", "int4"], 2, "int4"),
    "unknown device": (["run", "-m", "TINY", "-p", "ab", "--device", "gpu"], 2, "'gpu' is not a device; choose cpu or n150"),
    "unknown twin": (["run", "-m", "TINY", "-p", "ab", "--twin", "gpu"], 2, "twin: 'gpu' is not known; choose card"),
    "twin in float32": (["run", "-m", "TINY", "-p", "ab", "--twin", "card", "--weights", "bfloat16", "--activations", "float32"], 2,
                        "card mode does not take activations of float32; choose bfloat16"),
    "temperature below 0": (["run", "-m", "TINY", "-p", "ab", "--temp", "-1"], 2, "temperature: -1"),
    "temperature that is no number": (["run", "-m", "TINY", "-p", "ab", "--temp", "nan"], 2, "temperature: nan"),
    "top_p above 1": (["run", "-m", "TINY", "-p", "ab", "--top-p", "1.1"], 2, "top_p: 1.1"),
    "min_p above 1": (["run", "-m", "TINY", "-p", "ab", "--min-p", "2"], 2, "min_p: 2"),
    "top_k below 0": (["run", "-m", "TINY", "-p", "ab", "--top-k", "-5"], 2, "top_k: -5"),
    "penalty above 2": (["run", "-m", "TINY", "-p", "ab", "--presence-penalty", "3"], 2, "presence_penalty: 3"),
    "seed of 2^64": (["run", "-m", "TINY", "-p", "ab", "-s", str(2**64)], 2, "--seed"),
    "negative seed": (["run", "-m", "TINY", "-p", "ab", "-s", "-1"], 2, "--seed"),
    "bias of an unknown token": (["run", "-m", "TINY", "-p", "ab", "-l", "199+1"], 2, "logit_bias: token 199"),
    "bias that is none": (["run", "-m", "TINY", "-p", "ab", "-l", "x"], 2, "--logit-bias x"),
    "empty stop string": (["run", "-m", "TINY", "-p", "ab", "--stop", ""], 2, "stop"),
    "template that is not there": (["chat", "-m", "TINY", "--template", "alpaca"], 3, "alpaca: cannot be opened"),
    "template's argument without a value": (["run", "--chat", "-m", "TINY", "-p", "ab", "--template-arg", "x"], 2, "--template-arg x: must be NAME=VALUE"),
    "template's argument as Python has it": (["run", "--chat", "-m", "TINY", "-p", "ab", "--template-arg", "x=True"], 2, "write true or false"),
    "template's file without --chat": (["run", "-m", "TINY", "-p", "ab", "--template", "x"], 2, "--chat"),
    "empty model name": (["run", "-m", "", "-p", "ab"], 3, "the model's name is empty"),
    "model that is not there": (["run", "-m", "no/such", "-p", "ab"], 3, "hf download no/such"),
    "model that is a file": (["run", "-m", "TINY/config.json", "-p", "ab"], 3, "is not a directory"),
    "model that is a device": (["run", "-m", "/dev/zero", "-p", "ab"], 3, "is not a directory"),
    "model name with a line break": (["run", "-m", "a\nb\x1b", "-p", "ab"], 3, r'"a\nb\u001b": no such directory'),
    "model name of 4 KB": (["run", "-m", "x" * 4096, "-p", "ab"], 3, "the model's name is no path"),
    "empty prompt of a checkpoint without <bos>": (["run", "-m", "TINY", "-p", ""], 2, "the prompt is empty"),
    "prompt that is no UTF-8": (["run", "-m", "TINY", "-p", b"ab\xff"], 2, "not valid UTF-8 at byte 2"),
    "prompt beyond the context": (["run", "-m", "TINY", "-p", "ab" * 600], 2, "the prompt has 600 tokens; the context ends at 512"),
    "prompt file that is not there": (["run", "-m", "TINY", "-f", "/no/such"], 3, "/no/such: cannot be opened"),
    "prompt file without an end": (["run", "-m", "TINY", "-f", "/dev/zero"], 3, "/dev/zero: is not a regular file"),
    "place that cannot be written": (["run", "-m", "TINY", "-p", "ab", "--logits", "/no/such/x.npy"], 3,
                                     "/no/such/x.npy: cannot be written"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_argument_is_said_in_one_line(call, tiny, case):
    arguments, exit, words = CASES[case]
    arguments = [a.replace("TINY", str(tiny)) if isinstance(a, str) else a for a in arguments]
    text = said(call(*arguments), exit)
    assert words in text, text
    assert text.startswith("tessera: ") and text.count("\n") == 1, text


def test_ids_from_a_file_are_checked(call, tiny, tmp_path):
    ids = tmp_path / "ids.json"
    cases = {"[1, 199]": "token id 199 is outside the vocabulary of 199", "[-1]": "token id -1 is outside", "[]": "holds no token ids",
             '["\x1b"]': r"\u001b", "[1.5]": '"1.5" is not a token id'}
    for content, words in cases.items():
        ids.write_text(content)
        assert words in said(call("run", "-m", tiny, "--ids-file", ids, "-n", "1"), 2)
    ids.write_text("[2, 198]")
    said(call("run", "-m", tiny, "--ids-file", ids, "-n", "1"), 0)


def test_a_model_may_lie_at_any_path(call, tiny, tmp_path):
    for name in ("with space", "é 你好", "quote'\"", "line\nbreak", "\x1b[31m"):
        folder = tmp_path / name
        folder.symlink_to(tiny)
        said(call("run", "-m", folder, "-p", "ab", "-n", "1"), 0)
        assert not UNFIT.search(call("inspect", "-m", folder).stdout.decode())


def test_blanks_are_a_prompt(call, tiny):
    assert call("run", "-m", tiny, "-p", "   ", "-n", "1").returncode == 0


def test_version_and_help_succeed_and_are_the_same_every_time(call):
    first, second = call("--version"), call("--version")
    assert first.returncode == 0 and first.stdout == second.stdout and re.fullmatch(rb"tessera \d+\.\d+\.\d+\n", first.stdout)
    for command in COMMANDS:
        done = call(command, "--help")
        assert done.returncode == 0 and done.stdout and not done.stderr


def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("arguments",
                         [["--help"], ["run", "--help"], ["--version"], ["--list-devices"], ["inspect", "-m", "TINY"],
                          ["inspect", "-m", "TINY", "--json", "-"],
                          ["run", "-m", "TINY", "-p", "ab", "-n", "8"], ["perplexity", "-m", "TINY", "-p", "abab"],
                          ["chat", "-m", "TINY", "-n", "8"]])
def test_a_closed_pipe_is_no_error_and_a_full_disk_is(call, tiny, arguments):
    arguments = [a.replace("TINY", str(tiny)) for a in arguments]
    writer = closed_pipe()
    done = call(*arguments, capture_output=False, stdout=writer, stderr=subprocess.PIPE, stdin=None, input=b"ab\n")
    os.close(writer)
    assert done.returncode == 0 and b"tessera: " not in done.stderr, done.stderr
    with open("/dev/full", "wb") as full:
        done = call(*arguments, capture_output=False, stdout=full, stderr=subprocess.PIPE, stdin=None, input=b"ab\n")
    assert "standard output cannot be written: No space left on device" in said(done, 4)


def test_closed_standard_streams_are_not_given_to_files(call, tiny, tmp_path):
    logits = tmp_path / "logits.npy"
    done = call("run", "-m", tiny, "-p", "ab", "-n", "1", "--logits", logits, stdin=None, close_fds=True,
                preexec_fn=lambda: os.closerange(0, 2), capture_output=False, stderr=subprocess.PIPE)
    assert "standard output cannot be written" in said(done, 4)
    assert logits.read_bytes().startswith(b"\x93NUMPY")
    done = call("chat", "-m", tiny, stdin=None, preexec_fn=lambda: os.close(0))
    assert done.returncode == 0, done.stderr
