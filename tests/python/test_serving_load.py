"""Many clients of `tessera serve` at once: what each is answered alone, byte for byte; and what the server takes of the machine meanwhile."""
import json
import random
import re
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import Server
from serving_probes import Canary, Stream, chat, cpu_ticks, descriptors, idle, metrics, resident, same

MB = 1 << 20
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["name", "age"]}


def script(seed, count):
    """(path, body, whether its client leaves) of each kind of request."""
    r = random.Random(seed)
    stems = ["".join(r.choice("abcdefgh ") for _ in range(90)) for _ in range(3)]
    words = lambda: r.choice(stems)[:r.choice([0, 40, 64, 90])] + "".join(r.choice("abcdefgh ") for _ in range(r.randrange(1, 30)))
    kinds = [{"temperature": 0}, {"temperature": 0.9, "top_k": 20}, {"temperature": 1.3, "top_p": 0.9}, {"temperature": 0.7, "min_p": 0.02, "top_p": 0.95}]
    for number in range(count):
        tokens = r.randrange(1, 40)
        body = {**r.choice(kinds), "seed": r.randrange(1 << 40), "max_tokens": tokens, "cache_salt": r.choice(["", "", "salt"]), "priority": r.randrange(3), "ignore_eos": r.random() < 0.3}
        body |= {"n": 3} if r.random() < 0.2 else {}
        body |= {"stop": [r.choice("abcdefgh"), "xyz"]} if r.random() < 0.2 else {}
        body |= {"logit_bias": {"20": 2.5, "30": -100}} if r.random() < 0.2 else {}
        body |= {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.25} if r.random() < 0.2 else {}
        body |= {"stream": True, "stream_options": {"include_usage": True}} if r.random() < 0.5 else {}
        body |= {"prompt_logprobs": 1} if r.random() < 0.1 and "stream" not in body else {}
        route = r.randrange(6)
        if route < 2:
            body |= {"prompt": [words(), words()] if r.random() < 0.2 else words()} | ({"logprobs": 3} if r.random() < 0.3 else {}) | ({"echo": True} if r.random() < 0.2 else {})
            path = "/v1/completions"
        else:
            body |= chat(words()) | ({"logprobs": True, "top_logprobs": 2} if r.random() < 0.3 else {})
            path = "/v1/chat/completions"
            form = r.randrange(5)
            body |= {"ignore_eos": False} if form < 2 else {}  # behind a form's end nothing may come
            if form == 0:
                body |= {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}}
            elif form == 1:
                body |= {"structured_outputs": {"regex": "[a-f]{2,9}( [0-9]{3})?"}}
        if route == 5:
            path = "/v1/messages"
            body = chat(words(), max_tokens=tokens, temperature=0.8, seed=number, stream=r.random() < 0.5)
        yield path, body, r.random() < 0.25


def by_choice(events):
    """What a stream says of each choice: which of several has the next token may depend on who else is there."""
    choices = {}
    *events, done, end = events.split(b"\n\n")
    for event in events:
        told = json.loads(event.removeprefix(b"data: "))
        for choice in told.pop("choices") or [{"index": -1}]:
            said = choices.setdefault(choice.pop("index"), {"text": "", "rest": []})
            said["text"] += choice.pop("text", "") + choice.get("delta", {}).pop("content", "")
            choice.get("delta", {}).pop("role", "")
            said["rest"] += [[name, value] for name, value in choice.items() if value] + [[name, value] for name, value in told.items() if name == "usage" and value]
    return choices, done, end


def bytes_of(server, path, body):
    answer = server.ask("POST", path, body)
    assert answer.status == 200 and b'"error"' not in answer.body, (body, answer.body[:1000])
    several = body.get("n", 1) > 1 or isinstance(body.get("prompt"), list)
    return by_choice(same(answer.body)) if body.get("stream") and several else same(answer.body)


def run_script(tessera, checkpoint, seed, count, *flags):
    requests = list(script(seed, count))
    with Server(tessera, checkpoint, "--served-model-name", "m", "-t", 1) as server:
        alone = [bytes_of(server, path, body) for path, body, _ in requests]
        assert [bytes_of(server, path, body) for path, body, _ in requests[:20]] == alone[:20], "again, with what the cache has kept"
    with Server(tessera, checkpoint, "--served-model-name", "m", *flags) as server:
        canary = Canary(server)
        opened = descriptors(server.process.pid)
        order = list(range(count))
        random.Random(seed + 1).shuffle(order)

        def ask(number):
            path, body, leaves = requests[number]
            if leaves:
                with Stream(server, {key: value for key, value in body.items() if key not in ("stream", "stream_options")}, path, stream=body.get("stream", False)) as asked:
                    if body.get("stream") and number % 2:
                        assert asked.event()
                    else:
                        time.sleep(random.random() * 0.05)
                    asked.leave(reset=number % 3 == 0)
                return None
            return bytes_of(server, path, body)
        with ThreadPoolExecutor(32) as pool:
            given = dict(zip(order, pool.map(ask, order)))
        for number, (path, body, leaves) in enumerate(requests):
            assert leaves or given[number] == alone[number], (number, path, body)
        canary.lives()
        after = idle(server)
        ended = {reason: after[f'request_success_total{{finished_reason="{reason}"}}'] for reason in ("stop", "length", "abort", "error")}
        stayed = sum(not leaves for *_, leaves in requests) + 2
        assert ended["error"] == 0 and ended["abort"] == after["requests_cancelled_total"] and stayed <= ended["stop"] + ended["length"]
        server.until(lambda: descriptors(server.process.pid) <= opened)
        return after


