#!/usr/bin/env python3
"""Times CTranslate2: a prompt up to its first new token; or so many more tokens after that one."""
import json
from pathlib import Path

import ctranslate2
import timer


def main():
    a = timer.arguments(__doc__)
    load_seconds, generator = timer.seconds(lambda: ctranslate2.Generator(a.folder, device="cpu", intra_threads=a.threads))
    vocabulary = json.loads((Path(a.folder) / "vocabulary.json").read_text())

    def generate(prompt, tokens):
        rows = [[vocabulary[i] for i in row] for row in timer.drawn(len(vocabulary), prompt, a.parallel)]
        results = generator.generate_batch(rows, max_length=tokens, min_length=tokens, include_prompt_in_result=False)
        assert all(len(result.sequences_ids[0]) == tokens for result in results)

    generate(timer.WARM_UP, 2)
    depth = max(1, a.depth)
    first, _ = timer.seconds(lambda: generate(a.prompt or depth, 1))
    if a.generated:
        all_of_them, _ = timer.seconds(lambda: generate(depth, 1 + a.generated))
        first = all_of_them - first
    timer.report(first, load_seconds)


if __name__ == "__main__":
    main()
