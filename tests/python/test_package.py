"""The package without torch: its bindings, errors, types and command."""
import inspect
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from tessera_package import need_package

tessera = need_package()
CONFIG = {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96,
          "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 256, "sliding_window": 20,
          "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": 1}
TOKENIZER = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
             "decoder": {"type": "ByteLevel"}, "post_processor": None,
             "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}, "merges": ["a b", "ab c"]}}
GREEDY = ["--temp", "0", "--print-ids"]


def make_tensors():
    numbers = np.random.default_rng(5)
    shapes = {"model.embed_tokens.weight": (97, 64), "model.norm.weight": (64,), "lm_head.weight": (97, 64)}
    for layer in range(2):
        at = f"model.layers.{layer}."
        shapes |= {at + "self_attn.qkv_proj.weight": (128, 64), at + "self_attn.o_proj.weight": (64, 64), at + "mlp.gate_up_proj.weight": (192, 64),
                   at + "mlp.down_proj.weight": (64, 96), at + "input_layernorm.weight": (64,), at + "post_attention_layernorm.weight": (64,)}
    return {name: numbers.standard_normal(shape).astype(np.float32) / (1 if len(shape) == 1 else 8) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def tensors():
    return make_tensors()


@pytest.fixture(scope="module")
def checkpoint(tensors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    header, offset = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(tensor.tobytes() for tensor in tensors.values()))
    return folder


@pytest.fixture(scope="module")
def device():
    return tessera.open_device("cpu", threads=2)


@pytest.fixture(scope="module")
def loaded(checkpoint, device):
    return tessera.load_model(str(checkpoint), device, activations="float32")


def make_cache(loaded, device, **options):
    return tessera.Cache(device, loaded.model.spec.cache, **({"dtype": loaded.options.cache, "max_tokens": 512, "max_sequences": 4} | options))


@pytest.fixture
def cache(loaded, device):
    return make_cache(loaded, device)


@pytest.fixture
def generator(loaded, device, cache):
    return tessera.Generator(loaded.model, device, cache)


def started(cache, ids):
    sequence = cache.create()
    sequence.append(ids)
    return sequence


def test_the_package_works_without_torch():
    code = "import sys\nsys.modules['torch'] = None\nimport tessera, tessera.engine, tessera.command\nprint(tessera.open_device('cpu', threads=1).name)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "cpu\n"


def test_a_device_tells_its_limits(device):
    assert isinstance(device, tessera.Device) and isinstance(device, tessera.CpuDevice)
    assert (device.name, device.threads) == ("cpu", 2) and device.isa in ("plain", "avx2", "avx512")
    assert device.limits.max_rows >= device.limits.max_chunk >= 1 and device.limits.page_tokens >= 1


def test_card_mode_rounds_more_than_the_cpu_and_takes_no_float32(checkpoint, device):
    card = tessera.open_device("cpu", threads=2, twin="card")
    assert (card.twin, device.twin) == ("card", None)
    ids = np.arange(3, 40)

    def logits(on, **types):
        loaded = tessera.load_model(str(checkpoint), on, **types)
        cache = make_cache(loaded, on)
        return tessera.Generator(loaded.model, on, cache).forward([(started(cache, ids), 37)])

    exact, own, twin = logits(device, activations="float32"), logits(device, weights="bfloat16"), logits(card, weights="bfloat16")
    assert 0 < np.linalg.norm(twin - own) < 0.1 * np.linalg.norm(exact)
    with pytest.raises(ValueError, match="card mode does not take activations of float32; choose bfloat16"):
        logits(card, weights="bfloat16", activations="float32")
    with pytest.raises(ValueError, match="card mode does not take a cache of float32"):
        logits(card, weights="bfloat16", cache="float32")
    with pytest.raises(ValueError, match="twin: 'gpu' is not known; choose card"):
        tessera.open_device("cpu", twin="gpu")
    with pytest.raises(ValueError, match="twin: only the cpu"):
        tessera.open_device("n150", twin="card")


def test_a_loaded_model_tells_what_it_is(loaded):
    assert (loaded.options.weights, loaded.options.activations, loaded.options.cache, loaded.options.logits) == ("float32",) * 4
    assert (loaded.model.spec.vocab_size, loaded.model.spec.max_position_embeddings) == (97, 256)
    assert [(layer.num_kv_heads, layer.head_dim, layer.window) for layer in loaded.model.spec.cache.layers] == [(1, 32, 20)] * 2
    assert loaded.generation.tokens.eos == [2] and loaded.notes == []


def test_tensors_in_memory_give_what_their_file_gives(loaded, checkpoint, tensors, device, cache, generator):
    made = tessera.make_model("Phi3ForCausalLM", json.dumps(CONFIG), tensors, device, activations="float32")
    other_cache = make_cache(made, device)
    other = tessera.Generator(made.model, device, other_cache)
    ids = np.arange(3, 40)
    assert np.array_equal(other.forward([(started(other_cache, ids), 37)]), generator.forward([(started(cache, ids), 37)]))


def test_tensors_in_memory_are_not_copied_as_a_whole(device):
    code = """
import json, resource, sys, numpy as np, tessera
sys.path.insert(0, sys.argv[1])
from test_package import CONFIG, make_tensors
rows = 400_000
tensors = make_tensors() | {name: np.ones((rows, 64), np.float32) for name in ("model.embed_tokens.weight", "lm_head.weight")}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
made = tessera.make_model("Phi3ForCausalLM", json.dumps(CONFIG | {"vocab_size": rows}), tensors, tessera.open_device("cpu", threads=1), weights="bfloat8_b")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, made.model.spec.vocab_size)"""
    done = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, check=True)
    grown, rows = map(int, done.stdout.split())
    kilobytes = rows * 64 * 4 // 1024  # of one of the two; the packed ones take a quarter and a half of it
    assert grown < kilobytes


