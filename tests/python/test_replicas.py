"""Two replicas of `tessera serve` behind HAProxy, with deploy/haproxy.cfg; scripts/replicas_vllm_router.py runs these tests behind vllm-router.

What is lost when one dies or drains, which replica has a conversation's turns, and what a client sees of an answer that is cut.
"""
import contextlib
import http.client
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import scripted_model
from replicas import ROUTER, Front, complaint, config, wait_for
from serving import Server
from serving_probes import Stream, chat, metrics, same

pytestmark = pytest.mark.slow

ENDED = "e2e_request_latency_seconds_count"
COUNT = 60


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    return scripted_model.make(tmp_path_factory.mktemp("scripted") / "scripted", {"1": ["It ", "is one."], "9": ["on and ", "on, ", ...]})


@contextlib.contextmanager
def replicated(tessera, model, *flags):
    """(front, replicas): those that still run are ended in order."""
    with contextlib.ExitStack() as stack:
        replicas = [stack.enter_context(Server(tessera, model, "--served-model-name", "m", *flags)) for _ in range(2)]
        yield stack.enter_context(Front(tessera.folder, replicas)), replicas


def bodies():
    """Of requests that differ, every second one a stream, every third one beyond HAProxy's own buffer size."""
    for number in range(COUNT):
        stream = {"stream": True, "stream_options": {"include_usage": True}} if number % 2 else {}
        yield chat(f"{number} of {'abcdefgh'[number % 8]}", model="m", max_tokens=60, temperature=0.8, seed=number, ignore_eos=True,
                   metadata={"a": "x" * (0 if number % 3 else 300_000)}, **stream)


def alone(tessera, model):
    with Server(tessera, model, "--served-model-name", "m") as server:
        return [same(server.ask("POST", "/v1/chat/completions", body).body) for body in bodies()]


def kill(server):
    server.ended = True
    server.process.kill()
    server.process.wait()


def ask_all(pool, front):
    return [pool.submit(front.ask, "POST", "/v1/chat/completions", body) for body in bodies()]


def held(asked):
    """Nothing may be lost: of each the status and bytes."""
    return [(answer.status, same(answer.body)) for answer in (one.result() for one in asked)]


def test_a_replica_killed_before_its_first_tokens_loses_nothing(tessera, bases, measured):
    expected = alone(tessera, bases["gemma"])
    with replicated(tessera, bases["gemma"]) as (front, (one, other)), ThreadPoolExecutor(COUNT) as pool:
        one.process.send_signal(signal.SIGSTOP)  # so that none of its answers has begun
        asked = ask_all(pool, front)
        served = lambda: sum(future.done() for future in asked)
        wait_for(lambda: served() and served() == metrics(other)[ENDED])
        last = -1
        while served() != last:  # all that the other one has are answered
            last = served()
            wait_for(lambda: metrics(other)["num_requests_running"] == metrics(other)["num_requests_waiting"] == 0)
        waited = COUNT - served()
        assert waited > 0, "the stopped one got nothing"
        kill(one)
        assert held(asked) == [(200, bytes) for bytes in expected]
    measured(f"killed with {waited} of {COUNT} requests: all answered, as by a server alone")


def drains(server):
    try:
        return server.ask("GET", "/ready").status == 503
    except ConnectionError:
        return True  # it has already done so


def test_a_replica_that_drains_loses_nothing(tessera, bases, measured):
    expected = alone(tessera, bases["gemma"])
    with replicated(tessera, bases["gemma"], "--max-num-seqs", 2, "--drain-timeout", 600) as (front, (one, other)), ThreadPoolExecutor(COUNT) as pool:
        asked = ask_all(pool, front)
        wait_for(lambda: metrics(one)[ENDED] and metrics(one)["num_requests_waiting"])
        one.ended = True
        one.process.send_signal(signal.SIGTERM)
        wait_for(lambda: drains(one))
        later = ask_all(pool, front)
        assert held(asked) == held(later) == [(200, bytes) for bytes in expected]
        assert one.process.wait(120) == 0
        of_one = sum("/v1/chat/completions" in line and " 200 " in line for line in one.log().splitlines())
        assert 0 < of_one <= COUNT, "what came later went to the other one"
    measured(f"drained: all of {2 * COUNT} answered, {of_one} by the one that ended")


