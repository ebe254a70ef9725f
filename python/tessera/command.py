"""The `tessera` command of the package: the same C++ program, and what of `compare` is Python's."""
import os
import sys
from typing import NoReturn

from tessera import _core


def main() -> NoReturn:
    arguments = sys.argv
    if arguments[1:2] == ["compare"]:
        from tessera.compare import compare
        leave(compare(arguments[2:], run))
    leave(run(arguments[1:]))


def leave(code: int) -> NoReturn:
    if code == _core.DEVICE_LOST:  # TTNN closes its cards at the interpreter's end, and would wait for this one
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    # What starts it again finds the same package and nothing in the current folder.
    program = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; from tessera.command import main; main()"]
    return _core.cli_main(encoded(["tessera", *arguments]), encoded(program))


def encoded(words: list[str]) -> list[bytes]:
    return [os.fsencode(word) for word in words]
