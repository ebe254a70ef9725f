"""Runs a command from a process that is small itself, since the kernel counts the memory of whoever starts a program as that program's.

    python -I -S measured_child.py SECONDS COMMAND...

The last line of standard output becomes JSON: the exit code (128 + the signal's number when one ended it) and the peak memory in bytes.
"""
import json
import os
import signal
import sys


def main():
    seconds, command = int(sys.argv[1]), sys.argv[2:]
    child = os.fork()
    if child == 0:
        os.execv(command[0], command)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(seconds)
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    print("\n" + json.dumps({"exit": code if code >= 0 else 128 - code, "peak": usage.ru_maxrss * 1024}))


main()
