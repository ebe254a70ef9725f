"""Runs Hugging Face checkpoints: the C++ library, one to one. tessera.hf is its face for transformers."""
from tessera._core import (Cache, CacheLayer, CacheSpec, Checkpoint, CpuDevice, Detokenizer, Device, DeviceError, FileError, GenerationConfig,
                           Generator, JudgedRow, Limits, LoadedModel, Mean, Model, ModelOptions, Perplexity, Reference, ReferenceScore,
                           ResourceError, Sampler, SamplingParams, Sequence, SpecialTokens, Tokenizer, check_sampling, judge_row,
                           load_model, make_model, open_device, perplexity, read_reference, sum_up, write_reference)

__all__ = ["Cache", "CacheLayer", "CacheSpec", "Checkpoint", "CpuDevice", "Detokenizer", "Device", "DeviceError", "FileError", "GenerationConfig",
           "Generator", "JudgedRow", "Limits", "LoadedModel", "Mean", "Model", "ModelOptions", "Perplexity", "Reference",
           "ReferenceScore", "ResourceError", "Sampler", "SamplingParams", "Sequence", "SpecialTokens", "Tokenizer", "check_sampling",
           "judge_row", "load_model", "make_model", "open_device", "perplexity", "read_reference", "sum_up", "write_reference"]
