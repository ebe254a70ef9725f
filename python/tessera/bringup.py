"""What tessera.from_pretrained and the model.py files of models/ share: from a Hugging Face model and a device to a module that runs on Tessera."""
import copy
import functools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig

from tessera import _core
from tessera.hf import TesseraForCausalLM


class Precision(TypedDict):
    """As tessera.load_model takes it."""
    weights: str | None
    activations: str | None
    cache: str | None


Check = Callable[[PreTrainedConfig], None]  # may refuse the model
Loaded = tuple[_core.LoadedModel, PreTrainedConfig, GenerationConfig]


@dataclass(frozen=True)
class Bringup:
    """One model on one system, and the precision that it is brought up in. None: weights as they are stored."""
    architecture: str | None  # as config.json's architectures name it; others that the same C++ model serves are taken too. None: all
    weights: str | None
    activations: str | None

    def build_model(self, hf_model: Any, tt_device: Any, max_seq_len: int | None, *, weights: str | None = None, activations: str | None = None,
                    cache: str | None = None) -> TesseraForCausalLM:
        """A TesseraForCausalLM.

        hf_model: a loaded Hugging Face model, whose weights are read from its memory, or a checkpoint's directory, or an id.
        tt_device: "cpu", "n150", a tessera.Device, or an open ttnn device.
        max_seq_len: the tokens that a row may have, prompt and answer; None: as many as the model's context.
        weights, activations, cache: number formats in place of the bring-up's own, as in tessera.load_model. The environment variables
        TESSERA_WEIGHTS and TESSERA_ACTIVATIONS do the same where no argument is given."""
        precision: Precision = {"weights": weights or from_environment("TESSERA_WEIGHTS") or self.weights,
                                "activations": activations or from_environment("TESSERA_ACTIVATIONS") or self.activations, "cache": cache}
        device = open_device(tt_device)
        load = load_directory if isinstance(hf_model, (str, os.PathLike)) else load_module
        loaded, config, generation_config = load(hf_model, device, precision, self._check, max_seq_len)
        for note in loaded.notes:
            warnings.warn(note, stacklevel=3)
        longest = loaded.model.spec.max_position_embeddings
        return TesseraForCausalLM(loaded, device, config, generation_config, longest if max_seq_len is None else max_seq_len)

    def serves(self, model_type: str) -> bool:
        """Whether the C++ model of this bring-up is also that of a config.json's model_type."""
        known = _core.architectures()
        own = {other.model for other in known if other.name == self.architecture}
        return self.architecture is None or any(other.model_type == model_type and other.model in own for other in known)

    def _check(self, config: PreTrainedConfig) -> None:
        if not self.serves(config.model_type):
            raise ValueError(f"this bring-up is of a {self.architecture}; the model is a {config.model_type}")


def load_module(hf_model: Any, device: _core.Device, precision: Precision, check: Check, max_seq_len: int | None) -> Loaded:
    config, generation_config = (getattr(hf_model, name, None) for name in ("config", "generation_config"))
    if not isinstance(hf_model, torch.nn.Module) or config is None or generation_config is None:
        raise TypeError(f"hf_model: a {type(hf_model).__name__} is neither a Hugging Face model nor a directory or id")
    check(config)
    tensors: dict[str, object] = {name: tensor.contiguous() for name, tensor in apart(hf_model.state_dict())}
    model = type(hf_model).__name__, config.to_json_string(use_diff=False)
    _core.expect_fits(device.name, *model, max_seq_len, **precision)
    loaded = _core.make_model(*model, tensors, device, **precision)
    return loaded, copy.deepcopy(config), copy.deepcopy(generation_config)


def apart(tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """With each expert's weights by themselves, as a file has them: in memory transformers joins those of a layer to one tensor. No copies."""
    for name, tensor in tensors.items():
        at, _, joined = name.rpartition(".experts.")
        parts = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}.get(joined)
        if not at or parts is None:
            yield name, tensor
            continue
        for expert, weights in enumerate(tensor):
            for part, weight in zip(parts, weights.chunk(len(parts))):
                yield f"{at}.experts.{expert}.{part}.weight", weight


def load_directory(name: str | os.PathLike[str], device: _core.Device, precision: Precision, check: Check, max_seq_len: int | None) -> Loaded:
    checkpoint = open_checkpoint(os.fspath(name))
    config = AutoConfig.from_pretrained(checkpoint.directory, local_files_only=True)
    check(config)
    _core.expect_fits(device.name, checkpoint, max_seq_len, **precision)
    loaded = _core.load_model(checkpoint, device, **precision)
    if os.path.exists(os.path.join(checkpoint.directory, "generation_config.json")):
        return loaded, config, GenerationConfig.from_pretrained(checkpoint.directory, local_files_only=True)
    return loaded, config, GenerationConfig.from_model_config(config)


def open_checkpoint(name: str, cache_dir: str | None = None) -> _core.Checkpoint:
    """A directory, or an id: of the local cache (of `cache_dir` in place of Hugging Face's own), or else downloaded where huggingface_hub may
    (HF_HUB_OFFLINE forbids it)."""
    is_path = os.path.exists(name) or name.count("/") != 1
    if cache_dir is None or is_path:
        try:
            return _core.Checkpoint.open(name)
        except _core.FileError:
            if is_path:
                raise
    return _core.Checkpoint.open(download(name, {} if cache_dir is None else {"cache_dir": cache_dir}))


def download(name: str, where: dict[str, Any]) -> str:
    import huggingface_hub
    try:
        return str(huggingface_hub.snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja"], **where))
    except Exception as error:
        raise _core.FileError(f"{name}: is in no local cache, and was not downloaded: {error}") from error


@functools.cache
def _cpu(twin: str | None) -> _core.Device:
    return _core.open_device("cpu", twin=twin)  # one for all models: they take turns on its threads


def open_device(tt_device: Any, device_id: int = 0, twin: str | None = None) -> _core.Device:
    """twin: "card": the cpu rounds as the n150 does, where `tt_device` is "cpu"."""
    if isinstance(tt_device, str):
        return _cpu(twin) if tt_device == "cpu" else _core.open_device(tt_device, device_id=device_id, twin=twin)
    if twin is not None:
        raise ValueError(f"twin: '{twin}' is of a device that is opened by its name, \"cpu\"")
    if isinstance(tt_device, _core.Device):
        return tt_device
    if type(tt_device).__module__.partition(".")[0] == "ttnn":
        return _core.open_device(tt_device)
    raise TypeError(f"tt_device: a {type(tt_device).__name__} is no device; pass \"cpu\", \"n150\", a tessera.Device or an open ttnn device")


def from_environment(variable: str) -> str | None:
    value = os.environ.get(variable)
    if value and value not in DATA_TYPES:
        raise ValueError(f"{variable}: '{value}' is not a data type; choose {', '.join(DATA_TYPES)}")
    return value


DATA_TYPES = ("float32", "bfloat16", "bfloat8_b", "bfloat4_b")