@pytest.mark.parametrize("ids", [[5, 9, 11], (5, 9, 11), np.array([5, 9, 11]), np.array([5, 9, 11], np.int32), np.array([[5, 0], [9, 0], [11, 0]])[:, 0]],
                         ids=["list", "tuple", "int64", "int32", "strided"])
def test_token_ids_come_as_lists_and_arrays(cache, ids):
    sequence = started(cache, ids)
    assert sequence.tokens.dtype == np.int32 and sequence.tokens.tolist() == [5, 9, 11]


@pytest.mark.parametrize("ids", [[1.5], np.array([1.5]), "12", [[1]], None, np.zeros((1, 1), np.int64)])
def test_what_is_no_token_id_is_a_type_error(cache, ids):
    with pytest.raises(TypeError):
        cache.create().append(ids)


@pytest.mark.parametrize("ids", [[-1], [1 << 31], np.array([1 << 40])])
def test_a_number_that_is_no_token_id_is_a_value_error(cache, ids):
    with pytest.raises(ValueError, match="token id"):
        cache.create().append(ids)


def test_cached_tokens_cannot_be_changed_behind_the_cache(cache, generator):
    sequence = started(cache, [5, 9])
    generator.forward([(sequence, 0)])
    sequence.tokens = [5, 9, 7]
    assert sequence.tokens.tolist() == [5, 9, 7] and sequence.length == 2
    for ids in ([5], [5, 8, 7]):
        with pytest.raises(ValueError, match="first 2 tokens are cached"):
            sequence.tokens = ids


def test_logits_come_request_after_request_and_row_after_row(cache, generator):
    ids = [5, 9, 11, 20, 21, 22, 23]
    alone = generator.forward([(started(cache, ids), 7)])
    assert alone.shape == (7, 97) and alone.dtype == np.float32 and alone.std() > 0.1
    one, two = started(cache, ids), started(cache, ids[:3])
    both = generator.forward([(two, 2), (one, 3)])
    assert np.array_equal(both, np.concatenate([alone[1:3], alone[4:]]))
    assert generator.forward([(one, 0)]).shape == (0, 97)


def test_the_array_of_logits_outlives_everything(checkpoint):
    device = tessera.open_device("cpu", threads=1)
    loaded = tessera.load_model(str(checkpoint), device)
    cache = make_cache(loaded, device)
    generator = tessera.Generator(loaded.model, device, cache)
    logits = generator.forward([(started(cache, [5, 9]), 1)])
    kept = logits.copy()
    del generator, cache, loaded, device
    assert np.array_equal(logits, kept)


def test_a_sequence_keeps_alive_what_it_needs(checkpoint):
    loaded = tessera.load_model(str(checkpoint), tessera.open_device("cpu", threads=1))
    model = loaded.model
    del loaded
    assert model.spec.vocab_size == 97
    device = tessera.open_device("cpu", threads=1)
    sequence = tessera.Cache(device, model.spec.cache, dtype="bfloat16", max_tokens=64).create()
    del device
    sequence.append([1, 2])
    assert len(sequence) == 2


