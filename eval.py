#!/usr/bin/env python3
"""How often a bring-up chooses as Hugging Face's float32 does, when it is fed Hugging Face's own choices: docs/evaluation.md."""
import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tessera
    from tessera.evaluation import Score

SHORTEST_MAX_SEQ_LEN = 2048
OF = ", of "  # between who made a reference and its text


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("model_path", help="a bring-up's model.py")
    parser.add_argument("--model", default="meta-llama/Llama-3.2-1B", help="a Hugging Face id, or a checkpoint's directory")
    text = parser.add_mutually_exclusive_group()
    text.add_argument("--prompt", default="1 2 3 4 5 6 7 8 9 10 11 12", help="the raw prompt, without a chat template")
    text.add_argument("--prompt_file", help="a file with the prompt")
    text.add_argument("--prompt_ids_file", help="a JSON list of the prompt's token ids")
    text.add_argument("--text", help="a file: its text is fed as it stands, and the choice at each of its tokens judged")
    text.add_argument("--reference", help="a saved reference, .json or .refpt, in place of a prompt and the Hugging Face model")
    parser.add_argument("--max_new_tokens", type=int, default=20)
    parser.add_argument("--min_new_tokens", type=int, help="no end token before so many")
    parser.add_argument("--max_seq_len", type=int, default=SHORTEST_MAX_SEQ_LEN)
    parser.add_argument("--prefill_decode", action="store_true", help="feed the prompt one token at a time, as decoding does")
    parser.add_argument("--device", help="cpu or n150; the bring-up's own system if not given")
    parser.add_argument("--device_id", type=int, default=0)
    parser.add_argument("--twin", choices=["card"], help="with --device cpu: round as the n150 does")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "bfloat8_b", "bfloat4_b"],
                        help="weights in place of the bring-up's own; float32 also computes in float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache_dir", help="Hugging Face's cache of checkpoints")
    parser.add_argument("--save_reference", help="save the reference to this file, .json or .refpt")
    parser.add_argument("--save_run", help="save what was measured to this file, as JSON")
    return parser.parse_args(arguments)


def system_of(model_path: str) -> str:
    folders = Path(model_path).absolute().parts
    return folders[-3] if folders[-2:] == ("functional", "model.py") and len(folders) > 3 else "cpu"


def check_arguments(args: argparse.Namespace) -> None:
    if args.max_seq_len < SHORTEST_MAX_SEQ_LEN:
        raise ValueError(f"--max_seq_len: {args.max_seq_len} is below {SHORTEST_MAX_SEQ_LEN}")
    if args.max_new_tokens < 0 or (args.min_new_tokens or 0) > args.max_new_tokens:
        raise ValueError(f"--max_new_tokens: {args.max_new_tokens} is below {args.min_new_tokens or 0}")
    if args.device_id and args.device == "cpu":
        raise ValueError(f"--device_id: {args.device_id}; the cpu is one device, 0")
    if args.twin and args.device != "cpu":
        raise ValueError(f"--twin: {args.twin} is of --device cpu; the device is {args.device}")
    if args.save_reference and args.reference:
        raise ValueError("--save_reference: the reference is a saved one already; leave --reference out to make one")


def prompt_ids(args: argparse.Namespace, tokenizer: Any) -> tuple[list[int], str]:
    """And where they came from."""
    if args.prompt_ids_file:
        ids = json.loads(Path(args.prompt_ids_file).read_text(encoding="utf-8"))
        if not isinstance(ids, list) or not all(type(token) is int and token >= 0 for token in ids):
            raise ValueError(f"--prompt_ids_file: {args.prompt_ids_file} is no JSON list of token ids")
        source = Path(args.prompt_ids_file).name
    else:
        file = args.text or args.prompt_file
        text = Path(file).read_text(encoding="utf-8") if file else args.prompt
        ids, source = tokenizer(text)["input_ids"], Path(file).name if file else args.prompt
    if not ids:
        raise ValueError(f"the prompt ({source}) has no tokens")
    return ids, source


