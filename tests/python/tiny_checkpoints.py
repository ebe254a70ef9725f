"""Tiny checkpoints with random weights: each is one trait of a real family, small enough that a mistake in it shows in every logit.

config.json is written here word for word, so that its spelling is what is tested; Hugging Face only makes the tensors of that shape. The tests in
Python call make(); those in C++, and the n150's in a Python without torch, read folders that this file writes as a script.

usage: tiny_checkpoints.py OUT_DIR [NAME...]      SMALL and SHAPES without names; what is up to date stays
"""
import fcntl
import hashlib
import importlib.metadata
import json
import shutil
import sys
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    config: dict
    dtype: str | None = "bfloat16"  # of the stored weights; None: their shapes alone, in shapes.json
    head: str = "as tied"  # "own": one in the file though config.json ties it; "alone": the file lacks the embedding; "equal": to it, in float32
    key_bias: float | None = None  # the size of the largest ones


def row(base, without=(), dtype="bfloat16", head="as tied", key_bias=None, **changed):
    return Row({key: value for key, value in {**base, **changed}.items() if key not in without}, dtype, head, key_bias)


def longrope(pairs, **more):
    return {"type": "longrope", "short_factor": [1 + 0.1 * i / pairs for i in range(pairs)],
            "long_factor": [1 + 3.0 * i / pairs for i in range(pairs)], **more}


GEMMA3 = {
    "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "vocab_size": 199, "hidden_size": 72, "intermediate_size": 100,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "query_pre_attn_scalar": 32,
    "sliding_window": 4, "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
    "max_position_embeddings": 512, "rope_theta": 50000.0, "rope_local_base_freq": 700.0, "rms_norm_eps": 1e-6,
    "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
    "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
}
GEMMA3_ROPE = ("rope_theta", "rope_local_base_freq")
PHI3 = {
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "vocab_size": 211, "hidden_size": 192, "intermediate_size": 136,
    "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "max_position_embeddings": 512, "original_max_position_embeddings": 512,
    "sliding_window": None, "rope_scaling": None,
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
}
LLAMA = {  # the sizes of most others too
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 211, "hidden_size": 128, "intermediate_size": 136,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "max_position_embeddings": 4096, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
}
MISTRAL_CLASS = {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
QWEN2_CLASS = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
QWEN3_CLASS = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
MISTRAL, QWEN2, QWEN3 = {**LLAMA, **MISTRAL_CLASS}, {**LLAMA, **QWEN2_CLASS}, {**LLAMA, **QWEN3_CLASS, "head_dim": 32}
MINISTRAL = {**LLAMA, "architectures": ["MinistralForCausalLM"], "model_type": "ministral", "head_dim": 32}
MINISTRAL3 = {**LLAMA, "architectures": ["Ministral3ForCausalLM"], "model_type": "ministral3", "head_dim": 32}
MINISTRAL3_ROPE = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 1024, "beta_fast": 16.0,
                   "beta_slow": 2.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}
SMOLLM3 = {**LLAMA, "architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3"}
ARCEE = {**LLAMA, "architectures": ["ArceeForCausalLM"], "model_type": "arcee", "hidden_act": "relu2"}
GRANITE = {**LLAMA, "architectures": ["GraniteForCausalLM"], "model_type": "granite", "attention_multiplier": 0.11, "embedding_multiplier": 3.3,
           "residual_multiplier": 0.43, "logits_scaling": 0.7}
GEMMA2 = {
    "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "vocab_size": 199, "hidden_size": 72, "intermediate_size": 100,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "query_pre_attn_scalar": 32,
    "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0, "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
    "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
}
OLMO2 = {**LLAMA, "architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2"}
OLMO3 = {**{key: value for key, value in LLAMA.items() if key != "rope_theta"}, "architectures": ["Olmo3ForCausalLM"], "model_type": "olmo3"}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2}
QWEN3_MOE = {**LLAMA, **EXPERTS, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "head_dim": 32, "moe_intermediate_size": 96}
OLMOE = {**LLAMA, **EXPERTS, "architectures": ["OlmoeForCausalLM"], "model_type": "olmoe", "num_key_value_heads": 4, "intermediate_size": 64}
SLIDING, FULL = "sliding_attention", "full_attention"
# For heads of 32 and theta 10000: frequencies in all three bands, and a ramp whose ends are both inside.
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "beta_fast": 16, "beta_slow": 2}

