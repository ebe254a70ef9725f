"""Runs Hugging Face checkpoints of Gemma 3 and Phi-3: the C++ library, one to one. tessera.hf is its face for transformers."""
from tessera._core import (Cache, CacheLayer, CacheSpec, Checkpoint, CpuDevice, Detokenizer, Device, FileError, GenerationConfig, Generator, Limits,
                           LoadedModel, Model, ModelOptions, ResourceError, Sampler, SamplingParams, Sequence, SpecialTokens, Tokenizer,
                           check_sampling, load_model, make_model, open_device)

__all__ = ["Cache", "CacheLayer", "CacheSpec", "Checkpoint", "CpuDevice", "Detokenizer", "Device", "FileError", "GenerationConfig", "Generator", "Limits",
           "LoadedModel", "Model", "ModelOptions", "ResourceError", "Sampler", "SamplingParams", "Sequence", "SpecialTokens", "Tokenizer",
           "check_sampling", "load_model", "make_model", "open_device"]
