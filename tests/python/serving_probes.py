"""What tests look at a running server with: streams on connections of their own, its metrics, its process, and a canary."""
import contextlib
import http.client
import json
import os
import re
import socket
import struct

VARYING = re.compile(rb'"(id|created|created_at|cached_tokens|input_tokens|cache_read_input_tokens)": ?("[^"]*"|\d+)')
SAMPLE = re.compile(r'(tessera:[a-z0-9_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (\d+(?:\.\d+)?(?:e[-+]?\d+)?)')


def same(body):
    """An answer's bytes without what differs from time to time."""
    return VARYING.sub(rb'"\1":0', body)


def chat(text, **options):
    return {"messages": [{"role": "user", "content": text}], **options}


class Stream:
    """A request on a connection of its own, whose answer is read when it is asked for."""

    def __init__(self, server, body, path="/v1/chat/completions", headers=None, stream=True, receive_buffer=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
        self.connection.sock = socket.socket()
        self.connection.sock.settimeout(300)
        if receive_buffer:
            self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.connection.sock.connect(("127.0.0.1", server.port))
        self.socket = self.connection.sock
        self.connection.request("POST", path, json.dumps({**body, "stream": stream}), {"Content-Type": "application/json", **(headers or {})})
        self.response = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()

    def answer(self):
        """Its status: waits for it."""
        if self.response is None:
            self.response = self.connection.getresponse()
        return self.response.status

    def event(self):
        """The next event's data; None at the end."""
        assert self.answer() == 200, self.response.read()
        while line := self.response.readline():
            if line.startswith(b"data: "):
                return line[len(b"data: "):].rstrip(b"\n")
        return None

    def events(self):
        return list(iter(self.event, None))

    def leave(self, reset=False):
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.response is not None:
            self.response.close()
        self.connection.close()
        self.socket.close()


def metrics(server):
    """{"name": value} and {'name{label="value"}': value} without the model's name, read strictly: each family after its HELP and TYPE."""
    answer = server.ask("GET", "/metrics")
    assert answer.status == 200 and answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    values, kinds, helped = {}, {}, None
    for line in answer.body.decode().removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            helped = line.split(" ")[2]
            assert helped not in kinds
        elif line.startswith("# TYPE "):
            name, kind = line.split(" ")[2:]
            assert name == helped and kind in ("counter", "gauge", "histogram")
            kinds[name] = kind
        else:
            name, labels, value = SAMPLE.fullmatch(line).groups()
            family = name if kinds[helped] != "histogram" else re.sub("_(bucket|sum|count)$", "", name)
            assert family == helped, (name, helped)
            labels = [label for label in re.findall(r'[a-z_]+="(?:[^"\\]|\\.)*"', labels) if not label.startswith("model_name=")]
            key = name.removeprefix("tessera:") + ("{" + ",".join(labels) + "}" if labels else "")
            assert key not in values
            values[key] = float(value)
    return values


def idle(server):
    """Waits until nothing runs and nothing waits; the metrics then."""
    def found():
        now = metrics(server)
        ended = sum(count for name, count in now.items() if name.startswith("request_success_total"))
        return now if now["num_requests_running"] == now["num_requests_waiting"] == 0 and ended == now["e2e_request_latency_seconds_count"] else None
    return server.until(found)


class Canary:
    """One request whose answer has the same bytes, whatever was sent before it."""

    def __init__(self, server, body=None, headers=None, path="/v1/chat/completions"):
        self.ask = lambda: server.ask("POST", path, body or chat("what is ab?", max_tokens=8, temperature=0.8, seed=3, logprobs=True), headers)
        self.first = self.sing()

    def sing(self):
        answer = self.ask()
        assert answer.status == 200, answer.body
        return same(answer.body)

    def lives(self):
        assert self.sing() == self.first


def raw(server, sent, half_close=False, timeout=120):
    """What the server says to these bytes before it closes the connection, or is silent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(sent)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(1 << 16):
                said += part
        return said


def resident(pid):
    """Bytes."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid):
    """Its processes: the one that compiles schemas."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):  # whichever thread has started them
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/task/{task}/children") as file:
            found += map(int, file.read().split())
    return found
