"""A card that another process has, that does not answer, or that is left in a hurry: on a place-holder of TTNN, most of it in a child process."""
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import lost_ttnn
import pytest
from conversations import Talk
from tiny_models import folders, model

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 120
RESET = "Reset it with tt-smi -r and start the process anew"
WAITING = "tessera: waiting for card 0: it is not open after 5 s; another process may have it\n"


@pytest.fixture
def start(core):
    """Starts a Python with arguments whose TTNN has a fault."""
    children = []

    def go(fault, *arguments, **environment):
        paths = (Path(os.environ["TESSERA_BUILD"]) / "python", "tests/n150", "tests/python")
        inherited = {name: value for name, value in os.environ.items() if name != "TT_METAL_OPERATION_TIMEOUT_SECONDS"}
        child = subprocess.Popen([sys.executable, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 env={**inherited, "TESSERA_TTNN_MODULE": "lost_ttnn", "TESSERA_TEST_FAULT": fault, "TESSERA_PACKED_CACHE": "0",
                                      "PYTHONPATH": os.pathsep.join(str(ROOT / path) for path in paths), **environment})
        timer = threading.Timer(MOST_SECONDS, child.kill)
        timer.start()
        children.append((child, timer))
        return child

    yield go
    for child, timer in children:
        timer.cancel()
        child.kill()
        child.communicate()


CONTROL = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
TOKENIZER = {
    "added_tokens": [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for i, token in enumerate(CONTROL)],
    "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
    "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate([*CONTROL, "\n", *map(chr, range(0x20, 0x7F))])}, "merges": []}}


@pytest.fixture
def command(start, tmp_path):
    """Starts a command of `tessera` on the card."""
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps(list(range(3, 40))))
    template = tmp_path / "chat_template.jinja"
    template.write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    checkpoint = shutil.copytree(folders() / "small-gemma3", tmp_path / "model")
    (checkpoint / "tokenizer.json").write_text(json.dumps(TOKENIZER))

    def go(fault, name="run", *flags, **environment):
        prompt = {"run": ("--ids-file", ids, "-n", 4, "--temp", 0, "--print-ids"), "perplexity": ("--ids-file", ids),
                  "eval": ("--ids-file", ids, "--save-reference", tmp_path / "reference.json", "-n", 4),
                  "compare": ("--ids-file", ids, "--weights-b", "bfloat8_b"), "chat": ("--template", template), "bench": ("-p", 8, "-n", 2, "-r", 1)}[name]
        context = () if name == "bench" else ("-c", 128)
        return start(fault, "-m", "tessera", name, "-m", checkpoint, "--device", "n150", "--weights", "bfloat16", *context, *prompt, *flags, **environment)

    return go


def end(child, typed=""):
    """(exit code, standard output, standard error)"""
    out, err = child.communicate(typed)
    return child.returncode, out, err


@pytest.mark.parametrize("op", ["linear", "from_device", "close_device"])
def test_a_call_that_does_not_come_back_ends_the_command_with_the_advice_to_reset(command, op):
    code, _, err = end(command(f"{op} hangs", "run", "--device-timeout", 1))
    lines = err.splitlines()
    assert code == 5, err
    assert lines[0] == "hangs" or op == "close_device"
    assert lines[-1].startswith(f"tessera: the card did not answer: {op} has not returned for 1 s. {RESET}")


@pytest.mark.parametrize("name", ["run", "chat", "bench", "eval", "perplexity", "compare"])
def test_every_command_ends_when_ttnn_s_own_timeout_is_over_and_calls_it_no_more(command, name):
    code, _, err = end(command("linear times out", name, "--trace", 1), "hello\nhello\n" if name == "chat" else "")
    assert code == 5, err
    (line,) = [line for line in err.splitlines() if not line.startswith("tessera: note: ")]
    assert line.startswith("tessera: the card did not answer: linear [") or line.startswith("tessera: the card did not answer: linear ("), line
    assert "ended in TIMEOUT: device timeout, potential hang detected, the device is unrecoverable" in line and RESET in line


def test_a_lost_card_stays_lost_and_is_neither_called_nor_closed(core, monkeypatch):
    monkeypatch.setattr(lost_ttnn, "lost", False)
    monkeypatch.setattr(lost_ttnn.traced_ttnn, "traces", {})  # nothing releases what is recorded here
    lost_ttnn.called_later.clear()
    device = core.open_device("n150", module="lost_ttnn", trace=True)
    talk = Talk(core, device, model("small-gemma3"), weights="bfloat16")
    sequence = talk.cache.create()
    talk.say((sequence, 20, 1))
    for _ in range(3):  # the last one is a replay: there is a trace to release
        talk.say((sequence, 1, 1))
    monkeypatch.setattr(lost_ttnn, "fault", "execute_trace times out")
    with pytest.raises(core.DeviceError, match="the card did not answer: execute_trace") as first:
        talk.say((sequence, 1, 1))
    monkeypatch.setattr(lost_ttnn, "fault", "")
    for use in (lambda: talk.say((sequence, 1, 1)), device.free_memory, lambda: Talk(core, device, model("small-gemma3"), weights="bfloat16"),
                lambda: core.Cache(device, talk.loaded.model.spec.cache, dtype="bfloat16", max_tokens=128, max_sequences=1)):
        with pytest.raises(core.DeviceError) as later:
            use()
        assert str(later.value) == str(first.value)
    del sequence, talk, device, use, first, later
    gc.collect()
    assert lost_ttnn.called_later == []


@pytest.mark.parametrize("fault", ["", "get_memory_view times out"])
def test_the_last_reference_to_a_card_closes_it_unless_it_is_lost(core, monkeypatch, fault):
    cards = []
    monkeypatch.setattr(lost_ttnn, "lost", False)
    monkeypatch.setattr(lost_ttnn, "fault", fault)
    monkeypatch.setattr(lost_ttnn, "open_device", lambda **options: cards.append(lost_ttnn.traced_ttnn.open_device(**options)) or cards[0])
    device = core.open_device("n150", module="lost_ttnn")
    card = weakref.ref(cards.pop())
    if fault:
        with pytest.raises(RuntimeError, match="did not answer"):
            device.free_memory()
    del device
    gc.collect()
    assert (card() is not None) == bool(fault)


def opened(timeout):
    return f"import tessera; tessera.open_device('n150'{timeout}); import lost_ttnn; print(lost_ttnn.seconds)"


@pytest.mark.parametrize("timeout, environment, told", [
    (", timeout=7", {}, "7"), ("", {}, "600"), (", timeout=0", {}, "None"), (", timeout=7", {"TT_METAL_OPERATION_TIMEOUT_SECONDS": "2.5"}, "2.5")])
def test_ttnn_is_told_the_timeout_before_it_is_imported_unless_the_user_did(start, timeout, environment, told):
    assert end(start("", "-c", opened(timeout), **environment)) == (0, told + "\n", "")


def test_a_timeout_below_zero_is_refused(core, command):
    with pytest.raises(ValueError, match="timeout: -1 s is negative; 0 waits for ever"):
        core.open_device("n150", module="lost_ttnn", timeout=-1)
    assert end(command("", "run", "--device-timeout", -1))[0] == 2


def test_who_waits_for_the_card_is_told_so_once(command, start):
    for child in command("open_device waits", "run", "--device-timeout", 1), start("open_device waits", "-c", opened("")):
        assert child.stderr.readline() == WAITING
        code, out, err = end(child, "x")
        assert code == 0 and out != "" and WAITING not in err, err


def interrupt_once(child):
    child.send_signal(signal.SIGINT)
    child.stdin.write("x")
    child.stdin.flush()
    assert child.stderr.readline() == "hangs\n", "the first signal leaves"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_leaves_a_call_that_hangs(command, number):
    child = command("linear hangs")
    assert child.stderr.readline() == "hangs\n"
    interrupt_once(child)
    child.send_signal(number)
    code, _, err = end(child)
    assert (code, err) == (128 + number, "\ntessera: the card was left at its work; reset it with tt-smi -r before it is used again\n")


def test_who_leaves_while_the_card_is_opened_is_not_told_to_reset_another_s(command):
    child = command("open_device hangs")
    assert child.stderr.readline() == "hangs\n"
    interrupt_once(child)
    child.send_signal(signal.SIGINT)
    code, _, err = end(child)
    assert code == 130 and err == "\ntessera: the card was being opened; if it hangs and no other process has it, reset it with tt-smi -r\n"
