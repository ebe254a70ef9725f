"""tessera serve in the Python package's command: on the card's place-holder what requests are given, how all ends, and a card that is lost while it
serves; on the mock card that requests pass TTNN's checks with the programs that there are."""
import http.client
import itertools
import json
import os
import shlex
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import mock_card
import pytest
from serving import Server
from test_batch import DECIDED, STEM
from test_lost_card import TOKENIZER
from test_real_models import ROOT, folder_of
from tiny_models import folders

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ENDLESS = {"ignore_eos": True, "stream": True, "temperature": 0}


@pytest.fixture
def serve(core, tmp_path):
    """Starts a server on the card: its TTNN is a module of this folder."""
    script = tmp_path / "tessera"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tessera "$@"\n')
    script.chmod(0o755)
    program = SimpleNamespace(path=script, folder=tmp_path, numbers=itertools.count())
    paths = (Path(os.environ["TESSERA_BUILD"]) / "python", "tests/n150", "tests/python")

    def go(module, model, *flags, wait_until_ready=True, **environment):
        return Server(program, model, "--device", "n150", "--weights", "bfloat16", *flags, wait_until_ready=wait_until_ready,
                      environment={"TESSERA_TTNN_MODULE": module, "TESSERA_PACKED_CACHE": "0",
                                   "PYTHONPATH": os.pathsep.join(str(ROOT / path) for path in paths), **environment})

    return go