TRAITS = {  # each is compared with Hugging Face
    "gemma3-window-4": row(GEMMA3),
    "gemma3-query-scale": row(GEMMA3, query_pre_attn_scalar=50),  # is not head_dim
    "gemma3-linear-rope-old": row(GEMMA3, rope_scaling={"rope_type": "linear", "factor": 8.0}),
    "gemma3-linear-rope-new": row(GEMMA3, GEMMA3_ROPE, rope_parameters={
        "sliding_attention": {"rope_type": "default", "rope_theta": 700.0}, "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 50000.0}}),
    "gemma3-default-thetas": row(GEMMA3, GEMMA3_ROPE),
    "gemma3-layer-pattern": row(GEMMA3, ["layer_types"], sliding_window_pattern=3),
    "gemma3-default-layer-pattern": row(GEMMA3, ["layer_types"], num_hidden_layers=7),
    "gemma3-one-key-head": row(GEMMA3, num_key_value_heads=1),
    "gemma3-key-head-each": row(GEMMA3, num_key_value_heads=4),
    "gemma3-default-head-dim": row(GEMMA3, ["head_dim"], query_pre_attn_scalar=256),  # 256
    "gemma3-softcap": row(GEMMA3, final_logit_softcapping=5.0),
    "gemma3-float16": row(GEMMA3, dtype="float16"),
    "gemma3-float32": row(GEMMA3, dtype="float32"),

    "phi3-head-dim-96": row(PHI3),
    "phi3-grouped-queries": row(PHI3, num_attention_heads=6, num_key_value_heads=2),
    "phi3-partial-rotary-window-9": row(PHI3, num_attention_heads=3, num_key_value_heads=3, partial_rotary_factor=0.75, sliding_window=9),
    "phi3-tied": row(PHI3, tie_word_embeddings=True),
    "phi3-longrope-old": row(PHI3, rope_scaling=longrope(48), original_max_position_embeddings=32),
    "phi3-longrope-new": row(PHI3, ["rope_scaling", "rope_theta"], original_max_position_embeddings=32,
                             rope_parameters={**longrope(48), "rope_type": "longrope", "rope_theta": 10000.0}),
    "phi3-float32": row(PHI3, dtype="float32"),

    "llama-plain": row(LLAMA),
    "llama-free-head-dim": row(LLAMA, head_dim=64),
    "llama-null-head-dim": row(LLAMA, head_dim=None),
    "llama-default-key-heads": row(LLAMA, ["num_key_value_heads"]),
    "llama-biases": row(LLAMA, attention_bias=True, mlp_bias=True),
    "llama-attention-biases": row(LLAMA, attention_bias=True),
    "llama-float32": row(LLAMA, dtype="float32"),
    "llama-tied": row(LLAMA, tie_word_embeddings=True),
    "llama-tied-own-head": row(LLAMA, head="own", tie_word_embeddings=True),
    "llama-tied-head-alone": row(LLAMA, head="alone", tie_word_embeddings=True),
    "llama-untied-equal-head": row(LLAMA, head="equal"),
    "llama-default-theta": row(LLAMA, ["rope_theta"]),
    "llama-theta-inside": row(LLAMA, rope_parameters={"rope_type": "default", "rope_theta": 300.0}),
    "llama-theta-outside": row(LLAMA, rope_theta=300.0, rope_parameters={"rope_type": "default"}),
    "llama-linear-rope-old": row(LLAMA, rope_scaling={"type": "linear", "factor": 4.0}),
    "llama-linear-rope-new": row(LLAMA, ["rope_theta"], rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 300.0}),
    "llama-two-rope-types": row(LLAMA, rope_scaling={"type": "dynamic", "rope_type": "linear", "factor": 4.0}),  # the new key wins
    "llama-two-ropes": row(LLAMA, rope_scaling={"type": "linear", "factor": 4.0}, rope_parameters={"rope_type": "default"}),  # the old one wins
    "llama-empty-rope-scaling": row(LLAMA, rope_scaling={}, rope_parameters={"rope_type": "linear", "factor": 4.0}),
    "llama-dynamic-rope": row(LLAMA, max_position_embeddings=40, rope_scaling={"type": "dynamic", "factor": 4.0}),
    "llama-llama3-rope-old": row(LLAMA, head_dim=64, rope_scaling={**LLAMA3, "rope_type": "llama3"}),
    "llama-llama3-rope-new": row(LLAMA, ["rope_theta"], rope_parameters={**LLAMA3, "rope_type": "llama3", "rope_theta": 10000.0}),
    "llama-llama3-rope-default-original": row(LLAMA, max_position_embeddings=64, rope_scaling={
        **{key: value for key, value in LLAMA3.items() if key != "original_max_position_embeddings"}, "rope_type": "llama3"}),
    "llama-llama3-rope-outer-original": row(LLAMA, original_max_position_embeddings=24, rope_scaling={**LLAMA3, "rope_type": "llama3"}),
    "llama-longrope": row(LLAMA, rope_scaling={**longrope(16), "original_max_position_embeddings": 32}),
    "llama-longrope-outer-original": row(LLAMA, rope_scaling={**longrope(16), "factor": 5.0}, original_max_position_embeddings=32),
    "llama-longrope-attention-factor": row(LLAMA, rope_scaling={**longrope(16), "original_max_position_embeddings": 32, "attention_factor": 1.5}),

    "mistral-default-window": row(MISTRAL, max_position_embeddings=8192),  # 4096
    "mistral-no-window": row(MISTRAL, sliding_window=None),
    "mistral-window-4": row(MISTRAL, sliding_window=4),
    "mistral-free-head-dim": row(MISTRAL, hidden_size=100, num_attention_heads=3, num_key_value_heads=1, head_dim=64, sliding_window=None),
    "mistral-default-key-heads": row(MISTRAL, ["num_key_value_heads"], num_attention_heads=16, head_dim=32, sliding_window=None),  # 8
    "mistral-tied": row(MISTRAL, tie_word_embeddings=True, sliding_window=None),
    "mistral-yarn": row(MISTRAL, sliding_window=None, rope_parameters={**YARN, "rope_theta": 10000.0}),

    "qwen2-plain": row(QWEN2),
    "qwen2-large-biases": row(QWEN2, key_bias=158.0),
    "qwen2-unused-window": row(QWEN2, use_sliding_window=False, sliding_window=4, max_window_layers=0),
    "qwen2-window-from-layer-1": row(QWEN2, use_sliding_window=True, sliding_window=4, max_window_layers=1),
    "qwen2-window-on-all": row(QWEN2, use_sliding_window=True, sliding_window=4, max_window_layers=0),
    "qwen2-window-on-none": row(QWEN2, use_sliding_window=True, sliding_window=4),  # from layer 28
    "qwen2-layer-types": row(QWEN2, use_sliding_window=True, sliding_window=4, max_window_layers=0, layer_types=[SLIDING, FULL, SLIDING]),
    "qwen2-free-head-dim": row(QWEN2, head_dim=64),  # not a field of the class
    "qwen2-default-key-heads": row(QWEN2, ["num_key_value_heads"], num_attention_heads=32, head_dim=32),  # 32
    "qwen2-null-key-heads": row(QWEN2, num_key_value_heads=None),
    "qwen2-tied": row(QWEN2, tie_word_embeddings=True),
    "qwen2-yarn": row(QWEN2, rope_scaling=YARN),
    "qwen2-yarn-old-key": row(QWEN2, rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}),
    "qwen2-yarn-not-truncated": row(QWEN2, rope_scaling={**YARN, "truncate": False}),
    "qwen2-yarn-lone-mscale": row(QWEN2, rope_scaling={**YARN, "mscale": 0.5}),  # does nothing
    "qwen2-yarn-two-mscales": row(QWEN2, rope_scaling={**YARN, "mscale": 2.0, "mscale_all_dim": 0.5}),
    "qwen2-yarn-attention-factor": row(QWEN2, rope_scaling={**YARN, "attention_factor": 1.3, "mscale": 2.0, "mscale_all_dim": 0.5}),
    "qwen2-yarn-null-factor": row(QWEN2, max_position_embeddings=6144, rope_scaling={**YARN, "factor": None}),  # 6
    "qwen2-yarn-zero-betas": row(QWEN2, rope_scaling={**YARN, "beta_fast": 0, "beta_slow": 0}),  # 32 and 1
    "qwen2-yarn-default-original": row(QWEN2, max_position_embeddings=1024, rope_scaling={"rope_type": "yarn", "factor": 4.0}),
    "qwen2-yarn-equal-ends": row(QWEN2, rope_scaling={**YARN, "beta_fast": 8, "beta_slow": 8, "truncate": False}),

    "qwen3-plain": row(QWEN3),
    "qwen3-default-head-dim": row(QWEN3, ["head_dim"]),  # 128
    "qwen3-attention-biases": row(QWEN3, attention_bias=True),
    "qwen3-window-from-layer-1": row(QWEN3, use_sliding_window=True, sliding_window=4, max_window_layers=1),
    "qwen3-layer-types": row(QWEN3, use_sliding_window=True, sliding_window=4, layer_types=[SLIDING, FULL, SLIDING]),
    "qwen3-odd-hidden": row(QWEN3, hidden_size=100, num_attention_heads=3, num_key_value_heads=1),
    "qwen3-tied": row(QWEN3, tie_word_embeddings=True),
    "qwen3-yarn": row(QWEN3, ["rope_theta"], rope_parameters={**YARN, "rope_theta": 1000000.0}),

    # HF reads a Mistral with layer_types as a Ministral.
    "mistral-layer-types": row(MISTRAL, head_dim=32, sliding_window=4, layer_types=[SLIDING, FULL, SLIDING]),
    "ministral-layer-types": row(MINISTRAL, sliding_window=4, layer_types=[SLIDING, FULL, SLIDING]),
    "ministral-all-slide": row(MINISTRAL, sliding_window=4),
    "ministral-default-window": row(MINISTRAL, max_position_embeddings=8192),  # 4096

    "ministral3-default-rope": row(MINISTRAL3, ["rope_theta"]),  # yarn: 16 times 16384
    "ministral3-queries-grow": row(MINISTRAL3, ["rope_theta"], rope_parameters={**MINISTRAL3_ROPE, "original_max_position_embeddings": 16}),
    "ministral3-queries-grow-much": row(MINISTRAL3, ["rope_theta"], rope_parameters={
        **MINISTRAL3_ROPE, "original_max_position_embeddings": 8, "llama_4_scaling_beta": 0.7}),
    "ministral3-window-4": row(MINISTRAL3, ["rope_theta"], rope_parameters=MINISTRAL3_ROPE, sliding_window=4),
    "ministral3-default-head-dim": row(MINISTRAL3, ["head_dim", "rope_theta"], rope_parameters=MINISTRAL3_ROPE),  # 128
    "ministral3-tied": row(MINISTRAL3, ["rope_theta"], rope_parameters=MINISTRAL3_ROPE, tie_word_embeddings=True),

    "smollm3-interval-4": row(SMOLLM3, num_hidden_layers=5),
    "smollm3-interval-2": row(SMOLLM3, no_rope_layer_interval=2),
    "smollm3-listed-layers": row(SMOLLM3, no_rope_layers=[0, 1, 1], no_rope_layer_interval=2),
    "smollm3-unrotated-layers-slide": row(SMOLLM3, no_rope_layers=[1, 0, 1], use_sliding_window=True, sliding_window=4),
    "smollm3-unused-window": row(SMOLLM3, no_rope_layers=[1, 0, 1], use_sliding_window=False, sliding_window=4),
    "smollm3-default-tied": row(SMOLLM3, ["tie_word_embeddings"]),
    "smollm3-default-theta": row(SMOLLM3, ["rope_theta"]),  # 2,000,000
    "smollm3-biases": row(SMOLLM3, attention_bias=True, mlp_bias=True),
    "smollm3-yarn": row(SMOLLM3, rope_scaling=YARN),

    "arcee-plain": row(ARCEE),
    "arcee-biases": row(ARCEE, attention_bias=True, mlp_bias=True),
    "arcee-yarn": row(ARCEE, ["rope_theta"], rope_parameters={**YARN, "rope_theta": 10000.0}),
    "arcee-free-head-dim": row(ARCEE, head_dim=64),
    "arcee-default-activation": row(ARCEE, ["hidden_act"]),
    "arcee-tied": row(ARCEE, tie_word_embeddings=True),

    "granite-multipliers": row(GRANITE),
    "granite-default-attention-multiplier": row(GRANITE, ["attention_multiplier"], residual_multiplier=0.22),  # 1, not head_dim^-0.5
    "granite-default-multipliers": row(GRANITE, ["attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling"]),
    "granite-lone-logits-scaling": row(GRANITE, ["embedding_multiplier", "residual_multiplier"], logits_scaling=0.4),
    "granite-biases": row(GRANITE, attention_bias=True, mlp_bias=True),
    "granite-tied": row(GRANITE, tie_word_embeddings=True),

    "gemma2-window-4": row(GEMMA2, sliding_window=4),
    "gemma2-default-softcaps": row(GEMMA2, ["attn_logit_softcapping", "final_logit_softcapping"], sliding_window=4),  # 50 and 30
    "gemma2-small-attention-softcap": row(GEMMA2, attn_logit_softcapping=1.5, sliding_window=4),
    "gemma2-null-softcaps": row(GEMMA2, attn_logit_softcapping=None, final_logit_softcapping=None, sliding_window=4),
    "gemma2-layer-types": row(GEMMA2, sliding_window=4, layer_types=[FULL, SLIDING, SLIDING]),
    "gemma2-query-scale": row(GEMMA2, query_pre_attn_scalar=50),
    "gemma2-biases": row(GEMMA2, attention_bias=True),
    "gemma2-default-head-dim": row(GEMMA2, ["head_dim", "query_pre_attn_scalar"]),  # 256 both

    "olmo2-plain": row(OLMO2),
    "olmo2-grouped-queries": row(OLMO2, num_key_value_heads=1),  # its norm of keys is narrower
    "olmo2-default-key-heads": row(OLMO2, ["num_key_value_heads"]),
    "olmo2-biases": row(OLMO2, attention_bias=True),
    "olmo2-tied": row(OLMO2, tie_word_embeddings=True),
    "olmo2-default-epsilon": row(OLMO2, ["rms_norm_eps"]),
    "olmo2-linear-rope": row(OLMO2, rope_scaling={"type": "linear", "factor": 4.0}),

    "olmo3-default-layers": row(OLMO3, num_hidden_layers=5, sliding_window=4),
    "olmo3-layer-types": row(OLMO3, sliding_window=4, layer_types=[SLIDING, FULL, SLIDING]),
    "olmo3-yarn-old": row(OLMO3, sliding_window=4, layer_types=[SLIDING, FULL, SLIDING], rope_scaling=YARN),  # of the full layers alone
    "olmo3-outer-theta": row(OLMO3, rope_theta=300.0, sliding_window=4, layer_types=[SLIDING, FULL, SLIDING]),  # the sliding ones' stays 500,000
    "olmo3-ropes-by-layer": row(OLMO3, ["rope_theta"], sliding_window=4, layer_types=[SLIDING, FULL, SLIDING], rope_parameters={
        SLIDING: {"rope_type": "default", "rope_theta": 700.0}, FULL: {**YARN, "rope_theta": 50000.0}}),
    "olmo3-default-window": row(OLMO3, max_position_embeddings=8192),  # 4096

    "qwen3-moe-plain": row(QWEN3_MOE),
    "qwen3-moe-normed": row(QWEN3_MOE, norm_topk_prob=True),
    "qwen3-moe-default-head-dim": row(QWEN3_MOE, ["head_dim"], hidden_size=192),  # hidden_size / heads, not 128
    "qwen3-moe-dense-layers": row(QWEN3_MOE, mlp_only_layers=[1]),
    "qwen3-moe-sparse-step": row(QWEN3_MOE, decoder_sparse_step=2),
    "qwen3-moe-one-expert-a-token": row(QWEN3_MOE, num_experts_per_tok=1, norm_topk_prob=True),
    "qwen3-moe-all-experts": row(QWEN3_MOE, num_experts=4, num_experts_per_tok=4),
    "qwen3-moe-window-4": row(QWEN3_MOE, use_sliding_window=True, sliding_window=4),
    "qwen3-moe-unused-window": row(QWEN3_MOE, use_sliding_window=False, sliding_window=4),
    "qwen3-moe-attention-biases": row(QWEN3_MOE, attention_bias=True),
    "qwen3-moe-tied": row(QWEN3_MOE, tie_word_embeddings=True),

    "olmoe-plain": row(OLMOE),
    "olmoe-normed": row(OLMOE, norm_topk_prob=True),
    "olmoe-grouped-queries": row(OLMOE, num_key_value_heads=2),
    "olmoe-attention-biases": row(OLMOE, attention_bias=True),
}