@pytest.mark.skipif(bool(ROUTER), reason="vllm-router's own bounds")
def test_many_behind_one_beginning_spread_out(tessera, scripted):
    with replicated(tessera, scripted) as (front, replicas), contextlib.ExitStack() as streams:
        for _ in range(8):
            assert streams.enter_context(Stream(front, chat("9", model="m", max_tokens=60000), receive_buffer=4096)).event()
        assert min(metrics(replica)["num_requests_running"] for replica in replicas) >= 2


def where_it_runs(replicas):
    return wait_for(lambda: [replica for replica in replicas if metrics(replica)["num_requests_running"]])[0]


def all_refused(replica):
    return sum(count for name, count in metrics(replica).items() if name.startswith("requests_refused_total"))


def test_a_replica_that_drains_ends_its_streams_and_is_asked_nothing(tessera, scripted):
    with replicated(tessera, scripted, "--drain-timeout", 600) as (front, replicas):
        with Stream(front, chat("9", model="m", max_tokens=30000), receive_buffer=65536) as stream:
            running = where_it_runs(replicas)
            assert stream.event()
            with Stream(running, chat("9", model="m", max_tokens=60000), receive_buffer=4096) as holding:
                assert holding.event()
                running.ended = True
                running.process.send_signal(signal.SIGTERM)
                wait_for(lambda: drains(running))
                time.sleep(2)  # until the front does not count on it any more
                refused = all_refused(running)
                for number in range(8):
                    front.post("/v1/chat/completions", chat(f"1 of {number}", model="m"))
                assert all_refused(running) == refused
            assert stream.response.read().endswith(b"data: [DONE]\n\n")
        assert running.process.wait(120) == 0


def test_where_all_drain_the_answer_is_503(tessera, scripted):
    with replicated(tessera, scripted, "--drain-timeout", 600) as (front, replicas):
        with contextlib.ExitStack() as streams:
            for replica in replicas:
                assert streams.enter_context(Stream(replica, chat("9", max_tokens=60000))).event()
                replica.ended = True
                replica.process.send_signal(signal.SIGTERM)
                wait_for(lambda: replica.ask("GET", "/ready").status == 503)
            assert front.ask("POST", "/v1/chat/completions", chat("1", model="m")).status == 503
        assert [replica.process.wait(120) for replica in replicas] == [0, 0]


def answered(front, replicas, path, body, headers=None):
    """(what is said, which replica said it)."""
    time.sleep(0.05)  # the front counts the last request until a moment behind its answer
    said = front.post(path, body, headers=headers)
    return said, wait_for(lambda: [place for place, replica in enumerate(replicas) if said["id"] in replica.log()])[0]


def turns(front, replicas, talk):
    """Which replica has answered each."""
    system = [{"role": "system", "content": "be brief. " * 3}] if talk % 3 else []
    messages = [*system, {"role": "user", "content": f"{'hgfedcba'[talk % 8] * 12} {talk}, and what of {'abcdefgh'[talk % 8] * 20}?"}]
    homes = []
    for turn in range(4):
        body = {"model": "m", "messages": messages, "max_tokens": 5, "ignore_eos": True, "seed": talk}
        said, home = answered(front, replicas, "/v1/chat/completions", body)
        messages += [said["choices"][0]["message"], {"role": "user", "content": f"go on, {turn}"}]
        homes.append(home)
    return homes


def test_a_conversation_stays_on_its_replica(tessera, bases):
    with replicated(tessera, bases["gemma"]) as (front, replicas), ThreadPoolExecutor(12 if ROUTER else 1) as pool:  # it spreads what comes at once
        homes = list(pool.map(lambda talk: turns(front, replicas, talk), range(12)))
        assert all(len(set(of_talk)) == 1 for of_talk in homes), homes
        assert {of_talk[0] for of_talk in homes} == {0, 1}, "one has them all"
        assert ROUTER or {homes[talk][0] for talk in range(12) if talk % 3} == {0, 1}, "one has all behind one system's message"
        assert sum(metrics(replica)["prefix_cache_hits_total"] for replica in replicas) > 0


