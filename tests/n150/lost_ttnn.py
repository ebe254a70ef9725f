"""traced_ttnn with one call that goes wrong, named in TESSERA_TEST_FAULT as "linear hangs": "hangs" never comes back and says so again for
each byte of standard input, "waits" comes back at the first, both without letting go of the GIL, as TTNN does not; "times out" raises what TTNN does
when its own timeout is over. TESSERA_TEST_FAULT_BEGINS, if set, names a file before which all goes well."""
import atexit
import ctypes
import os
import sys

import traced_ttnn

TIMEOUT = ("TT_THROW @ /tt_metal/impl/dispatch/system_memory_manager.cpp:765: tt::exception\ninfo:\nTIMEOUT: device timeout, potential hang detected, "
           "the device is unrecoverable\nbacktrace:\n --- tt::tt_metal::SystemMemoryManager\n")
fault = os.environ.get("TESSERA_TEST_FAULT", "")
begins = os.environ.get("TESSERA_TEST_FAULT_BEGINS")
seconds = os.environ.get("TT_METAL_OPERATION_TIMEOUT_SECONDS")  # when this module is imported
libc = ctypes.PyDLL(None)
called_later = []  # since the card was lost
lost = False
atexit.register(lambda: lost and print("TTNN's end waits for the card", file=sys.stderr))


def hangs():
    print("hangs", file=sys.stderr, flush=True)
    while True:
        read = waits()
        if read == 1:
            print("hangs", file=sys.stderr, flush=True)
        elif read == 0:
            libc.pause()


def waits():
    return libc.read(0, ctypes.create_string_buffer(1), 1)


def times_out():
    global lost
    lost = True
    raise RuntimeError(TIMEOUT)


def watched(name, function):
    def call(*arguments, **options):
        if lost:
            called_later.append(name)
            print(f"{name} is called on a lost card", file=sys.stderr, flush=True)
        op, _, how = fault.partition(" ")
        if name == op and (begins is None or os.path.exists(begins)):
            {"hangs": hangs, "waits": waits, "times out": times_out}[how]()
        return function(*arguments, **options)

    return call


def all_watched(functions):
    return {name: watched(name, f) if callable(f) and not isinstance(f, type) else f for name, f in functions.items() if not name.startswith("__")}


globals().update({name: value for name, value in all_watched(vars(traced_ttnn)).items() if name not in ("experimental", "transformer")})
experimental = type(traced_ttnn.experimental)(**all_watched(vars(traced_ttnn.experimental)))
transformer = type(traced_ttnn.transformer)(**all_watched(vars(traced_ttnn.transformer)))