# Room for thousands of tokens: what the tests of caches, generators and devices run. Fields that are left out have the class's defaults.
SMALL_GEMMA3 = {
    "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "vocab_size": 300, "hidden_size": 96, "intermediate_size": 160,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "query_pre_attn_scalar": 48,
    "sliding_window": 512, "sliding_window_pattern": 2, "max_position_embeddings": 4096,
}
NARROW = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 32}
SMALL_PHI3 = {
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "vocab_size": 300, "hidden_size": 384, "intermediate_size": 200,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
}
SMALL_SIZES = {"vocab_size": 300, "intermediate_size": 160, "head_dim": 64}
SMALL_LLAMA = {**LLAMA, **SMALL_SIZES}
SMALL = {
    "small-gemma3": row(SMALL_GEMMA3),
    "small-gemma3-window-4": row(SMALL_GEMMA3, sliding_window=4),
    "small-gemma3-window-16": row(SMALL_GEMMA3, sliding_window=16),
    "small-gemma3-window-16-long": row(SMALL_GEMMA3, **{**NARROW, "num_hidden_layers": 2}, sliding_window=16, max_position_embeddings=16384),
    "small-gemma3-window-128": row(SMALL_GEMMA3, sliding_window=128),
    "small-gemma3-window-1024": row(SMALL_GEMMA3, num_hidden_layers=2, sliding_window=1024),
    "small-gemma3-softcap": row(SMALL_GEMMA3, num_key_value_heads=1, sliding_window=16, final_logit_softcapping=3.0),
    "small-gemma3-softcap-head-dim-256": row(SMALL_GEMMA3, num_hidden_layers=2, head_dim=256, num_key_value_heads=1, sliding_window=128,
                                             final_logit_softcapping=3.0),
    "small-gemma3-head-dim-32": row(SMALL_GEMMA3, num_hidden_layers=2, head_dim=32, sliding_window=16),
    "small-gemma3-head-dim-48": row(SMALL_GEMMA3, head_dim=48),
    "small-gemma3-odd-widths": row(SMALL_GEMMA3, num_hidden_layers=2, hidden_size=72, intermediate_size=100, head_dim=32, vocab_size=301,
                                   sliding_window=128),
    "small-gemma3-narrow": row(SMALL_GEMMA3, **{**NARROW, "hidden_size": 64, "num_attention_heads": 2}, vocab_size=400),
    "small-phi3": row(SMALL_PHI3),
    "small-phi3-longrope-64": row(SMALL_PHI3, rope_scaling=longrope(48), original_max_position_embeddings=64),
    "small-phi3-longrope-128": row(SMALL_PHI3, rope_scaling=longrope(48), original_max_position_embeddings=128),
    "small-phi3-tied": row(SMALL_PHI3, hidden_size=256, tie_word_embeddings=True),
    "small-phi3-partial-rotary": row(SMALL_PHI3, hidden_size=256, num_key_value_heads=2, partial_rotary_factor=0.75, sliding_window=16),
    "small-phi3-partial-rotary-head-dim-96": row(SMALL_PHI3, partial_rotary_factor=0.75),
    "small-phi3-narrow": row(SMALL_PHI3, num_hidden_layers=1, hidden_size=64, intermediate_size=64, num_attention_heads=2, num_key_value_heads=2),
    "small-llama": row(SMALL_LLAMA, rope_scaling={**LLAMA3, "rope_type": "llama3"}, tie_word_embeddings=True),
    "small-llama-biases": row(SMALL_LLAMA, attention_bias=True, mlp_bias=True),
    "small-llama-biases-head-dim-96": row(SMALL_LLAMA, key_bias=20.0, head_dim=96, attention_bias=True),
    "small-mistral": row({**SMALL_LLAMA, **MISTRAL_CLASS}, sliding_window=16),
    "small-qwen2": row({**SMALL_LLAMA, **QWEN2_CLASS}, key_bias=158.0, use_sliding_window=True, sliding_window=16, max_window_layers=1),
    "small-qwen3": row({**SMALL_LLAMA, **QWEN3_CLASS}, rope_scaling=YARN),
    "small-ministral3": row({**MINISTRAL3, **SMALL_SIZES}, ["rope_theta"], rope_parameters={**MINISTRAL3_ROPE, "original_max_position_embeddings": 16}),
    "small-smollm3": row({**SMOLLM3, **SMALL_SIZES}, no_rope_layers=[1, 0, 1], use_sliding_window=True, sliding_window=16),
    "small-arcee": row({**ARCEE, **SMALL_SIZES}, rope_scaling=YARN),
    "small-granite": row({**GRANITE, **SMALL_SIZES}),
    "small-gemma2": row({**GEMMA2, **SMALL_SIZES}, hidden_size=96, max_position_embeddings=4096, sliding_window=16),
    "small-olmo2": row({**OLMO2, **SMALL_SIZES}),
    "small-olmo3": row({**OLMO3, **SMALL_SIZES}, sliding_window=16, layer_types=[SLIDING, FULL, SLIDING], rope_scaling=YARN),
    "small-olmo2-head-dim-96": row({**OLMO2, **SMALL_SIZES}, ["head_dim"], hidden_size=384),
    "small-qwen3-moe": row({**QWEN3_MOE, **SMALL_SIZES}, mlp_only_layers=[1], norm_topk_prob=True),
    "small-olmoe": row({**OLMOE, **SMALL_SIZES}, ["head_dim"]),
}

