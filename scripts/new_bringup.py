#!/usr/bin/env python3
"""Writes the folder of a new bring-up, which eval.py and scripts/run_eval.py accept at once: docs/add_a_bringup.md says what follows."""
import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

{silicon}`{name}`, of the architecture `{architecture}`. The model is `{source}`; this folder's `model.py` only says which checkpoints it takes and in
what precision. Written by `scripts/new_bringup.py`{from_sizes}.

## The model

{sizes}

## Precision

{precision}
{memory}
## Evaluate

```
{commands}
```

{evaluate}

## Measured

{measured}
'''
PRECISION = {
    "cpu": "Weights as they are stored, activations and cache bfloat16, logits float32. `weights=`, `activations=` and `cache=` of `build_model`,\n"
           "`TESSERA_WEIGHTS`, `TESSERA_ACTIVATIONS` or `--dtype` choose another. Every op sums in float32 and rounds its output once.",
    "n150": "Weights bfloat8_b, the card's own blocks, in which 16 neighbouring outputs of one input share an exponent; activations and cache bfloat16.\n"
            "`weights=` and `cache=` of `build_model`, `TESSERA_WEIGHTS` or `--dtype` choose another. What TTNN's kernels lose beside that, the cpu's\n"
            "[card mode](../../../../../docs/models_and_precisions.md#card-mode) computes.",
}
COMMANDS = {
    "cpu": ["eval.py models/{name}/cpu/functional/model.py --model {name}", "scripts/run_eval.py --mode tt --system cpu --hf-model {name}",
            "scripts/run_eval.py --mode tt --system cpu --hf-model {name} --prefill-len 16 --decode-len 8 --dtype float32"],
    "n150": ["scripts/run_eval.py --mode tt --system n150 --hf-model {name} --prefill-len 16 --decode-len 8", "eval.py models/{name}/n150/functional/model.py --model {name}",
             "scripts/run_eval.py --mode tt --system n150 --device cpu --hf-model {name}"],
}
EVALUATE = {
    "cpu": "The Hugging Face side computes in float32 and is let go before ours is loaded. In float32 the choices must be the same but at ties, which are\n"
           "counted: begin with the last command where a number is off. `tessera compare --hf` then names the first op that parts from Hugging Face:\n"
           "[docs/compare.md](../../../../../docs/compare.md).",
    "n150": "The last computes in the card's types on the cpu, and needs no card; with `--twin card`, with the digits that its kernels keep. A card's first\n"
            "session begins with `scripts/first_card.py`, which goes from one program to this checkpoint and stops at the first difference.\n"
            "Prompts go in chunks of up to 512 tokens that start at multiples of 128; one token of each of up to 32 conversations is decoded together.",
}
# What a reader of the config may not expect.
PARTICULARS = {
    "arcee": "The MLP has no gate: down(relu(up(x))²).",
    "mistral": "Layers see a window of `sliding_window` positions, 4,096 where the field is absent; here it is null, and they see everything.",
    "phi3": "Queries, keys and values are one projection, gate and up another. With LongRoPE a sequence longer than `original_max_position_embeddings` takes "
            "the long factors; one that grows past it is computed anew.",
    "qwen2": "Queries, keys and values have biases, added in float32 before the one rounding. Keys' may be large, so that a bfloat8_b cache costs more than elsewhere.",
    "qwen3": "Queries and keys are normalised a head at a time, before the rotary embedding.",
    "smollm3": "Every fourth layer has no rotary embedding; all else of it is the same.",
}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("name", metavar="ORG/NAME", help="the checkpoint's Hugging Face id; its sizes are those of models/ORG/NAME/config.json where that is there")
    parser.add_argument("system", choices=sorted(WEIGHTS))
    parser.add_argument("--architecture", help="of config.json, where the checkpoint itself is not at hand")
    parser.add_argument("--again", action="store_true", help="write a folder anew that is there already; its runs stay")
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


def sizes(folder: Path, model_type: str) -> str:
    """In words, from config.json with the defaults of its class in transformers."""
    from transformers import AutoConfig
    config = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    rope = config.rope_parameters if "rope_type" in config.rope_parameters else config.rope_parameters["full_attention"]
    rotated = int(head_dim * rope.get("partial_rotary_factor", 1))
    lines = [f"{config.num_hidden_layers} layers of width {config.hidden_size:,} and {config.intermediate_size:,}, {heads} query heads and "
             f"{config.num_key_value_heads} key heads of {head_dim} values.",
             f"A context of {config.max_position_embeddings:,} tokens, a vocabulary of {config.vocab_size:,}; the head is "
             f"{'the embedding' if config.tie_word_embeddings else 'not the embedding'}.",
             f"The rotary embedding is transformers' `{rope['rope_type']}` with theta {rope['rope_theta']:,.0f}"
             + (f" and rotates {rotated} of a head's values." if rotated != head_dim else ".")]
    return "\n".join(f"* {line}" for line in [*lines, PARTICULARS.get(model_type, "")] if line)


def plan(folder: Path, *flags: str) -> dict[str, Any]:
    """What `tessera plan` says, whether it fits or not."""
    done = subprocess.run([sys.executable, "-m", "tessera", "plan", "-m", str(folder), "--json", "-", *flags], capture_output=True, text=True)
    if not done.stdout:
        raise ValueError(done.stderr.strip())
    return dict(json.loads(done.stdout))


def gigabytes(plan: dict[str, Any]) -> str:
    return f"{plan['bytes']['weights'] / 1e9:.1f} GB"


def memory(folder: Path, system: str) -> str:
    where = ("--device", "cpu", "--memory", "1000") if system == "cpu" else ("--device", "n150")
    types = ("bfloat8_b", "bfloat16")
    plans = {weights: plan(folder, *where, "--weights", weights, "-c", "1024") for weights in types}
    told = f"`tessera plan -m models/{folder.relative_to(MODELS)}` tells for any load whether it fits and what to change"
    if system == "cpu":
        more = {cache: plan(folder, *where, "--weights", "bfloat16", "--cache", cache, "-c", "2048")["bytes"]["cache"] for cache in ("bfloat16", "bfloat8_b")}
        less = {cache: plan(folder, *where, "--weights", "bfloat16", "--cache", cache, "-c", "1024")["bytes"]["cache"] for cache in more}
        token = {cache: f"{(more[cache] - less[cache]) // 1024:,} bytes" for cache in more}
        return (f"\n## Memory\n\nWeights: {gigabytes(plans['bfloat16'])} in bfloat16, {gigabytes(plans['bfloat8_b'])} in bfloat8_b. "
                f"A token of the cache: {token['bfloat16']} in bfloat16, {token['bfloat8_b']}\nin bfloat8_b. {told.replace('` tells', ' --device cpu` tells')}.\n")
    rows = [f"| {weights} | {gigabytes(plans[weights])} | {cache} | "
            + " | ".join(f"{row[cache]:,}" if row[cache] else "none" for row in plans[weights]["longest_context"] if row["sequences"] in (1, 32)) + " |"
            for weights in types for cache in ("bfloat16", "bfloat8_b")]
    return "\n".join(["\n## Memory and contexts", "", "| weights | | cache | longest context of 1 conversation | of each of 32 |", "|---|---|---|---|---|", *rows, "",
                      f"Reckoned with TTNN's tiles and banks, of {plans['bfloat8_b']['memory_bytes'] / 1e9:.2f} GB; not measured on silicon. {told}.\n"])


def measured(folder: Path, has_sizes: bool) -> str:
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("runs/*.json"))]
    nothing = ("Nothing of this checkpoint, which was not at hand: its architecture is held against Hugging Face's float32 on tiny random checkpoints, within 0.001 on\n"
               "every row of logits (`tests/python/test_parity.py`)." if has_sizes else "Nothing yet.")
    if runs:
        kept = f"[MODELS.md](../../../../../MODELS.md) has figures of another checkpoint of this architecture: {', '.join(sorted({run['checkpoint']['name'] for run in runs}))}."
        return f"{nothing} {kept}"
    return (f"{nothing}\n`eval.py --save_run {folder.relative_to(MODELS.parent)}/runs/NAME.json` saves a run, `scripts/make_models_table.py` puts it into MODELS.md.")


def write(args: argparse.Namespace) -> Path:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", args.name) or ".." in args.name:
        raise ValueError(f"{args.name}: is no Hugging Face id, ORG/NAME")
    folder: Path = MODELS / args.name / args.system / "functional"
    if folder.exists() and not args.again:
        raise ValueError(f"{folder} is there already")
    from tessera.bringup import open_checkpoint
    published: Path = MODELS / args.name / "config.json"
    config_folder: Path | None = published.parent if published.exists() else None
    if args.architecture:
        architecture = find_architecture(args.architecture, "")
    elif config_folder:
        config = json.loads(published.read_text(encoding="utf-8"))
        architecture = find_architecture(config["architectures"][0], config["model_type"])
    else:
        checkpoint = open_checkpoint(args.name)
        architecture = find_architecture(checkpoint.architecture, checkpoint.model_type)
    dtype, weights = WEIGHTS[args.system]
    words = {"name": args.name, "title": args.name.split("/")[1], "system": args.system, "architecture": architecture.name, "source": source_of(architecture), "weights": weights,
             "dtype": f'"{dtype}"' if dtype else None,
             "silicon": "Not measured on silicon: no card was at hand.\n\n" if args.system == "n150" else "",
             "from_sizes": " from the published sizes, [config.json](../../config.json)" if config_folder else "",
             "sizes": sizes(config_folder, architecture.model_type) if config_folder else "To be written: what is particular to this model.",
             "precision": PRECISION[args.system], "memory": memory(config_folder, args.system) if config_folder else "",
             "commands": "\n".join(f"python {command.format(name=args.name)}" for command in COMMANDS[args.system]), "evaluate": EVALUATE[args.system],
             "measured": measured(folder, config_folder is not None)}
    folder.mkdir(parents=True, exist_ok=args.again)
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
