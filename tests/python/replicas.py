"""Two replicas behind a front: deploy/haproxy.cfg as it is but for its addresses, or the vllm-router that TESSERA_VLLM_ROUTER names."""
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ROOT
from serving import LONGEST, Server, free_port

CONFIG = ROOT / "deploy/haproxy.cfg"
ROUTER = os.environ.get("TESSERA_VLLM_ROUTER")
ROUTER_FLAGS = re.search(r"--policy cache_aware[^`]*?(?=--worker-urls)", (ROOT / "docs/replicas.md").read_text())[0].replace("\\", "").split()
AS_ROOT = ("user ", "group ", "log /dev/log")  # what a test cannot or need not do


def haproxy():
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return found or pytest.skip("there is no haproxy: scripts/setup check installs it")


def config(port, replicas):
    """The shipped file, at this port and before these servers' ports."""
    lines = [line for line in CONFIG.read_text().splitlines() if not line.strip().startswith(AS_ROOT)]
    text = "\n".join(lines) + "\n"
    for shipped, here in zip((8000, 8001, 8002), (port, *replicas), strict=True):
        assert text.count(f"127.0.0.1:{shipped}") == 1
        text = text.replace(f"127.0.0.1:{shipped}", f"127.0.0.1:{here}")
    return text


def complaint(folder, text):
    """What HAProxy says against a configuration; nothing where it takes it."""
    path = Path(folder) / "haproxy-checked.cfg"
    path.write_text(text)
    done = subprocess.run([haproxy(), "-c", "-q", "-f", str(path)], capture_output=True, text=True)
    return f"{done.returncode}: {done.stderr}" if done.returncode or done.stderr else ""


class Front:
    """Looks like a Server to who asks it."""

    ask, post, until, log = Server.ask, Server.post, Server.until, Server.log

    def __init__(self, folder, replicas, key=None):
        self.headers = {"Authorization": f"Bearer {key}"} if key else None
        self.port = free_port()
        ports = [replica.port for replica in replicas]
        self.log_path = Path(folder) / f"front-{self.port}.log"
        if ROUTER:
            self.command = [ROUTER, "--host", "127.0.0.1", "--port", str(self.port), "--prometheus-port", str(free_port()), *ROUTER_FLAGS, "--worker-urls", *(f"http://127.0.0.1:{port}" for port in ports)]
        else:
            written = Path(folder) / f"haproxy-{self.port}.cfg"
            written.write_text(config(self.port, ports))
            self.command = [haproxy(), "-db", "-f", str(written)]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.until(self.answers)
        except BaseException:
            self.process.kill()
            raise

    def answers(self):
        try:
            return self.ask("GET", "/v1/models", headers=self.headers, timeout=5).status == 200
        except OSError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def wait_for(found, longest=LONGEST):
    end = time.monotonic() + longest
    while not (result := found()):
        assert time.monotonic() < end, f"nothing within {longest} s"
        time.sleep(0.02)
    return result