GEMMA3_4B = {
    **SMALL_GEMMA3, "torch_dtype": "bfloat16", "vocab_size": 262208, "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 1024,
    "sliding_window_pattern": 6, "max_position_embeddings": 131072,
}
PHI3_MINI = {
    **SMALL_PHI3, "torch_dtype": "bfloat16", "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 131072,
}
SHAPES = {  # for devices that compute nothing
    "gemma3-4b": row(GEMMA3_4B, dtype=None),
    "gemma3-4b-two-layers": row(GEMMA3_4B, dtype=None, num_hidden_layers=2, sliding_window_pattern=2, vocab_size=512),
    "phi3-mini": row(PHI3_MINI, dtype=None, rope_scaling=longrope(48), original_max_position_embeddings=4096),
    "phi3-mini-without-longrope": row(PHI3_MINI, dtype=None),
    "phi3-mini-one-layer": row(PHI3_MINI, dtype=None, num_hidden_layers=1, vocab_size=512),
    # Two layers of the published widths; Qwen2's are Arcee-Spark's too.
    "llama-3.2-1b": row(LLAMA, dtype=None, vocab_size=512, hidden_size=2048, intermediate_size=8192, num_hidden_layers=2, num_attention_heads=32,
                        num_key_value_heads=8, head_dim=64, max_position_embeddings=131072, rope_theta=500000.0, tie_word_embeddings=True,
                        rope_scaling={**LLAMA3, "rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8192}),
    "mistral-7b": row(MISTRAL, dtype=None, vocab_size=512, hidden_size=4096, intermediate_size=14336, num_hidden_layers=2, num_attention_heads=32,
                      num_key_value_heads=8, head_dim=128, max_position_embeddings=32768, rope_theta=1000000.0, sliding_window=None),
    "falcon3-7b": row(LLAMA, dtype=None, vocab_size=512, hidden_size=3072, intermediate_size=23040, num_hidden_layers=2, num_attention_heads=12,
                      num_key_value_heads=4, head_dim=256, max_position_embeddings=32768, rope_theta=1000042.0),
    "allam-7b": row(LLAMA, dtype=None, vocab_size=512, hidden_size=4096, intermediate_size=11008, num_hidden_layers=2, num_attention_heads=32,
                    num_key_value_heads=32),
    "afm-4.5b": row(ARCEE, dtype=None, vocab_size=512, hidden_size=2560, intermediate_size=18432, num_hidden_layers=2, num_attention_heads=20,
                    num_key_value_heads=4, head_dim=128, max_position_embeddings=65536,
                    rope_scaling={**YARN, "factor": 20.0, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1}),
    "smollm3-3b": row(SMOLLM3, dtype=None, vocab_size=512, hidden_size=2048, intermediate_size=11008, num_hidden_layers=2, num_attention_heads=16,
                      num_key_value_heads=4, no_rope_layers=[1, 0], max_position_embeddings=65536, rope_theta=5000000.0, tie_word_embeddings=True),
    "phi-4-mini": row(PHI3_MINI, dtype=None, vocab_size=512, num_hidden_layers=2, num_attention_heads=24, num_key_value_heads=8,
                      partial_rotary_factor=0.75, sliding_window=262144, tie_word_embeddings=True, rope_scaling=longrope(48),
                      original_max_position_embeddings=4096),
    "granite-3.3-8b": row(GRANITE, dtype=None, vocab_size=512, hidden_size=4096, intermediate_size=12800, num_hidden_layers=2, num_attention_heads=32,
                          num_key_value_heads=8, max_position_embeddings=131072, rope_theta=10000000.0, tie_word_embeddings=True,
                          attention_multiplier=0.0078125, embedding_multiplier=12.0, residual_multiplier=0.22, logits_scaling=16.0),
    "olmo2-7b": row(OLMO2, dtype=None, vocab_size=512, hidden_size=4096, intermediate_size=11008, num_hidden_layers=2, num_attention_heads=32,
                    num_key_value_heads=32, rope_theta=500000.0),
    "qwen2.5-7b": row(QWEN2, dtype=None, vocab_size=512, hidden_size=3584, intermediate_size=18944, num_hidden_layers=2, num_attention_heads=28,
                      num_key_value_heads=4, max_position_embeddings=32768, rope_theta=1000000.0),
    "qwen3-4b": row(QWEN3, dtype=None, vocab_size=512, hidden_size=2560, intermediate_size=9728, num_hidden_layers=2, num_attention_heads=32,
                    num_key_value_heads=8, head_dim=128, max_position_embeddings=40960, rope_theta=1000000.0, tie_word_embeddings=True),
    "qwen3-0.6b": row(QWEN3, dtype=None, vocab_size=512, hidden_size=1024, intermediate_size=3072, num_hidden_layers=2, num_attention_heads=16,
                      num_key_value_heads=8, head_dim=128, max_position_embeddings=40960, rope_theta=1000000.0, tie_word_embeddings=True),
    "vocabulary-262208": row(SMALL_GEMMA3, dtype=None, **NARROW, vocab_size=262208),
    "vocabulary-32064": row(SMALL_GEMMA3, dtype=None, **NARROW, vocab_size=32064),
    "vocabulary-301": row(SMALL_GEMMA3, dtype=None, **NARROW, vocab_size=301),
    "large-cache": row(SMALL_GEMMA3, dtype=None, num_hidden_layers=2, num_attention_heads=32, num_key_value_heads=32, head_dim=256,
                       sliding_window=1 << 20, max_position_embeddings=1 << 20),
}
ROWS = TRAITS | SMALL | SHAPES

MULTIMODAL = {  # as terse as the 4B's own file: all else are the class's defaults
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "image_token_index": 262144, "boi_token_index": 255999,
    "eoi_token_index": 256000, "mm_tokens_per_image": 4, "eos_token_id": [1, 106],
    "text_config": {"model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 7, "sliding_window": 8,
                    "rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
    "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                      "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
}
# In memory Hugging Face calls the parts model.language_model., model.vision_tower. and model.multi_modal_projector.
MULTIMODAL_LAYOUTS = {
    "hub": {"model.language_model.": "language_model.model.", "model.vision_tower.": "vision_tower.vision_model.",
            "model.multi_modal_projector.": "multi_modal_projector."},
    "in memory": {},
}


def enliven(model, key_bias=None):
    """Random weights of a size that keeps every part of the model visible in the logits, the norms' weights among them."""
    import torch

    numbers = torch.Generator().manual_seed(20)
    norm_mean = 0 if model.config.model_type.startswith("gemma") else 1  # Gemma's norms multiply by 1 + weight
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=numbers)
        if "norm" in name and weight.dim() == 1:
            weight.data = norm_mean + 0.3 * noise
        elif name.endswith("bias"):
            weight.data = noise
            if key_bias and "k_proj" in name:
                weight.data[::8] *= key_bias / weight.data[::8].abs().max()
        elif "embed_tokens" in name or "lm_head" in name:
            weight.data = noise * 3 / weight.shape[1] ** 0.5
        else:
            weight.data = noise * 1.5 / weight.shape[-1] ** 0.5
    return model


def from_config(folder, config, kind):
    """Hugging Face's model of the config.json that is written into the folder."""
    import torch
    import transformers

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 1}))
    return getattr(transformers, kind).from_config(transformers.AutoConfig.from_pretrained(folder), dtype=torch.float32)


