#!/usr/bin/env python3
"""Writes the folder of a new bring-up, which eval.py and scripts/run_eval.py accept at once: docs/add_a_bringup.md says what follows."""
import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tessera import _core

MODELS = Path(__file__).resolve().parents[1] / "models"
WEIGHTS = {"cpu": (None, "weights as stored"), "n150": ("bfloat8_b", "bfloat8_b weights")}

MODEL = '''"""{title} on the {system}: {weights}, bfloat16 activations. The model itself is {source}."""
from typing import Any

from tessera.bringup import Bringup
from tessera.hf import TesseraForCausalLM

BRINGUP = Bringup(architecture="{architecture}", weights={dtype}, activations="bfloat16")


def build_model(hf_model: Any, tt_device: Any, max_seq_len: int, *, weights: str | None = None, activations: str | None = None,
                cache: str | None = None) -> TesseraForCausalLM:
    return BRINGUP.build_model(hf_model, tt_device, max_seq_len, weights=weights, activations=activations, cache=cache)
'''
DOCUMENT = '''# {title} on the {system}

Model: `{source}`. Bring-up: `models/{name}/{system}/functional/model.py`, {weights}, bfloat16 activations.

## Evaluate

```
python eval.py models/{name}/{system}/functional/model.py --model {name}
python scripts/run_eval.py --mode tt --system {system} --hf-model {name}
```

## Measured

Nothing yet. `eval.py --save_run models/{name}/{system}/functional/runs/NAME.json` saves a run, `scripts/make_models_table.py` puts it into
MODELS.md.

## Limits

To be written: what of the architecture is refused, what was not tried.
'''


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("name", metavar="ORG/NAME", help="the checkpoint's Hugging Face id")
    parser.add_argument("system", choices=sorted(WEIGHTS))
    parser.add_argument("--architecture", help="of config.json, where the checkpoint itself is not at hand")
    return parser.parse_args(arguments)


def find_architecture(name: str, model_type: str) -> "_core.Architecture":
    """By either, as config.json has them."""
    from tessera import _core
    known = _core.architectures()
    for architecture in known:
        if name in (architecture.name, "") and model_type in (architecture.model_type, ""):
            return architecture
    raise ValueError(f"{name or model_type}: is not supported; these are: {', '.join(architecture.name for architecture in known)}. "
                     "docs/add_a_model.md says how to add one")


def source_of(architecture: "_core.Architecture") -> str:
    """The model's file, whose first line names the Hugging Face file that it follows."""
    followed = f"modeling_{architecture.model_type.removesuffix('_text')}.py"
    for path in sorted(MODELS.glob("*.cpp")):
        with path.open(encoding="utf-8") as file:
            if followed in file.readline():
                return f"models/{path.name}"
    raise ValueError(f"no file in {MODELS} says in its first line that it follows {followed}")


def write(args: argparse.Namespace) -> Path:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", args.name) or ".." in args.name:
        raise ValueError(f"{args.name}: is no Hugging Face id, ORG/NAME")
    folder: Path = MODELS / args.name / args.system / "functional"
    if folder.exists():
        raise ValueError(f"{folder} is there already")
    from tessera.bringup import open_checkpoint
    if args.architecture:
        architecture = find_architecture(args.architecture, "")
    else:
        checkpoint = open_checkpoint(args.name)
        architecture = find_architecture(checkpoint.architecture, checkpoint.model_type)
    dtype, weights = WEIGHTS[args.system]
    words = {"name": args.name, "title": args.name.split("/")[1], "system": args.system, "architecture": architecture.name, "source": source_of(architecture), "weights": weights,
             "dtype": f'"{dtype}"' if dtype else None}
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(MODEL.format(**words), encoding="utf-8")
    (folder / "MODEL_BRINGUP.md").write_text(DOCUMENT.format(**words), encoding="utf-8")
    return folder


def main() -> None:
    args = parse(sys.argv[1:])
    try:
        folder = write(args)
    except ModuleNotFoundError as error:
        sys.exit(f"{error}: install the package with what it needs here: pip install '.[hf]'")
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"wrote {folder}\ntry it: python scripts/run_eval.py --mode tt --system {args.system} --hf-model {args.name}")


if __name__ == "__main__":
    main()