@pytest.fixture
def tiny(tmp_path):
    checkpoint = shutil.copytree(folders() / "small-gemma3", tmp_path / "tiny")
    (checkpoint / "tokenizer.json").write_text(json.dumps({**TOKENIZER, "decoder": {"type": "Fuse"}}))  # none would part tokens by spaces
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": 1}))
    (checkpoint / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    return checkpoint


class Stream:
    """A request whose events come one by one; its first has come."""

    def __init__(self, server, path, body):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        self.connection.request("POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()
        self.first = self.next()

    def next(self):
        """None: the end."""
        while line := self.response.readline():
            if line.startswith(b"data: "):
                return line[6:].strip().decode()
        return None

    def rest(self):
        return [self.first, *iter(self.next, None)]

    def close(self):
        self.response.close()
        self.connection.close()


def metric(server, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in server.ask("GET", "/metrics").body.decode().splitlines() if line.startswith(f"tessera:{name}{{"))


def tokens(choice):
    """(token, by how much it is the most probable) of a choice of either route."""
    logprobs = choice["logprobs"]
    if "content" not in logprobs:
        return [(token, top) for token, top in zip(logprobs["tokens"], map(margin, map(dict.values, logprobs["top_logprobs"])))]
    return [(entry["token"], margin(top["logprob"] for top in entry["top_logprobs"])) for entry in logprobs["content"]]


def margin(logprobs):
    first, second = sorted(logprobs, reverse=True)[:2]
    return first - second


def asked(server, path, body):
    """(tokens, cached tokens of the prompt)"""
    if not body.get("stream"):
        answer = server.post(path, body)
        return tokens(answer["choices"][0]), answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    *events, last, done = Stream(server, path, body).rest()
    assert done == "[DONE]"
    choices = [event["choices"][0] for event in map(json.loads, events)]
    return sum((tokens(choice) for choice in choices if choice.get("logprobs")), []), json.loads(last)["usage"]["prompt_tokens_details"]["cached_tokens"]


def bodies():
    greedy = {"temperature": 0}
    streamed = {**greedy, "stream": True, "stream_options": {"include_usage": True}}
    completion, chat = {"max_tokens": 6, "logprobs": 2}, {"max_completion_tokens": 6, "logprobs": True, "top_logprobs": 2}
    question = [{"role": "user", "content": "What is the capital of France?"}]
    yield COMPLETIONS, {**completion, **greedy, "prompt": STEM + "One day"}
    yield COMPLETIONS, {**completion, **streamed, "prompt": "2, 4, 6, 8,"}
    yield CHAT, {**chat, **greedy, "messages": question}
    yield CHAT, {**chat, **streamed, "messages": [{"role": "user", "content": "Count from one to five."}]}
    yield COMPLETIONS, {**completion, **streamed, "prompt": STEM + "His mother"}


def test_requests_side_by_side_are_given_what_each_is_given_alone(serve):
    asks = list(bodies())
    with serve("numpy_ttnn", folder_of("phi3-smollm2"), "-c", 512, "--max-num-seqs", 4) as server:
        alone = [asked(server, path, {**body, "cache_salt": f"of its own {i}"}) for i, (path, body) in enumerate(asks)]
        with ThreadPoolExecutor(len(asks)) as threads:
            together = list(threads.map(lambda ask: asked(server, *ask), asks))
        again, cached = asked(server, *asks[0])
    compared = 0
    for (lone, _), (beside, _) in [*zip(alone, together), (alone[0], (again, cached))]:
        assert len(lone) >= 1 and len(beside) >= 1
        for (own, first), (other, _) in zip(lone, beside):
            if own != other:
                assert first < DECIDED, (lone, beside)
                break
            compared += first >= DECIDED
    assert compared > 15  # decided choices that are the same
    assert [cached for _, cached in alone] == [0] * len(asks) and cached >= 64


def helper_of(server):
    """The process that compiles forms."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    (helper,) = [pid for pid in children if "grammar-worker" in Path(f"/proc/{pid}/cmdline").read_text()]
    return Path(f"/proc/{helper}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_leaves_is_cancelled_and_what_runs_ends_before_the_server(serve, tiny, number):
    with serve("numpy_ttnn", tiny, "-c", 1024, "--max-num-seqs", 2, "--drain-timeout", 120) as server:
        left = Stream(server, COMPLETIONS, {**ENDLESS, "prompt": "ab", "max_tokens": 1000})
        left.close()
        server.until(lambda: metric(server, "requests_cancelled_total") == 1 and metric(server, "num_requests_running") == 0)
        assert metric(server, "generation_tokens_total") < 1000

        form = {"prompt": "ab", "max_tokens": 8, "structured_outputs": {"choice": ["cab", "def"]}}
        assert server.post(COMPLETIONS, form)["choices"][0]["text"] in ("cab", "def")
        helper = helper_of(server)
        mapped = (helper / "maps").read_text()
        assert os.getpgid(int(helper.name)) != os.getpgid(server.process.pid), "a Ctrl-C at the terminal would reach it"
        assert "tessera/_core" in mapped and "numpy" not in mapped and "ttnn" not in mapped

        stream = Stream(server, COMPLETIONS, {**ENDLESS, "prompt": "cd", "max_tokens": 300})
        server.process.send_signal(number)
        server.until(lambda: server.ask("GET", "/ready").status == 503)
        late = server.ask("POST", COMPLETIONS, {"prompt": "ab", "max_tokens": 1})
        assert late.status == 503 and int(late.headers["Retry-After"]) >= 1
        *events, done = stream.rest()
        assert done == "[DONE]" and json.loads(events[-1])["choices"][0]["finish_reason"] == "length"
        assert server.process.wait(60) == 0, server.log()
        server.ended = True


@pytest.mark.parametrize("how", ["hangs", "times out"])
def test_when_the_card_does_not_answer_everybody_is_told_and_the_server_ends(serve, tiny, tmp_path, how):
    begins = tmp_path / "begins"
    with serve("lost_ttnn", tiny, "-c", 1024, "--max-num-seqs", 1, "--device-timeout", 2, "--trace", 0,
               TESSERA_TEST_FAULT=f"linear {how}", TESSERA_TEST_FAULT_BEGINS=str(begins)) as server, ThreadPoolExecutor(1) as thread:
        running = Stream(server, CHAT, {**ENDLESS, "messages": [{"role": "user", "content": "ab"}], "max_completion_tokens": 1000})
        waiting = thread.submit(server.ask, "POST", COMPLETIONS, {"prompt": "cd", "max_tokens": 5})
        server.until(lambda: metric(server, "num_requests_waiting") == 1)
        begins.touch()
        server.until(lambda: server.ask("GET", "/health").status == 503)
        *events, last = running.rest()
        told = json.loads(last)["error"]
        assert "[DONE]" not in events and told["type"] == "server_error" and "the device does not answer any more" in told["message"]
        assert waiting.result().status == 503 and waiting.result().json["error"]["message"] == told["message"]
        assert server.process.wait(60) == 1
        server.ended = True
        log = server.log()
        assert "the card did not answer: linear" in log and "Reset it with tt-smi -r" in log
        assert "is called on a lost card" not in log and "TTNN's end waits for the card" not in log


def test_a_card_that_does_not_answer_while_the_model_is_loaded_ends_the_server_as_other_commands(serve, tiny):
    with serve("lost_ttnn", tiny, "--device-timeout", 1, wait_until_ready=False, TESSERA_TEST_FAULT="to_device hangs") as server:
        assert server.process.wait(60) == 5
        server.ended = True


def test_requests_pass_ttnn_s_checks_and_need_no_programs_of_their_own(serve, ttnn, tiny, tmp_path):
    counts = tmp_path / "counts"
    card = tmp_path / "card"
    card.mkdir()
    with serve("counted_ttnn", tiny, "-c", 1024, "--max-num-seqs", 4, TESSERA_TEST_COUNTS=str(counts), **mock_card.environment(card)) as server:
        def ask(prompt, n):
            answer = server.post(COMPLETIONS, {"prompt": prompt, "max_tokens": 6, "ignore_eos": True, "logprobs": 1, "n": n})
            assert answer["usage"]["completion_tokens"] == 6 * n
            programs, *threads = map(int, counts.read_text().split())
            assert threads == [server.process.pid], "the main thread alone calls TTNN"
            return programs

        alone, known = ask("ab", 1), ask("cd", 4)  # samples that decode side by side
        assert 0 < alone < known
        assert [ask(prompt, n) for n in (1, 4) for prompt in ("efg", "xy", "a long prompt " * 3)] == [known] * 6
        log = server.stop(signal=signal.SIGINT)  # TTNN leaves the handlers as they are
    assert "refuses" not in log
