"""`tessera serve` told to end in each of its states, and where it cannot begin."""
import json
import os
import signal
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import scripted_model
from serving import Server
from serving_probes import Stream, chat, metrics, raw
from test_failing_system import INNER, stop_while_loading, widened

LONG = chat("9", max_tokens=16000)


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    return scripted_model.make(tmp_path_factory.mktemp("scripted") / "scripted", {"1": ["It ", "is one."], "9": ["on and ", "on, ", ...]})


def begin_to_end(server, number=signal.SIGTERM, others=0):
    """The first signal, and how the server stands behind it; `others`: requests that may be refused too."""
    server.ended = True
    server.process.send_signal(number)
    server.until(lambda: server.ask("GET", "/ready").status == 503)
    for path, body in ("/v1/chat/completions", chat("1")), ("/v1/messages", chat("1", max_tokens=1)), ("/tokenize", {"prompt": "1"}):
        refused = server.ask("POST", path, body)
        assert refused.status == 503 and 1 <= int(refused.headers["Retry-After"]) <= 60, path
        assert refused.json["error"]["type"] == ("overloaded_error" if path == "/v1/messages" else "server_error"), refused.json
    assert server.ask("GET", "/health").status == 200
    assert 3 <= metrics(server)['requests_refused_total{reason="draining"}'] <= 3 + others  # polls of /ready are none


def exit_code(server):
    return server.process.wait(120)


