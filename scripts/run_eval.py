#!/usr/bin/env python3
"""Judges a bring-up (--mode tt) or Hugging Face's own model (--mode hf) on a fixed prompt; the last line is YT_METRICS={...} for programs."""
import argparse
import json
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tessera
    from tessera.evaluation import Score

MODELS = Path(__file__).resolve().parents[1] / "models"
SENTENCE = "The quick brown fox jumps over the lazy dog."
SHORTEST_MAX_SEQ_LEN = 2048
LONGEST_PREFILL = 512  # of a prompt in one piece; a longer one goes in one token at a time


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--mode", choices=["hf", "tt"], required=True)
    parser.add_argument("--hf-model", required=True, help="a Hugging Face id, or a checkpoint's directory: the bring-up of its architecture")
    parser.add_argument("--system", default=os.environ.get("YT_SYSTEM", "n150"), help="cpu or n150 (YT_SYSTEM)")
    parser.add_argument("--prefill-len", type=int, default=20)
    parser.add_argument("--decode-len", type=int, default=20)
    parser.add_argument("--batch", type=int, default=1, help="prompts at a time; each is compared with its own reference")
    parser.add_argument("--trace", type=int, choices=[0, 1], default=0, help="printed again in YT_METRICS")
    parser.add_argument("--prefill-decode", action="store_true", help=f"feed the prompt one token at a time; always so over {LONGEST_PREFILL} tokens")
    parser.add_argument("--cache-dir", help="Hugging Face's cache of checkpoints")
    parser.add_argument("--device", help="cpu or n150; the system if not given")
    parser.add_argument("--twin", choices=["card"], help="with --device cpu: round as the n150 does")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "bfloat8_b", "bfloat4_b"], help="weights in place of the bring-up's own")
    parser.add_argument("--reference", help="a saved reference, .json or .refpt, in place of the prompt and the Hugging Face model")
    parser.add_argument("--save-reference", help="save the reference to this file, .json or .refpt")
    return parser.parse_args(arguments)


def check_arguments(args: argparse.Namespace) -> None:
    for name, value in ("--prefill-len", args.prefill_len), ("--decode-len", args.decode_len), ("--batch", args.batch):
        if value < 1:
            raise ValueError(f"{name}: {value} is below 1")
    if args.twin and (args.device or args.system) != "cpu":
        raise ValueError(f"--twin: {args.twin} is of --device cpu; the device is {args.device or args.system}")
    if args.batch > 1 and (args.reference or args.save_reference):
        raise ValueError(f"--batch: {args.batch}; a saved reference has one prompt")
    if args.reference and (args.save_reference or args.mode == "hf"):
        raise ValueError("--reference: stands in place of the Hugging Face model, which --save-reference and --mode hf need")


def prompts(tokenizer: Any, length: int, batch: int) -> list[list[int]]:
    """Of `length` tokens: the sentence, special tokens included, over and over; other rows have its words in another order."""
    words = SENTENCE.split()
    texts = [SENTENCE] + [" ".join(random.Random(row).sample(words, len(words))) for row in range(1, batch)]
    rows = [tokenizer(text)["input_ids"] for text in texts]
    return [(ids * length)[:length] for ids in rows]


def references(args: argparse.Namespace, directory: str) -> "tuple[list[tessera.Reference], Any]":
    """And the Hugging Face model that made them."""
    from tessera import evaluation
    from transformers import AutoTokenizer
    rows = prompts(AutoTokenizer.from_pretrained(directory), args.prefill_len, args.batch)
    hf = evaluation.load_reference_model(directory)
    made = [evaluation.generate_reference(hf, ids, args.decode_len) for ids in rows]
    if args.save_reference:
        evaluation.save_reference(args.save_reference, made[0], hf)
    return made, hf


def judge_hf(args: argparse.Namespace) -> "Score":
    from tessera import evaluation
    from huggingface_hub import snapshot_download
    directory = args.hf_model if Path(args.hf_model).is_dir() else snapshot_download(args.hf_model, cache_dir=args.cache_dir)
    made, hf = references(args, directory)
    return evaluation.judge(hf, made, args.prefill_decode)


def judge_bringup(args: argparse.Namespace) -> "Score":
    from tessera import bringup, evaluation
    path = evaluation.find_bringup(MODELS, args.hf_model, args.system)
    print(f"Bring-up: {path.relative_to(MODELS.parent)}")
    device = bringup.open_device(args.device or args.system, twin=args.twin)
    directory = bringup.open_checkpoint(args.hf_model, args.cache_dir).directory
    made = [evaluation.load_reference(args.reference)] if args.reference else references(args, directory)[0]
    longest = len(made[0].prompt) + len(made[0].tokens) if args.reference else args.prefill_len + args.decode_len
    build_model = evaluation.load_bringup(path).build_model
    model = build_model(directory, device, max(SHORTEST_MAX_SEQ_LEN, longest), **evaluation.precision_of(args.dtype))
    return evaluation.judge(model, made, args.prefill_decode)


def metrics(args: argparse.Namespace, score: "Score") -> dict[str, Any]:
    known = {"mode": args.mode, "trace": bool(args.trace), "top1": score.top1 / (score.total or 1), "top5": score.top5 / (score.total or 1), "prefill_len": args.prefill_len,
             "decode_len": args.decode_len, "batch": args.batch, "total": score.total}
    more = {"system": args.system if args.mode == "tt" else None, "twin": args.twin, "dtype": args.dtype, "prefill_decode": args.prefill_decode, "distinct": score.distinct,
            "ties": score.ties, "ties_missed": score.ties_missed, "kl": score.kl, "perplexity": score.perplexity, "tokens_per_second": score.tokens_per_second}
    return known | more


def main() -> None:
    args = parse(sys.argv[1:])
    try:
        check_arguments(args)
        args.prefill_decode = args.prefill_decode or args.prefill_len > LONGEST_PREFILL
        score = (judge_hf if args.mode == "hf" else judge_bringup)(args)
    except ModuleNotFoundError as error:
        sys.exit(f"{error}: install the package with what it needs here: pip install '.[hf]'")
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    from tessera import evaluation
    print("\n".join([*evaluation.accuracy_lines(score), *evaluation.further_lines(score)]))
    print(f"YT_METRICS={json.dumps(metrics(args, score))}", flush=True)


if __name__ == "__main__":
    main()
