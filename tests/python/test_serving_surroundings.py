"""`tessera serve` where its surroundings are not as it may expect: outputs that are full or closed, no home, a clock that jumps, other programs'
files; and that it asks nothing of the network."""
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from serving import Server, free_port
from serving_probes import chat, same

QUESTION = {"prompt": "b", "max_tokens": 8, "temperature": 0}

# The day jumps by ten years at each call, to and fro, and every address that is asked for is written down.
SHIM = r"""
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static void note(const char* what, int number) {
  char line[64];
  const int size = snprintf(line, sizeof line, "%s %d\n", what, number);
  const char* path = getenv("ASKED_FILE");
  const int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
  if (file >= 0 && write(file, line, size) == size) close(file);
}
static long jump(void) {
  static int calls;
  return __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED) % 2 ? -315360000L : 315360000L;
}
int clock_gettime(clockid_t clock, struct timespec* now) {
  int (*next)(clockid_t, struct timespec*) = (int (*)(clockid_t, struct timespec*))dlsym(RTLD_NEXT, "clock_gettime");
  const int result = next(clock, now);
  if (clock == CLOCK_REALTIME && getenv("JUMP")) now->tv_sec += jump();
  return result;
}
time_t time(time_t* at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
int connect(int socket, const struct sockaddr* to, socklen_t size) {
  int (*next)(int, const struct sockaddr*, socklen_t) = (int (*)(int, const struct sockaddr*, socklen_t))dlsym(RTLD_NEXT, "connect");
  note("connect", to->sa_family);
  return next(socket, to, size);
}
int getaddrinfo(const char* node, const char* service, const struct addrinfo* hints, struct addrinfo** found) {
  int (*next)(const char*, const char*, const struct addrinfo*, struct addrinfo**) =
      (int (*)(const char*, const char*, const struct addrinfo*, struct addrinfo**))dlsym(RTLD_NEXT, "getaddrinfo");
  note("getaddrinfo", 0);
  return next(node, service, hints, found);
}
"""


def answer(server):
    reply = server.ask("POST", "/v1/completions", QUESTION)
    assert reply.status == 200, reply.body
    return same(reply.body)


@pytest.fixture(scope="module")
def model(bases):
    return bases["gemma"]