@pytest.mark.parametrize("flags", [["--max-num-seqs", 8], ["--no-prefix-cache", "--max-num-batched-tokens", 7], []], ids=lambda flags: " ".join(map(str, flags)) or "plain")
@pytest.mark.parametrize("name", ["gemma", "phi"])
def test_200_requests_of_32_clients_are_answered_as_if_they_were_alone(tessera, bases, name, flags, measured):
    after = run_script(tessera, bases[name], 11, 200, *flags)
    measured(f"{name}: {after['prefix_cache_hits_total']:.0f} of {after['prefix_cache_queries_total']:.0f} tokens of prompts found in the cache")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_2000_requests_are_answered_as_if_they_were_alone(tessera, bases, seed):
    for name in "gemma", "phi":
        run_script(tessera, bases[name], 100 + seed, 200, "--max-num-seqs", 1 + 3 * seed)


def test_what_a_server_takes_of_the_machine(tessera, bases, measured):
    with Server(tessera, bases["gemma"], "--max-num-seqs", 8) as server:
        pid = server.process.pid
        canary = Canary(server)
        opened, began = descriptors(pid), resident(pid)
        assert began < 150 * MB, "weights and cache are small here"
        with ThreadPoolExecutor(16) as pool:
            for _ in range(4):
                list(pool.map(lambda i: server.ask("POST", "/v1/chat/completions", chat(f"ab {i}", max_tokens=30, n=2, logprobs=True, stream=i % 2 == 0)), range(100)))
        assert resident(pid) < 150 * MB
        idle(server)
        server.until(lambda: descriptors(pid) <= opened)
        before = cpu_ticks(pid)
        time.sleep(5)
        spent = cpu_ticks(pid) - before
        assert spent <= 2, "it does nothing where there is nothing to do"
        many = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(400)]
        for connection in many:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        held = resident(pid) - began
        assert descriptors(pid) >= opened + 390
        canary.lives()
        for connection in many:
            connection.close()
        server.until(lambda: descriptors(pid) <= opened)
        measured(f"RSS {began / MB:.0f} MB, {resident(pid) / MB:.0f} MB behind 400 requests and 400 connections, of which {held / 400 / 1024:.0f} KB each; {spent} ticks in 5 s idle")
        assert held < 150 * MB + 400 * 64 * 1024


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_idle_connections_hinder_nobody(tessera, bases, count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 200:
        pytest.skip(f"this machine gives a process {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 200), hard))
    try:
        with Server(tessera, bases["gemma"]) as server:
            canary = Canary(server)
            opened = descriptors(server.process.pid)
            many = []
            for number in range(count):
                many.append(socket.create_connection(("127.0.0.1", server.port)))
                if number % 3:
                    many[-1].sendall(b"GET /health HTTP/1.1\r\nHo"[:number % 20])
            server.until(lambda: descriptors(server.process.pid) >= opened + count - 10)
            canary.lives()
            before = cpu_ticks(server.process.pid)
            time.sleep(2)
            assert cpu_ticks(server.process.pid) - before <= 20, "it waits for them"
            for connection in many:
                connection.close()
            canary.lives()
            server.until(lambda: descriptors(server.process.pid) <= opened)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_short_requests_are_not_behind_long_ones(tessera, bases):
    """Both end; the short ones begin while the long prompts are computed."""
    with Server(tessera, bases["phi"], "--max-num-seqs", 4, "--max-num-batched-tokens", 8) as server:
        done, lock = [], threading.Lock()

        def ask(number):
            answer = server.ask("POST", "/v1/completions", {"prompt": [10 + number] * (400 if number < 8 else 3), "max_tokens": 60 if number < 8 else 1, "ignore_eos": True})
            with lock:
                done.append(number)
            return answer.status
        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(ask, range(16))) == {200}
        assert sorted(done) == list(range(16)) and metrics(server)["num_preemptions_total"] >= 0
