"""The `tessera` command of the package: the same C++ program."""
import os
import sys

from tessera import _core


def main():
    sys.exit(_core.cli_main([os.fsencode(argument) for argument in sys.argv]))
