"""slowhttptest against `tessera serve`: clients that send or read a few bytes a second. They are closed at their deadlines, and nobody else waits."""
import shutil
import subprocess

import pytest
from serving import Server
from serving_probes import Canary, descriptors

CLIENTS = 300


@pytest.fixture
def slowhttptest():
    path = shutil.which("slowhttptest")
    if path is None:
        pytest.skip("slowhttptest is not installed: run scripts/setup check")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("flags, seconds, end", [
    (["-H", "-i", "1", "-u", "/v1/models"], 40, "No open connections left"),
    (["-B", "-i", "2", "-s", "8192", "-f", "application/json", "-u", "/v1/completions"], 100, "No open connections left"),
    (["-X", "-u", "/tokenizer_info", "-w", "1", "-y", "1", "-n", "1", "-z", "1", "-k", "10"], 20, "")], ids=["headers", "body", "read"])
def test_slow_clients_are_closed_and_hinder_nobody(tessera, bases, slowhttptest, flags, seconds, end):
    with Server(tessera, bases["gemma"]) as server:
        canary, before = Canary(server), descriptors(server.process.pid)
        at = flags.index("-u") + 1
        command = [slowhttptest, *flags[:at], server.url + flags[at], *flags[at + 1:], "-c", str(CLIENTS), "-r", str(CLIENTS), "-l", str(seconds), "-p", "5"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as clients:
            most, sung = 0, 0
            while clients.poll() is None:
                most, sung = max(most, descriptors(server.process.pid)), sung + 1
                canary.lives()
            told = clients.stdout.read()
        assert end in told and "Cannot establish" not in told and "service available:   NO" not in told, told[-3000:]
        assert most > before + CLIENTS // 2 and sung > 3
        server.until(lambda: descriptors(server.process.pid) <= before + 3)
        canary.lives()
