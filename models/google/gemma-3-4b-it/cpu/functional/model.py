"""Gemma 3 4B IT on the cpu: weights as stored, bfloat16 activations. The model itself is models/gemma3.cpp."""
from tessera.bringup import Bringup

BRINGUP = Bringup(architecture="Gemma3ForConditionalGeneration", weights=None, activations="bfloat16")


def build_model(hf_model, tt_device, max_seq_len, *, weights=None, activations=None, cache=None):
    return BRINGUP.build_model(hf_model, tt_device, max_seq_len, weights=weights, activations=activations, cache=cache)
