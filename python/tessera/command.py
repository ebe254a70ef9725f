"""The `tessera` command of the package: the same C++ program, and what it does with Hugging Face's models."""
import os
import sys

from tessera import _core


def main():
    arguments = sys.argv
    if arguments[1:2] == ["compare"] and "--hf" in arguments:
        from tessera.compare import compare
        leave(compare(arguments[2:], run))
    leave(run(arguments[1:]))


def leave(code):
    if code == _core.DEVICE_LOST:  # TTNN closes its cards at the interpreter's end, and would wait for this one
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments):
    return _core.cli_main([os.fsencode(argument) for argument in ["tessera", *arguments]])
