#!/usr/bin/env python3
"""`tessera serve` under mixed load for minutes: every answer is that of a lone request, and what the server takes of the machine is drawn over time.

Clients ask for texts and chats of many sizes, whole and as streams, several answers, forms and token counts; they leave before and in an answer, close or
reset, read a few bytes a second, or are processes that are killed. A canary asks the same each second. Exits with 1 if an answer is lost, is another's or
has changed, if descriptors or threads stay, or if memory grows by more than 1 MB in the second half: behind the first minutes all that grows
has its size, the cache too, which is small here; a shorter run tells nothing of memory.

usage: .venv/bin/python scripts/soak_serving.py [MODEL] [--minutes N] [--clients N] [--plots FILE.html] [--json FILE]
"""
import argparse
import asyncio
import collections
import contextlib
import dataclasses
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from load import plots
from load.client import Body, Connection, Failed, ask
from load.servers import PROGRAM, ROOT, Running, free_port, serving

CHAT, COMPLETIONS, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
SCHEMA: Body = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["name", "age"]}
CANARY: Body = {"messages": [{"role": "user", "content": "What is a canary?"}], "max_tokens": 12, "temperature": 0.8, "seed": 3, "logprobs": True}
WAYS = ["stays"] * 12 + ["leaves", "resets", "leaves in it", "resets in it", "reads slowly"]
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
HOLDER = """import socket, sys, time
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(8)]
for one in held:
    one.sendall(sys.argv[2].encode())
print(flush=True)
time.sleep(999)"""


@dataclasses.dataclass
class Asked:
    path: str
    body: Body
    expected: Any = None  # what a lone server says


def questions(count: int) -> list[Asked]:
    draw = random.Random(26)

    def words(count: int) -> str:
        return " ".join(draw.choice("river stone light garden winter paper music bridge number letter".split()) for _ in range(count))
    asked = []
    for number in range(count):
        size = draw.choice([3, 10, 40, 150, 600])
        body: Body = {"max_tokens": draw.choice([1, 8, 24, 64]), "seed": number, "temperature": draw.choice([0, 0.7, 1.0])}
        path = draw.choice([CHAT, CHAT, COMPLETIONS, MESSAGES])
        if path == COMPLETIONS:
            body |= {"prompt": words(size), "logprobs": 2}
        else:
            body |= {"messages": [{"role": "user", "content": words(size)}]}
        if path != MESSAGES and draw.random() < 0.2:
            body |= {"n": 3}
        if path == CHAT and draw.random() < 0.2:
            body |= {"response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}}
        asked.append(Asked(path, body))
    return asked


def said(answer: Any) -> Any:
    """Without what differs from time to time."""
    return answer.get("choices") or [answer["content"], answer["stop_reason"]]


class Soak:
    def __init__(self, server: Running, asked: list[Asked], end: float) -> None:
        self.server, self.asked, self.end = server, asked, end
        self.counts: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []

    def judge(self, what: str, expected: Any, got: Any) -> None:
        self.counts[what] += 1
        if got != expected:
            self.wrong.append(f"{what}: {json.dumps(got)[:400]} and not {json.dumps(expected)[:400]}")

    async def streamed(self, connection: Connection, one: Asked) -> tuple[dict[int, str], bool]:
        """The texts of a stream's choices, and whether it was whole."""
        texts: dict[int, str] = collections.defaultdict(str)
        if one.path == MESSAGES:  # it ends without [DONE]
            whole = b""
            async for piece in connection.pieces():
                whole += piece
            for line in whole.split(b"\n"):
                if line.startswith(b"data: "):
                    texts[0] += json.loads(line[6:]).get("delta", {}).get("text", "")
            return texts, b"message_stop" in whole
        async for event in connection.events():
            for choice in event["choices"]:
                texts[choice["index"]] += choice.get("text") or choice.get("delta", {}).get("content") or ""
        return texts, True

    async def whole(self, one: Asked, streamed: bool, slow: bool) -> None:
        connection = Connection(self.server.port, receive_buffer=2048 if slow else 0)
        try:
            await connection.send(one.path, {**one.body, "stream": streamed})
            status = await connection.status()
            if status != 200:
                raise Failed(f"{status} {(await connection.body())[:300]!r}")
            if slow:
                await asyncio.sleep(random.random() * 5)
            if not streamed:
                self.judge("whole answers", one.expected, said(json.loads(await connection.body())))
                return
            texts, ended = await self.streamed(connection, one)
            expected = {0: "".join(block["text"] for block in one.expected[0])} if one.path == MESSAGES else {
                c["index"]: c.get("text") or c.get("message", {}).get("content") or "" for c in one.expected}
            self.judge("streams", [expected, True], [{index: texts[index] for index in expected}, ended])
        finally:
            connection.close()

    async def leave(self, one: Asked, in_it: bool, reset: bool) -> None:
        connection = Connection(self.server.port)
        try:
            await connection.send(one.path, {**one.body, "stream": True})
            if in_it:
                await connection.status()
                async for _ in connection.pieces():
                    break
            else:
                await asyncio.sleep(random.random() * 0.2)
        finally:
            connection.close(reset)
        self.counts["clients that left"] += 1

    async def client(self, number: int) -> None:
        draw = random.Random(number)
        while time.monotonic() < self.end:
            one, way = draw.choice(self.asked), draw.choice(WAYS)
            try:
                if way in ("stays", "reads slowly"):
                    await self.whole(one, draw.random() < 0.5, way == "reads slowly")
                else:
                    await self.leave(one, "in it" in way, "resets" in way)
            except (Failed, OSError, asyncio.IncompleteReadError) as error:
                self.wrong.append(f"lost: {one.path} of a client that {way}: {error!r}")
                await asyncio.sleep(0.1)

    async def canary(self) -> None:
        expected = said(await ask(self.server.port, CANARY, CHAT))
        while time.monotonic() < self.end:
            self.judge("canaries", expected, said(await ask(self.server.port, CANARY, CHAT)))
            await asyncio.sleep(1)

    async def killer(self) -> None:
        """Processes with eight streams each, killed as they read nothing."""
        body = json.dumps({"messages": [{"role": "user", "content": "Count."}], "max_tokens": 400, "ignore_eos": True, "stream": True})
        request = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        while time.monotonic() < self.end:
            holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDER, str(self.server.port), request, stdout=subprocess.PIPE)
            assert holder.stdout
            await holder.stdout.readline()
            await asyncio.sleep(random.random() * 2)
            holder.send_signal(signal.SIGKILL)
            await holder.wait()
            self.counts["client processes killed"] += 1
            await asyncio.sleep(5)

    async def other_routes(self) -> None:
        expected = await ask(self.server.port, {"prompt": "river stone"}, "/tokenize")
        while time.monotonic() < self.end:
            self.judge("token counts", expected, await ask(self.server.port, {"prompt": "river stone"}, "/tokenize"))
            await ask(self.server.port, None, "/metrics")
            with contextlib.suppress(Failed):  # 400
                await ask(self.server.port, {"prompt": "x", "temperature": "hot"})
            await asyncio.sleep(0.5)


