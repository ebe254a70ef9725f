"""Conversations and prompts that are kept in a file: a later process goes on with them as if there had been one."""
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time

import pytest
from hostile_files import TEMPLATE, tokenizer_json
from test_failing_system import MOST_SECONDS, limited
from tiny_checkpoints import GEMMA3, TRAITS, make, row

def pieces(content):
    """The places of a file's pieces, from its directory."""
    size = int.from_bytes(content[-32:-24], "little")
    return json.loads(content[-32 - size:-32])["pieces"]


def tokens_in(content):
    begin, size, _ = pieces(content)["sequence"]
    return len(json.loads(content[begin:begin + size])["tokens"])


LINES = ["ab cd", "Who are you?", "ab ab ab ab ab"]


def talk(tessera, model, lines, *flags, **more):
    done = subprocess.run([tessera.path, "chat", "-m", model, "-n", "5", "--show-timings", *map(str, flags)], input="".join(line + "\n" for line in lines),
                          capture_output=True, text=True, timeout=60, **more)
    done.prefills = [int(count) for count in re.findall(r"prefill (\d+) tokens", done.stderr)]
    done.notes = [line for line in done.stderr.splitlines() if line.startswith("tessera: ")]
    return done


def wait(child, until):
    end = time.monotonic() + MOST_SECONDS
    while not until():
        assert child.poll() is None and time.monotonic() < end


def well(done):
    assert done.returncode == 0 and not done.notes, done.stderr
    return done


