"""The face for transformers: a module whose generate() is GenerationMixin's own and whose forward is Tessera's."""
from typing import Any

import torch
from transformers import GenerationConfig, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tessera import _core
from tessera.engine import Engine, Rows


class TesseraCache(Cache):
    """The conversations of a batch, one a row. Opaque to transformers: it has no layers. Its pages are free when it is. A copy of it goes on
    by itself, and shares what they have in common."""

    is_compileable = False  # else generate() makes 4-D masks
    is_croppable = True
    _is_user_defined = False  # generate() returns one that is

    def __init__(self, engine: Engine) -> None:
        super().__init__(layers=[])
        self.rows = Rows(engine)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens and pads, as they stand in input_ids."""
        return self.rows.slots

    def get_max_length(self, layer_idx: int | None = None) -> int:
        return self.rows.engine.context

    @property
    def batch_size(self) -> int:
        return len(self.rows.sequences) or -1

    def crop(self, tokens_to_remove: int) -> None:
        """As in transformers 5.23: 0 or minus the number of tokens to take off the end."""
        length = self.get_seq_length() + tokens_to_remove
        if tokens_to_remove > 0 or length < 0:
            raise ValueError(f"crop: {tokens_to_remove} is outside {-self.get_seq_length()}..0; it says how many tokens to remove, as a negative number")
        self.rows.crop(length)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        self.rows.select(beam_idx.tolist())

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        indices = indices.nonzero().flatten() if indices.dtype == torch.bool else indices
        self.rows.select(indices.tolist())

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.rows.select([row for row in range(len(self.rows.sequences)) for _ in range(repeats)])

    def reset(self) -> None:
        self.rows = Rows(self.rows.engine)

    def __copy__(self) -> "TesseraCache":
        copy = TesseraCache(self.rows.engine)
        copy.rows = self.rows.fork()
        return copy

    def __deepcopy__(self, memo: dict[int, Any]) -> "TesseraCache":
        return self.__copy__()

    def __repr__(self) -> str:
        return f"TesseraCache({len(self.rows.sequences)} rows, {self.get_seq_length()} tokens)"


class TesseraForCausalLM(torch.nn.Module, GenerationMixin):
    """A model that Tessera runs, with the interface of a transformers model. Logits are float32, on the CPU, and without gradients.

    A padded row is the sequence of its tokens alone: what it gives does not depend on its padding or its neighbours. LongRoPE's factors are
    chosen for each row by its own length; a row that grows past the boundary is computed anew."""

    main_input_name = "input_ids"
    base_model_prefix = "model"
    input_modalities = ("text",)
    loss_type = "ForCausalLM"  # by it transformers' Trainer counts the labels that its loss is divided by
    _is_stateful = False  # True forbids assisted decoding

    def __init__(self, loaded: _core.LoadedModel, device: _core.Device, config: PreTrainedConfig, generation_config: GenerationConfig,
                 max_seq_len: int) -> None:
        """`loaded` is what tessera.load_model or tessera.make_model gave on `device`; no row may get longer than max_seq_len tokens."""
        super().__init__()
        self.engine = Engine(loaded, device, max_seq_len)
        self.config, self.generation_config = config, generation_config
        self.eval()

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @classmethod
    def can_generate(cls) -> bool:
        return True

    @classmethod
    def is_remote_code(cls) -> bool:
        return False

    def get_experts_implementation(self) -> dict[str, str]:
        return {}

    @property
    def name_or_path(self) -> str:
        """Where the tokenizer is looked for by those who were given the model alone."""
        return str(self.config.name_or_path)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """As transformers counts a language model's; a vision tower that was not loaded does not count, and none can be trained."""
        text = self.config.get_text_config()
        embedding = text.vocab_size * text.hidden_size if exclude_embeddings else 0
        return 0 if only_trainable else self.engine.loaded.num_parameters - embedding

    def tie_weights(self, *args: Any, **kwargs: Any) -> None:
        """They are tied already, where they are."""

    def train(self, mode: bool = True) -> "TesseraForCausalLM":
        if mode:
            raise ValueError(f"train: {FIXED}")
        super().train(False)
        return self

    @property
    def peft_config(self) -> None:
        """What peft asks for before it puts an adapter in."""
        raise ValueError(f"peft: no adapter can be put in: {FIXED}; merge it into the checkpoint with merge_and_unload, and load that")

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if not hasattr(PreTrainedModel, name):
                raise
        raise AttributeError(f"{name}: not supported: {FIXED}")

    def extra_repr(self) -> str:
        options = self.engine.loaded.options
        return (f"{self.config.model_type} on {self.engine.device.name}, weights {options.weights}, activations {options.activations}, "
                f"cache {options.cache}, max_seq_len {self.engine.max_seq_len}")

    def make_cache(self) -> TesseraCache:
        """An empty cache, for past_key_values."""
        return TesseraCache(self.engine)

    def _prepare_cache_for_generation(self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        cache = model_kwargs.get("past_key_values")
        if cache is not None:
            self._own_cache(cache)._is_user_defined = True
        elif generation_config.use_cache is not False:
            model_kwargs["past_key_values"] = self.make_cache()

    # generate() reads the names of these parameters.
    def forward(self, input_ids: torch.Tensor | None = None, attention_mask: torch.Tensor | None = None, position_ids: torch.Tensor | None = None,
                past_key_values: Cache | None = None, inputs_embeds: torch.Tensor | None = None, token_type_ids: torch.Tensor | None = None,
                labels: torch.Tensor | None = None, use_cache: bool | None = None, logits_to_keep: int | torch.Tensor = 0, return_dict: bool = True,
                **kwargs: Any) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """input_ids [rows, new tokens]; attention_mask [rows, cached and new tokens], zeros only for padding on the left or right; logits_to_keep:
        how many of the last tokens' logits are wanted (0: all), or the indices of those tokens. -> CausalLMOutputWithPast, whose
        past_key_values continues the rows. A pad before its row's first token has logits of zeros; one behind its row's last token has that
        token's, so that generate() continues right-padded prompts too. labels [rows, new tokens]: the loss of the tokens that they name, as
        transformers computes it (each by the logits before it; -100: none, as pads and a left-padded row's first token should have; num_items_in_batch divides)."""
        loss_options = {name: kwargs.pop(name) for name in LOSS_OPTIONS & kwargs.keys()}
        refuse(kwargs, inputs_embeds, token_type_ids)
        if input_ids is None or input_ids.dim() != 2 or input_ids.numel() == 0 or input_ids.is_floating_point():
            raise ValueError(f"input_ids: {'missing' if input_ids is None else f'{input_ids.dtype} {list(input_ids.shape)}'}; token ids [rows, tokens] are needed")
        if labels is not None and (labels.shape != input_ids.shape or labels.is_floating_point() or not isinstance(logits_to_keep, int) or logits_to_keep):
            raise ValueError(f"labels: {labels.dtype} {list(labels.shape)}; a token id for each of input_ids' {list(input_ids.shape)} is needed, and all "
                             "logits (logits_to_keep 0)")
        cache = self._own_cache(past_key_values, len(input_ids)) if past_key_values is not None else self.make_cache()
        mask = new_mask(cache.rows, input_ids, attention_mask)
        check_positions(cache.rows, mask, position_ids)
        slots = input_ids.shape[1]
        if isinstance(logits_to_keep, torch.Tensor):
            indices = logits_to_keep % slots
            keep = slots - int(indices.min())
        else:
            indices, keep = None, min(logits_to_keep, slots) or slots
        logits = torch.from_numpy(self.engine.forward(cache.rows, input_ids.cpu().numpy(), mask.numpy(), keep))
        if indices is not None:
            logits = logits[:, indices - (slots - keep)]
        loss = None if labels is None else ForCausalLMLoss(logits, labels.cpu(), vocab_size=logits.shape[-1], **loss_options)
        wants_cache = use_cache if use_cache is not None else getattr(self.config, "use_cache", True)
        output = CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=cache if wants_cache else None)
        return output if return_dict else output.to_tuple()

    def _own_cache(self, cache: Cache, rows: int | None = None) -> TesseraCache:
        if not isinstance(cache, TesseraCache) or cache.rows.engine is not self.engine:
            raise ValueError(f"past_key_values: a {type(cache).__name__} is not this model's; make_cache() gives one")
        if rows and cache.rows.sequences and len(cache.rows.sequences) != rows:
            raise ValueError(f"past_key_values: has {len(cache.rows.sequences)} rows; input_ids has {rows}")
        return cache


