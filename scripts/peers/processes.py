"""Programs that are run and measured from outside."""
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Done:
    out: str
    seconds: float
    peak_bytes: int  # of its memory, files that it has mapped too


def run(command, env=None):
    """Runs a command that must succeed; prints it to standard error."""
    command = [str(word) for word in command]
    print("$", *(f"{key}={value}" for key, value in (env or {}).items()), *command, file=sys.stderr, flush=True)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start, peak = time.monotonic(), 0
        process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **(env or {})})
        try:
            while process.poll() is None:
                peak = max(peak, peak_bytes(process.pid))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.01)
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds = time.monotonic() - start
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"{command[0]} failed with {process.returncode}:\n{err.read()[-2000:]}")
        return Done(out.read(), seconds, peak)


def peak_bytes(pid):
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    except OSError:
        found = None
    return int(found.group(1)) * 1024 if found else 0


@contextlib.contextmanager
def busy_processor(wanted):
    """Keeps the last processor busy meanwhile, if `wanted`."""
    if not wanted:
        yield
        return
    last = max(os.sched_getaffinity(0))
    hog = subprocess.Popen([sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{last}}}); print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        hog.stdout.readline()
        yield
    finally:
        hog.kill()
        hog.wait()