def make_reference(args: argparse.Namespace, directory: str) -> "tessera.Reference":
    """By Hugging Face's model, which is let go behind it."""
    from tessera import evaluation
    from transformers import AutoTokenizer
    tokenizer = None
    if not args.prompt_ids_file or any((Path(directory) / name).exists() for name in ("tokenizer.json", "tokenizer.model")):
        print("Loading HuggingFace tokenizer...")
        tokenizer = AutoTokenizer.from_pretrained(directory)
    ids, source = prompt_ids(args, tokenizer)
    more = 0 if args.text else args.max_new_tokens
    if len(ids) + more > args.max_seq_len:
        raise ValueError(f"the {'text' if args.text else 'prompt'} has {len(ids)} tokens{f' and {more} follow it' if more else ''}; --max_seq_len is {args.max_seq_len}")
    print("Loading HuggingFace reference model on CPU...")
    hf = evaluation.load_reference_model(directory)
    vocabulary = hf.config.get_text_config().vocab_size
    if max(ids) >= vocabulary:
        raise ValueError(f"the prompt ({source}) has token {max(ids)}; the vocabulary has {vocabulary}")
    print("Generating reference tokens...")
    if args.text:
        reference = evaluation.reference_of_text(hf, ids)
    else:
        reference = evaluation.generate_reference(hf, ids, args.max_new_tokens, args.min_new_tokens)
        if len(reference.tokens) < args.max_new_tokens:
            print(f"Reference generation stopped early (requested {args.max_new_tokens}, got {len(reference.tokens)}). Evaluating available tokens.")
    reference.made_by += f"{OF}{source}"
    if args.save_reference:
        evaluation.save_reference(args.save_reference, reference, hf)
    return reference


def open_device(args: argparse.Namespace, module: ModuleType) -> "tessera.Device":
    from tessera import bringup
    if path := os.environ.get("TT_MESH_GRAPH_DESC_PATH"):
        print(f"Using TT_MESH_GRAPH_DESC_PATH={path}")
    shape = getattr(module, "MESH_SHAPE", None)
    print("Opening device..." if shape is None else f"Opening mesh device: ({shape[0]}, {shape[1]})...")
    if shape is not None and tuple(shape) != (1, 1):
        raise ValueError(f"MESH_SHAPE: {tuple(shape)}; this version opens a single device, (1, 1)")
    return bringup.open_device(args.device, args.device_id, args.twin)


def run(args: argparse.Namespace) -> "Score":
    """Prints what it does and finds, and gives the Score."""
    args.device = args.device or system_of(args.model_path)
    check_arguments(args)
    import torch
    from tessera import bringup, evaluation, runs
    torch.manual_seed(args.seed)
    print(f"Loading model module: {args.model_path}")
    module = evaluation.load_bringup(args.model_path)
    if args.device != "cpu":
        bringup.open_device(args.device)  # what this version cannot open is said before the reference takes its time
    directory = bringup.open_checkpoint(args.model, args.cache_dir).directory
    if args.reference:
        print(f"Using reference: {args.reference}")
        reference = evaluation.load_reference(args.reference)
        length = len(reference.prompt) + len(reference.tokens)
        if length > args.max_seq_len:
            raise ValueError(f"--reference: has {length} tokens; --max_seq_len is {args.max_seq_len}")
    else:
        reference = make_reference(args, directory)
    device = open_device(args, module)
    print("Loading ttnn model...")
    before = runs.resident_bytes()
    model = module.build_model(directory, device, args.max_seq_len, **evaluation.precision_of(args.dtype))
    print(f"Running teacher-forcing eval ({len(reference.tokens)} tokens)...", flush=True)
    score = evaluation.judge(model, [reference], args.prefill_decode)
    print("\n".join([*evaluation.accuracy_lines(score), *(evaluation.further_lines(score) if score.total else [])]))
    if args.save_run:
        save_run(args, directory, reference, model, score, runs.resident_bytes() - before)
    return score


def save_run(args: argparse.Namespace, directory: str, reference: "tessera.Reference", model: Any, score: "Score", memory: int) -> None:
    from tessera import runs
    options = model.engine.loaded.options
    made_by, _, text = reference.made_by.partition(OF)
    runs.write_run(args.save_run, {
        "checkpoint": runs.about_checkpoint(args.model, directory), "system": system_of(args.model_path), "device": args.device,
        "machine": runs.about_machine(model.engine.device), "precision": {"weights": options.weights, "activations": options.activations, "cache": options.cache},
        "reference": made_by, "text": text, "forced": bool(reference.forced), "prompt_tokens": len(reference.prompt), **vars(score),
        "memory_bytes": memory, "command": args.command})


def main() -> None:
    args = parse(sys.argv[1:])
    args.command = shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]).replace(str(Path.home()), "~")
    try:
        run(args)
    except ModuleNotFoundError as error:
        sys.exit(f"{error}: install the package with what it needs here: pip install '.[hf]'")
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