# pipeline("text-generation") looks a class's name up here and nowhere else, what AutoModelForCausalLM.register adds included; where it is
# not, it logs an error and works.
MODEL_FOR_CAUSAL_LM_MAPPING_NAMES["tessera"] = "TesseraForCausalLM"

FIXED = "a TesseraForCausalLM generates and scores; its weights are packed for its device, and cannot be trained, changed or saved"
IGNORED = {"tokenizer"}  # what generate() passes on though it is not the model's
LOSS_OPTIONS = {"num_items_in_batch", "shift_labels"}  # without labels they change nothing


def refuse(others: dict[str, Any], inputs_embeds: torch.Tensor | None, token_type_ids: torch.Tensor | None) -> None:
    if inputs_embeds is not None:
        raise ValueError("inputs_embeds: not supported; pass input_ids")
    if token_type_ids is not None and token_type_ids.any():
        raise ValueError("token_type_ids: only zeros, which mean text, are supported")
    for name, value in others.items():
        if value is not None and value is not False and name not in IGNORED:
            raise ValueError(f"{name}: not supported")


def new_mask(rows: Rows, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """The part of the mask that belongs to input_ids, as bool [rows, new tokens]."""
    if attention_mask is None:
        return torch.ones(input_ids.shape, dtype=torch.bool)
    columns = rows.slots + input_ids.shape[1]
    if attention_mask.dim() != 2 or tuple(attention_mask.shape) != (len(input_ids), columns):
        raise ValueError(f"attention_mask: has shape {list(attention_mask.shape)}; {rows.slots} cached and {input_ids.shape[1]} new tokens "
                         f"need [{len(input_ids)}, {columns}]")
    mask = attention_mask.cpu() != 0
    if rows.slots:
        for row in (mask[:, :rows.slots] != torch.from_numpy(rows.mask)).any(dim=1).nonzero():
            raise ValueError(f"attention_mask: row {int(row)} does not mask the tokens of its cache as when they were computed")
    return mask[:, rows.slots:]


def check_positions(rows: Rows, mask: torch.Tensor, position_ids: torch.Tensor | None) -> None:
    """Positions count a row's tokens and leave pads out: nothing else can be asked for. (For right-padded rows, generate() counts on from
    the pads' position 0: those are not looked at.)"""
    if position_ids is None:
        return
    if position_ids.shape[-1] != mask.shape[1]:
        raise ValueError(f"position_ids: has {position_ids.shape[-1]} columns; input_ids has {mask.shape[1]}")
    known = torch.tensor([[len(sequence)] for sequence in rows.sequences] or [[0]])
    expected = known + mask.cumsum(dim=1) - 1
    given = position_ids.cpu().expand_as(mask)
    right_padded = (torch.from_numpy(rows.mask).diff(dim=1) & torch.from_numpy(rows.mask[:, :-1])).any(dim=1, keepdim=True) if rows.slots else False
    for row, column in ((given != expected) & mask & ~torch.as_tensor(right_padded)).nonzero():
        raise ValueError(f"position_ids: row {int(row)} has {int(given[row, column])} for its token {int(expected[row, column])}; "
                         "other positions than the tokens' own are not supported")
