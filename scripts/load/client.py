"""Requests to a server of OpenAI's API, each on a connection of its own, and when the pieces of their answers came."""
import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]
COMPLETIONS = "/v1/completions"


@dataclass
class Answer:
    """Times are seconds of time.monotonic()."""
    sent: float
    chunks: list[float] = field(default_factory=list)  # when each chunk of an answer came
    ended: float = 0
    prompt_tokens: int = 0
    tokens: int = 0  # new ones, as the server's usage says
    cached: int = 0
    text: str = ""

    @property
    def first(self) -> float:
        """To the first chunk."""
        return self.chunks[0] - self.sent

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in zip(self.chunks, self.chunks[1:])]

    @property
    def per_token(self) -> float:
        """Behind the first one."""
        return (self.ended - self.sent - self.first) / max(self.tokens - 1, 1)


Ask = Callable[[Body], Coroutine[Any, Any, Answer]]


class Failed(Exception):
    """An answer that is none: its status, or that it was cut."""


class Connection:
    """One request: send() it, then read its status() and, of an answer that is chunked, its events() or the body."""

    def __init__(self, port: int, receive_buffer: int = 0) -> None:
        self.port, self.receive_buffer = port, receive_buffer
        self.headers: dict[str, str] = {}

    async def send(self, path: str, body: Body | None) -> None:
        plain = socket.socket()
        plain.setblocking(False)
        if self.receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", self.port))
        self.reader, self.writer = await asyncio.open_connection(sock=plain, limit=self.receive_buffer or 1 << 16)
        content = b"" if body is None else json.dumps(body).encode()
        kind = b"GET" if body is None else b"POST"
        self.writer.write(kind + f" {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
                          f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
        await self.writer.drain()

    async def status(self) -> int:
        while True:
            line = await self.reader.readline()
            if not line:
                raise Failed("the connection ended before a status")
            number = int(line.split()[1])
            while (header := await self.reader.readline()) not in (b"\r\n", b""):
                name, _, value = header.decode().partition(":")
                self.headers[name.lower()] = value.strip()
            if number >= 200:
                return number

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes; raises where it is cut."""
        if self.headers.get("transfer-encoding") == "chunked":
            while True:
                line = await self.reader.readline()
                if not line:
                    raise Failed("the answer was cut")
                size = int(line, 16)
                data = await self.reader.readexactly(size + 2)
                if not size:
                    return
                yield data[:-2]
        elif "content-length" in self.headers:
            yield await self.reader.readexactly(int(self.headers["content-length"]))
        else:
            while data := await self.reader.read(1 << 16):
                yield data

    async def body(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])

    async def events(self) -> AsyncIterator[Any]:
        """Of a stream, what each event says, without the last, [DONE], which must be there."""
        rest = b""
        async for piece in self.pieces():
            rest += piece
            *lines, rest = rest.split(b"\n")
            for line in lines:
                if line.startswith(b"data: [DONE]"):
                    return
                if line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    if "error" in event:
                        raise Failed(f"an error in a stream: {event['error']}")
                    yield event
        raise Failed("a stream without [DONE]")

    def close(self, reset: bool = False) -> None:
        if hasattr(self, "writer"):
            if reset:
                self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()


async def ask(port: int, body: Body | None, path: str = COMPLETIONS) -> Any:
    """The JSON of a whole answer, which must be 200."""
    connection = Connection(port)
    try:
        await connection.send(path, body)
        status, content = await connection.status(), await connection.body()
        if status != 200:
            raise Failed(f"{path}: {status} {content[:500]!r}")
        return json.loads(content) if content[:1] in b"[{" else content.decode()
    finally:
        connection.close()


async def stream(port: int, body: Body, path: str = COMPLETIONS, on_chunk: Callable[[Answer], None] | None = None) -> Answer:
    """Times are taken as vLLM's benchmark takes them: a chunk is an event with a choice; the last event has the usage."""
    connection = Connection(port)
    answer = Answer(time.monotonic())
    try:
        await connection.send(path, {**body, "stream": True, "stream_options": {"include_usage": True}})
        if (status := await connection.status()) != 200:
            raise Failed(f"{path}: {status} {(await connection.body())[:500]!r}")
        async for event in connection.events():
            now = time.monotonic()
            if event.get("choices"):
                choice = event["choices"][0]
                text = choice.get("text") or choice.get("delta", {}).get("content") or ""
                if text or not choice.get("finish_reason"):
                    answer.chunks.append(now)
                answer.ended = now
                answer.text += text
                if on_chunk:
                    on_chunk(answer)
            if usage := event.get("usage"):
                answer.prompt_tokens, answer.tokens = usage["prompt_tokens"], usage["completion_tokens"]
                answer.cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        if not answer.chunks:
            raise Failed("an answer without a token")
        return answer
    finally:
        connection.close()


async def closed_loop(clients: int, bodies: Iterable[Body], one: Ask) -> list[Answer]:
    """So many clients, each of which asks again as soon as it is answered."""
    waiting, answers = iter(bodies), []

    async def client() -> None:
        for body in waiting:
            answers.append(await one(body))
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return answers


async def open_loop(times: Iterable[float], bodies: Iterable[Body], one: Ask) -> list[Answer]:
    """A request at each of these seconds from now, whatever is answered."""
    begun, tasks = time.monotonic(), []
    async with asyncio.TaskGroup() as group:
        for due, body in zip(times, bodies):
            await asyncio.sleep(max(begun + due - time.monotonic(), 0))
            tasks.append(group.create_task(one(body)))
    return [task.result() for task in tasks]
