"""Loads the model.py files of models/ as eval.py does: by path, since their folders' names are no module names."""
import importlib.util
from pathlib import Path

MODELS = Path(__file__).resolve().parents[2] / "models"
GEMMA3 = "google/gemma-3-4b-it"
PHI3 = "microsoft/Phi-3-mini-128k-instruct"
FLOAT32 = {"weights": "float32", "activations": "float32"}


def load_bringup(name, system="cpu"):
    spec = importlib.util.spec_from_file_location("bringup", MODELS / name / system / "functional/model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_hf(checkpoint, **options):
    """In float32, and greedy unless asked otherwise."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig

    is_mistral3 = AutoConfig.from_pretrained(checkpoint).model_type == "mistral3"  # which is no causal model there
    hf = (AutoModelForImageTextToText if is_mistral3 else AutoModelForCausalLM).from_pretrained(checkpoint, dtype=torch.float32, **options).eval()
    config = hf.config.get_text_config()
    hf.generation_config = GenerationConfig(bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id)
    return hf
