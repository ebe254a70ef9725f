"""tessera chat on a terminal: streaming, Ctrl-C, editing, pastes, commands, and input that is no text."""
import json
import os
import re
import signal

import pytest

pexpect = pytest.importorskip("pexpect")
PROMPT = "\n> "
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def start(tessera, phi3_smollm2):
    running = []

    def go(*flags, encoding="utf-8"):
        child = pexpect.spawn(str(tessera.path), ["chat", "-m", str(phi3_smollm2), "--temp", "0", *flags], encoding=encoding, timeout=60, dimensions=(24, 200),
                              env={**os.environ, "TERM": "xterm", "LC_ALL": "C"})
        running.append(child)
        child.expect("> ")
        return child

    yield go
    for child in running:
        child.close(force=True)


def answer(child, text):
    child.send(text + "\r")
    child.expect_exact(PROMPT)
    return ANSI.sub("", child.before).replace("\r", "").split("\n", 1)[1].strip()


def test_a_conversation_remembers_and_reset_forgets(start, tmp_path):
    child = start("-n", "24")
    assert "Paris" in answer(child, "What is the capital of France?")
    saved = tmp_path / "talk.json"
    answer(child, "Thank you.")
    child.send(f"/save {saved}\r")
    child.expect_exact("(saved to")
    talk = json.loads(saved.read_text(encoding="utf-8"))
    assert [turn["role"] for turn in talk] == ["user", "assistant"] * 2
    assert talk[0]["content"] == "What is the capital of France?"
    child.send("/reset\r")
    child.expect_exact("(a new conversation)")
    child.send(f"/save {saved}\r")
    child.expect_exact("(saved to")
    assert json.loads(saved.read_text()) == []
    child.send("/help\r")
    child.expect_exact("/reset")
    child.send("/nothing\r")
    child.expect_exact("is no command")


def test_ctrl_c_stops_the_answer_and_a_second_leaves(start):
    child = start()
    child.send("Tell me a very long story about a dog and a cat.\r")
    child.expect("[a-z]{3,}.*[a-z]{3,} ")
    child.expect("[A-Z][a-z]+ [a-z]+")
    child.sendintr()
    child.expect_exact(PROMPT)
    child.sendintr()
    child.expect(pexpect.EOF)
    child.wait()
    assert (child.exitstatus, child.signalstatus) == (130, None)


def test_ctrl_d_leaves_quietly(start):
    child = start()
    child.sendeof()
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0


def test_a_long_paste_is_one_message(start, tmp_path):
    child = start("-n", "2")
    lines = [f"line {i} é 你好" for i in range(40)]
    child.send("\x1b[200~" + "\r".join(lines) + "\x1b[201~\r")
    child.expect_exact(PROMPT)
    child.send(f"/save {tmp_path / 'talk.json'}\r")
    child.expect_exact("(saved to")
    talk = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))
    assert talk[0]["content"] == "\n".join(lines)


def test_a_backslash_goes_on_in_the_next_line_and_history_brings_it_back(start, tmp_path):
    child = start("-n", "2")
    child.send("first \\\r")
    child.expect_exact("... ")
    child.send("second\r")
    child.expect_exact(PROMPT)
    child.send("\x1b[A\r")  # up: the last line again
    child.expect_exact(PROMPT)
    child.send(f"/save {tmp_path / 'talk.json'}\r")
    child.expect_exact("(saved to")
    talk = json.loads((tmp_path / "talk.json").read_text())
    assert [turn["content"] for turn in talk if turn["role"] == "user"] == ["first \nsecond", "second"]


def test_bytes_that_are_no_utf8_do_no_harm(start):
    child = start("-n", "4", encoding=None)
    child.send(b"caf\xe9 \xff\xfe bad\r")
    child.expect_exact(b"\n> ")
    child.send(b"/quit\r")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0


def test_piped_input_needs_no_terminal(tessera, phi3_smollm2):
    import subprocess

    done = subprocess.run([tessera.path, "chat", "-m", phi3_smollm2, "--temp", "0", "-n", "16"], input=b"What is the capital of France?\nbad \xff byte\n/quit\n", capture_output=True, timeout=120)
    assert done.returncode == 0
    assert b"Paris" in done.stdout
    assert b"UTF-8" in done.stderr


def test_sigterm_leaves_with_143(start):
    child = start()
    child.kill(signal.SIGTERM)
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 143
