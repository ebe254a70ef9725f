"""Every call made twice: on the NumPy place-holder and on TTNN with its mock card. Both must take it and give tensors of the same shape, type, layout
and memory, or both must refuse. `Tandem` puts "tandem_ttnn" among the modules."""
import sys
import types

import numpy_ttnn


class Disagreement(AssertionError):
    pass


class Pair:
    """Something of the place-holder, `mine`, and what stands for it in TTNN."""

    def __init__(self, path, mine, theirs, log):
        self.path, self.mine, self.theirs, self.log = path, mine, theirs, log

    def __getattr__(self, name):
        if name == "shape":
            return tuple(self.mine.shape)
        if name == "host_buffer":
            return self.mine.host_buffer  # what its bytes are, the mock does not ask
        if not hasattr(self.mine, name):
            raise AttributeError(name)
        return Pair(f"{self.path}.{name}", getattr(self.mine, name), getattr(self.theirs, name), self.log)

    def __getitem__(self, index):
        return Pair(self.path, self.mine[index], self.theirs[index], self.log)

    def __call__(self, *arguments, **options):
        def on(side):
            call = getattr(self, side)
            return lambda: call(*side_of(arguments, side), **side_of(options, side))

        mine, my_reason = attempt(on("mine"))
        theirs, their_reason = attempt(on("theirs"))
        self.log.append(self.path)
        if (my_reason is None) != (their_reason is None):
            raise Disagreement(f"{self.path}: the place-holder {my_reason or 'takes it'}; TTNN {str(their_reason or 'takes it').split('backtrace')[0]}")
        if my_reason is not None:
            raise my_reason
        result = Pair(self.path, mine, theirs, self.log)
        several = isinstance(mine, tuple) and all(isinstance(part, numpy_ttnn.Tensor) for part in mine)
        for part in [result[i] for i in range(len(mine))] if several else [result]:
            compare(part)
        return result


def side_of(value, side):
    if isinstance(value, Pair):
        return getattr(value, side)
    if isinstance(value, dict):
        return {name: side_of(item, side) for name, item in value.items()}
    return type(value)(side_of(item, side) for item in value) if type(value) in (list, tuple) else value


def attempt(call):
    try:
        return call(), None
    except (RuntimeError, TypeError, ValueError) as error:
        return None, error


def compare(result):
    mine, theirs = result.mine, result.theirs
    if not isinstance(mine, numpy_ttnn.Tensor):
        return
    memory, layout = theirs.memory_config(), theirs.layout.name.removesuffix("_LAYOUT")
    where = "DRAM" if memory.memory_layout.name == "INTERLEAVED" else memory.memory_layout.name
    shard = tuple(memory.shard_spec.shape) if memory.is_sharded() else None
    told = (tuple(mine.shape), mine.dtype, mine.layout, mine.memory if mine.memory == "DRAM" else mine.memory[0], None if mine.memory == "DRAM" else mine.memory[2])
    real = (tuple(theirs.shape), theirs.dtype.name.lower(), layout, where, shard)
    if told != real:
        raise Disagreement(f"{result.path}: the place-holder gives {told}, TTNN {real}")


class Tandem(types.ModuleType):
    def __init__(self, ttnn, card):
        super().__init__("tandem_ttnn")
        self.calls = []
        self._ttnn = ttnn
        self.card = Pair("card", numpy_ttnn.Card(), card, self.calls)
        sys.modules["tandem_ttnn"] = self

    def __getattr__(self, name):
        if name.startswith("_") or not hasattr(numpy_ttnn, name):
            raise AttributeError(name)
        return Pair(name, getattr(numpy_ttnn, name), getattr(self._ttnn, name), self.calls)
