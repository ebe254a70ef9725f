"""deploy/: the units that systemd and Kubernetes are given, against their own checkers and against the program that they start."""
import re
import shlex
import shutil
import subprocess

import pytest
import yaml
from conftest import ROOT
from serving import Server
from serving_probes import metrics

pytestmark = pytest.mark.slow

UNIT = ROOT / "deploy/tessera.service"
OBJECTS = list(yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text()))


def of_kind(kind):
    (found,) = [one for one in OBJECTS if one["kind"] == kind]
    return found


def container():
    (one,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    return one


def unit_command():
    return shlex.split(re.search(r"^ExecStart=(.*)$", UNIT.read_text(), re.M)[1])


def flags_here(command, keys):
    """Without the model and the address, which are the test's; with its keys."""
    program, verb, *words = command
    assert (program.rsplit("/")[-1], verb) == ("tessera", "serve")
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert given.pop("-m") and given.pop("--host") == "0.0.0.0" and given.pop("--port") == "8000"
    assert given["--api-key-file"].endswith("/keys")
    return [word for pair in {**given, "--api-key-file": str(keys), "--host": "0.0.0.0"}.items() for word in pair]


def test_kubernetes_takes_each_object():
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed: scripts/setup check does it")
    assert {one["kind"] for one in OBJECTS} == {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    for one in OBJECTS:
        validate.validate(one, validate.latest_version(), strict=True)
    labels = of_kind("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels == of_kind("Deployment")["spec"]["selector"]["matchLabels"] == of_kind("Service")["spec"]["selector"]
    assert of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == of_kind("Deployment")["metadata"]["name"]


def test_systemd_takes_the_unit(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.M)
    (tmp_path / "tessera.service").write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / "tessera.service"], capture_output=True, text=True)
    told = [line for line in done.stderr.splitlines() if "tessera.service" in line]
    assert done.returncode == 0 and told == [], done.stderr


@pytest.mark.parametrize("command", [unit_command(), [*container()["command"], *container()["args"]]], ids=["systemd", "kubernetes"])
def test_what_they_start_is_a_server_with_what_they_ask_of_it(tessera, bases, tmp_path, command):
    keys = tmp_path / "keys"
    keys.write_text("monitor:secret\n")
    asked = [container()[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")]
    scraped = of_kind("Deployment")["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"]
    with Server(tessera, bases["gemma"], *flags_here(command, keys)) as server:
        assert [server.ask("GET", path).status for path in asked] == [200] * 3
        assert scraped == "/metrics" and server.ask("GET", scraped).status == 401
        server.ask = lambda *request, ask=server.ask: ask(*request, headers={"x-api-key": "secret"})
        names = {f"tessera_{name}" for name in metrics(server)}
        assert {one["pods"]["metric"]["name"] for one in of_kind("HorizontalPodAutoscaler")["spec"]["metrics"]} <= names


def test_each_waits_longer_than_the_server_drains():
    drain = lambda command: int(command[command.index("--drain-timeout") + 1])
    unit = UNIT.read_text()
    assert drain(unit_command()) + 10 <= int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.M)[1])
    assert "\nKillMode=mixed\n" in unit, "SIGTERM is for the server alone"
    (_, pause) = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert drain(container()["args"]) + int(pause) + 10 <= of_kind("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
