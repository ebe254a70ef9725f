"""Servers as processes: tessera's and llama.cpp's, and what they take of the machine."""
import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load.client import Failed, ask

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build/release/apps/cli/tessera"
LONGEST = 300  # seconds until a server is ready


@dataclass
class Taken:
    """Of the machine, at a moment."""
    seconds: float
    resident: int  # bytes
    descriptors: int
    threads: int


def taken(pid: int, begun: float) -> Taken:
    status = Path(f"/proc/{pid}/status").read_text()

    def number(key: str) -> int:
        found = re.search(rf"^{key}:\s+(\d+)", status, re.M)
        return int(found[1]) if found else 0
    return Taken(time.monotonic() - begun, number("VmRSS") * 1024, len(os.listdir(f"/proc/{pid}/fd")), number("Threads"))


class Running:
    """A server at a port, and what it has taken each `pause` seconds."""

    def __init__(self, command: list[str], port: int, pause: float = 0.5, environment: dict[str, str] | None = None) -> None:
        self.command, self.port, self.pause = command, port, pause
        self.log = tempfile.TemporaryFile("w+")
        print("$", *command, file=sys.stderr, flush=True)
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env={**os.environ, **(environment or {})})
        self.begun = time.monotonic()
        self.history: list[Taken] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    def check(self) -> None:
        if self.process.poll() is not None:
            self.log.seek(0)
            raise Failed(f"{self.command[0]} exited with {self.process.returncode}: {self.log.read()[-2000:]}")

    async def until_ready(self, path: str) -> None:
        end = time.monotonic() + LONGEST
        while True:
            with contextlib.suppress(Failed, OSError, asyncio.IncompleteReadError):
                await ask(self.port, None, path)
                return
            self.check()
            if time.monotonic() > end:
                raise Failed(f"{self.command[0]} is not ready after {LONGEST} s")
            await asyncio.sleep(0.05)

    async def watch(self) -> None:
        while True:
            self.history.append(taken(self.pid, self.begun))
            await asyncio.sleep(self.pause)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


@dataclass(frozen=True)
class Sizes:
    """For how many at a time, and how many tokens each may have: of llama-server they are fixed beforehand, so they are its own."""
    clients: int
    tokens: int
    threads: int


def tessera_command(folder: Path, port: int, sizes: Sizes) -> list[str]:
    return [str(PROGRAM), "serve", "-m", str(folder), "--port", str(port), "-t", str(sizes.threads), "--max-num-seqs", str(sizes.clients), "--quiet"]


def llama_command(program: Path, file: Path, port: int, sizes: Sizes) -> list[str]:
    return [str(program), "-m", str(file), "--host", "127.0.0.1", "--port", str(port), "-t", str(sizes.threads), "-np", str(sizes.clients),
            "-c", str(sizes.clients * sizes.tokens)]


@contextlib.asynccontextmanager
async def serving(command: list[str], port: int, ready: str, **options: Any) -> AsyncIterator[Running]:
    """Ready, and watched."""
    running = Running(command, port, **options)
    watcher = None
    try:
        await running.until_ready(ready)
        watcher = asyncio.create_task(running.watch())
        yield running
        running.check()
    finally:
        if watcher:
            watcher.cancel()
        running.stop()
