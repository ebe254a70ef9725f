"""Which files of a folder a program opens, and how often."""
import collections
import ctypes
import os
import struct

OPEN, IS_DIRECTORY = 0x20, 0x40000000  # IN_OPEN, IN_ISDIR
EVENT = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, length of the name behind it
libc = ctypes.CDLL(None, use_errno=True)


class OpenedFiles:
    """While it is entered, counts. Both the folder and each file are watched: the kernel makes one of two equal events in a row, and so there are none."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        self.queue = os.fdopen(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
        self.watch = self._add(self.folder)
        for file in self.folder.iterdir():
            self._add(file)
        return self

    def _add(self, path):
        number = libc.inotify_add_watch(self.queue.fileno(), os.fsencode(path), OPEN)
        if number < 0:
            raise OSError(ctypes.get_errno(), f"{path}: cannot be watched")
        return number

    def __exit__(self, *_):
        self.counts = collections.Counter()
        while events := self.queue.read(1 << 16):
            at = 0
            while at < len(events):
                watch, mask, _, length = EVENT.unpack_from(events, at)
                name = events[at + EVENT.size:at + EVENT.size + length].rstrip(b"\0").decode()
                if watch == self.watch and not mask & IS_DIRECTORY:
                    self.counts[name] += 1
                at += EVENT.size + length
        self.queue.close()
