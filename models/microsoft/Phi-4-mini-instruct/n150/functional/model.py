"""Phi-4-mini-instruct on the n150: bfloat8_b weights, bfloat16 activations. The model itself is models/phi3.cpp."""
from typing import Any

from tessera.bringup import Bringup
from tessera.hf import TesseraForCausalLM

BRINGUP = Bringup(architecture="Phi3ForCausalLM", weights="bfloat8_b", activations="bfloat16")


def build_model(hf_model: Any, tt_device: Any, max_seq_len: int, *, weights: str | None = None, activations: str | None = None,
                cache: str | None = None) -> TesseraForCausalLM:
    return BRINGUP.build_model(hf_model, tt_device, max_seq_len, weights=weights, activations=activations, cache=cache)