def test_a_fork_goes_on_by_itself(cache, generator):
    ids = list(range(3, 40))
    trunk = started(cache, ids)
    generator.forward([(trunk, 0)])
    branch = cache.fork(trunk)
    assert branch.length == 37 and cache.sequences == 2
    branch.append([50])
    trunk.append([60])
    both = generator.forward([(branch, 1), (trunk, 1)])
    for logits, last in zip(both, (50, 60)):
        assert np.array_equal(logits, generator.forward([(started(cache, [*ids, last]), 1)])[0])


def test_cut_and_rewound_sequences_are_computed_again(cache, generator):
    ids = list(range(3, 80))
    sequence = started(cache, ids)
    whole = generator.forward([(sequence, 77)])
    cache.truncate(sequence, 30)
    assert (len(sequence), sequence.length <= 30) == (30, True)
    sequence.append(ids[30:])
    assert np.array_equal(generator.forward([(sequence, 40)]), whole[37:])
    cache.rewind(sequence, 70)
    assert sequence.length <= 70 and len(sequence) == 77
    assert np.array_equal(generator.forward([(sequence, 1)]), whole[76:])


def test_pages_are_free_when_their_sequence_is(cache, generator):
    free = [cache.free_pages(group) for group in range(cache.groups)]
    assert free == [cache.total_pages(group) for group in range(cache.groups)]
    sequence = started(cache, range(3, 80))
    generator.forward([(sequence, 0)])
    assert cache.sequences == 1 and cache.free_pages(0) < free[0]
    del sequence
    assert cache.sequences == 0 and cache.free_pages(0) == free[0]


def test_a_full_cache_is_a_resource_error_and_others_go_on(loaded, device):
    cache = make_cache(loaded, device, max_tokens=32, max_sequences=2, rewind_tokens=0)
    generator = tessera.Generator(loaded.model, device, cache)
    first, second = started(cache, range(64)), started(cache, range(64))
    with pytest.raises(tessera.ResourceError, match="cache: "):
        generator.forward([(first, 1), (second, 1)])
    assert first.length + second.length > 0
    with pytest.raises(tessera.ResourceError, match="2 sequences are alive"):
        cache.create()


def test_sequences_of_another_cache_and_twice_the_same_are_refused(loaded, device, cache, generator):
    sequence = started(cache, [5])
    for requests, message in ([(started(make_cache(loaded, device), [5]), 1)], "another cache"), ([(sequence, 1), (sequence, 1)], "request 1"), \
            ([(sequence, 2)], "2 rows are wanted of 1"), ([(sequence, -1)], "-1 rows"):
        with pytest.raises(ValueError, match=message):
            generator.forward(requests)
    with pytest.raises(ValueError, match="another cache"):
        make_cache(loaded, device).fork(sequence)


def test_a_token_outside_the_vocabulary_is_refused_and_can_be_taken_back(cache, generator):
    sequence = started(cache, [5, 97])
    with pytest.raises(ValueError, match="97 is outside the vocabulary of 97"):
        generator.forward([(sequence, 1)])
    cache.truncate(sequence, 1)
    assert generator.forward([(sequence, 1)]).shape == (1, 97)


def test_progress_may_stop_a_forward_that_then_goes_on(loaded, device, cache):
    generator = tessera.Generator(loaded.model, device, cache, chunk=8)
    sequence = started(cache, range(3, 40))
    calls = []

    def stop(done, total):
        calls.append((done, total))
        if done >= 16:
            raise KeyError("enough")
    with pytest.raises(KeyError, match="enough"):
        generator.forward([(sequence, 1)], stop)
    assert calls == [(8, 37), (16, 37)] and sequence.length == 16
    whole = generator.forward([(started(cache, range(3, 40)), 1)])
    assert np.array_equal(generator.forward([(sequence, 1)]), whole)


