"""What is asked of a server to measure it. Prompts are token ids drawn from a fixed seed, answers go to their full length."""
import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from load.client import Answer, Body, closed_loop, open_loop, stream

Sample = dict[str, Any]
PROMPT = NEW = 128
LONG, QUESTION, SYSTEM = 4000, 32, 2000
GREEDY: Body = {"temperature": 0}
SAMPLED: Body = {"temperature": 1.0, "top_k": 64, "top_p": 0.95, "min_p": 0.0}  # Gemma's own; each server has other defaults
# No answer to it is over before NEW tokens.
SCHEMA: Body = {"type": "array", "minItems": 200, "items": {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                                                            "required": ["name", "age"], "additionalProperties": False}}


@dataclass(frozen=True)
class Case:
    """`clients` at a time, with at most `tokens` each, prompt and answer together."""
    name: str
    clients: int
    run: Callable[[int, str, float], Awaitable[Sample]]  # of a port, the server's engine and, of open_at, a rate of requests
    tokens: int = 2 * (PROMPT + NEW)
    busy: bool = False  # another program keeps one processor busy
    engines: bool = False  # the engines alone, without a server, are measured with the same mix
    needs_rate: bool = False


def ids(draw: random.Random, count: int) -> list[int]:
    return [draw.randint(300, 5000) for _ in range(count)]


def bodies(count: int, seed: int, sampling: Body) -> Iterator[Body]:
    draw = random.Random(seed)
    for number in range(count):
        yield {"prompt": ids(draw, PROMPT), "max_tokens": NEW, "ignore_eos": True, "seed": number, **sampling}


async def warm_up(port: int, **more: Any) -> None:
    """The first request of a server, which may map and allocate."""
    await stream(port, {"prompt": ids(random.Random(1), 64), "max_tokens": 8, **GREEDY, **more})


def figures(answers: list[Answer]) -> Sample:
    """vLLM's names: time to the first token, between chunks, per token behind the first one."""
    seconds = max(a.ended for a in answers) - min(a.sent for a in answers)
    new = sum(a.tokens for a in answers)
    return {"seconds": seconds, "requests": len(answers), "requests_per_second": len(answers) / seconds, "new_per_second": new / seconds,
            "tokens_per_second": (new + sum(a.prompt_tokens for a in answers)) / seconds, "ttft": [a.first for a in answers],
            "itl": [gap for a in answers for gap in a.gaps], "tpot": [a.per_token for a in answers]}


def check_lengths(answers: list[Answer]) -> list[Answer]:
    for answer in answers:
        if (answer.prompt_tokens, answer.tokens) != (PROMPT, NEW) and answer.prompt_tokens != PROMPT + 1:
            raise ValueError(f"an answer of {answer.tokens} tokens to a prompt of {answer.prompt_tokens}: {PROMPT} and {NEW} were asked for")
    return answers


def closed(clients: int, sampling: Body) -> Callable[[int, str, float], Awaitable[Sample]]:
    async def run(port: int, engine: str, rate: float) -> Sample:
        await warm_up(port)
        return figures(check_lengths(await closed_loop(clients, bodies(4 * clients, 26, sampling), lambda body: stream(port, body))))
    return run


async def open_at(port: int, engine: str, rate: float) -> Sample:
    """Requests come as they come: the pauses are drawn from a fixed seed, at 70 % of what saturates the peer."""
    await warm_up(port)
    draw, due, times = random.Random(70), 0.0, []
    for _ in range(96):
        due += draw.expovariate(rate)
        times.append(due)
    return figures(check_lengths(await open_loop(times, bodies(len(times), 70, GREEDY), lambda body: stream(port, body)))) | {"asked_per_second": rate}


