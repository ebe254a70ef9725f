"""What the package's `tessera compare` does beside the C++ command: --hf records Hugging Face's forward to compare with, --html makes the page."""
import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable

from tessera import _core

Run = Callable[[list[str]], int]  # runs the C++ command: its exit code


def compare(arguments: list[str], run: Run) -> int:
    """The exit code."""
    if "-h" in arguments or "--help" in arguments:
        return run(["compare", *arguments])
    try:
        with tempfile.TemporaryDirectory(prefix="tessera-") as folder:
            return with_page(with_recording(arguments, folder) if "--hf" in arguments else arguments, folder, run)
    except _core.FileError as error:
        return failed(3, error)
    except OSError as error:  # the disk is full, a file is not there
        return failed(3 if isinstance(error, FileNotFoundError) else 4, error)
    except (ValueError, ImportError) as error:
        return failed(2, error)
    except KeyboardInterrupt:
        return 130


def with_page(arguments: list[str], folder: str, run: Run) -> int:
    parser = argparse.ArgumentParser(prog="tessera compare", add_help=False, allow_abbrev=False)
    parser.add_argument("--html")
    parser.add_argument("--json")
    flags, others = parser.parse_known_args(arguments)
    if flags.html is None:
        return run(["compare", *arguments])
    if flags.json == "-":
        raise ValueError("compare: --html takes its numbers from a file; give --json FILE in place of -, or neither")
    facts, part = flags.json or os.path.join(folder, "facts.json"), f"{flags.html}.part"
    with open(part, "w", encoding="utf-8") as file:  # before the work: a place that cannot be written is found at once
        try:
            code = run(["compare", *others, "--json", facts])
            if code == 0:
                from tessera.comparison_page import page
                with open(facts, encoding="utf-8") as found:
                    file.write(page(json.load(found)))
                file.close()
                os.rename(part, flags.html)
            return code
        finally:
            if os.path.exists(part):
                os.unlink(part)


def parser() -> argparse.ArgumentParser:
    """The flags that say what Hugging Face runs; all others are the C++ command's."""
    flags = argparse.ArgumentParser(prog="tessera compare", add_help=False, allow_abbrev=False)
    flags.add_argument("--hf", action="store_true")
    flags.add_argument("--hf-type", "--hf_type", choices=["float32", "bfloat16"], default="float32")
    flags.add_argument("--hf-save", "--hf_save")
    flags.add_argument("-m", "--model", required=True)
    flags.add_argument("--revision")
    flags.add_argument("--model-b", "--model_b")
    prompt = flags.add_mutually_exclusive_group(required=True)
    prompt.add_argument("-p", "--prompt")
    prompt.add_argument("-f", "--file")
    prompt.add_argument("--ids-file", "--ids_file")
    return flags


def with_recording(arguments: list[str], folder: str) -> list[str]:
    """Records Hugging Face's forward; the arguments that compare with it."""
    flags, others = parser().parse_known_args(arguments)
    path = flags.hf_save or os.path.join(folder, "hf.safetensors")
    try:
        import torch
        from transformers.utils import logging

        from tessera import recording
        from tessera.bringup import open_checkpoint
    except ImportError as error:
        raise ImportError(f"compare: --hf needs torch and transformers (pip install 'tessera[hf]'): {error}") from error
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    if flags.revision is None or flags.model_b is not None:
        checkpoint = open_checkpoint(flags.model_b or flags.model)
    else:
        checkpoint = _core.Checkpoint.open(flags.model, flags.revision)
    ids = prompt_ids(flags, checkpoint)
    recording.record(recording.load(checkpoint.directory, getattr(torch, flags.hf_type)), ids, path)
    revision = [] if flags.revision is None else ["--revision", flags.revision]
    return ["-m", flags.model, *revision, "--against", path, *others]


def prompt_ids(flags: argparse.Namespace, checkpoint: _core.Checkpoint) -> list[int]:
    if flags.ids_file is not None:
        words = re.split(r"[\s,\[\]]+", read(flags.ids_file))
        return [int(word) for word in words if word]
    text = flags.prompt if flags.prompt is not None else read(flags.file)
    return _core.Tokenizer.load(checkpoint.tokenizer()).encode(text, add_special_tokens=True, parse_special=True)


def read(path: str) -> str:
    """A file's text without a byte-order mark; - is standard input."""
    given = path in ("-", "/dev/stdin")
    with open(sys.stdin.fileno() if given else path, encoding="utf-8-sig", newline="", closefd=not given) as file:
        return file.read()


def failed(code: int, error: Exception) -> int:
    print(f"tessera: {error}", file=sys.stderr)
    return code
