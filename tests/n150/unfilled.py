"""Whole models at their real sizes on the mock card: their weights take the card's memory, and no value of them is made. `PeakTtnn` puts
"peak_ttnn" among the modules: TTNN but for that and, when it watches, for counting the most bytes of the card's memory that were taken."""
import math
import sys
import types

import numpy as np
from tiny_models import gemma3, longrope, phi3

LARGE = 1 << 20  # values; smaller tensors, a step's own, are real


def gemma3_4b(**more):
    return gemma3(**{"layers": 34, "hidden": 2560, "inner": 10240, "heads": 8, "kv_heads": 4, "head_dim": 256, "vocab": 262208, "window": 1024,
                     "pattern": 6, "max_position_embeddings": 131072, "values": no_values, **more})


def phi3_mini(**more):
    return phi3(**{"layers": 32, "hidden": 3072, "inner": 8192, "heads": 32, "vocab": 32064, "max_position_embeddings": 131072,
                   "original_max_position_embeddings": 4096, "rope_scaling": longrope(48), "values": no_values, **more})


def no_values(names, norm_mean):
    """Tensors of one shape share their memory, which nobody reads."""
    shared = {shape: np.zeros(shape, np.float16) for shape in names.values()}
    return {name + ".weight": shared[shape] for name, shape in names.items()}


class Unfilled:
    def __init__(self, shape, dtype, layout):
        self.shape, self.dtype, self.layout = shape, dtype, layout

    def host_buffer(self):
        return types.SimpleNamespace(get_shard=lambda coordinate: np.zeros(0, np.uint8))


class PeakTtnn(types.ModuleType):
    def __init__(self, ttnn, card, watches=True):
        super().__init__("peak_ttnn")
        self.ttnn, self.card, self.peak = ttnn, card, 0
        card.clear_program_cache()  # programs lie between the tensors, and would stay where an earlier model's ended
        if watches:
            self.__dict__.update({name: self.watch(getattr(ttnn, name)) for name in ("linear", "mul", "to_layout")})  # whose outputs are the widest
        self.allocate_tensor_on_host, self.to_device = self._allocate, self._to_device
        sys.modules["peak_ttnn"] = self

    def __getattr__(self, name):
        return getattr(self.ttnn, name)

    def watch(self, function):
        def call(*arguments, **options):
            done = function(*arguments, **options)
            memory = self.ttnn.get_memory_view(self.card, self.ttnn.BufferType.DRAM)
            self.peak = max(self.peak, memory.num_banks * memory.total_bytes_allocated_per_bank)
            return done

        return call

    def _allocate(self, shape, dtype, layout, card):
        make = Unfilled if math.prod(shape) >= LARGE else self.ttnn.allocate_tensor_on_host
        return make(shape, dtype, layout, *([] if make is Unfilled else [card]))

    def _to_device(self, host, card, memory_config):
        if isinstance(host, Unfilled):
            return self.ttnn.empty(host.shape, host.dtype, host.layout, card, memory_config)
        return self.ttnn.to_device(host, card, memory_config=memory_config)
