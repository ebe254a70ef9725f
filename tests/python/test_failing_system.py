"""The program while the system fails under it: disks that are full, files that change under it, memory that ends, signals."""
import json
import os
import resource
import shutil
import signal
import subprocess
import time

import pytest
from hostile_files import read_weights
from test_hostile_files import assert_clean_line

MOST_SECONDS = 60
INNER = 200_000  # a middle so wide that loading takes a while; its weights are a hole in the file


@pytest.fixture
def start(tessera):
    running = []

    def go(*arguments, **more):
        child = subprocess.Popen([tessera.path, *map(str, arguments)],
                                 **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more})
        running.append(child)
        return child

    yield go
    for child in running:
        if child.poll() is None:
            child.kill()
        child.communicate()


def end(child, typed=b""):
    child.out, err = child.communicate(typed, timeout=MOST_SECONDS)
    child.exit, child.err = child.returncode, err.decode()
    return child


def widened(base, folder, changes, shapes):
    """A checkpoint with other sizes: `shapes` makes a stored shape anew. Its weights are zeros that take no room on the disk."""
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    path = folder / "model.safetensors"
    header, _ = read_weights(path)
    offset = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        tensor["shape"] = [shapes.get(size, size) for size in tensor["shape"]]
        size = 2
        for dimension in tensor["shape"]:
            size *= dimension
        tensor["data_offsets"] = [offset, offset + size]
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + offset)
    return folder


@pytest.fixture
def slow(bases, tmp_path):
    return widened(bases["gemma"], tmp_path / "slow", {"intermediate_size": INNER}, {100: INNER})


@pytest.fixture
def endless(bases, tmp_path):
    """A context of a million tokens: its generation only ends when it is stopped."""
    folder = shutil.copytree(bases["gemma"], tmp_path / "endless")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 1 << 20}))
    return folder


def stop_while_loading(child):
    """Stops the program when it has loaded a part of its weights."""
    while int(open(f"/proc/{child.pid}/statm").read().split()[1]) * resource.getpagesize() < 100 << 20:
        assert child.poll() is None, child.stderr.read()
    child.send_signal(signal.SIGSTOP)
    assert child.poll() is None


@pytest.mark.parametrize("change, exit, words", [
    (lambda path: os.truncate(path, os.path.getsize(path) // 2), 3, ["model.safetensors: "]),
    (lambda path: os.truncate(path, 0), 3, ["model.safetensors: "]),
    (lambda path: path.open("r+b").write(b"x"), 3, ["model.safetensors: was written to while it was in use"]),
    (lambda path: path.open("ab").write(b"x"), 3, ["model.safetensors: had", "bytes when it was opened and now has"]),
    (lambda path: path.unlink(), 0, []),
    (lambda path: os.replace(path.with_name("config.json"), path), 0, []),
], ids=["cut", "emptied", "rewritten", "grown", "deleted", "replaced"])
def test_weights_that_change_while_they_are_loaded_end_in_an_error_or_stay_what_they_were(start, slow, change, exit, words):
    child = start("run", "-m", slow, "-p", "ab", "-n", "1", "--temp", "0")
    stop_while_loading(child)
    change(slow / "model.safetensors")
    child.send_signal(signal.SIGCONT)
    end(child)
    assert child.exit == exit, child.err
    if exit:
        assert_clean_line(child, words)


def test_a_loaded_model_needs_its_files_no_more(start, bases, tmp_path):
    folder = shutil.copytree(bases["gemma"], tmp_path / "model")
    child = start("chat", "-m", folder, "-n", "4", "--temp", "0")
    child.stdin.write(b"ab\n")
    child.stdin.flush()
    assert child.stdout.read(1)
    for file in folder.iterdir():
        os.truncate(file, 0)
    assert end(child, b"ab\n").exit == 0, child.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", [["run", "-p", "ab", "-n", "1"], ["chat"], ["perplexity", "-p", "abab"], ["eval", "-p", "abab", "--against-weights", "bfloat8_b"]],
                         ids=lambda c: c[0])
def test_a_signal_while_loading_ends_the_program_with_its_exit_code(start, slow, command, number):
    child = start(command[0], "-m", slow, *command[1:])
    stop_while_loading(child)
    child.send_signal(number)
    child.send_signal(signal.SIGCONT)
    assert end(child).exit == 128 + number and child.err == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_generation_and_what_was_made_stays(start, endless, number):
    child = start("run", "-m", endless, "-p", "ab", "--ignore-eos", "--print-ids", "--temp", "0")
    begun = child.stdout.read(40)
    child.send_signal(number)
    end(child)
    assert child.exit == 128 + number
    assert all(part.isdigit() for part in (begun + child.out).split()) and child.out.endswith(b"\n")


def test_a_second_signal_leaves_at_once_and_tells_nothing_of_a_card(start, endless):
    child = start("run", "-m", endless, "-p", "ab", "--ignore-eos", "--print-ids", "--temp", "0")
    child.stdout.read(40)
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)  # every thread of it: both signals find it asleep
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGTERM)
    child.send_signal(signal.SIGCONT)
    end(child)
    assert child.exit in (130, 143) and child.err == ""
    assert not child.out.endswith(b"\n"), "the answer was ended as by one signal"


