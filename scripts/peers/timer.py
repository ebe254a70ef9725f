"""What the programs that time a Python engine have in common: their flags and their line of JSON."""
import argparse
import json
import random
import time

WARM_UP = 16  # tokens


def arguments(about):
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("folder")
    for name in ("prompt", "generated", "depth"):
        parser.add_argument(f"--{name}", type=int, default=0)
    for name in ("parallel", "threads"):
        parser.add_argument(f"--{name}", type=int, default=1)
    return parser.parse_args()


def drawn(vocabulary, count, rows):
    numbers = random.Random(1)
    return [[numbers.randrange(1000, vocabulary) for _ in range(count)] for _ in range(rows)]


def seconds(run):
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def report(measured, load_seconds):
    print(json.dumps({"seconds": measured, "load_seconds": load_seconds}))