def is_whole(events):
    return events[-1] == b"[DONE]" and json.loads(events[-2])["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_at_once_however_many_connections_stand(tessera, scripted, number):
    with Server(tessera, scripted, "--drain-timeout", 600) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        for connection in idle[:10]:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Ty")
        server.post("/v1/chat/completions", chat("1"))
        server.stop(signal=number)
        for connection in idle:
            connection.close()


def test_who_asks_whether_it_is_ready_does_not_hold_up_its_end(tessera, scripted, measured):
    with Server(tessera, scripted) as server:
        statuses, end = [], threading.Event()

        def poll():
            while not end.is_set():
                try:
                    statuses.append(server.ask("GET", "/ready", timeout=60).status)
                except OSError:  # it is gone
                    return
                except Exception as error:  # an answer that is none
                    return statuses.append(repr(error))
        pollers = [threading.Thread(target=poll) for _ in range(8)]
        for poller in pollers:
            poller.start()
        server.until(lambda: len(statuses) > 50)
        begun = time.monotonic()
        server.stop()
        measured(f"SIGTERM with 8 pollers of /ready: ended after {time.monotonic() - begun:.2f} s")
        end.set()
        for poller in pollers:
            poller.join()
        assert set(statuses) <= {200, 503}, statuses[-20:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_streams_and_what_is_queued_are_answered_and_nothing_new_is_taken(tessera, scripted, number):
    with Server(tessera, scripted, "--max-num-seqs", 1, "--drain-timeout", 600) as server, ThreadPoolExecutor(3) as pool:
        with Stream(server, LONG) as running:
            assert running.event()
            rest = pool.submit(running.events)
            queued, whole = Stream(server, chat("9", max_tokens=50)), Stream(server, chat("1"), stream=False)
            server.until(lambda: metrics(server)["num_requests_waiting"] == 2)
            behind = pool.submit(queued.events)
            begin_to_end(server, number)
            assert is_whole(rest.result()) and is_whole(behind.result())
            assert whole.answer() == 200 and json.loads(whole.response.read())["choices"][0]["message"]["content"] == "It is one."
        assert exit_code(server) == 0


def test_what_does_not_end_in_time_is_told_so(tessera, scripted):
    with Server(tessera, scripted, "--drain-timeout", 1, "--max-num-seqs", 1) as server, ThreadPoolExecutor(1) as pool:
        with Stream(server, chat("9", max_tokens=60000)) as running:
            assert running.event()
            rest = pool.submit(running.events)
            queued, whole = Stream(server, chat("1")), Stream(server, chat("1"), stream=False)
            server.until(lambda: metrics(server)["num_requests_waiting"] == 2)
            server.ended = True
            server.process.send_signal(signal.SIGTERM)
            *_, before, last = rest.result()
            assert json.loads(before)["choices"] and json.loads(last)["error"]["type"] == "server_error" and b"ended" in last
            for cut in queued, whole:
                assert cut.answer() == 503 and cut.response.getheader("Retry-After"), "nothing was sent of it: another server may answer"
                assert "error" in json.loads(cut.response.read())
        assert exit_code(server) == 0


def test_a_second_signal_ends_it_at_once(tessera, scripted):
    with Server(tessera, scripted, "--drain-timeout", 600) as server, ThreadPoolExecutor(1) as pool:
        with Stream(server, chat("9", max_tokens=60000)) as running:
            assert running.event()
            rest = pool.submit(running.response.read)
            begin_to_end(server)
            server.process.send_signal(signal.SIGTERM)
            assert exit_code(server) == 143
            assert rest.exception() is not None, "the stream was cut"


def test_a_form_that_is_being_compiled_when_the_end_comes_is_refused(tessera, scripted):
    with Server(tessera, scripted) as server:
        with Stream(server, chat("1", structured_outputs={"regex": "(a|b){1,300}c{1,90}" * 8})) as asked:
            server.ended = True
            server.process.send_signal(signal.SIGTERM)
            assert asked.answer() in (200, 400, 503)
        assert exit_code(server) == 0


def test_a_server_that_loads_says_so_and_ends(tessera, bases, tmp_path):
    slow = widened(bases["gemma"], tmp_path / "slow", {"intermediate_size": 4 * INNER}, {100: 4 * INNER})
    with Server(tessera, slow, wait_until_ready=False) as server:
        assert server.ask("GET", "/health").status == 200
        unready = [server.ask("GET", "/ready"), server.ask("POST", "/v1/chat/completions", chat("ab")), server.ask("GET", "/v1/models")]
        assert [answer.status for answer in unready] == [503] * 3 and all(answer.headers["Retry-After"] for answer in unready)
        assert metrics(server)["num_requests_running"] == 0
        stop_while_loading(server.process)
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        server.ended = True
        assert exit_code(server) == 143
        assert "ready:" not in server.log()


def test_a_server_whose_files_are_replaced_serves_what_it_has_loaded(tessera, bases, tmp_path):
    folder = shutil.copytree(bases["gemma"], tmp_path / "model")
    ask = chat("ab", max_tokens=8, temperature=0)
    with Server(tessera, folder) as server, Server(tessera, folder) as other:
        first = server.post("/v1/chat/completions", ask)["choices"]
        assert other.post("/v1/chat/completions", ask)["choices"] == first
        for file in folder.iterdir():
            os.truncate(file, 0)
            file.unlink()
            file.write_bytes(b"x")
        assert server.post("/v1/chat/completions", ask)["choices"] == first == other.post("/v1/chat/completions", ask)["choices"]


def test_a_port_that_another_has_is_named(tessera, scripted):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = tessera.run("serve", "-m", scripted, "--port", port, expect=1)
        assert f"port {port} of 127.0.0.1" in done.stderr and "in use" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("flags, exit, words", [
    (["--port", "-1"], 2, "--port"), (["--port", "65536"], 2, "--port"), (["--port", "x"], 2, "--port"), (["--host", "0.0.0.0"], 2, "--api-key-file"),
    (["--host", "::"], 2, "--insecure"), (["--host", "no.such.address"], 2, "no.such.address"), (["--host", "192.0.2.1", "--insecure"], 1, "192.0.2.1"),
    (["--api-key-file", "/no/such/file"], 3, "/no/such/file"), (["--drain-timeout", "-1"], 2, "--drain-timeout"), (["--max-waiting", "0"], 2, "--max-waiting"),
    (["--max-num-seqs", "0"], 2, "--max-num-seqs"), (["-t", "-1"], 2, "--threads")], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_server_that_cannot_be_says_why(tessera, scripted, flags, exit, words):
    port = [] if "--port" in flags else ["--port", 0]
    done = tessera.run("serve", "-m", scripted, *port, *flags, expect=exit)
    assert words in done.stderr and "ready" not in done.stderr


def test_what_is_half_sent_when_the_end_comes_is_no_request(tessera, scripted):
    with Server(tessera, scripted, "--drain-timeout", 600) as server, ThreadPoolExecutor(2) as pool:
        with Stream(server, LONG) as running:
            assert running.event()
            rest = pool.submit(running.events)
            half = pool.submit(raw, server, b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
            begin_to_end(server, others=1)
            assert is_whole(rest.result())
        assert exit_code(server) == 0
        assert not half.result().startswith(b"HTTP/1.1 200")
