"""The built `tessera` program, as its user runs it."""
import itertools
import json
import re
import shlex
import subprocess

import numpy as np

FLOAT32 = ("--weights", "float32", "--activations", "float32")


class Tessera:
    def __init__(self, path, folder):
        self.path, self.folder = path, folder
        self.numbers = itertools.count()

    def run(self, *arguments, expect=0):
        command = [str(self.path), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL)
        told = f"{shlex.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        assert done.returncode == expect, f"exit {done.returncode}, expected {expect}: {told}"
        return done

    def logits(self, checkpoint, ids, *flags):
        """The logits of every row of the prompt `ids` in float32 mode: an array [rows, vocabulary] on disk, read while it is held."""
        name = self.folder / f"tessera-{next(self.numbers)}"
        ids_file, out = name.with_suffix(".json"), name.with_suffix(".npy")
        ids_file.write_text(json.dumps(list(ids)))
        try:
            self.run("run", "-m", checkpoint, "--ids-file", ids_file, "--logits", out, "--print-ids", "-n", 0, *FLOAT32, *flags)
            return np.load(out, mmap_mode="r")
        finally:
            out.unlink(missing_ok=True)  # the array keeps the file's contents alive, the disk is free after it
            ids_file.unlink()

    def greedy(self, checkpoint, ids, count, *flags):
        """`count` greedy ids after the prompt in float32 mode; fewer if the checkpoint's end token comes."""
        ids_file = self.folder / f"tessera-{next(self.numbers)}.json"
        ids_file.write_text(json.dumps(list(ids)))
        done = self.run("run", "-m", checkpoint, "--ids-file", ids_file, "--print-ids", "--temp", 0, "-n", count, *FLOAT32, *flags)
        ids_file.unlink()
        return [int(number) for number in re.findall(r"\d+", done.stdout)]
