"""Texts and ids that people give: from files, pipes and standard input, with byte-order marks, and in encodings that are not UTF-8."""
import json
import os
import subprocess
import threading

import pytest

TEXT = "ab [INST] a text, of some words\nand a second line"
IDS = "[2, 40, 41, 42, 43, 44]"
MARK = b"\xef\xbb\xbf"


@pytest.fixture(scope="module")
def tiny(bases):
    return bases["gemma"]


@pytest.fixture(scope="module")
def call(tessera, tiny):
    def run(command, *arguments, stdin=b"", **more):
        return subprocess.run([tessera.path, command, "-m", tiny, *arguments], input=stdin, capture_output=True, timeout=60, **more)
    return run


def scored(done):
    """What was read: as many tokens, foretold as well."""
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    return facts["tokens"], facts["perplexity"]


def by_file(call, flag, content, folder):
    path = folder / "file"
    path.write_bytes(content)
    return call("perplexity", "--json", "-", flag, path)


def by_pipe(call, flag, content, folder):
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:  # as <(...) of a shell
        file.write(content)
    with os.fdopen(reader, "rb"):
        return call("perplexity", "--json", "-", flag, f"/dev/fd/{reader}", pass_fds=[reader])


def by_fifo(call, flag, content, folder):
    path = folder / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(content))
    writer.start()
    try:
        return call("perplexity", "--json", "-", flag, path)
    finally:
        writer.join()


WAYS = {
    "file": by_file, "pipe": by_pipe, "FIFO": by_fifo,
    "-": lambda call, flag, content, folder: call("perplexity", "--json", "-", flag, "-", stdin=content),
    "/dev/stdin": lambda call, flag, content, folder: call("perplexity", "--json", "-", flag, "/dev/stdin", stdin=content),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same_text_and_ids(call, tmp_path, way):
    assert scored(WAYS[way](call, "-f", TEXT.encode(), tmp_path)) == scored(call("perplexity", "--json", "-", "-p", TEXT))
    (tmp_path / "ids").write_text(IDS)
    again = tmp_path / "again"
    again.mkdir()
    assert scored(WAYS[way](call, "--ids-file", IDS.encode(), again)) == scored(call("perplexity", "--json", "-", "--ids-file", tmp_path / "ids"))


def test_more_than_a_pipe_holds_is_read(call):
    assert scored(call("perplexity", "--json", "-", "-f", "-", stdin=b"c" * 200_000))[0] == 200_000


def test_other_commands_read_standard_input_too(call):
    given = ["-f", "-", "--json", "-"]
    assert json.loads(call("compare", "--weights-b", "bfloat8_b", *given, stdin=b"cdef").stdout)["tokens"] == 4
    assert json.loads(call("eval", "--against-weights", "bfloat8_b", *given, stdin=b"cdef").stdout)["tokens"] == 4
    assert call("run", "-n", "3", "-f", "-", stdin=b"xyz").stdout == b"zzz\n"


@pytest.mark.parametrize("way", WAYS)
def test_a_byte_order_mark_is_left_out_and_told(call, tmp_path, way):
    done = WAYS[way](call, "-f", MARK + TEXT.encode(), tmp_path)
    assert scored(done) == scored(call("perplexity", "--json", "-", "-p", TEXT))
    assert b"note: " in done.stderr and b"byte-order mark is left out" in done.stderr
    again = tmp_path / "again"
    again.mkdir()
    assert scored(WAYS[way](call, "--ids-file", MARK + IDS.encode(), again))[0] == 6


BAD = {  # name -> (content, exit code, words)
    "UTF-16 of Windows": (TEXT.encode("utf-16"), 2, "is UTF-16; convert it to UTF-8, as iconv -f UTF-16 -t UTF-8 does"),
    "UTF-16, big end first": (b"\xfe\xff" + TEXT.encode("utf-16-be"), 2, "is UTF-16"),
    "UTF-16 without its mark": (TEXT.encode("utf-16-le"), 2, "is UTF-16"),
    "UTF-16, big end first, without its mark": (TEXT.encode("utf-16-be"), 2, "is UTF-16"),
    "UTF-32": (TEXT.encode("utf-32"), 2, "is UTF-32"),
    "Latin-1": ("caf\xe9".encode("latin-1"), 2, "not valid UTF-8 at byte 3; convert it to UTF-8"),
    "Latin-1 behind a mark": (MARK + "caf\xe9".encode("latin-1"), 2, "not valid UTF-8 at byte 6"),
    "nothing": (b"", 2, "the prompt is empty"),
    "a mark alone": (MARK, 2, "the prompt is empty"),
}


@pytest.mark.parametrize("way", ["file", "-"])
@pytest.mark.parametrize("case", BAD)
def test_what_is_no_utf8_is_told_as_what_it_is(call, tmp_path, case, way):
    content, code, words = BAD[case]
    done = WAYS[way](call, "-f", content, tmp_path)
    assert (done.returncode, words.encode() in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize("chat", [[], ["--chat"], ["--chat", "--system", "Short."]])
def test_the_place_of_a_bad_byte_counts_the_text_that_was_given(call, chat):
    assert b"-p: not valid UTF-8 at byte 2; convert it" in call("run", "-n", "1", *chat, "-p", b"ab\xff").stderr
    assert b"standard input: not valid UTF-8 at byte 4; convert it" in call("run", "-n", "1", *chat, "-f", "-", stdin="\u00e9\u00e9".encode() + b"\xff").stderr
    if "--system" in chat:
        assert b"--system: not valid UTF-8 at byte 1; convert it" in call("run", "--chat", "--system", b"a\xc3", "-p", "ab").stderr


def test_what_cannot_be_read_says_why(call, tmp_path):
    for path, words in {tmp_path: b": cannot be read: Is a directory", tmp_path / "none": b": cannot be opened: No such file",
                        "/dev/zero": b"/dev/zero: has more than 67108864 bytes, which are read at most"}.items():
        done = call("run", "-f", path)
        assert done.returncode == 3 and words in done.stderr, done.stderr
    with open(tmp_path / "big", "wb") as file:
        file.truncate((64 << 20) + 1)
    assert b"big: has more than 67108864 bytes" in call("run", "-f", tmp_path / "big").stderr
