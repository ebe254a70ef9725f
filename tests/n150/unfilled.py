"""Whole models at their real sizes on the mock card: their weights take the card's memory, and no value of them is made. `PeakTtnn` puts
"peak_ttnn" among the modules: TTNN but for that and, when it watches, for counting the most bytes of the card's memory that were taken."""
import math
import sys
import types

import numpy as np

LARGE = 1 << 20  # values; smaller tensors, a step's own, are real


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
