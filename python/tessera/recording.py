"""Records what every part of a Hugging Face model's forward gave, for `tessera compare --against`. docs/compare.md describes the file."""
import json
import os
import struct
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM
from transformers.masking_utils import eager_mask

HEADER_BYTES = 1 << 20  # room for the names of 8,000 tensors; blanks fill it
DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}
ATTENTION = "tessera_recorded"
GATES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"gelu_mul": partial(torch.nn.functional.gelu, approximate="tanh"), "silu_mul": torch.nn.functional.silu}
LOGIT_ROWS = 64  # computed at a time: 64 x 262,144 floats are 67 MB


class SafetensorsWriter:
    """Writes tensors one after the other as they come, holding none."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = open(path, "wb")
        self.file.write(bytes(8 + HEADER_BYTES))
        self.header: dict[str, dict[str, Any]] = {}
        self.end = 0

    def add(self, name: str, *pieces: torch.Tensor) -> None:
        """One tensor, its rows in pieces."""
        begin, rows = self.end, 0
        for piece in pieces:
            data = piece.detach().contiguous()
            rows += data.shape[0]
            self.end += data.nbytes
            self.file.write(data.view(torch.uint8).numpy().data)
        self.header[name] = {"dtype": DTYPES[data.dtype], "shape": [rows, *data.shape[1:]], "data_offsets": [begin, self.end]}

    def __enter__(self) -> "SafetensorsWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.file.close()
        if kind is not None:
            os.unlink(self.file.name)

    def finish(self) -> None:
        text = json.dumps(self.header).encode()
        if len(text) > HEADER_BYTES:
            raise ValueError(f"the names of {len(self.header)} tensors take {len(text)} bytes; {HEADER_BYTES} are kept for them")
        self.file.seek(0)
        self.file.write(struct.pack("<Q", HEADER_BYTES) + text.ljust(HEADER_BYTES))


def load(directory: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> Any:
    """The model that `record` takes, in `dtype` from the start: converted afterwards, Gemma's embedding scale would stay rounded."""
    AttentionInterface.register(ATTENTION, eager_attention)  # else its name is refused
    AttentionMaskInterface.register(ATTENTION, eager_mask)
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation=ATTENTION, local_files_only=True).eval()


def eager_attention(module: torch.nn.Module, *arguments: Any, **options: Any) -> Any:
    return sys.modules[type(module).__module__].eager_attention_forward(module, *arguments, **options)


@torch.no_grad()
def record(hf: Any, ids: Sequence[int], path: str | os.PathLike[str]) -> None:
    """Runs the prompt `ids` through `hf`, a model from `load`, and writes what each op gave to `path`, under our names for the ops."""
    vocabulary = hf.get_input_embeddings().num_embeddings
    if not ids or not 0 <= min(ids) <= max(ids) < vocabulary:
        raise ValueError(f"the prompt needs at least one token id, each from 0 to {vocabulary - 1}")
    tokens = torch.tensor(ids)
    base = getattr(hf.model, "language_model", hf.model)
    cap = getattr(base.config, "final_logit_softcapping", None)
    with SafetensorsWriter(path) as writer, Watch(base, writer):
        writer.add("input_ids", tokens)
        writer.add("embed_tokens", torch.nn.functional.embedding(tokens, base.embed_tokens.weight))  # Gemma's module scales it
        hidden = base(input_ids=tokens[None], use_cache=False).last_hidden_state[0]
        writer.add("lm_head", *(hf.lm_head(rows) for rows in hidden.split(LOGIT_ROWS)))
        if cap:
            writer.add("softcap", *(torch.tanh(hf.lm_head(rows) / cap) * cap for rows in hidden.split(LOGIT_ROWS)))
        writer.finish()


