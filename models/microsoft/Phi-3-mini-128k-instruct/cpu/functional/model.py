"""Phi-3 Mini 128k Instruct on the cpu: weights as stored, bfloat16 activations. The model itself is models/phi3.cpp."""
from tessera.bringup import Bringup

BRINGUP = Bringup(architecture="Phi3ForCausalLM", weights=None, activations="bfloat16")


def build_model(hf_model, tt_device, max_seq_len, *, weights=None, activations=None, cache=None):
    return BRINGUP.build_model(hf_model, tt_device, max_seq_len, weights=weights, activations=activations, cache=cache)