def test_an_interrupt_ends_an_answer_and_a_termination_the_chat(start, endless):
    child = start("chat", "-m", endless, "--ignore-eos", "--temp", "0")
    child.stdin.write(b"ab\n")
    child.stdin.flush()
    child.stdout.read(40)
    child.send_signal(signal.SIGINT)
    child.stdin.write(b"ab\n")
    child.stdin.flush()
    time.sleep(0.2)
    assert child.poll() is None, "the interrupt ended the chat"
    child.send_signal(signal.SIGTERM)
    assert end(child).exit == 143


def test_a_reader_that_leaves_ends_a_generation_quietly(start, endless):
    child = start("run", "-m", endless, "-p", "ab", "--ignore-eos", "--print-ids", "--temp", "0")
    child.stdout.read(40)
    child.stdout.close()
    assert child.wait(timeout=MOST_SECONDS) == 0
    assert child.stderr.read() == b""


def limited(kind, most):
    return lambda: resource.setrlimit(kind, (most, most))


OUTPUTS = {
    "logits": ["run", "-p", "abab", "-n", "1", "--logits"],
    "facts": ["inspect", "--json"],
    "perplexity": ["perplexity", "-p", "abab", "--json"],
    "reference": ["eval", "-p", "abab", "-n", "4", "--save-reference"],
}


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("most", [0, 100])
def test_a_file_for_which_the_disk_has_no_room_is_an_error_and_leaves_the_old_one(start, bases, tmp_path, name, most):
    place = tmp_path / "out"
    place.mkdir()
    (place / "file").write_text("old")
    command, *flags = OUTPUTS[name]
    arguments = [command, "-m", bases["gemma"], *flags, place / "file"]
    child = end(start(*arguments, preexec_fn=limited(resource.RLIMIT_FSIZE, most)))
    assert child.exit == 4, child.err
    assert_clean_line(child, [str(place / "file"), "cannot be written: File too large"])
    assert [file.name for file in place.iterdir()] == ["file"] and (place / "file").read_text() == "old"
    assert end(start(*arguments)).exit == 0
    assert [file.name for file in place.iterdir()] == ["file"] and (place / "file").stat().st_size > 100


def test_a_talk_that_cannot_be_saved_goes_on(start, bases, tmp_path):
    child = start("chat", "-m", bases["gemma"], "-n", "2", "--temp", "0", preexec_fn=limited(resource.RLIMIT_FSIZE, 10))
    end(child, b"ab\n/save " + bytes(tmp_path / "talk.json") + b"\n/save /no/such/place\nab\n")
    assert child.exit == 3, child.err  # of the last that failed
    assert "talk.json: cannot be written: File too large" in child.err and "/no/such/place: cannot be written" in child.err
    assert list(tmp_path.iterdir()) == []


def test_memory_that_ends_anywhere_is_an_error(start, bases, measured):
    """From an address space in which the program can just be started to one in which all is well."""
    outcomes = {}
    for megabytes in range(8, 48, 2):
        child = start("run", "-m", bases["gemma"], "-p", "abab", "-n", "2", "--temp", "0", "-t", "2",
                      preexec_fn=limited(resource.RLIMIT_AS, megabytes << 20))
        end(child)
        if child.exit == 127:
            continue  # the dynamic loader's own
        assert child.exit in (0, 4), f"{megabytes} MB: exit {child.exit}: {child.err}"
        if child.exit == 4:
            assert_clean_line(child, [])
        outcomes[child.exit] = outcomes.get(child.exit, 0) + 1
    assert outcomes.get(0) and outcomes.get(4), outcomes
    measured(f"address space of 8 to 46 MB: {outcomes[4]} clean errors, {outcomes[0]} runs")


def test_weights_beyond_the_memory_are_refused_before_they_are_loaded(start, bases, tmp_path):
    vocabulary, hidden = 1 << 24, 1 << 16  # 2 TB of holes
    folder = widened(bases["gemma"], tmp_path / "huge", {"vocab_size": vocabulary, "hidden_size": hidden}, {199: vocabulary, 72: hidden})
    child = end(start("run", "-m", folder, "-p", "ab", "-n", "1"))
    assert child.exit == 4, child.err
    assert_clean_line(child, ["bfloat16 weights and a bfloat16 cache of 1 x ", "do not fit the cpu: 2", "nothing makes it fit"])
    child = end(start("run", "-m", folder, "-p", "ab", "-n", "1", preexec_fn=limited(resource.RLIMIT_AS, 1 << 30)))
    assert child.exit == 4, child.err
    assert_clean_line(child, ["model.safetensors: no address space for its 2"])