def stored_tensors(model, dtype="bfloat16", head="as tied"):
    """As a file has them."""
    import torch

    weights = {}
    for name, weight in model.state_dict().items():
        if ".experts." in name:  # in memory all experts' are one
            halves = ("gate_proj", "up_proj") if "gate_up" in name else ("down_proj",)
            for expert, own in enumerate(weight):
                for half, part in zip(halves, own.chunk(len(halves))):
                    weights[name.replace(name.rsplit(".", 1)[1], f"{expert}.{half}.weight")] = part
        else:
            weights[name] = weight
    tensors = {name: weight.to(getattr(torch, dtype)).contiguous() for name, weight in weights.items()}
    embedding = "model.embed_tokens.weight"
    if head == "as tied" and model.config.get_text_config().tie_word_embeddings:
        del tensors["lm_head.weight"]
    elif head == "own":
        tensors["lm_head.weight"] = tensors[embedding].flip(0).contiguous()
    elif head == "alone":
        del tensors[embedding]
    elif head == "equal":
        tensors["lm_head.weight"] = tensors[embedding].float()
    return tensors


def save(tensors, file):
    from safetensors.torch import save_file

    save_file(tensors, file, metadata={"format": "pt"})


def make(folder, row):
    """One text checkpoint in a single file."""
    import torch

    with torch.device("cpu" if row.dtype else "meta"):
        model = from_config(folder, row.config, "AutoModelForCausalLM")
    if row.dtype:
        save(stored_tensors(enliven(model, row.key_bias), row.dtype, row.head), folder / "model.safetensors")
    else:
        (folder / "shapes.json").write_text(json.dumps({name: list(weight.shape) for name, weight in stored_tensors(model).items()}))
    return folder


