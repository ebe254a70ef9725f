"""`tessera compare --hf`: records Hugging Face's forward, then has the C++ command compare with it."""
import argparse
import os
import re
import sys
import tempfile

from tessera import _core


def compare(arguments, run):
    """The exit code. `run` runs the C++ command with other arguments."""
    flags, others = parser().parse_known_args(arguments)
    if "-h" in others or "--help" in others:
        return run(["compare", "--help"])
    file, path = None, flags.hf_save
    try:
        if path is None:
            file, path = tempfile.mkstemp(prefix="tessera-", suffix=".safetensors")
            os.close(file)
        record(flags, path)
        return run(["compare", "-m", flags.model, "--against", path, *others])
    except _core.FileError as error:
        return failed(3, error)
    except OSError as error:  # the disk is full, a file is not there
        return failed(3 if isinstance(error, FileNotFoundError) else 4, error)
    except (ValueError, ImportError) as error:
        return failed(2, error)
    except KeyboardInterrupt:
        return 130
    finally:
        if file is not None:
            os.unlink(path)


def parser():
    """The flags that say what Hugging Face runs; all others are the C++ command's."""
    flags = argparse.ArgumentParser(prog="tessera compare", add_help=False, allow_abbrev=False)
    flags.add_argument("--hf", action="store_true")
    flags.add_argument("--hf-type", choices=["float32", "bfloat16"], default="float32")
    flags.add_argument("--hf-save")
    flags.add_argument("-m", "--model", required=True)
    flags.add_argument("--model-b")
    prompt = flags.add_mutually_exclusive_group(required=True)
    prompt.add_argument("-p", "--prompt")
    prompt.add_argument("-f", "--file")
    prompt.add_argument("--ids-file")
    return flags


def record(flags, path):
    try:
        import torch
        from transformers.utils import logging

        from tessera import recording
        from tessera.bringup import open_checkpoint
    except ImportError as error:
        raise ImportError(f"compare: --hf needs torch and transformers (pip install 'tessera[hf]'): {error}") from error
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    checkpoint = open_checkpoint(flags.model_b or flags.model)
    ids = prompt_ids(flags, checkpoint)
    recording.record(recording.load(checkpoint.directory, getattr(torch, flags.hf_type)), ids, path)


def prompt_ids(flags, checkpoint):
    if flags.ids_file is not None:
        words = re.split(r"[\s,\[\]]+", read(flags.ids_file))
        return [int(word) for word in words if word]
    text = flags.prompt if flags.prompt is not None else read(flags.file)
    return _core.Tokenizer.load(checkpoint.tokenizer()).encode(text, add_special_tokens=True, parse_special=True)


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def failed(code, error):
    print(f"tessera: {error}", file=sys.stderr)
    return code
