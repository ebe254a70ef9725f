"""Faults that are planted between the n150's device and TTNN, or the place-holder: a module that changes one call of it."""
import importlib
import json
import sys
import types

import numpy as np


class Changed(types.ModuleType):
    """A module with another thing at one path."""

    def __init__(self, base, path, change):
        super().__init__("changed_ttnn")
        name, _, rest = path.partition(".")
        self._base, self._name = base, name
        self._changed = Changed(getattr(base, name), rest, change) if rest else change(getattr(base, name))

    def __getattr__(self, name):
        return self._changed if name == self._name else getattr(self._base, name)


def wider_window(original):
    return lambda *tensors, sliding_window_size, **options: original(*tensors, sliding_window_size=sliding_window_size and sliding_window_size + 1, **options)


def swapped(original):
    return lambda a, b, **options: original(b, a, **options)


def untouched(original):
    return lambda tensor, *arguments, **options: tensor


def rows_of_others(original):
    """The users' rows of the page table in the other order."""

    def attend(q, keys, values, page_table, **options):
        if hasattr(page_table, "values"):
            turned = type(page_table)(page_table.values[::-1].copy(), page_table.dtype, page_table.layout)
        else:
            import ttnn

            rows = np.ascontiguousarray(page_table.cpu().to_numpy()[::-1])
            turned = ttnn.Tensor(rows, ttnn.int32, device=keys.device(), layout=ttnn.ROW_MAJOR_LAYOUT, mem_config=ttnn.DRAM_MEMORY_CONFIG)
        return original(q, keys, values, turned, **options)

    return attend


CALLS = {
    "a window of one key more in a chunk": ("transformer.chunked_scaled_dot_product_attention", wider_window),
    "a window of one key more in a decode": ("transformer.paged_scaled_dot_product_attention_decode", wider_window),
    "gate and up swapped": ("mul", swapped),
    "a page table row of another user": ("transformer.paged_scaled_dot_product_attention_decode", rows_of_others),
    "a cache of bfloat8_b without its typecast": ("typecast", untouched),
}
ROWS = "rows of q and k that are not permuted"
NAMES = [*CALLS, ROWS]


def plant(fault, name):
    """Puts `name` with the fault among the modules; returns what to open."""
    if fault not in CALLS:
        return name
    sys.modules["faulty_ttnn"] = Changed(importlib.import_module(name), *CALLS[fault])
    return "faulty_ttnn"


def spoil(fault, made):
    """The model, with rows so that the device's permutation leaves them as the checkpoint has them."""
    if fault != ROWS:
        return made
    architecture, config, tensors = made
    read = json.loads(config)
    width, heads = read["hidden_size"] // read["num_attention_heads"], read["num_attention_heads"] + read["num_key_value_heads"]

    def turned(rows):
        turning = rows[: heads * width].reshape(heads, width // 2, 2, -1).transpose(0, 2, 1, 3).reshape(heads * width, -1)
        return np.concatenate([turning, rows[heads * width:]])

    return architecture, config, {name: turned(values) if "qkv_proj.weight" in name else values for name, values in tensors.items()}
