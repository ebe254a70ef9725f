"""Clients of `tessera serve` that leave, stop reading or have no more to say, in each state of their request: what /metrics and a canary tell."""
import contextlib
import http.client
import re
import socket

import pytest
import scripted_model
from serving import Server
from serving_probes import Canary, Stream, chat, descriptors, idle, metrics

ENDLESS = chat("9", max_tokens=60000)
CANCELLED = "requests_cancelled_total"
SCHEMA = {"type": "object", "properties": {f"name{i}": {"type": "string", "pattern": f"^[a-z]{{1,{i % 90 + 1}}}$"} for i in range(250)}}  # takes a while


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    return scripted_model.make(tmp_path_factory.mktemp("scripted") / "scripted", {"1": ["It ", "is one."], "9": ["on and ", "on, ", ...]})


@pytest.fixture(scope="module")
def server(tessera, scripted):
    """Two at a time, eight tokens a step."""
    with Server(tessera, scripted, "--max-num-seqs", 2, "--max-num-batched-tokens", 8, "--no-prefix-cache") as server:
        yield server


@pytest.fixture
def canary(server):
    canary = Canary(server, chat("1"))
    opened = descriptors(server.process.pid)
    yield canary
    canary.lives()
    server.until(lambda: descriptors(server.process.pid) <= opened)


def gone(server, before, count=1):
    """Nothing runs any more, and so many requests were counted as cancelled."""
    server.until(lambda: metrics(server)[CANCELLED] >= before[CANCELLED] + count)
    after = idle(server)
    assert after[CANCELLED] == before[CANCELLED] + count
    aborted = 'request_success_total{finished_reason="abort"}'
    assert after[aborted] == before[aborted] + count
    return after


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_in_an_answer(server, canary, stream, reset):
    before = idle(server)
    with Stream(server, {**ENDLESS, "n": 2}, stream=stream) as asked:
        server.until(lambda: metrics(server)["generation_tokens_total"] > before["generation_tokens_total"] + 4)
        if stream:
            assert asked.event()
        asked.leave(reset)
    after = gone(server, before)
    assert after["generation_tokens_total"] < before["generation_tokens_total"] + 60000


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_while_its_prompt_is_computed(server, canary, stream, reset):
    before = idle(server)
    with Stream(server, {"prompt": [10] * 60000, "max_tokens": 4}, "/v1/completions", stream=stream) as asked:
        server.until(lambda: metrics(server)["num_requests_running"] == 1)
        asked.leave(reset)
        after = gone(server, before)
    assert after["generation_tokens_total"] == before["generation_tokens_total"], "no token of it came"
    assert after["time_to_first_token_seconds_count"] == before["time_to_first_token_seconds_count"]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_in_the_queue(server, canary, stream, reset):
    before = idle(server)
    with Stream(server, {**ENDLESS, "n": 2}) as running:
        assert running.event()
        with Stream(server, chat("1", n=2), stream=stream) as asked:
            server.until(lambda: metrics(server)["num_requests_waiting"] == 1)
            asked.leave(reset)
        server.until(lambda: metrics(server)["num_requests_waiting"] == 0)
        now = metrics(server)
        assert now["num_requests_running"] == 2 and now[CANCELLED] == before[CANCELLED] + 1
        assert running.event(), "its neighbour goes on"
        running.leave()
    gone(server, before, 2)


@pytest.mark.parametrize("stream", [False, True])
def test_while_its_form_is_compiled(server, canary, stream):
    before = idle(server)
    for number in range(3):
        schema = {**SCHEMA, "title": f"{stream} {number}"}
        with Stream(server, chat("1", response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}), stream=stream) as asked:
            asked.leave()
    gone(server, before, 3)


@pytest.mark.parametrize("path, body", [("/v1/responses", {"input": "9", "max_output_tokens": 60000}), ("/v1/messages", chat("9", max_tokens=60000))])
def test_in_each_api_s_stream(server, canary, path, body):
    before = idle(server)
    with Stream(server, body, path) as asked:
        for _ in range(4):
            assert asked.event()
    gone(server, before)


def test_who_stops_reading_is_cancelled(server, canary):
    before = idle(server)
    with Stream(server, {**ENDLESS, "logprobs": True, "top_logprobs": 10}, receive_buffer=4096) as asked:
        assert asked.event()
        after = gone(server, before)
        slow = 'requests_refused_total{reason="slow_reader"}'
        assert after[slow] == before.get(slow, 0) + 1
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert b"[DONE]" not in asked.events()


@pytest.mark.parametrize("stream", [False, True])
def test_who_has_no_more_to_say_is_answered(server, canary, stream):
    before = idle(server)
    with Stream(server, chat("1"), stream=stream) as asked:
        asked.socket.shutdown(socket.SHUT_WR)
        assert asked.answer() == 200
        said = asked.response.read()
    text = "".join(re.findall(rb'"content": ?"([^"]*)"', said)[i].decode() for i in range(said.count(b'"content"')))
    assert text == "It is one."
    assert idle(server)[CANCELLED] == before[CANCELLED]


def test_many_leave_at_once(server, canary):
    before = idle(server)
    all = [Stream(server, {**ENDLESS, "n": 1 + i % 2}, stream=i % 3 != 0) for i in range(60)]
    server.until(lambda: metrics(server)["num_requests_waiting"] >= 55)
    for asked in all:
        asked.leave(reset=asked.socket.fileno() % 2 == 0)
    after = gone(server, before, 60)
    assert server.log().count(" 499 abort") == after[CANCELLED]
