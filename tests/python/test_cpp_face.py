"""The C++ interface as who installs it has it: cmake --install, find_package(Tessera), and programs that know the prefix alone."""
import json
import math
import os
import re
import shutil
import subprocess

import pytest
import torch
from conftest import ROOT
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

INSTALLED = {
    "bin/tessera", "include/tessera/tessera.h", "lib/libtessera.so", "lib/libtessera.so.0.1", "lib/libtessera.so.0.1.0",
    "lib/cmake/Tessera/TesseraConfig.cmake", "lib/cmake/Tessera/TesseraConfig-BUILD.cmake", "lib/cmake/Tessera/TesseraConfigVersion.cmake",
    "share/doc/tessera/LICENSE",
}
BARE = {"PATH": os.environ["PATH"]}
EOS = "1"
FLAGS = ["--weights", "float32", "--activations", "float32", "-c", "128"]


@pytest.fixture(scope="module")
def prefix(build, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prefix")
    subprocess.run(["cmake", "--install", build, "--prefix", folder], check=True, capture_output=True)
    return folder


def of_build(build, name):
    return re.search(rf"^{name}:\w+=(.*)$", (build / "CMakeCache.txt").read_text(), flags=re.M)[1]


def make(source, prefix, build, folder):
    """Configures and builds a folder's project against what is installed, with no other environment; its program's path."""
    flags = "-Wall -Wextra -Wpedantic -Werror"
    if sanitizers := of_build(build, "TESSERA_SANITIZE"):
        flags += f" -fsanitize={sanitizers}"
    for command in (["cmake", "-S", source, "-B", folder, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_CXX_FLAGS={flags}"], ["cmake", "--build", folder]):
        done = subprocess.run(command, env=BARE, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / source.name


@pytest.fixture(scope="module")
def told(prefix, build, bases, tmp_path_factory):
    """What cpp_face.cpp says of the tiny Gemma, by name; of a name that comes several times the list."""
    folder = tmp_path_factory.mktemp("face")
    source = folder / "cpp_face"
    source.mkdir()
    shutil.copy(ROOT / "tests/python/cpp_face.cpp", source / "main.cpp")
    (source / "CMakeLists.txt").write_text((ROOT / "examples/hello/CMakeLists.txt").read_text().replace("hello", "cpp_face"))
    base = shutil.copytree(bases["gemma"], folder / "base")
    (base / "chat_template.jinja").unlink()
    done = subprocess.run([make(source, prefix, build, folder / "build"), bases["gemma"], base], env=BARE, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    found = {}
    for line in done.stdout.splitlines():
        (name, value), = json.loads(line).items()
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


@pytest.fixture(scope="module")
def reference(bases):
    return AutoModelForCausalLM.from_pretrained(bases["gemma"], dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def ids_of(bases):
    tokenizer = Tokenizer.from_file(str(bases["gemma"] / "tokenizer.json"))
    return lambda text: tokenizer.encode(text).ids


def test_what_is_installed_is_this_and_no_more(prefix, build):
    found = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if not path.is_dir()}
    assert found == {path.replace("BUILD", of_build(build, "CMAKE_BUILD_TYPE").lower()) for path in INSTALLED}
    assert (prefix / "share/doc/tessera/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert subprocess.run([prefix / "bin/tessera", "--version"], env=BARE, capture_output=True, text=True, check=True).stdout.startswith("tessera ")


def test_the_header_needs_the_standard_library_alone(prefix):
    assert not re.findall(r'#include (?!<[a-z_]+>)', (prefix / "include/tessera/tessera.h").read_text())


def test_the_library_shows_the_public_names_alone(prefix):
    shown = subprocess.run(["nm", "-D", "-C", "--defined-only", prefix / "lib/libtessera.so"], capture_output=True, text=True, check=True).stdout.splitlines()
    names = {line.split(maxsplit=2)[2] for line in shown}
    public = {name for name in names if re.match(r"tessera::(Engine|Ticket)::", name)}
    assert names == public and len(public) >= 14, names - public


def test_the_example_has_forty_lines_and_runs(prefix, build, bases, tmp_path):
    assert len((ROOT / "examples/hello/main.cpp").read_text().splitlines()) <= 40
    hello = make(ROOT / "examples/hello", prefix, build, tmp_path / "build")
    done = subprocess.run([hello, bases["gemma"]], env=BARE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert re.search(r"\nperplexity [\d.e+]+\n$", done.stdout), done.stdout
    failed = subprocess.run([hello, "/no/such/folder"], env=BARE, capture_output=True, text=True)
    assert failed.returncode == 1 and failed.stderr.startswith('hello: "/no/such/folder": '), failed.stderr


def test_a_text_goes_on_as_hugging_face_has_it(told, reference, ids_of):
    assert told["loaded"] == 1 and told["context"] == 128
    prompt = ids_of("abc ab")
    answer = reference.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=24)[0, len(prompt):].tolist()
    greedy = told["greedy"]
    assert greedy["ids"] == answer and greedy["prompt_tokens"] == len(prompt) and greedy["finish_reason"] == "length"
    assert told["pieces"] == greedy["text"] and len(greedy["text"]) >= 20
    assert told["inner"]["ids"] == answer[:4]
    assert told["tokens"] == ids_of("abc <eos>ab") and told["detokenized"] == "abc ab"


def run(tessera, bases, prompt, *flags):
    """(text, ids) of `tessera run`; it shows the end token's id."""
    arguments = ["run", "-m", bases["gemma"], "-p", prompt, *FLAGS, *map(str, flags)]
    return tessera.run(*arguments).stdout.removesuffix("\n"), [int(n) for n in tessera.run(*arguments, "--print-ids").stdout.split() if n != EOS]


def test_each_of_many_is_what_it_is_alone(told, tessera, bases):
    assert len({told[f"many{seed}"]["text"] for seed in range(8)}) == 8
    for seed in range(8):
        answer = told[f"many{seed}"]
        assert (answer["text"], answer["ids"]) == run(tessera, bases, "abc ab " + "c" * 5 * seed, "-n", 20, "--temp", 30, "--seed", seed), seed
    assert told["threads"] == 16


def test_an_answer_ends_where_it_should(told, tessera, bases):
    stops = [flag for stop in ("never", "~", "b", "e", "R") for flag in ("--stop", stop)]
    text, ids = run(tessera, bases, "abc ab", "-n", 24, "--temp", 30, "--seed", 3, *stops)
    assert (told["stop"]["text"], told["stop"]["ids"]) == (text, ids) and told["stop"]["finish_reason"] == "stop" and len(ids) < 24
    assert told["biased"]["ids"] == [40] * 4 and told["biased"]["finish_reason"] == "length"
    assert told["ended"]["ids"] == [] and told["ended"]["text"] == "" and told["ended"]["finish_reason"] == "stop"
    assert told["turn_ended"]["ids"] == [] and told["turn_ended"]["finish_reason"] == "stop"  # generation_config.json knows <eos> alone
    assert len(told["ignored"]["ids"]) == 4 and told["ignored"]["finish_reason"] == "length"
    assert told["nothing"]["ids"] == [] and told["nothing"]["finish_reason"] == "length"
    assert told["to_the_end"]["prompt_tokens"] + len(told["to_the_end"]["ids"]) == 128 and told["to_the_end"]["finish_reason"] == "length"
    assert len(told["enough"]["ids"]) == 1 and told["enough"]["finish_reason"] == "stop"
    assert told["cancelled"] == told["left_behind"] == "cancelled" and told["done"] == 1


def test_a_conversation_is_what_chat_makes_of_it_and_finds_what_was_computed(told, tessera, bases):
    first, second = told["first"], told["second"]
    typed = "abc ab what is it, and what was it before that?\nand ba?\n"
    done = subprocess.run([tessera.path, "chat", "-m", bases["gemma"], *FLAGS, "-n", "40", "--temp", "30", "--seed", "5"], input=typed, capture_output=True, text=True)
    assert done.stdout == f"{first['text']}\n{second['text']}\n"
    assert second["prompt_tokens"] > first["prompt_tokens"] + len(first["ids"]) and second["cached_tokens"] >= 64 > first["cached_tokens"]


def test_a_score_is_that_of_hugging_face_and_of_the_command(told, reference, ids_of, tessera, bases):
    short, long = told["score"]
    assert short["ids"] == ids_of("abc ab, cab!")
    with torch.no_grad():
        logits = reference(torch.tensor([short["ids"]])).logits[0].double()
    expected = torch.log_softmax(logits, dim=-1)[range(len(short["ids"]) - 1), short["ids"][1:]].tolist()
    assert short["log_probs"] == pytest.approx(expected, abs=1e-3)
    assert short["perplexity"] == pytest.approx(math.exp(-sum(expected) / len(expected)), rel=1e-3)
    assert len(long["ids"]) > 128 and len(long["log_probs"]) == len(long["ids"]) - 1
    text = "a text that is longer than the context of 128 tokens, so that it is read in two windows: half of the second was in the first, and is not scored again there."
    measured = tessera.run("perplexity", "-m", bases["gemma"], "-p", text, *FLAGS).stdout
    assert f"{long['perplexity']:.4f}" == re.search(r"perplexity (\S+)", measured)[1]


ERRORS = {
    "missing": 'runtime_error: "/no/such/folder": ',
    "weights": "invalid_argument: weights: data type 'int8' is unknown; choose float32, ",
    "threads": "invalid_argument: threads: -1 is outside 0 to 1024",
    "sequences": "invalid_argument: sequences: -1 is negative; ",
    "cache_bytes": "runtime_error: ",
    "context": "invalid_argument: ",
    "device": "invalid_argument: ",
    "generation_config": "runtime_error: /no/such/file: ",
    "on_load": "runtime_error: stopped",
    "temperature": "invalid_argument: temperature: -1 ",
    "max_new_tokens": "invalid_argument: max_new_tokens: -1 is negative",
    "bias": "invalid_argument: logit_bias: ",
    "stop": "invalid_argument: ",
    "empty": "invalid_argument: the prompt is empty: ",
    "utf8": "invalid_argument: ",
    "long": "invalid_argument: prompt: its 200 tokens are more than the context of 128; shorten it",
    "message": "invalid_argument: ",
    "message_ids": "invalid_argument: messages: token -1 is outside the vocabulary of ",
    "short": "invalid_argument: ",
    "no_template": "runtime_error: ",
    "thrown": "runtime_error: the reader has gone",
    "waits": "invalid_argument: on_text waits for an answer",
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_is_thrown_is_as_the_header_says(told, name):
    error = told[f"error: {name}"]
    assert error.startswith(ERRORS[name]) and "--" not in error, error  # no flags of the command


def test_a_model_without_a_chat_template_goes_on_with_texts(told):
    assert len(told["base"]["ids"]) == 2
