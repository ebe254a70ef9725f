"""Llama-3.2-1B on the cpu: weights as stored, bfloat16 activations. The model itself is models/llama.cpp."""
from typing import Any

from tessera.bringup import Bringup
from tessera.hf import TesseraForCausalLM

BRINGUP = Bringup(architecture="LlamaForCausalLM", weights=None, activations="bfloat16")


def build_model(hf_model: Any, tt_device: Any, max_seq_len: int, *, weights: str | None = None, activations: str | None = None,
                cache: str | None = None) -> TesseraForCausalLM:
    return BRINGUP.build_model(hf_model, tt_device, max_seq_len, weights=weights, activations=activations, cache=cache)
