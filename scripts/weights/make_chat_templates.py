#!/usr/bin/env python3
"""The chat templates of known models, from the source package of llama-cpp-python (models/templates/*.jinja): a test's input.

usage: make_chat_templates.py [OUT_DIR]      prints the directory
"""
import argparse
import tarfile
from pathlib import Path

from checkpoint_folder import cache_folder, publish, recipe_of
from make_tokenizers import MODELS, VERSION, fetch_sdist

ABOUT = "Chat templates of known models, as llama-cpp-python's source package has them; their owners' own."


def make(folder):
    with tarfile.open(fetch_sdist(cache_folder() / "downloads")) as archive:
        for member in archive:
            path = Path(member.name)
            if str(path.parent) == f"{MODELS}/templates" and path.suffix == ".jinja":
                (folder / path.name).write_bytes(archive.extractfile(member).read())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, help="the directory to make (default: in weights/ of Tessera's cache)")
    out = parser.parse_args().out or cache_folder() / "weights" / "chat-templates"
    print(publish(out, recipe_of({"version": VERSION}, __file__), ABOUT, make))


if __name__ == "__main__":
    main()
