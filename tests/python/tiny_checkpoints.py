"""Tiny checkpoints with random weights: each is one trait of a real family, small enough that a mistake in it shows in every logit.

config.json is written here word for word, so that its spelling is what is tested; Hugging Face only makes the tensors of that shape.
"""
import json

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

GEMMA3 = {
    "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "vocab_size": 199, "hidden_size": 72, "intermediate_size": 100,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "query_pre_attn_scalar": 32,
    "sliding_window": 4, "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
    "max_position_embeddings": 512, "rope_theta": 50000.0, "rope_local_base_freq": 700.0, "rms_norm_eps": 1e-6,
    "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
    "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
}
OLD_ROPE = ("rope_theta", "rope_local_base_freq")
LAYER_PATTERN = ("layer_types",)
GEMMA3_TRAITS = {  # name -> (fields changed, fields left out, type of the stored weights)
    "window of 4": ({}, (), torch.bfloat16),
    "query_pre_attn_scalar that is not head_dim": ({"query_pre_attn_scalar": 50}, (), torch.bfloat16),
    "linear rope, old spelling": ({"rope_scaling": {"rope_type": "linear", "factor": 8.0}}, (), torch.bfloat16),
    "linear rope, new spelling": ({"rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
                                                       "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 50000.0}}},
                                  OLD_ROPE, torch.bfloat16),
    "default thetas": ({}, OLD_ROPE, torch.bfloat16),
    "layer pattern as a number": ({"sliding_window_pattern": 3}, LAYER_PATTERN, torch.bfloat16),
    "default layer pattern": ({"num_hidden_layers": 7}, LAYER_PATTERN, torch.bfloat16),
    "one key head": ({"num_key_value_heads": 1}, (), torch.bfloat16),
    "as many key heads as query heads": ({"num_key_value_heads": 4}, (), torch.bfloat16),
    "head_dim 256, the default": ({"query_pre_attn_scalar": 256}, ("head_dim",), torch.bfloat16),
    "float16 weights": ({}, (), torch.float16),
    "float32 weights": ({}, (), torch.float32),
}
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

PHI3 = {
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "vocab_size": 211, "hidden_size": 192, "intermediate_size": 136,
    "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "max_position_embeddings": 512, "original_max_position_embeddings": 512,
    "sliding_window": None, "rope_scaling": None,
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
}


def longrope(pairs, **more):
    return {"type": "longrope", "short_factor": [1 + 0.1 * i / pairs for i in range(pairs)],
            "long_factor": [1 + 3.0 * i / pairs for i in range(pairs)], **more}


PHI3_TRAITS = {
    "head_dim 96": ({}, (), torch.bfloat16),
    "grouped queries": ({"num_attention_heads": 6, "num_key_value_heads": 2}, (), torch.bfloat16),
    "partial rotary and a window of 9": ({"num_attention_heads": 3, "num_key_value_heads": 3, "partial_rotary_factor": 0.75,
                                          "sliding_window": 9}, (), torch.bfloat16),
    "tied head": ({"tie_word_embeddings": True}, (), torch.bfloat16),
    "longrope": ({"rope_scaling": longrope(48), "original_max_position_embeddings": 32}, (), torch.bfloat16),
    "longrope, new spelling": ({"rope_parameters": {**longrope(48), "rope_type": "longrope", "rope_theta": 10000.0},
                                "original_max_position_embeddings": 32}, ("rope_scaling", "rope_theta"), torch.bfloat16),
    "float32 weights": ({}, (), torch.float32),
}


def enliven(model, norm_mean):
    """Random weights of a size that keeps every part of the model visible in the logits, the norms' weights among them."""
    numbers = torch.Generator().manual_seed(20)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=numbers)
        if "norm" in name and weight.dim() == 1:
            weight.data = norm_mean + 0.3 * noise
        elif "embed_tokens" in name or "lm_head" in name:
            weight.data = noise * 3 / weight.shape[1] ** 0.5
        else:
            weight.data = noise * 1.5 / weight.shape[-1] ** 0.5
    return model


def write_config(folder, config):
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 1}))


def stored_tensors(model, dtype):
    drop = {"lm_head.weight"} if model.config.get_text_config().tie_word_embeddings else set()
    return {name: w.to(dtype).contiguous() for name, w in model.state_dict().items() if name not in drop}


def make(folder, base, trait):
    """One text checkpoint in a single file; `base` is GEMMA3 or PHI3 and `trait` an entry of its traits."""
    changed, left_out, dtype = trait
    folder.mkdir()
    write_config(folder, {key: value for key, value in {**base, **changed}.items() if key not in left_out})
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    enliven(model, norm_mean=0 if base is GEMMA3 else 1)  # Gemma's norms multiply by 1 + weight
    save_file(stored_tensors(model, dtype), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_multimodal(folder, layout, shards=4):
    """A Gemma 3 with a vision tower, in shards, its tensors named as MULTIMODAL_LAYOUTS[layout] says."""
    folder.mkdir()
    write_config(folder, MULTIMODAL)
    model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    tensors = {}
    for name, w in stored_tensors(enliven(model, norm_mean=0), torch.bfloat16).items():
        prefix = next((p for p in MULTIMODAL_LAYOUTS[layout] if name.startswith(p)), "")
        tensors[MULTIMODAL_LAYOUTS[layout].get(prefix, "") + name[len(prefix):]] = w
    files = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    weight_map = {name: files[i % shards] for i, name in enumerate(tensors)}
    for file in files:
        save_file({name: tensors[name] for name in tensors if weight_map[name] == file}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": sum(w.nbytes for w in tensors.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
