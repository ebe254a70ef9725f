"""Runs Hugging Face checkpoints: from_pretrained, and the C++ library, one to one. tessera.hf is its face for transformers."""
import os
from typing import TYPE_CHECKING, Any

from tessera._core import (Cache, CacheLayer, CacheSpec, Checkpoint, CpuDevice, Detokenizer, Device, DeviceError, FileError, GenerationConfig,
                           Generator, JudgedRow, Limits, LoadedModel, Mean, Model, ModelOptions, Perplexity, ProcessorParams, Reference,
                           ReferenceScore, ResourceError, Sampler, SamplingParams, Sequence, SpecialTokens, Tokenizer, check_sampling,
                           judge_row, load_model, make_model, open_device, perplexity, read_reference, sum_up, write_reference)

if TYPE_CHECKING:
    from tessera.hf import TesseraForCausalLM

__all__ = ["Cache", "CacheLayer", "CacheSpec", "Checkpoint", "CpuDevice", "Detokenizer", "Device", "DeviceError", "FileError", "GenerationConfig",
           "Generator", "JudgedRow", "Limits", "LoadedModel", "Mean", "Model", "ModelOptions", "Perplexity",
           "ProcessorParams", "Reference", "ReferenceScore", "ResourceError", "Sampler", "SamplingParams", "Sequence", "SpecialTokens", "Tokenizer", "check_sampling",
           "from_pretrained", "judge_row", "load_model", "make_model", "open_device", "perplexity", "read_reference", "sum_up", "write_reference"]


def from_pretrained(name: str | os.PathLike[str], device: Any = "cpu", max_seq_len: int | None = None, weights: str | None = None,
                    activations: str | None = None, cache: str | None = None) -> "TesseraForCausalLM":
    """A checkpoint as a model of transformers', whose generate() is Hugging Face's own.

    name: a checkpoint's directory, or an id, which is downloaded unless the local cache has it. Its architecture is any of
    tessera._core.architectures().
    device: "cpu", "n150", a tessera.Device, or an open ttnn device.
    max_seq_len: the tokens that a row may have, prompt and answer; None: as many as the model's context.
    weights, activations, cache: number formats, as in load_model; TESSERA_WEIGHTS and TESSERA_ACTIVATIONS in the environment stand in for None.

    Needs torch and transformers, and raises ModuleNotFoundError where they are not. Raises FileError for a checkpoint that is missing or not
    supported, ResourceError where memory does not hold it with a row of max_seq_len tokens."""
    try:
        from tessera import bringup
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"from_pretrained: needs torch and transformers, pip install 'tessera[hf]': {error}", name=error.name) from error
    model = bringup.Bringup(architecture=None, weights=None, activations=None)
    return model.build_model(os.fspath(name), device, max_seq_len, weights=weights, activations=activations, cache=cache)
