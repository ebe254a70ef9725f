"""numpy_ttnn with traces: what is called between begin_trace_capture and end_trace_capture is recorded and not computed; execute_trace computes it
with what its tensors hold then. As on the card, tensors that were made after a trace, and programs that were made since it began, are overwritten by
each execution of it, since they may lie where its own passing tensors do; what such a program gives is no number. And nothing but commands may come
within a capture. `open_device("n150", module="traced_ttnn", trace=True)`."""
import itertools
import weakref
from copy import deepcopy

import numpy as np
import numpy_ttnn
from numpy_ttnn import *  # noqa: F401, F403
from numpy_ttnn import HostTensor, Tensor, experimental, require, transformer

FROM_THE_HOST = ("to_device", "copy_host_to_device_tensor", "from_device")
WITHOUT_PROGRAM = (*FROM_THE_HOST, "empty")
TOLD = ("require", "fits", "allocate_tensor_on_host", "num_cores_to_corerangeset", "Shape", "MeshCoordinate", "ShardSpec", "MemoryConfig", "open_device", "close_device")


class Trace:
    def __init__(self):
        self.commands = []  # (program, function, arguments, options, what it gave)
        self.recording = True
        self.later = weakref.WeakSet()  # tensors made after it
        self.later_programs = []


class Program:
    whole = True

    def run(self, function, arguments, options):
        if self.whole:
            return function(*arguments, **options)
        made = function(*deepcopy(arguments), **deepcopy(options))
        spoil(tensors_of(made))
        return made


class Card(numpy_ttnn.Card):
    def num_program_cache_entries(self):
        return len(programs)


traces, called, regions = {}, [], []
programs = {}  # of the card that was opened last, by what TTNN's hash takes of a call: the op, shapes, types and options, not what tensors hold


def open_device(device_id, trace_region_size):
    global numbers
    regions.append(trace_region_size)
    programs.clear()
    numbers = itertools.count(1)
    return Card()


def program_of(function, arguments, options):
    key = function.__name__, told_of(arguments), told_of(sorted(options.items()))
    if key not in programs:
        programs[key] = Program()
        for trace in traces.values():
            trace.later_programs.append(programs[key])
    return programs[key]


def told_of(value):
    if isinstance(value, Tensor):
        return value.shape, value.dtype, value.layout, value.memory
    return tuple(told_of(part) for part in value) if isinstance(value, (list, tuple)) else repr(value)


def recording():
    return next((trace for trace in traces.values() if trace.recording), None)


def begin_trace_capture(card, cq_id):
    require(recording() is None, "a capture within a capture")
    number = next(numbers)
    traces[number] = Trace()
    return number


def end_trace_capture(card, number, cq_id):
    require(traces[number].recording, "no capture to end")
    traces[number].recording = False


def release_trace(card, number):
    require(not traces[number].recording, "a trace is released while it is recorded")
    del traces[number]


def execute_trace(card, number, cq_id, blocking):
    require(recording() is None and not blocking, "a trace within a capture")
    spoil(traces[number].later)
    for program in traces[number].later_programs:
        program.whole = False
    for program, function, arguments, options, outputs in traces[number].commands:
        for output, made in zip(outputs, tensors_of(program.run(function, arguments, options))):
            output.values = made.values


def spoil(tensors):
    for tensor in tensors:
        tensor.values = np.full_like(tensor.values, np.nan if tensor.values.dtype.kind == "f" else 1 << 20)


def tensors_of(result):
    return [x for x in (result if isinstance(result, tuple) else (result,)) if isinstance(x, Tensor)]


def command(function):
    def call(*arguments, **options):
        called.append(function.__name__)
        trace = recording()
        program = Program() if function.__name__ in WITHOUT_PROGRAM else program_of(function, arguments, options)
        if trace is None:
            made = program.run(function, arguments, options)
            for other in traces.values():
                other.later.update(tensors_of(made))
            return made
        require(function.__name__ not in FROM_THE_HOST, f"{function.__name__} within a capture")
        require(not any(isinstance(x, HostTensor) for x in (*arguments, *options.values())), "a host tensor within a capture")
        # The shapes are found on copies, so that nothing is changed in place.
        made = function(*deepcopy(arguments), **deepcopy(options))
        spoil(tensors_of(made))
        trace.commands.append((program, function, arguments, options, tensors_of(made)))
        return made

    return call


def commands(functions):
    return {name: command(f) for name, f in functions.items() if getattr(f, "__module__", "") == "numpy_ttnn" and not isinstance(f, type) and name not in TOLD}


globals().update(commands(vars(numpy_ttnn)))
experimental = type(experimental)(**commands(vars(experimental)))
transformer = type(transformer)(**commands(vars(transformer)))