class Watch:
    """While it is entered, the outputs of `base`'s modules are written; a module's input where what made it is no module."""

    def __init__(self, base: Any, writer: SafetensorsWriter) -> None:
        self.base, self.writer = base, writer
        self.handles: list[Any] = []

    def __enter__(self) -> None:
        if hasattr(self.base.embed_tokens, "embed_scale"):
            self.output("mul", self.base.embed_tokens)
        for number, layer in enumerate(self.base.layers):
            at = f"layers.{number}."
            self.attention(at, layer.self_attn)
            self.mlp(at, layer.mlp)
            for norm in ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"):
                if hasattr(layer, norm):
                    self.output(at + norm, getattr(layer, norm))
            self.input(at + "add", getattr(layer, "pre_feedforward_layernorm", layer.post_attention_layernorm))
            self.output(at + "add_2", layer)
        self.input("select_rows", self.base.norm)
        self.output("norm", self.base.norm)
        AttentionInterface.register(ATTENTION, self.attend)

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()
        AttentionInterface.register(ATTENTION, eager_attention)

    def output(self, name: str, module: torch.nn.Module, rows: Callable[[torch.Tensor], torch.Tensor] = lambda x: x[0]) -> None:
        self.handles.append(module.register_forward_hook(lambda _module, _inputs, result: self.writer.add(name, rows(result))))

    def input(self, name: str, module: torch.nn.Module) -> None:
        self.handles.append(module.register_forward_pre_hook(lambda _module, inputs: self.writer.add(name, inputs[0][0])))

    def joined(self, name: str, *modules: torch.nn.Module) -> None:
        """The outputs of modules that are called one after the other, side by side."""
        parts: list[torch.Tensor] = []

        def hook(_module: torch.nn.Module, _inputs: Any, result: torch.Tensor) -> None:
            parts.append(result[0])
            if len(parts) == len(modules):
                self.writer.add(name, torch.cat(parts, dim=-1))
                parts.clear()
        self.handles.extend(module.register_forward_hook(hook) for module in modules)

    def attention(self, at: str, module: Any) -> None:
        heads = [at + "nlp_create_qkv_heads." + head for head in "qkv"]
        if hasattr(module, "qkv_proj"):
            self.output(at + "self_attn.qkv_proj", module.qkv_proj)
            queries = module.o_proj.in_features
            ends = [queries, queries + module.num_key_value_heads * module.head_dim, module.qkv_proj.out_features]
            for name, begin, end in zip(heads, [0, *ends], ends):
                self.output(name, module.qkv_proj, partial(columns, begin, end))
        else:
            projections = module.q_proj, module.k_proj, module.v_proj
            self.joined(at + "self_attn.qkv_proj", *projections)
            for name, projection in zip(heads, projections):
                self.output(name, projection)
        for norm, projection in (("q_norm", "q_proj"), ("k_norm", "k_proj")):
            if hasattr(module, norm):
                self.norm_of_heads(at + "self_attn." + norm, getattr(module, norm), getattr(module, projection).out_features)
        self.input(at + "nlp_concat_heads", module.o_proj)
        self.output(at + "self_attn.o_proj", module.o_proj)

    def norm_of_heads(self, name: str, module: torch.nn.Module, width: int) -> None:
        """A norm of [1, tokens, heads, head_dim], as a projection of this width lies, or of a view of it as [1, heads, tokens, head_dim]."""
        def hook(_module: torch.nn.Module, inputs: Any, result: torch.Tensor) -> None:
            heads_first = inputs[0].stride(1) < inputs[0].stride(2)
            self.writer.add(name, token_rows(result) if heads_first else result.reshape(-1, width))
        self.handles.append(module.register_forward_hook(hook))

    def attend(self, module: Any, query: torch.Tensor, key: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        result = eager_attention(module, query, key, *arguments, **options)
        at = f"layers.{module.layer_idx}."
        self.writer.add(at + "rotary_embedding.q", token_rows(query))
        self.writer.add(at + "rotary_embedding.k", token_rows(key))
        self.writer.add(at + "attention", result[0][0].flatten(1))
        return result

    def mlp(self, at: str, module: Any) -> None:
        if hasattr(module, "gate_up_proj"):
            self.output(at + "mlp.gate_up_proj", module.gate_up_proj)
        else:
            self.joined(at + "mlp.gate_up_proj", module.gate_proj, module.up_proj)
        self.input(at + gate_op(module), module.down_proj)
        self.output(at + "mlp.down_proj", module.down_proj)


def columns(begin: int, end: int, x: torch.Tensor) -> torch.Tensor:
    return x[0, :, begin:end]


def gate_op(mlp: torch.nn.Module) -> str:
    """Our op of the activation that this module has among its linears; by its own name where we have none."""
    (activation,) = (child for child in mlp.children() if not isinstance(child, torch.nn.Linear))
    values = torch.linspace(-4, 4, 65)
    for op, function in GATES.items():
        if torch.allclose(activation(values), function(values), rtol=0, atol=1e-6):
            return op
    return type(activation).__name__ + "_mul"


def token_rows(x: torch.Tensor) -> torch.Tensor:
    """[1, heads, tokens, head_dim] as [tokens, heads * head_dim]."""
    return x[0].transpose(0, 1).flatten(1)