@pytest.fixture
def gemma(bases, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(bases["gemma"], tmp_path / "model")


GREEDY, DRAWN = ("--temp", "0"), ("--temp", "1", "--seed", "7")


@pytest.mark.parametrize("choice", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("base, types", [("gemma", ()), ("gemma", ("--cache", "bfloat8_b")), ("gemma", ("--activations", "float32")), ("gemma", ("--twin", "card")),
                                         ("phi", ()), ("phi", ("--cache", "bfloat8_b"))], ids=lambda value: value if isinstance(value, str) else " ".join(value))
def test_a_restart_between_turns_changes_no_bit(tessera, bases, tmp_path, base, types, choice):
    """Of the text, of the ids, of the pages, nor of what is computed: of Gemma with a window of 4, and of Phi-3 that crosses LongRoPE's 32 tokens."""
    one, many = tmp_path / "one", tmp_path / "many"
    whole = well(talk(tessera, bases[base], LINES, "--session", one, *types, *choice))
    parts = [well(talk(tessera, bases[base], [line], "--session", many, *types, *choice)) for line in LINES]
    assert "".join(part.stdout for part in parts) == whole.stdout
    assert [count for part in parts for count in part.prefills] == whole.prefills
    assert one.read_bytes() == many.read_bytes()
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["many", "one"]
    anew = talk(tessera, bases[base], LINES, *types, *choice)
    assert anew.stdout == whole.stdout
    assert sum(whole.prefills) <= tokens_in(one.read_bytes()), "a token was computed twice"
    assert whole.prefills[0] + 5 < 32 < tokens_in(one.read_bytes()), "LongRoPE's boundary lies elsewhere"


def test_what_a_page_held_before_does_not_reach_the_file(tessera, bases, tmp_path):
    for flags in ((), ("--cache", "bfloat8_b"), ("--activations", "float32")):
        fresh, used = tmp_path / "fresh", tmp_path / "used"
        well(talk(tessera, bases["gemma"], ["ab"], "--session", fresh, *GREEDY, *flags))
        for length in range(80, 112, 8):  # one of these fills the page that is taken next
            well(talk(tessera, bases["gemma"], ["s" * length, "/reset", "ab"], "--session", used, *GREEDY, *flags))
            assert fresh.read_bytes() == used.read_bytes()
            used.unlink()
        fresh.unlink()


def test_a_reset_begins_a_new_conversation_in_the_file(tessera, bases, tmp_path):
    file = tmp_path / "talk"
    first = well(talk(tessera, bases["gemma"], LINES[:1], "--session", file, *GREEDY))
    well(talk(tessera, bases["gemma"], ["/reset"], "--session", file, *GREEDY))
    again = well(talk(tessera, bases["gemma"], LINES[:1], "--session", file, *GREEDY))
    assert (again.stdout, again.prefills) == (first.stdout, first.prefills)


OTHERWISE = {
    "weights": (["--weights", "bfloat8_b"], {}, 'weights "bfloat16", now "bfloat8_b"'),
    "activations": (["--activations", "float32", "--cache", "bfloat16"], {}, 'activations "bfloat16", now "float32"'),
    "cache": (["--cache", "bfloat8_b"], {}, 'cache "bfloat16", now "bfloat8_b"'),
    "card mode": (["--twin", "card"], {}, "card mode"),
    "instruction set": ([], {"TESSERA_CPU_ISA": "plain"}, "plain"),
    "config": (lambda folder: change_json(folder / "config.json", rms_norm_eps=1e-3), {}, "checkpoint"),
    "weights' file": (lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()), {}, "checkpoint"),
}


def change_json(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("name", OTHERWISE)
def test_pages_that_were_made_otherwise_are_computed_again(tessera, gemma, tmp_path, name):
    change, environment, words = OTHERWISE[name]
    if environment and "plain kernels" in tessera.run("--list-devices").stdout:
        pytest.skip("this machine has plain kernels only")
    chat, prompt = tmp_path / "chat", tmp_path / "prompt"
    run = ["run", "-m", gemma, "-p", "ab cd ab cd " * 4, "--print-ids", "-n", "8", *GREEDY]
    first, _, _ = well(talk(tessera, gemma, LINES, "--session", chat, *GREEDY)).prefills
    tessera.run(*run, "--prompt-cache", prompt)
    flags = [] if callable(change) else change
    if callable(change):
        change(gemma)
    now = {**os.environ, **environment}
    done = talk(tessera, gemma, ["ab"], "--session", chat, *GREEDY, *flags, env=now)
    assert done.returncode == 0 and len(done.notes) == 1 and f"note: {chat}: its pages were made otherwise: " in done.notes[0] and words in done.notes[0], done.stderr
    assert done.prefills[0] > 3 * first, "the whole conversation is not computed"
    command = [tessera.path, *map(str, run), *flags]
    kept = subprocess.run([*command, "--prompt-cache", prompt], capture_output=True, text=True, env=now)
    assert kept.returncode == 0 and words in kept.stderr, kept.stderr
    assert kept.stdout == subprocess.run(command, capture_output=True, text=True, env=now).stdout
    again = subprocess.run([*command, "--prompt-cache", prompt], capture_output=True, text=True, env=now)
    assert again.stdout == kept.stdout and "note" not in again.stderr, "the file was not written again"


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def test_a_damaged_page_is_computed_again(tessera, bases, tmp_path):
    file = tmp_path / "talk"
    well(talk(tessera, bases["gemma"], LINES[:2], "--session", file, *GREEDY))
    whole, places = file.read_bytes(), pieces(file.read_bytes())
    expected = well(talk(tessera, bases["gemma"], LINES[2:], "--session", file, *GREEDY)).stdout
    pages = [name for name in places if name.startswith("page")]
    assert {name.split()[1] for name in pages} == {"0", "1"}  # of the layers with the window, and of the others
    for name in pages:
        file.write_bytes(whole)
        flip(file, places[name][0] + places[name][1] // 2)
        done = talk(tessera, bases["gemma"], LINES[2:], "--session", file, *GREEDY)
        assert done.returncode == 0 and [note.split(": ", 3)[3] for note in done.notes] == [f"its pages are damaged; its {tokens_in(whole)} tokens are computed again"], done.stderr
        assert done.stdout == expected


def spoilt_files(whole, places):
    yield "cut", whole[:-1]
    yield "cut in its pages", whole[:places["page 1 0"][0] + 10]
    yield "cut short", whole[:100]
    for name in "about", "sequence":
        yield name, whole[:places[name][0] + 3] + bytes([whole[places[name][0] + 3] ^ 1]) + whole[places[name][0] + 4:]
    yield "directory", whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:]
    yield "another program's", b"PK\x03\x04" + bytes(1000)
    yield "a text", b"Dear diary\n"
    yield "nothing", b""


def test_a_file_that_is_not_a_session_is_refused_and_stays(tessera, bases, tmp_path):
    file = tmp_path / "talk"
    well(talk(tessera, bases["gemma"], LINES[:2], "--session", file, *GREEDY))
    for name, content in spoilt_files(file.read_bytes(), pieces(file.read_bytes())):
        file.write_bytes(content)
        for done in (talk(tessera, bases["gemma"], ["ab"], "--session", file, *GREEDY),
                     subprocess.run([tessera.path, "run", "-m", bases["gemma"], "-p", "ab", "-n", "1", "--prompt-cache", file], capture_output=True, text=True)):
            assert done.returncode == 3 and f"tessera: {file}: is " in done.stderr and not done.stdout, (name, done.stderr)
            assert file.read_bytes() == content, name
    file.unlink()
    for make_other in (file.mkdir, lambda: (file.rmdir(), os.mkfifo(file))):
        make_other()
        assert "is not a regular file" in talk(tessera, bases["gemma"], ["ab"], "--session", file, *GREEDY).stderr


def test_a_prompt_cache_is_no_session_and_a_session_no_prompt_cache(tessera, bases, tmp_path):
    chat, prompt = tmp_path / "chat", tmp_path / "prompt"
    run = ["run", "-m", bases["gemma"], "-p", "ab", "-n", "1", *GREEDY, "--prompt-cache"]
    well(talk(tessera, bases["gemma"], ["ab"], "--session", chat, *GREEDY))
    tessera.run(*run, prompt)
    before = chat.read_bytes(), prompt.read_bytes()
    assert "is a chat's session" in tessera.run(*run, chat, expect=3).stderr
    done = talk(tessera, bases["gemma"], ["ab"], "--session", prompt, *GREEDY)
    assert done.returncode == 3 and "is a prompt cache of `tessera run`" in done.stderr
    assert (chat.read_bytes(), prompt.read_bytes()) == before


def other_vocabulary(folder):
    path = folder / "tokenizer.json"
    text = json.loads(path.read_text())
    vocabulary = text["model"]["vocab"]
    vocabulary["x"], vocabulary["y"] = vocabulary["y"], vocabulary["x"]
    path.write_text(json.dumps(text))


@pytest.mark.parametrize("change, flags, words", [
    (None, ["--system", "Be brief."], 'its system message is "Be kind.", the one given "Be brief."; give the same --system'),
    (None, [], 'its system message is "Be kind.", the one given none'),
    (None, ["--system", "Be kind.", "--template-arg", "x=1"], 'its template\'s arguments are none, those given "x=1"'),
    (lambda folder: (folder / "chat_template.jinja").write_text("{{ messages[-1].content }}"), ["--system", "Be kind."], "is in another chat template"),
    (other_vocabulary, ["--system", "Be kind."], "is of another tokenizer, in which ids are other tokens"),
], ids=["system", "no system", "argument", "template", "tokenizer"])
def test_another_conversation_is_refused_and_the_file_stays(tessera, gemma, tmp_path, change, flags, words):
    file = tmp_path / "talk"
    well(talk(tessera, gemma, ["ab"], "--session", file, "--system", "Be kind.", *GREEDY))
    before = file.read_bytes()
    if change:
        change(gemma)
    done = talk(tessera, gemma, ["ab"], "--session", file, *flags, *GREEDY)
    assert done.returncode == 2 and f"tessera: {file}: " in done.stderr and words in done.stderr, done.stderr
    assert file.read_bytes() == before


def test_another_model_with_the_same_tokenizer_goes_on(tessera, bases, tmp_path):
    """It is its ids that are kept."""
    other = make(tmp_path / "other", TRAITS["gemma3-softcap"])
    for name in "tokenizer.json", "chat_template.jinja":
        shutil.copy(bases["gemma"] / name, other)
    file = tmp_path / "talk"
    well(talk(tessera, bases["gemma"], LINES[:2], "--session", file, *GREEDY))
    done = talk(tessera, other, LINES[2:], "--session", file, *GREEDY)
    assert done.returncode == 0 and "its pages were made otherwise: checkpoint " in done.notes[0]
    assert well(talk(tessera, other, ["ab"], "--session", file, *GREEDY)).prefills[0] < done.prefills[0]


def test_a_place_that_cannot_be_written_is_told_before_anything_is_said(tessera, bases, tmp_path):
    place = tmp_path / "none" / "talk"
    done = talk(tessera, bases["gemma"], ["ab"], "--session", place)
    assert done.returncode == 3 and f"{place}: cannot be written: No such file" in done.stderr and not done.stdout
    assert f"{place}: cannot be written" in tessera.run("run", "-m", bases["gemma"], "-p", "ab", "-n", "1", "--prompt-cache", place, expect=3).stderr


def test_a_card_keeps_no_sessions(tessera, bases, tmp_path):
    for command in (["chat", "--session"], ["run", "-p", "ab", "--prompt-cache"]):
        assert "n150: its cache cannot be saved; it can on the cpu" in tessera.run(*command, tmp_path / "talk", "-m", bases["gemma"], "--device", "n150", expect=2).stderr


def test_a_full_disk_ends_no_conversation_and_leaves_the_old_file(tessera, bases, tmp_path):
    file = tmp_path / "talk"
    well(talk(tessera, bases["gemma"], LINES[:1], "--session", file, *GREEDY))
    before = file.read_bytes()
    done = talk(tessera, bases["gemma"], LINES[1:], "--session", file, *GREEDY, preexec_fn=limited(resource.RLIMIT_FSIZE, 5000))
    assert done.returncode == 4 and len(done.prefills) == 2, done.stderr
    assert all(f"{file}: cannot be written: File too large" in note for note in done.notes)
    assert file.read_bytes() == before and [left.name for left in tmp_path.iterdir()] == ["talk"]


@pytest.mark.parametrize("number, exit", [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_turn_that_was_answered_outlives_a_signal(tessera, bases, tmp_path, number, exit):
    whole, file = tmp_path / "whole", tmp_path / "talk"
    expected = well(talk(tessera, bases["gemma"], LINES[:2], "--session", whole, *GREEDY))
    child = subprocess.Popen([tessera.path, "chat", "-m", bases["gemma"], "-n", "5", *GREEDY, "--session", file], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdin.write(f"{LINES[0]}\n/nothing\n".encode())
    child.stdin.flush()
    wait(child, file.exists)
    child.send_signal(number)
    assert child.wait(timeout=60) == exit
    child.communicate()
    done = well(talk(tessera, bases["gemma"], LINES[1:2], "--session", file, *GREEDY))
    assert done.prefills == expected.prefills[1:] and file.read_bytes() == whole.read_bytes()


def test_pages_that_take_long_to_write_are_written_at_the_end_alone(tessera, tmp_path):
    model = make(tmp_path / "model", row(GEMMA3, hidden_size=64, num_attention_heads=64, num_key_value_heads=64, head_dim=256))  # half a megabyte a token
    (model / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    (model / "chat_template.jinja").write_text(TEMPLATE)
    file = tmp_path / "talk"
    flags = ["--activations", "float32", *GREEDY, "--session", file]

    def end_after(line, number):
        before = file.stat().st_mtime_ns if file.exists() else None
        child = subprocess.Popen([tessera.path, "chat", "-m", model, "-n", "5", *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdin.write(line + b"\n")
        child.stdin.flush()
        wait(child, lambda: file.exists() and file.stat().st_mtime_ns != before)
        assert file.stat().st_size < 100_000
        child.send_signal(number)
        return child.communicate()[1].decode()

    end_after(b"c" * 300, signal.SIGKILL)
    assert file.stat().st_size < 100_000
    assert re.search("note: .*: its pages are not in the file; its 3.. tokens are computed again", end_after(b"ab", signal.SIGTERM))
    assert file.stat().st_size > 64 << 20
    assert well(talk(tessera, model, ["ab"], *flags)).prefills[0] < 40


PROMPT = "The quick brown fox jumps over the lazy dog"


@pytest.mark.parametrize("base", ["gemma", "phi"])
@pytest.mark.parametrize("choice", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_a_prompt_cache_spares_what_a_prompt_has_in_common_with_the_last(tessera, bases, tmp_path, base, choice):
    file = tmp_path / "prompt"

    def run(text, *flags):
        done = tessera.run("run", "-m", bases[base], "-p", text, "--print-ids", "-n", "6", *choice, *flags)
        return done.stdout, int(re.search(r"prefill (\d+) tokens", done.stderr)[1])

    for text, most in [(PROMPT, len(PROMPT)), (PROMPT, 1), (PROMPT + " again", 7), (PROMPT, 1), (PROMPT[:-4] + "cow", 4), ("Something else", 15)]:
        ids, computed = run(text, "--prompt-cache", file)
        assert ids == run(text)[0], text
        assert 0 <= computed <= most, text
    assert [left.name for left in tmp_path.iterdir()] == ["prompt"]