def told(history: list[Any], before: Any, after: Any, soak: Soak, minutes: float) -> tuple[list[str], list[str]]:
    """(what is to be said, what is wrong)."""
    half, last = (next(t for t in history if t.seconds >= history[-1].seconds * part) for part in (0.5, 1))
    wide = [t for t in history if t.seconds >= half.seconds]
    edge = max(len(wide) // 10, 1)  # one moment alone says little
    growth = (statistics.median(t.resident for t in wide[-edge:]) - statistics.median(t.resident for t in wide[:edge])) / 1e6
    lines = [f"{minutes:g} minutes: " + ", ".join(f"{count} {what}" for what, count in sorted(soak.counts.items())),
             f"memory {half.resident / 1e6:.1f} MB in the middle, {last.resident / 1e6:.1f} MB in the end: {growth:+.2f} MB of the second half",
             f"descriptors {before.descriptors} before, at most {max(t.descriptors for t in history)}, {after.descriptors} behind it; threads {before.threads}, "
             f"{max(t.threads for t in history)}, {after.threads}"]
    wrong = soak.wrong[:20] + ([f"{len(soak.wrong)} in all"] if len(soak.wrong) > 20 else [])
    wrong += [f"memory grew by {growth:.2f} MB in the second half"] if growth > 1 else []
    wrong += ["descriptors stayed"] if after.descriptors > before.descriptors else []
    wrong += ["threads stayed"] if after.threads > before.threads else []
    return lines, wrong


async def run(model: Path, options: argparse.Namespace) -> int:
    flags = ["-t", str(options.threads)] if options.threads else []
    if not (model / "chat_template.jinja").exists():  # of a base model
        options.json.parent.mkdir(parents=True, exist_ok=True)
        template = options.json.with_suffix(".jinja")
        template.write_text(TEMPLATE)
        flags += ["--template", str(template)]

    def command(port: int) -> list[str]:
        return [str(PROGRAM), "serve", "-m", str(model), "--port", str(port), "--quiet", "-c", "2048", "--cache-memory", "0.1", *flags]
    asked = questions(48)
    async with serving(command(port := free_port()), port, "/ready") as lone:
        for one in asked:
            one.expected = said(await ask(lone.port, one.body, one.path))
    async with serving(command(port := free_port()), port, "/ready", pause=1.0) as server:
        for one in asked[:20]:  # so that all that is made once is there
            await ask(port, one.body, one.path)
        await asyncio.sleep(2)
        before = server.history[-1]
        soak = Soak(server, asked, time.monotonic() + 60 * options.minutes)
        async with asyncio.TaskGroup() as group:
            for part in (soak.canary(), soak.killer(), soak.other_routes(), *map(soak.client, range(options.clients))):
                group.create_task(part)
        loaded = list(server.history)
        await asyncio.sleep(5)
        after, history = server.history[-1], server.history
        lines, wrong = told(loaded, before, after, soak, options.minutes)
        print(*lines, *(f"WRONG: {line}" for line in wrong), sep="\n")
        options.json.write_text(json.dumps({"lines": lines, "wrong": wrong, "history": [dataclasses.asdict(t) for t in history]}))
        charts = [plots.chart(name, "minutes", unit, {"tessera serve": [(t.seconds / 60, getattr(t, name) / scale) for t in history]})
                  for name, unit, scale in (("resident", "MB", 1e6), ("descriptors", "number", 1), ("threads", "number", 1))]
        plots.write_page(options.plots, "tessera serve under mixed load", " · ".join(lines + wrong), [], charts)
        return 1 if wrong else 0


def default_model() -> Path:
    done = subprocess.run([sys.executable, ROOT / "scripts/weights/make_gemma3_270m.py"], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="a checkpoint; Gemma 3 270M if not given")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("-t", "--threads", type=int)
    parser.add_argument("--plots", type=Path, default=ROOT / "build" / "soak_serving.html")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "soak_serving.json")
    options = parser.parse_args()
    sys.exit(asyncio.run(run(options.model or default_model(), options)))


if __name__ == "__main__":
    main()
