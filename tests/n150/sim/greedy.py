"""A checkpoint's greedy choices on a device: `python greedy.py MODEL WEIGHTS WHERE` prints a line of JSON for each token: its id, the id that comes
second, and by how much it does. WHERE is "twin" (the cpu device in its card mode), or the module of the n150's device."""
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / os.environ["TESSERA_BUILD"] / "python"))

import numpy as np  # noqa: E402
from tessera import _core as core  # noqa: E402

PROMPT, TOKENS = 16, 8


def main(folder, weights, where):
    device = core.open_device("cpu", twin="card") if where == "twin" else core.open_device("n150", module=where)
    loaded = core.load_model(folder, device, weights=weights)
    cache = core.Cache(device, loaded.model.spec.cache, dtype=loaded.options.cache, max_tokens=128, max_sequences=1)
    generator, sequence = core.Generator(loaded.model, device, cache), cache.create()
    text = (ROOT / "prompts/perplexity.txt").read_text(encoding="utf-8")
    chosen = core.Tokenizer.load(str(Path(folder) / "tokenizer.json")).encode(text)[:PROMPT]
    for _ in range(TOKENS):
        sequence.append(np.array(chosen, np.int32))
        row = generator.forward([(sequence, 1)])[0]
        second, first = np.argsort(row, kind="stable")[-2:]
        print(json.dumps({"id": int(first), "second": int(second), "by": float(row[first] - row[second])}), flush=True)
        chosen = [first]


if __name__ == "__main__":
    main(*sys.argv[1:])
