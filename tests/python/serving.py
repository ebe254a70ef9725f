"""`tessera serve` as a process of its own, at a port that is free."""
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from typing import NamedTuple

import pytest

LONGEST = 120  # seconds to come up, and to leave: a loaded machine's


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """A context: begun when it listens (`ready` waits further, for the model), ended by SIGTERM, which must make it exit with 0."""

    def __init__(self, tessera, model, *flags, environment=None, wait_until_ready=True, port=0, **process):
        """`process`: of Popen's. Where its outputs do not go to the log, the port must be given."""
        self.log_path = tessera.folder / f"serve-{next(tessera.numbers)}.log"
        self.command = [str(tessera.path), "serve", "-m", str(model), "--port", str(port), *map(str, flags)]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(self.command, **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "env": {**os.environ, **(environment or {})}, **process})
        self.ended, self.port = False, port
        try:
            if not port:
                self.port = int(self.until(lambda: re.search(r"listening on http://\S*:(\d+)", self.log()))[1])
            if wait_until_ready:
                self.until(self.is_ready)
        except BaseException:
            self.process.kill()
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None and not self.ended:
            self.stop()
        else:
            self.process.kill()
            self.process.wait()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def log(self):
        """What it has written, to both of its outputs."""
        return self.log_path.read_text(errors="replace")

    def until(self, found, longest=LONGEST):
        """What found() gives once that is true; fails if the server ends before."""
        end = time.monotonic() + longest
        while not (result := found()):
            if self.process.poll() is not None:
                pytest.fail(f"{self.command} exited with {self.process.returncode}:\n{self.log()[-4000:]}")
            if time.monotonic() > end:
                pytest.fail(f"nothing within {longest} s: {self.command}\n{self.log()[-4000:]}")
            time.sleep(0.02)
        return result

    def is_ready(self):
        with contextlib.suppress(OSError):
            return self.ask("GET", "/ready").status == 200

    def ask(self, method, path, body=None, headers=None, timeout=300):
        """One request on a connection of its own; a `body` that is no bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content, {**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def post(self, path, body, **options):
        """The JSON of an answer that must be 200."""
        answer = self.ask("POST", path, body, **options)
        assert answer.status == 200, (path, answer.status, answer.body[:2000])
        return answer.json

    def stop(self, expect=0, signal=signal.SIGTERM, longest=LONGEST):
        """Ends it, and gives its whole log."""
        self.ended = True
        self.process.send_signal(signal)
        code = self.process.wait(longest)
        assert code == expect, f"exit {code}, expected {expect}: {self.command}\n{self.log()[-4000:]}"
        return self.log()
