"""scripts/bench_serving.py and soak_serving.py: how their client reads answers, and what is computed of times. The server and the figures are made up."""
import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from load import plots, report  # noqa: E402
from load.cases import CASES, figures  # noqa: E402
from load.client import Answer, Failed, ask, closed_loop, open_loop, stream  # noqa: E402
from load.servers import Taken  # noqa: E402


def event(text="", finish=None, **more):
    return b"data: " + json.dumps({"choices": [{"index": 0, "text": text, "finish_reason": finish}], **more}).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}}}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def chunked(*parts):
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


def served(said, wanted):
    """What `wanted` makes of a port at which every request is answered with these bytes; and the requests."""
    requests = []

    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
        requests.append((head, await reader.readexactly(length)))
        writer.write(said)
        await writer.drain()
        writer.close()

    async def run():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            return await wanted(server.sockets[0].getsockname()[1])
    return asyncio.run(asyncio.wait_for(run(), 60)), requests


def test_a_stream_is_read_however_it_is_cut_into_chunks():
    whole = event("a") + b": ping\n\n" + event("b") + event("c") + event("", "length") + USAGE + DONE
    for size in 1, 7, 64, len(whole):
        parts = [whole[i:i + size] for i in range(0, len(whole), size)]
        answer, requests = served(b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + chunked(*parts) + b"0\r\n\r\n", lambda port: stream(port, {"prompt": [1], "max_tokens": 3}))
        assert (answer.text, len(answer.chunks), answer.prompt_tokens, answer.tokens, answer.cached) == ("abc", 3, 7, 3, 5)
        assert answer.sent <= answer.chunks[0] <= answer.chunks[-1] <= answer.ended
        ((head, body),) = requests
        assert head.startswith(b"POST /v1/completions HTTP/1.1\r\n")
        assert json.loads(body) == {"prompt": [1], "max_tokens": 3, "stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize("said", [
    b"", b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}", HEAD + chunked(event("a")), HEAD + chunked(event("a")) + b"0\r\n\r\n",
    HEAD + chunked(event("a"), event("", "stop"), DONE[:9]), HEAD + chunked(event("a"), b'data: {"error": {"message": "x"}}\n\n', DONE) + b"0\r\n\r\n",
    HEAD + chunked(USAGE, DONE) + b"0\r\n\r\n", HEAD + b"40\r\ndata: "], ids=range(8))
def test_what_is_no_whole_answer_is_none(said):
    with pytest.raises((Failed, asyncio.IncompleteReadError)):
        served(said, lambda port: stream(port, {}))


def test_a_body_is_read_whole_or_refused():
    good = b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}'
    assert served(good, lambda port: ask(port, {}, "/x"))[0] == {"a": 1}
    assert served(good, lambda port: ask(port, None, "/x"))[1][0][0].startswith(b"GET /x ")
    with pytest.raises(asyncio.IncompleteReadError):
        served(good[:-1], lambda port: ask(port, {}, "/x"))


def test_loops_ask_each_once_and_no_more_at_a_time():
    running, most, asked = 0, 0, []

    async def one(body):
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0.001)
        running -= 1
        asked.append(body["n"])
        return Answer(0.0)
    bodies = [{"n": n} for n in range(20)]
    assert len(asyncio.run(closed_loop(3, bodies, one))) == 20 and sorted(asked) == list(range(20)) and most == 3
    asked.clear()
    assert len(asyncio.run(open_loop([0.0] * 20, bodies, one))) == 20 and sorted(asked) == list(range(20)) and most == 20


def test_figures_are_those_that_vllm_defines():
    one = Answer(10.0, [10.5, 10.6, 10.9], 10.9, prompt_tokens=4, tokens=3)
    other = Answer(10.2, [10.4, 11.2], 11.2, prompt_tokens=6, tokens=2)
    got = figures([one, other])
    assert got["seconds"] == pytest.approx(1.2) and got["requests_per_second"] == pytest.approx(2 / 1.2)
    assert got["new_per_second"] == pytest.approx(5 / 1.2) and got["tokens_per_second"] == pytest.approx(15 / 1.2)
    assert got["ttft"] == pytest.approx([0.5, 0.2]) and got["itl"] == pytest.approx([0.1, 0.3, 0.8])
    assert got["tpot"] == pytest.approx([(0.9 - 0.5) / 2, 0.8])


def test_percentiles_are_numpy_s():
    draw = np.random.default_rng(1)
    for count in 1, 2, 5, 100:
        values = draw.random(count).tolist()
        for percent in 0, 37.5, 50, 99, 100:
            assert report.percentile(values, percent) == pytest.approx(np.percentile(values, percent))