async def stall(port: int, engine: str, rate: float) -> Sample:
    """8 streams; then a long prompt, and a short question while that is computed."""
    await warm_up(port)
    draw, running = random.Random(8), {}

    async def watched(number: int) -> None:
        def keep(answer: Answer) -> None:
            running[number] = answer
        await stream(port, {"prompt": ids(draw, PROMPT), "max_tokens": LONG, "ignore_eos": True, **GREEDY}, on_chunk=keep)
    tasks = [asyncio.create_task(watched(number)) for number in range(8)]

    def check() -> None:
        for task in tasks:
            if task.done():
                raise ValueError(f"a stream was over before the long prompt was: {task.exception()}")
    try:
        while len(running) < 8 or min(len(answer.chunks) for answer in running.values()) < 8:
            check()
            await asyncio.sleep(0.01)
        quiet = time.monotonic()
        await asyncio.sleep(2)
        begun = time.monotonic()
        long = asyncio.create_task(stream(port, {"prompt": ids(draw, LONG), "max_tokens": 1, "ignore_eos": True, **GREEDY}))
        await asyncio.sleep(0.5)
        question = await stream(port, {"prompt": ids(draw, QUESTION), "max_tokens": 8, "ignore_eos": True, **GREEDY})
        first = (await long).chunks[0]
        for answer in running.values():  # a gap that is not over when the prompt is
            answer.chunks.append(max(first, answer.chunks[-1]))
        check()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    pairs = [pair for answer in running.values() for pair in zip(answer.chunks, answer.chunks[1:])]
    before = statistics.median(b - a for a, b in pairs if a > quiet and b < begun)
    during = [(a, b) for a, b in pairs if b > begun and a < first]
    return {"gap_before": before, "longest_gap": max(b - a for a, b in during), "gap_ratio": max(b - a for a, b in during) / before,
            "long_seconds": first - begun, "question_ttft": question.first,
            "gaps": sorted((b - begun, b - a) for a, b in pairs if b > begun - 2 and a < first)}


async def turns(port: int, engine: str, rate: float) -> Sample:
    """A second turn behind a first one of 4,000 tokens, and 8 users behind one text of 2,000."""
    await warm_up(port)
    draw, pairs = random.Random(9), []

    async def one(prompt: list[int]) -> Answer:
        return await stream(port, {"prompt": prompt, "max_tokens": 16, "ignore_eos": True, **GREEDY})
    for _ in range(3):
        talk = ids(draw, LONG)
        cold = await one(talk)
        pairs.append((cold.first, (await one(talk + ids(draw, 64))).first))
    system = ids(draw, SYSTEM)
    cold = await one(system + ids(draw, QUESTION))
    others = await asyncio.gather(*(one(system + ids(draw, QUESTION)) for _ in range(7)))
    return {"cold": statistics.median(a for a, _ in pairs), "second_turn": statistics.median(b for _, b in pairs),
            "second_turn_ratio": statistics.median(b / a for a, b in pairs), "system_cold": cold.first,
            "system_warm": statistics.median(answer.first for answer in others), "system_ratio": statistics.median(answer.first for answer in others) / cold.first}


async def schema(port: int, engine: str, rate: float) -> Sample:
    """Decoding, free and held to a form, by turns on one server."""
    form: Body = {"json_schema": SCHEMA} if engine == "llama-server" else {
        "response_format": {"type": "json_schema", "json_schema": {"name": "people", "schema": SCHEMA, "strict": True}}}
    await warm_up(port, **form)
    free: list[Answer] = []
    held: list[Answer] = []
    for turn in range(4):
        for answers, more in ((free, {"ignore_eos": True}), (held, form))[::-1 if turn % 2 else 1]:
            seed = 30 + 2 * turn + (answers is held)  # no prompt is known from the other side's turn
            asked = [{key: value for key, value in body.items() if key != "ignore_eos"} | more for body in bodies(8, seed, GREEDY)]
            answers += check_lengths(await closed_loop(8, asked, lambda body: stream(port, body)))

    def speed(answers: list[Answer]) -> float:
        return 1 / statistics.median(a.per_token for a in answers)
    return {"free_per_second": speed(free), "held_per_second": speed(held), "held_ratio": speed(held) / speed(free)}


CASES = [
    Case("1 client", 1, closed(1, GREEDY), engines=True),
    Case("8 clients", 8, closed(8, GREEDY), engines=True),
    Case("32 clients", 32, closed(32, GREEDY), engines=True),
    Case("8 clients, sampled", 8, closed(8, SAMPLED)),
    Case("32 clients, sampled", 32, closed(32, SAMPLED)),
    Case("8 clients, a processor busy", 8, closed(8, GREEDY), busy=True),
    Case("open loop", 32, open_at, needs_rate=True),
    Case("a long prompt beside 8 streams", 10, stall, tokens=LONG + 512),
    Case("warm prefixes", 8, turns, tokens=LONG + 512),
    Case("a schema", 8, schema),
]
