"""TTNN that writes to the file that TESSERA_TEST_PROGRAMS names how many programs its card has, whenever something comes back from it."""
import os
from pathlib import Path

import ttnn

cards = []


def __getattr__(name):
    return getattr(ttnn, name)


def open_device(**options):
    cards.append(ttnn.open_device(**options))
    return cards[0]


def close_device(card):
    cards.clear()
    ttnn.close_device(card)


def from_device(tensor):
    Path(os.environ["TESSERA_TEST_PROGRAMS"]).write_text(str(cards[0].num_program_cache_entries()))
    return ttnn.from_device(tensor)