@pytest.fixture
def default_interrupt():
    """A process that was started in the background may ignore the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_stops_a_forward_between_batches(loaded, device, cache, default_interrupt):
    generator = tessera.Generator(loaded.model, device, cache, chunk=8)
    sequence = started(cache, range(3, 40))
    with pytest.raises(KeyboardInterrupt):
        generator.forward([(sequence, 1)], lambda done, total: os.kill(os.getpid(), signal.SIGINT))
    assert 8 <= sequence.length < 37


def test_threads_take_turns(cache, generator):
    prompts = [[5 + i, *range(3, 40)] for i in range(4)]
    expected = [generator.forward([(started(cache, ids), 1)]) for ids in prompts]
    sequences = [started(cache, ids) for ids in prompts]
    got = [None] * 4

    def work(i):
        got[i] = generator.forward([(sequences[i], 1)])
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(got, expected))


def test_errors_are_pythons(checkpoint, device, tmp_path):
    assert issubclass(tessera.FileError, OSError) and issubclass(tessera.ResourceError, MemoryError)
    with pytest.raises(tessera.FileError, match="no such directory"):
        tessera.Checkpoint.open(str(tmp_path / "absent"))
    with pytest.raises(tessera.FileError, match="config.json"):
        tessera.load_model(str(tmp_path), device)
    for name, error in ("gpu", ValueError), ("n150", RuntimeError):
        with pytest.raises(error, match=name):
            tessera.open_device(name)
    with pytest.raises(ValueError, match="int8.*bfloat8_b"):
        tessera.load_model(str(checkpoint), device, weights="int8")
    with pytest.raises(ValueError, match="threads"):
        tessera.open_device("cpu", threads=-1)
    with pytest.raises(tessera.ResourceError, match="more than can be numbered"):
        make_cache(tessera.load_model(str(checkpoint), device), device, max_tokens=1 << 50, max_sequences=1 << 40)


def test_tensors_that_cannot_be_weights_are_named(tensors, device):
    def refused(name, tensor, error, message):
        with pytest.raises(error, match=message):
            tessera.make_model("Phi3ForCausalLM", json.dumps(CONFIG), tensors | {name: tensor}, device)
    refused("model.norm.weight", np.ones(64), ValueError, "model.norm.weight.*float32, float16 and bfloat16")
    refused("model.norm.weight", np.ones(128, np.float32)[::2], ValueError, "model.norm.weight.*contiguous")
    refused("model.norm.weight", [1.0] * 64, ValueError, "model.norm.weight")
    refused("model.norm.weight", np.ones(63, np.float32), tessera.FileError, "model.norm.weight.*63")
    refused("model.other.weight", np.ones(4, np.float32), tessera.FileError, "model.other.weight")
    with pytest.raises(tessera.FileError, match="BertForCausalLM.*Phi3ForCausalLM"):
        tessera.make_model("BertForCausalLM", json.dumps(CONFIG), tensors, device)
    with pytest.raises(tessera.FileError, match="config"):
        tessera.make_model("Phi3ForCausalLM", "{", tensors, device)


def test_the_sampler_draws_from_the_most_probable():
    logits = np.random.default_rng(1).standard_normal(97).astype(np.float32) * 3
    params = tessera.SamplingParams()
    params.top_k, params.temperature, params.seed = 5, 0.7, 11
    order = np.argsort(-logits)[:5]
    probabilities = np.exp(logits[order].astype(np.float64) / 0.7)
    candidates = tessera.Sampler(params, [2]).candidates(logits, [1, 5], 2)
    assert [token for token, _ in candidates] == order.tolist()
    np.testing.assert_allclose([p for _, p in candidates], probabilities / probabilities.sum(), rtol=1e-6)
    drawn = [tessera.Sampler(params, [2]).sample(logits, [1, 5], 2, sample=i) for i in range(200)]
    assert set(drawn) <= set(order.tolist()) and len(set(drawn)) > 1
    assert drawn == [tessera.Sampler(params, []).sample(logits, np.array([1, 5]), 2, sample=i) for i in range(200)]
    params.temperature = 0
    assert tessera.Sampler(params, []).sample(logits, [1], 1) == logits.argmax()


def test_the_sampler_processes_logits():
    logits = np.random.default_rng(1).standard_normal(97).astype(np.float32) * 3
    first, second, third = np.argsort(-logits)[:3].tolist()
    params = tessera.SamplingParams()
    params.temperature = 0
    params.processors.bad_words_ids = [[first]]
    assert tessera.Sampler(params, []).sample(logits, [1], 1) == second
    params.processors.sequence_bias = [([1, second], -50.0), ([2, third], 50.0)]
    assert tessera.Sampler(params, []).sample(logits, [1], 1) == third
    params.processors.exponential_decay_length_penalty, params.processors.top_h = (3, 1.5), None
    params.processors.forced_eos_token_id = [7]
    sampler = tessera.Sampler(params, [])
    sampler.set_max_length(3)
    assert [sampler.sample(logits, [1] * length, 1) for length in (1, 2)] == [third, 7]
    params.processors.typical_p = 0.0
    with pytest.raises(ValueError, match="typical_p: 0"):
        tessera.check_sampling(params, 97)


def test_sampling_out_of_bounds_is_refused():
    params = tessera.SamplingParams()
    logits = np.zeros(7, np.float32)
    for sampler, tokens, prompt in (tessera.Sampler(params, [7]), [1], 1), (tessera.Sampler(params, []), [1], 2):
        with pytest.raises(ValueError):
            sampler.sample(logits, tokens, prompt)
    params.top_p = 1.5
    with pytest.raises(ValueError, match="top_p: 1.5"):
        tessera.check_sampling(params, 7)
    with pytest.raises(ValueError, match="top_p: 1.5"):
        tessera.Sampler(params, []).sample(logits, [1], 1)
    with pytest.raises(TypeError):
        tessera.Sampler(params, []).sample(logits.astype(np.complex64), [1], 1)


def test_the_tokenizer_and_its_detokenizer(checkpoint):
    tokenizer = tessera.Tokenizer.load(tessera.Checkpoint.open(str(checkpoint)).tokenizer())
    ids = tokenizer.encode("abcab")
    assert ids == [4, 3] and tokenizer.decode(np.array(ids)) == "abcab"
    assert (tokenizer.vocab_size, tokenizer.token_to_id("abc"), tokenizer.token_to_id("x"), tokenizer.id_to_token(3)) == (5, 4, None, "ab")
    detokenizer = tessera.Detokenizer(tokenizer)
    del tokenizer
    assert "".join([*map(detokenizer.push, ids), detokenizer.flush()]) == "abcab"
    with pytest.raises(tessera.FileError, match="mine"):
        tessera.Tokenizer.parse("[]", "mine")


def test_every_name_is_typed():
    package = Path(tessera.__file__).parent
    assert (package / "py.typed").exists()
    stub = (package / "_core.pyi").read_text()
    assert "from_pretrained" in tessera.__all__ and all(parameter.annotation is not parameter.empty for parameter in
                                                        inspect.signature(tessera.from_pretrained).parameters.values())
    for name in set(tessera.__all__) - {"from_pretrained"}:
        assert re.search(rf"^(class|def) {name}\b", stub, re.MULTILINE), name
    assert "std::" not in stub and "tessera::" not in stub, "a C++ type shows through"
    compile(stub, "_core.pyi", "exec")


def run_command(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "tessera", *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)


def test_the_command_generates_what_the_bindings_do(checkpoint, cache, generator, tmp_path):
    (tmp_path / "ids.json").write_text("[5, 9, 11]")
    done = run_command("run", "-m", checkpoint, "--activations", "float32", "--ids-file", tmp_path / "ids.json", "-n", 6, "-t", 2, *GREEDY)
    assert done.returncode == 0, done.stderr
    sequence = started(cache, [5, 9, 11])
    ids = []
    for _ in range(6):
        ids.append(int(generator.forward([(sequence, 1)])[0].argmax()))
        sequence.append(ids[-1:])
    assert [int(word) for word in done.stdout.split()] == ids


@pytest.mark.parametrize("arguments, code", [(["--version"], 0), (["--list-devices"], 0), (["frobnicate"], 2), (["run", "-m", "/absent", "-p", "x"], 3)])
def test_the_command_exits_as_the_program_does(arguments, code):
    done = run_command(*arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and bool(done.stdout) == (code == 0)


def test_the_command_takes_arguments_that_are_not_utf_8():
    done = subprocess.run([os.fsencode(sys.executable), b"-m", b"tessera", b"run", b"-m", b"/absent\xff", b"-p", b"x"], capture_output=True)
    assert done.returncode == 3 and b"Traceback" not in done.stderr


@pytest.mark.slow
def test_pip_installs_the_clone(tmp_path):
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--target", tmp_path, root], check=True)
    done = subprocess.run([sys.executable, "-m", "tessera", "--version"], capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0 and done.stdout.startswith("tessera ")
    assert (tmp_path / "tessera/_core.pyi").exists() and (tmp_path / "bin/tessera").exists()