def make_multimodal(folder, layout, shards=4):
    """A Gemma 3 with a vision tower, in shards, its tensors named as MULTIMODAL_LAYOUTS[layout] says."""
    model = enliven(from_config(folder, MULTIMODAL, "AutoModelForImageTextToText"))
    tensors = {}
    for name, weight in stored_tensors(model).items():
        prefix = next((p for p in MULTIMODAL_LAYOUTS[layout] if name.startswith(p)), "")
        tensors[MULTIMODAL_LAYOUTS[layout].get(prefix, "") + name[len(prefix):]] = weight
    files = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    weight_map = {name: files[i % shards] for i, name in enumerate(tensors)}
    for file in files:
        save({name: tensors[name] for name in tensors if weight_map[name] == file}, folder / file)
    index = {"metadata": {"total_size": sum(weight.nbytes for weight in tensors.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def write(out, names):
    """One folder for each name, whoever else writes there; what this file and this version of transformers wrote before stays."""
    recipe = hashlib.sha256(Path(__file__).read_bytes() + importlib.metadata.version("transformers").encode()).hexdigest()
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            stamp = out / name / "recipe"
            if not stamp.exists() or stamp.read_text() != recipe:
                shutil.rmtree(out / name, ignore_errors=True)
                make(out / name, ROWS[name])
                stamp.write_text(recipe)


if __name__ == "__main__":
    if len(sys.argv) < 2 or not set(sys.argv[2:]) <= set(ROWS):
        sys.exit(f"{__doc__}\nNAMEs are: {', '.join(ROWS)}")
    write(Path(sys.argv[1]), sys.argv[2:] or SMALL | SHAPES)