@pytest.mark.skipif(bool(ROUTER), reason="HAProxy's own keys")
@pytest.mark.parametrize("named", ["x-session-id", "prompt_cache_key", "parts", "/v1/messages", "/v1/completions"])
def test_what_holds_requests_together(tessera, bases, named):
    with replicated(tessera, bases["gemma"]) as (front, replicas):
        homes = []
        for talk in range(10):
            of_talk = set()
            for turn in range(3):
                path, body, headers = "/v1/chat/completions", chat(f"{turn} by {talk}", max_tokens=2), {}
                if named == "x-session-id":
                    headers = {named: f"talk {talk}"}
                elif named == "prompt_cache_key":
                    body[named] = f"talk {talk}"
                elif named == "parts":
                    body = {"max_tokens": 2 + turn, "messages": [{"role": role, "content": [{"type": "text", "text": text}]}
                                                                 for role, text in (("system", "be brief"), ("user", f"talk {talk}"))]}
                elif named == "/v1/messages":
                    path, body = named, {"max_tokens": 2 + turn, "messages": [{"role": "user", "content": [{"type": "text", "text": f"talk {talk}"}]}]}
                else:
                    path, body = named, {"user": f"talk {talk}, " * 80, "prompt": f"turn {turn}", "max_tokens": 2}
                of_talk.add(answered(front, replicas, path, body, headers)[1])
            assert len(of_talk) == 1, talk
            homes += of_talk
        assert set(homes) == {0, 1}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_a_stream_that_a_kill_cuts_is_an_error(tessera, scripted, path):
    body = {"model": "m", **({"input": "9", "max_output_tokens": 60000} if path == "/v1/responses" else chat("9", max_tokens=60000))}
    with replicated(tessera, scripted) as (front, replicas), Stream(front, body, path) as running:
        assert running.event()
        kill(where_it_runs(replicas))
        said = b""
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            while part := running.response.read1():
                said += part
        assert not any(end in said for end in (b"[DONE]", b"message_stop", b"response.completed"))
        assert front.post("/v1/chat/completions", chat("1", model="m"))["choices"][0]["message"]["content"] == "It is one.", "the other one goes on"


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_is_gone_for_the_replica_too(tessera, scripted, stream):
    with replicated(tessera, scripted) as (front, replicas):
        with Stream(front, chat("9", model="m", max_tokens=60000), stream=stream) as asked:
            running = where_it_runs(replicas)
            if stream:
                assert asked.event()
        wait_for(lambda: metrics(running)["requests_cancelled_total"] == 1)


def test_errors_keys_and_large_bodies_pass_through(tessera, scripted):
    with replicated(tessera, scripted) as (front, (one, _)):
        bad = chat("1", model="m", max_tokens=100_000_000)
        theirs, ours = front.ask("POST", "/v1/chat/completions", bad), one.ask("POST", "/v1/chat/completions", bad)
        assert (theirs.status, theirs.json) == (ours.status, ours.json) and ours.status == 400
        for size in 300_000, 3_000_000:  # beside HAProxy's buffer and above it
            said = front.post("/v1/chat/completions", chat("1", model="m", metadata={"a": "x" * size}))
            assert said["choices"][0]["message"]["content"] == "It is one."
        if ROUTER:
            return  # it asks replicas itself, without a key
        assert front.ask("GET", "/metrics").status == 404
    keys = {"TESSERA_API_KEY": "secret"}
    with Server(tessera, scripted, environment=keys) as one, Server(tessera, scripted, environment=keys) as other:
        with Front(tessera.folder, [one, other], "secret") as front:
            assert front.ask("POST", "/v1/chat/completions", chat("1")).status == 401
            assert front.post("/v1/chat/completions", chat("1"), headers={"Authorization": "Bearer secret"})["choices"]


@pytest.mark.skipif(bool(ROUTER), reason="HAProxy's own file")
def test_the_lines_that_are_commented_are_valid_too(tmp_path):
    text = config(8000, [8001, 8002])
    assert complaint(tmp_path, text) == ""
    with_limit = re.sub(r"^( *)# (stick-table|http-request) ", r"\1\2 ", text, flags=re.M)
    assert with_limit.count("sc_http_req_rate") == text.count("sc_http_req_rate") and with_limit != text
    assert complaint(tmp_path, with_limit) == ""
    assert re.search(r"^ +# bind :443 ssl crt ", text, re.M), "it needs a certificate: not tried"