def rates(tokens, engine=None):
    return [{"tokens_per_second": t, "ttft": [0.1, 0.2], "itl": [0.01, 0.02], **({"engine_tokens_per_second": engine} if engine else {})} for t in tokens]


def verdicts(case, samples, kept=None):
    return {line.what: line.met for line in report.lines_of(case, samples, {case: samples, **(kept or {})}) if line.met is not None}


def test_rates_are_held_to_the_engines_and_to_themselves():
    quiet = {"tessera": rates([300, 400], 420), "llama-server": rates([190, 200], 210)}
    assert verdicts("8 clients", quiet) == {"tokens/s, prompts and answers": True, "of the engine alone": True}
    slow = {"tessera": rates([300, 370], 420), "llama-server": rates([190, 200], 210)}
    assert verdicts("8 clients", slow) == {"tokens/s, prompts and answers": False, "of the engine alone": False}
    assert verdicts("1 client", slow) == {}, "nothing is wanted of it"
    for tokens, met in (345, True), (335, False):
        assert verdicts("8 clients, sampled", {"tessera": rates([tokens]), "llama-server": rates([1])}, {"8 clients": quiet}) == {"of greedy's": met}
    for tokens, met in (245, True), (235, False):
        assert verdicts("8 clients, a processor busy", {"tessera": rates([tokens]), "llama-server": rates([1])}, {"8 clients": quiet}) == {"of the quiet machine's": met}


def test_times_are_held_to_half_of_the_peer_s_where_requests_come_by_themselves():
    ours = [{"asked_per_second": 1.0, "ttft": [0.1] * 99 + [0.4], "itl": [0.01] * 100}]
    peer = [{"asked_per_second": 1.0, "ttft": [0.3] * 100, "itl": [0.019] * 100}]
    assert verdicts("open loop", {"tessera": ours, "llama-server": peer}) == {"first token, p99": True, "between tokens, p99": False}


def test_stalls_beginnings_and_forms_have_bounds_of_their_own():
    def stall(ratio):
        return [{"gap_ratio": ratio, "longest_gap": 1.0, "question_ttft": 1.0, "long_seconds": 1.0, "gaps": [(0.0, 0.1)]}]
    assert [verdicts("s", {"tessera": stall(r), "llama-server": stall(19)})["longest gap of a stream, times the median before"] for r in (4, 4.1)] == [True, False]

    def warm(ratio):
        return [{"cold": 1.0, "second_turn": ratio, "second_turn_ratio": ratio, "system_ratio": 0.2}]
    assert [verdicts("w", {"tessera": warm(r), "llama-server": warm(1)})["second turn of cold"] for r in (0.1, 0.11)] == [True, False]

    def held(ratio):
        return [{"held_ratio": ratio, "held_per_second": 1.0}]
    assert [verdicts("f", {"tessera": held(r), "llama-server": held(1)})["of free answers' speed"] for r in (0.97, 0.96)] == [True, False]


def test_a_table_and_its_page(tmp_path):
    samples = {"tessera": rates([400], 420), "llama-server": rates([200], 210)}
    table = report.table(report.lines_of("8 clients", samples, {"8 clients": samples}))
    assert "| 8 clients | tokens/s, prompts and answers | 400 | 200 | 2.00 | 2.00 × (aim: 2 ×): yes |" in table
    assert len({line.count("|") for line in table.splitlines()}) == 1
    page = tmp_path / "plots.html"
    plots.write_page(page, "<t>", "& text", [plots.table(table)], report.charts_of("8 clients", samples))
    text = page.read_text()
    assert text.count("<polyline") == 4 and "&lt;t&gt;" in text and "<td>400</td>" in text
    assert not any(word in text for word in ("http:", "https:", "<script", "src=", "href="))


def test_ticks_are_round_and_few():
    for least, most in (0, 1), (0, 37), (3, 1234), (0, 0.004), (5, 5):
        found = plots.ticks(least, most)
        assert 1 <= len(found) <= 6 and all(least - 1e-9 <= tick <= most + 1e-9 for tick in found)


def test_cases_have_names_of_their_own_and_room():
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("grown, stays, wrong, count", [(0, 0, [], 0), (3e6, 0, [], 1), (0, 1, [], 2), (0, 0, ["x"] * 30, 21)])
def test_a_soak_is_judged_by_its_second_half(grown, stays, wrong, count):
    import soak_serving
    history = [Taken(float(s), int(1e8 + (2e8 * s / 100 if s < 100 else 2e8) + max(s - 100, 0) / 100 * grown), 20, 5) for s in range(201)]
    soak = soak_serving.Soak(None, [], 0)
    soak.wrong = wrong
    before, after = Taken(0, 0, 20, 5), Taken(0, 0, 20 + stays, 5 + stays)
    assert len(soak_serving.told(history, before, after, soak, 10)[1]) == count
