"""Every process that opens a card is a child with a limit of time, since a kernel that fails may hang the next call."""
import json
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
LEAVING = 30  # seconds in which a child may close its card


class Child:
    """A script of this folder, or the command `tessera`, as a child process in the environment of a card. Its lines of JSON are what it found."""

    def __init__(self, environment):
        self.environment = environment

    def run(self, script, *arguments, timeout, seen=lambda line: None, **environment):
        """Returns (the objects that it printed, each of which `seen` gets at once, what was wrong or None)."""
        command = [sys.executable, *(["-m", "tessera"] if script == "tessera" else [HERE / script]), *map(str, arguments)]
        lines, late = [], threading.Event()
        with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(
                command, env={**self.environment, **environment}, stdout=subprocess.PIPE, stderr=errors, text=True) as child:
            limit = threading.Timer(timeout, lambda: (late.set(), end(child)))
            limit.start()
            try:
                said = []
                for line in child.stdout:
                    said.append(line)
                    if line.startswith("{"):
                        lines.append(json.loads(line))
                        seen(lines[-1])
                code = child.wait()
            except BaseException:
                end(child)
                raise
            finally:
                limit.cancel()
            errors.seek(0)
            wrong = None if code == 0 else f"exit code {code}: {tail(errors.read()) or tail(''.join(said))}"
        return lines, f"no end within {timeout} s" if late.is_set() else wrong


def end(child):
    """Lets it close the card; a call that hangs does not hear."""
    child.send_signal(signal.SIGINT)
    try:
        child.wait(LEAVING)
    except subprocess.TimeoutExpired:
        child.kill()


def tail(text, lines=12):
    """The last lines, without a backtrace of TTNN's."""
    kept = [line for line in text.splitlines() if line.strip() and not line.startswith(" --- ")]
    return "\n".join(kept[-lines:])