@pytest.fixture(scope="module")
def usual(tessera, model):
    """The answer of a server whose surroundings are as usual."""
    with Server(tessera, model) as server:
        return answer(server)


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text("#define _GNU_SOURCE\n" + SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", folder / "shim.so", folder / "shim.c", "-ldl"], check=True)
    return folder / "shim.so"


def test_a_log_that_is_full_takes_nobody_s_answer(tessera, model, usual):
    with open("/dev/full", "wb") as full, Server(tessera, model, port=free_port(), stdout=full, stderr=full) as server:
        assert [answer(server) for _ in range(3)] == [usual] * 3


def test_a_log_that_nobody_reads_any_more_takes_nobody_s_answer(tessera, model, usual):
    reader, writer = os.pipe()
    try:
        with Server(tessera, model, port=free_port(), stdout=writer, stderr=writer) as server:
            os.close(writer)
            os.close(reader)
            assert [answer(server) for _ in range(3)] == [usual] * 3
    finally:
        for end in reader, writer:
            if os.path.exists(f"/proc/self/fd/{end}"):
                os.close(end)


def test_closed_inputs_and_outputs_are_no_connection_s(tessera, model, usual):
    """Whatever is opened first would have their numbers."""

    def close_all():
        for number in range(3):
            os.close(number)
    with Server(tessera, model, port=free_port(), preexec_fn=close_all) as server:
        assert [os.readlink(f"/proc/{server.process.pid}/fd/{number}") for number in range(3)] == ["/dev/null"] * 3
        assert [answer(server) for _ in range(3)] == [usual] * 3


def test_nothing_but_the_model_is_needed(tessera, model, usual, tmp_path):
    """No HOME, no folder for temporary files, a cache that cannot be made, a locale of bytes, a working folder that is gone."""
    gone = tmp_path / "gone"
    gone.mkdir()
    environment = {"TMPDIR": "/nowhere", "TESSERA_CACHE": "/proc/nowhere", "LC_ALL": "C", "PATH": "/nowhere"}

    def leave_nowhere():
        os.chdir(gone)
        os.rmdir(gone)
    with Server(tessera, model.resolve(), env=environment, preexec_fn=leave_nowhere) as server:
        assert answer(server) == usual
        assert server.ask("POST", "/v1/completions", {**QUESTION, "structured_outputs": {"regex": "(a|b)+"}}).status == 200


def test_threads_that_no_machine_has_are_refused(tessera, model):
    for count in -1, 100000, "x":
        told = subprocess.run([tessera.path, "serve", "-m", model, "--port", "0", "-t", str(count)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert told.returncode == 2 and str(count) in told.stderr, (count, told)


def test_two_servers_of_one_model_do_not_disturb_each_other(tessera, model, usual):
    with Server(tessera, model) as one, Server(tessera, model) as other:
        assert answer(one) == answer(other) == usual
        one.stop()
        assert answer(other) == usual


def test_files_that_are_replaced_under_a_server_change_no_answer(tessera, model, usual, tmp_path):
    folder = shutil.copytree(model, tmp_path / "replaced")
    with Server(tessera, folder, "--served-model-name", model.name) as server:
        assert answer(server) == usual
        for path in folder.iterdir():
            (folder / "new").write_bytes(b"{}")
            os.replace(folder / "new", path)
        assert [answer(server) for _ in range(3)] == [usual] * 3


@pytest.mark.parametrize("isa", ["plain", "avx2"])
def test_a_machine_with_less_serves_too(tessera, model, isa):
    with Server(tessera, model, environment={"TESSERA_CPU_ISA": isa}) as server:
        first = answer(server)
        assert [answer(server) for _ in range(2)] == [first] * 2


def test_a_clock_that_jumps_ends_nobody_s_request(tessera, model, usual, shim):
    """Ten years to and fro: deadlines, queues and rates are by a clock that goes on evenly."""
    with Server(tessera, model, environment={"LD_PRELOAD": str(shim), "JUMP": "1"}) as server:
        assert [answer(server) for _ in range(5)] == [usual] * 5
        created = {abs(server.post("/v1/completions", QUESTION)["created"] - time.time()) > 1e8 for _ in range(2)}
        assert created == {True}  # it did jump
        assert server.ask("POST", "/v1/completions", {**QUESTION, "structured_outputs": {"regex": "(a|b)+"}}).status == 200


def test_no_address_is_asked_for_by_a_request(tessera, model, shim, tmp_path):
    asked = tmp_path / "asked"
    environment = {"LD_PRELOAD": str(shim), "ASKED_FILE": str(asked)}
    subprocess.run([sys.executable, "-c", "import socket; socket.socket().connect_ex(('127.0.0.1', 9))"], env={**os.environ, **environment}, check=True)
    assert asked.read_text() == f"connect {int(socket.AF_INET)}\n"  # so it is seen
    asked.unlink()
    evil = "http://169.254.169.254/latest"
    with Server(tessera, model, environment=environment) as server:
        for url in evil, "file:///etc/passwd", "data:image/png;base64,AAAA":
            parts = [{"type": "text", "text": "b"}, {"type": "image_url", "image_url": {"url": url}}]
            assert server.ask("POST", "/v1/chat/completions", chat(parts)).status == 400
            blocks = [{"type": "image", "source": {"type": "url", "url": url}}]
            assert server.ask("POST", "/v1/messages", chat(blocks, max_tokens=1)).status == 400
            assert server.ask("POST", "/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}).status == 400
        for schema in {"$ref": evil}, {"$schema": evil, "$id": evil, "type": "object"}:
            server.ask("POST", "/v1/completions", {**QUESTION, "structured_outputs": {"json": schema}})
        server.ask("GET", f"/{evil}", headers={"X-Forwarded-Host": evil, "Referer": evil})
        answer(server)
        server.stop(signal=signal.SIGTERM)
    families = {int(line.split()[1]) for line in asked.read_text().splitlines()} if asked.exists() else set()
    assert families <= {socket.AF_UNIX}
