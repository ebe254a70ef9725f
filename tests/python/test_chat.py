"""tessera chat on a terminal: streaming, Ctrl-C, editing, pastes, commands, and input that is no text."""
import json
import os
import re
import signal
import subprocess

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
    done = subprocess.run([tessera.path, "chat", "-m", phi3_smollm2, "--temp", "0", "-n", "16"], input=b"What is the capital of France?\nbad \xff byte\n/quit\n", capture_output=True, timeout=120)
    assert done.returncode == 2
    assert b"Paris" in done.stdout
    assert b"UTF-8" in done.stderr


def test_sigterm_leaves_with_143(start):
    child = start()
    child.kill(signal.SIGTERM)
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 143


@pytest.fixture
def piped(tessera, bases, tmp_path):
    """A conversation with the tiny model, whose answers repeat the last token, from a pipe: what was said of it, and its messages."""
    def talk(text, *flags):
        done = subprocess.run([tessera.path, "chat", "-m", bases["gemma"], "--temp", "0", *flags], capture_output=True, timeout=60, cwd=tmp_path,
                              input=text if isinstance(text, bytes) else text.encode())
        saved = tmp_path / "talk.json"
        return done, [turn["content"] for turn in json.loads(saved.read_text())] if saved.exists() else None
    return talk


def test_lines_of_windows_are_lines(piped):
    lines = ["ab \\", "cd", "", "e\rf", "/save talk.json", "/quit"]
    unix, kept = piped("\n".join(lines), "-n", "2")
    windows, same = piped(b"\xef\xbb\xbf" + "\r\n".join(lines).encode(), "-n", "2")
    assert kept[::2] == same[::2] == ["ab \ncd", "e\rf"]
    assert unix.stdout == windows.stdout and unix.returncode == windows.returncode == 0
    assert b"byte-order mark is left out" in windows.stderr and b"mark" not in unix.stderr


FAILURES = {  # what is typed -> (exit code, words)
    "ab\n": (0, ""), "": (0, ""), "/help\n": (0, ""), "ab\n/reset\n/quit\nnever read\n": (0, ""),
    b"ab\xff\nab\n": (2, "the message: not valid UTF-8 at byte 2; convert it to UTF-8"),
    "\u00e9".encode() + b"\xc3(\n": (2, "the message: not valid UTF-8 at byte 2;"),
    "ab\n".encode("utf-16"): (2, "the message: is UTF-16"),
    "c" * 600 + "\nab\n": (2, "tokens; the context ends at 512"),
    "/nothing\nab\n": (2, "/nothing: is no command; /help lists them"),
    "/save\nab\n": (2, "/save: name a file"),
    "ab\n/save /no/such/talk.json\n": (3, "/no/such/talk.json: cannot be written"),
}


@pytest.mark.parametrize("text", FAILURES, ids=lambda text: str(text)[:20])
def test_the_exit_code_tells_of_turns_that_failed(piped, text):
    code, words = FAILURES[text]
    done, _ = piped(text, "-n", "1")
    assert done.returncode == code and words in done.stderr.decode(), done.stderr
    assert (b"tessera: " in done.stderr) == (code != 0)


def test_a_bad_system_message_is_told_at_once(piped):
    done, _ = piped("ab\n", "--system", b"ab\xff")
    assert done.returncode == 2 and b"--system: not valid UTF-8 at byte 2; convert it" in done.stderr


def test_a_full_context_says_what_to_do(piped):
    done, kept = piped("ab\n" + "c" * 40 + "\n/reset\ncd\n/save talk.json\n", "-n", "3", "-c", "64")
    assert done.returncode == 2 and kept == ["cd", kept[1]]
    (line,) = [line for line in done.stderr.decode().splitlines() if "context" in line]
    assert re.fullmatch(r"tessera: with this message the conversation has \d+ tokens; the context ends at 64\. Shorten the message, begin anew with /reset, "
                        r"or start with a larger -c \(the model's context is 512 tokens\)", line), line
    done, _ = piped("c" * 500 + "\n", "-n", "1")
    (line,) = [line for line in done.stderr.decode().splitlines() if "context" in line]
    assert line.endswith("the context ends at 512. Shorten the message or begin anew with /reset"), line


@pytest.mark.parametrize("context, advice", [("64", "Begin anew with /reset, or start with a larger -c (the model's context is 512 tokens)"),
                                             ("512", "Begin anew with /reset")])
def test_an_answer_that_the_context_cuts_says_so(piped, context, advice):
    done, _ = piped("ab\n", "-c", context)
    assert done.returncode == 0 and f"tessera: note: the answer was cut: the context of {context} tokens is full. {advice}\n" in done.stderr.decode(), done.stderr
    whole, _ = piped("ab\n", "-c", context, "-n", "4")
    assert b"cut" not in whole.stderr
    stopped, _ = piped("ab\n", "-c", context, "--stop", whole.stdout.decode()[1:3])
    assert b"cut" not in stopped.stderr
