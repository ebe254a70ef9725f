"""The `tessera` command of the package: the same C++ program, and what it does with Hugging Face's models."""
import os
import sys

from tessera import _core


def main():
    arguments = sys.argv
    if arguments[1:2] == ["compare"] and "--hf" in arguments:
        from tessera.compare import compare
        sys.exit(compare(arguments[2:], run))
    sys.exit(run(arguments[1:]))


def run(arguments):
    return _core.cli_main([os.fsencode(argument) for argument in ["tessera", *arguments]])
