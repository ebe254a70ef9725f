"""Models with random weights in NumPy, of any size: (architecture, config.json, tensors) as tessera.make_model takes them."""
import json

import numpy as np
from block_float_model import MAGNITUDE_BITS, decode, encode


def gemma3(layers=3, hidden=128, inner=160, heads=4, kv_heads=2, head_dim=64, vocab=320, window=128, pattern=2, values=None, **more):
    config = {"vocab_size": vocab, "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
              "num_key_value_heads": kv_heads, "head_dim": head_dim, "sliding_window": window, "sliding_window_pattern": pattern,
              "query_pre_attn_scalar": head_dim, "max_position_embeddings": 8192, **more}
    shapes = {"q_proj": (heads * head_dim, hidden), "k_proj": (kv_heads * head_dim, hidden), "v_proj": (kv_heads * head_dim, hidden),
              "o_proj": (hidden, heads * head_dim), "q_norm": (head_dim,), "k_norm": (head_dim,)}
    names = {"model.embed_tokens": (vocab, hidden), "model.norm": (hidden,)}
    for i in range(layers):
        layer = f"model.layers.{i}."
        names.update({f"{layer}self_attn.{name}": shape for name, shape in shapes.items()})
        names.update({f"{layer}mlp.gate_proj": (inner, hidden), f"{layer}mlp.up_proj": (inner, hidden), f"{layer}mlp.down_proj": (hidden, inner)})
        names.update({f"{layer}{norm}": (hidden,) for norm in ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
                                                               "post_feedforward_layernorm")})
    return "Gemma3ForCausalLM", json.dumps(config), (values or random_values)(names, norm_mean=0)


def phi3(layers=2, hidden=384, inner=200, heads=4, vocab=320, values=None, **more):
    config = {"vocab_size": vocab, "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
              "num_key_value_heads": heads, "max_position_embeddings": 8192, "original_max_position_embeddings": 8192, **more}
    names = {"model.embed_tokens": (vocab, hidden), "model.norm": (hidden,), "lm_head": (vocab, hidden)}
    for i in range(layers):
        layer = f"model.layers.{i}."
        names.update({f"{layer}self_attn.qkv_proj": (3 * hidden, hidden), f"{layer}self_attn.o_proj": (hidden, hidden),
                      f"{layer}mlp.gate_up_proj": (2 * inner, hidden), f"{layer}mlp.down_proj": (hidden, inner),
                      f"{layer}input_layernorm": (hidden,), f"{layer}post_attention_layernorm": (hidden,)})
    return "Phi3ForCausalLM", json.dumps(config), (values or random_values)(names, norm_mean=1)


def longrope(pairs):
    return {"type": "longrope", "short_factor": [1 + 0.1 * i / pairs for i in range(pairs)], "long_factor": [1 + 3.0 * i / pairs for i in range(pairs)]}


def random_values(names, norm_mean):
    """float32 values that are exact in bfloat16, of a size that keeps every part of a model visible in its logits."""
    random = np.random.default_rng(20)
    tensors = {}
    for name, shape in names.items():
        values = random.standard_normal(shape, dtype=np.float32)
        values = norm_mean + np.float32(0.3) * values if len(shape) == 1 else values * np.float32(1.5 / shape[1] ** 0.5)
        tensors[name + ".weight"] = (values.view(np.uint32) & 0xFFFF0000).view(np.float32)
    return tensors


def rounded_as_on_the_card(model, format_name):
    """The model with its linears' values as the card's tiles of this format hold them: 16 outputs share an exponent, in the card's order of rows."""
    architecture, config, tensors = model
    if format_name not in MAGNITUDE_BITS:
        return model
    read = json.loads(config)
    head_dim = read.get("head_dim", read["hidden_size"] // read["num_attention_heads"])
    tied = "lm_head.weight" not in tensors
    linears = {name for name, values in tensors.items() if values.ndim == 2 and (tied or "embed_tokens" not in name)}

    def round_rows(values, order):
        bits = MAGNITUDE_BITS[format_name]
        blocks = np.pad(values[order], [(0, -len(values) % 16), (0, 0)]).T.copy()
        held = decode(*encode(blocks.reshape(-1, 16), bits), bits).view(np.float32).reshape(blocks.shape).T[: len(values)]
        out = np.empty_like(values)
        out[order] = held
        return out

    def round_linear(name, values):
        rows = np.arange(len(values))
        if "gate_up" in name:
            return np.concatenate([round_rows(half, rows[: len(half)]) for half in np.split(values, 2)])
        if "qkv_proj" in name and head_dim % 64 and head_dim != 32:  # a rotation's pairs are neighbours on the card
            rotated = 2 * len(rows) // 3
            pairs = rows[:rotated].reshape(-1, 2, head_dim // 2).transpose(0, 2, 1).reshape(-1)
            rows = np.concatenate([pairs, rows[rotated:]])
        return round_rows(values, rows)

    return architecture, config, {name: round_linear(name, values) if name in linears else values for name, values in tensors.items()}
