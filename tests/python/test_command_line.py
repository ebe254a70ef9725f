"""The program's arguments and standard streams: what is wrong with them is said in one line, and a closed pipe is no error."""
import os
import re
import subprocess

import pytest

UNFIT = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
COMMANDS = ("run", "chat", "perplexity", "inspect", "tokenize", "eval", "bench", "compare", "plan")


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
    "negative number": (["run", "-m", "TINY", "-p", "ab", "-n", "-2"], 2, "--predict: '-2' is not accepted; give a whole number, 0 or more"),
    "number of 65 bits": (["run", "-m", "TINY", "-p", "ab", "-n", str(2**64)], 2, "--predict: '18446744073709551616' is not accepted"),
    "no threads": (["run", "-m", "TINY", "-p", "ab", "-t", "0"], 2, "--threads: '0' is not accepted; give a whole number, 1 to 1024"),
    "a hundred thousand threads": (["run", "-m", "TINY", "-p", "ab", "-t", "100000"], 2, "--threads"),
    "number in hexadecimal": (["run", "-m", "TINY", "-p", "ab", "-t", "0x2"], 2, "--threads: '0x2' is not accepted"),
    "no context": (["run", "-m", "TINY", "-p", "ab", "-c", "0"], 2, "give a whole number, 1 to 1073741824"),
    "no window": (["perplexity", "-m", "TINY", "-p", "ab", "--window", "0"], 2, "give a whole number, 1 or more"),
    "no memory": (["plan", "-m", "TINY", "--memory", "0"], 2, "give a number, 0.001 to 1000000"),
    "unknown flag with an underscore": (["run", "-m", "TINY", "-p", "ab", "--top_speed", "1"], 2, "--top_speed"),
    "value of a flag that has none": (["run", "-m", "TINY", "-p", "ab", "--ignore_eos=x"], 2, "--ignore_eos=x"),
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
    "top_k below 0": (["run", "-m", "TINY", "-p", "ab", "--top-k", "-5"], 2, "--top-k: '-5' is not accepted"),
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
    "prompt file without an end": (["run", "-m", "TINY", "-f", "/dev/zero"], 3, "/dev/zero: has more than 67108864 bytes"),
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


TEXTS = ["[INST]", "[a,b]", "[[a]]", "[]", "{}", "%%", "a,b", "'a'", '"a"', "--", "-n", "--top_k", "--top_k=1", "=", "chat", "#a", " ", "\\a"]


@pytest.mark.parametrize("flags", [["--stop", "{}"], ["--stop={}"]])
def test_a_stop_text_is_taken_as_it_is(call, tiny, tmp_path, flags):
    """The tiny model repeats the last token: a text that is not in its answer changes nothing, one that is ends it there."""
    for text in TEXTS:
        given = [flag.format(text) for flag in flags]
        done = call("run", "-m", tiny, "-p", "a", "-n", "4", *given, "--stop", "no[n,e]")
        assert (done.returncode, done.stdout) == (0, b"aaaa\n"), (text, done.stderr)
    for character in "[]{},%":
        done = call("run", "-m", tiny, "-p", character, "-n", "4", *[flag.format(character * 2) for flag in flags])
        assert (done.returncode, done.stdout) == (0, b"\n"), (character, done.stderr)


def test_several_texts_are_all_taken(call, tiny):
    bias = lambda *flags: call("run", "-m", tiny, "-p", "a", "-n", "2", "--print-ids", *flags)
    assert bias("-l", "10+900", "-l", "11+800", "--logit_bias=10-200").stdout == b"10 10\n"  # the first of an id counts
    assert bias("-l", "10+800", "-l", "11+900").stdout == b"11 11\n"
    assert "--logit-bias [10+800]" in said(bias("-l", "[10+800]"), 2)
    stops = call("run", "-m", tiny, "-p", "[", "-n", "9", "--stop", "[x", "--stop", "[[[")
    assert stops.stdout == b"\n", stops.stderr


SPELLINGS = {  # what a person types -> what it means
    ("-n", "010"): ("-n", "10"), ("-n", "+3"): ("-n", "3"), ("--n-predict", "3"): ("-n", "3"), ("--n_predict=3",): ("-n", "3"),
    ("--max-tokens", "3"): ("-n", "3"), ("--max-new-tokens", "3"): ("-n", "3"), ("--max_new_tokens", "3"): ("-n", "3"),
    ("-n", "-1"): (), ("--predict=-1",): (), ("-n", "3", "--ignore_eos"): ("-n", "3", "--ignore-eos"),
    ("-n", "9", "--temperature", "5", "-s", "7"): ("-n", "9", "--temp", "5", "-s", "7"),
    ("-n", "9", "--top_k", "010", "-s", "7"): ("-n", "9", "--top-k", "10", "-s", "7"),
    ("-n", "9", "--temp", "5", "--top_p=0.5", "-s", "010"): ("-n", "9", "--temp", "5", "--top-p", "0.5", "-s", "10"),
    ("-n", "9", "--temp", "5", "--repetition_penalty", "1.5", "-s", "1"): ("-n", "9", "--temp", "5", "--repeat-penalty", "1.5", "-s", "1"),
    ("-n", "3", "--batch_size", "08", "--ctx_size=0100"): ("-n", "3", "-b", "8", "-c", "100"),
}


@pytest.mark.parametrize("typed", SPELLINGS, ids=" ".join)
def test_what_people_type_is_understood(call, tiny, typed):
    first, second = (call("run", "-m", tiny, "-p", "ab", "--print-ids", *flags) for flags in (typed, SPELLINGS[typed]))
    assert first.returncode == second.returncode == 0, (first.stderr, second.stderr)
    assert first.stdout == second.stdout


def test_an_underscore_is_a_hyphen_in_every_flag(call):
    count = 0
    for command in COMMANDS:
        for name in set(re.findall(r"--[a-z]+-[a-z-]+", call(command, "--help").stdout.decode())):
            typed = "--" + name[2:].replace("-", "_")
            assert said(call(command, typed), 2) == said(call(command, name), 2), command  # its value is missing
            count += 1
    assert count > 60


def test_a_value_behind_an_equals_sign_may_be_empty(call, tiny):
    assert "the prompt is empty" in said(call("run", "-m", tiny, "--prompt=", "--print-ids"), 2)


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


@pytest.mark.parametrize("prompt, flags, cut", [(3, ["-n", "7"], False), (3, ["-n", "8"], True), (3, [], True), (3, ["-n", "-1"], True),
                                                (3, ["--stop", "cccc"], False), (10, ["-n", "0"], False), (10, ["-n", "1"], True)])
def test_a_text_that_the_context_cuts_says_so(call, tiny, prompt, flags, cut):
    text = said(call("run", "-m", tiny, "-p", "c" * prompt, "-c", "10", *flags), 0)
    assert ("note: the text was cut: the context of 10 tokens is full" in text) == cut, text
