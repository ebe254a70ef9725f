"""The n150's device on TTNN itself: every call passes TTNN's checks of shapes, layouts, shards and memory. Nothing is computed."""
import os
import subprocess
import sys
import types

import numpy as np
import pytest
from conversations import Talk, every_kind, mixed_turns, whole_conversation
from tiny_models import model

SMALL = ["small-gemma3-window-128", "small-gemma3-softcap-head-dim-256", "small-gemma3-odd-widths", "small-phi3-longrope-128",
         "small-llama-biases", "small-llama-biases-head-dim-96", "small-mistral", "small-qwen2", "small-qwen3", "small-phi3-partial-rotary",
         "small-ministral3", "small-smollm3", "small-arcee", "small-granite", "small-olmo2", "small-olmo3"]


@pytest.fixture(scope="module")
def device(core, card):
    return core.open_device(card)


def prefill_and_decode(talk, prompts, batches):
    sequences = [talk.cache.create() for _ in range(max(batches))]
    for sequence, tokens in zip(sequences, prompts):
        assert talk.say((sequence, tokens, 1)).shape == (1, talk.loaded.model.spec.vocab_size)
    for users in batches:
        assert len(talk.say(*[(sequence, 1, 1) for sequence in sequences[:users]])) == users


@pytest.mark.parametrize("weights, cache", [("bfloat8_b", "bfloat16"), ("bfloat16", "bfloat8_b")])
@pytest.mark.parametrize("name", SMALL)
def test_every_kind_of_batch_passes(core, device, name, weights, cache):
    assert len(whole_conversation(Talk(core, device, model(name), weights=weights, cache=cache))) == 36


def test_gemma3_4b_s_widths_pass(core, device):
    talk = Talk(core, device, model("gemma3-4b-two-layers"), max_tokens=12288, max_sequences=32, weights="bfloat8_b", cache="bfloat8_b")
    prefill_and_decode(talk, (20, 128, 1000, 4096), (1, 8, 32))


def test_phi3_mini_s_widths_pass(core, device):
    talk = Talk(core, device, model("phi3-mini-one-layer"), max_tokens=8192, max_sequences=32, weights="bfloat16", cache="bfloat16")
    prefill_and_decode(talk, (20, 128, 1000, 4096), (1, 8, 32))


@pytest.mark.parametrize("name", ["llama-3.2-1b", "mistral-7b", "qwen2.5-7b", "qwen3-0.6b", "qwen3-4b", "falcon3-7b", "allam-7b", "afm-4.5b",
                                  "smollm3-3b", "phi-4-mini", "granite-3.3-8b", "olmo2-7b"])
def test_real_widths_pass(core, device, name):
    talk = Talk(core, device, model(name), max_tokens=8192, max_sequences=32, weights="bfloat8_b", cache="bfloat8_b")
    prefill_and_decode(talk, (20, 128, 1000), (1, 8, 32))


def test_all_logits_of_gemma3_s_vocabulary_pass(core, device):
    talk = Talk(core, device, model("vocabulary-262208"), weights="bfloat8_b")
    prefill_and_decode(talk, (20, 200), (1, 2))


def test_100_decodes_that_cross_the_window_make_no_new_program_after_the_first(core, card, device):
    talk = Talk(core, device, model("small-gemma3-window-1024"), max_tokens=12288, weights="bfloat16")
    sequences = [talk.cache.create() for _ in range(8)]
    for sequence in sequences:
        talk.say((sequence, 980, 0))
    talk.say(*[(sequence, 1, 1) for sequence in sequences])
    programs = card.num_program_cache_entries()
    for _ in range(100):
        talk.say(*[(sequence, 1, 1) for sequence in sequences])
    assert all(len(sequence) == 1081 for sequence in sequences)
    assert card.num_program_cache_entries() == programs


def test_decodes_of_1_to_32_users_make_6_sets_of_programs(core, card, device):
    talk = Talk(core, device, model("small-gemma3-window-128"), max_sequences=32, weights="bfloat8_b")
    sequences = [talk.cache.create() for _ in range(32)]
    programs = []
    for users in (1, 2, 4, 8, 16, 32, *range(1, 33)):
        talk.say(*[(sequence, 1, 1) for sequence in sequences[:users]])
        programs.append(card.num_program_cache_entries())
    assert programs[0] < programs[1] < programs[2] < programs[3] < programs[4] < programs[5]
    assert set(programs[5:]) == {programs[5]}


@pytest.mark.parametrize("name, cache", [("small-gemma3-window-128", "bfloat8_b"), ("small-phi3-longrope-128", "bfloat16")])
def test_50_mixed_turns_make_no_program_after_each_kind_came_once(core, card, device, name, cache):
    talk = Talk(core, device, model(name), max_tokens=16384, max_sequences=9, weights="bfloat8_b", cache=cache)
    every_kind(talk, users=8)
    programs = card.num_program_cache_entries()
    mixed_turns(talk, 50, users=8)
    assert card.num_program_cache_entries() == programs


def test_programs_keep_no_tensors_on_the_card(core, ttnn, card, device):
    def taken():
        return ttnn.get_memory_view(card, ttnn.BufferType.DRAM).total_bytes_allocated_per_bank

    talk = Talk(core, device, model("small-gemma3-window-128"), max_tokens=8192, max_sequences=9, weights="bfloat8_b")
    card.clear_program_cache()
    before = taken()
    every_kind(talk, users=8)
    assert taken() == before


@pytest.mark.parametrize("precision, words", [({"weights": "float32"}, "no weights of float32; choose bfloat16"),
                                              ({"activations": "float32"}, "activations of float32 are not supported; choose bfloat16"),
                                              ({"cache": "float32"}, "cache of float32 is not supported; choose bfloat16 or bfloat8_b")])
def test_refuses_types_that_the_card_does_not_compute_in(core, device, precision, words):
    with pytest.raises(ValueError, match=words):
        Talk(core, device, model("small-gemma3"), **{"weights": "bfloat16", "activations": "bfloat16", "cache": "bfloat16", **precision})


def test_refuses_heads_that_are_no_whole_tiles(core, device):
    with pytest.raises(ValueError, match="heads of 48 values are not supported; a multiple of 32 is"):
        Talk(core, device, model("small-gemma3-head-dim-48"), weights="bfloat16")


@pytest.mark.parametrize("name, words", [("small-qwen3-moe", "mixtures of experts are not supported; choose the cpu"),
                                         ("small-gemma2", "attention with a softcap is not supported; choose the cpu"),
                                         ("small-olmo2-head-dim-96", "a norm of heads of 96 values is not supported")])
def test_refuses_what_it_has_no_ops_for(core, device, name, words):
    with pytest.raises(ValueError, match=words):
        talk = Talk(core, device, model(name), weights="bfloat16")
        talk.say((talk.cache.create(), 1, 1))


def test_refuses_a_cache_beyond_the_card_s_memory(core, device):
    with pytest.raises(core.ResourceError, match="the card's memory is full: Out of Memory.*Shorten the context"):
        Talk(core, device, model("large-cache"), max_tokens=1 << 20, weights="bfloat16")


def spoiled(ttnn, monkeypatch, name, replace):
    """A module that is TTNN but for one function."""
    module = types.ModuleType("spoiled_ttnn")
    module.__getattr__ = lambda attribute: getattr(ttnn, attribute)
    setattr(module, name, replace)
    monkeypatch.setitem(sys.modules, "spoiled_ttnn", module)
    return "spoiled_ttnn"


FAULTS = {
    "a dropped shard": ("to_memory_config", lambda ttnn: lambda tensor, memory: tensor, "sharded"),
    "rows where tiles belong": ("to_device", lambda ttnn: lambda host, card, memory_config: ttnn.to_layout(
        ttnn.to_device(host, card, memory_config=ttnn.DRAM_MEMORY_CONFIG), ttnn.ROW_MAJOR_LAYOUT), "."),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_ttnn_refuses_a_planted_fault_and_the_error_names_the_op_and_its_shapes(ttnn, core, card, monkeypatch, fault):
    name, make, words = FAULTS[fault]
    device = core.open_device(card, module=spoiled(ttnn, monkeypatch, name, make(ttnn)))
    with pytest.raises(RuntimeError, match=rf"^[a-z_.]+ Shape\(\[.*TTNN refuses: .*{words}") as refused:
        whole_conversation(Talk(core, device, model("small-gemma3"), weights="bfloat16"))
    assert "\n" not in str(refused.value)


def test_a_module_that_is_not_there_is_one_clear_line(core):
    with pytest.raises(RuntimeError, match="^n150: Python cannot import no_such_ttnn: No module named 'no_such_ttnn'. scripts/setup n150 makes"):
        core.open_device("n150", module="no_such_ttnn")


@pytest.mark.skipif(os.path.exists("/dev/tenstorrent"), reason="a card is here, and is not to be opened by a test of the mock")
def test_a_machine_without_a_card_is_one_clear_line(tessera, card):
    environment = {name: value for name, value in os.environ.items() if name != "TT_METAL_MOCK_CLUSTER_DESC_PATH"}
    done = subprocess.run([sys.executable, "-c", "import tessera; tessera.open_device('n150')"], capture_output=True, text=True, env=environment)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("RuntimeError: n150: cannot open card 0: No chips detected in the cluster"), done.stderr


def test_a_mesh_of_two_chips_is_refused_and_one_of_them_is_not(core, ttnn, tmp_path):
    code = f"""
import pathlib, mock_card
mock_card.prepare(pathlib.Path({str(tmp_path)!r}), "n300")
import tessera, ttnn
mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 2))
try:
    tessera.open_device(mesh)
except ValueError as error:
    print(error)
print(tessera.open_device(mesh.create_submesh(ttnn.MeshShape(1, 1))).name)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], os.path.dirname(__file__)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == ("n150: the ttnn device is a mesh of 2 chips; meshes are not supported: pass one chip, ttnn.open_device(device_id=0)\n"
                           "n150\n"), done.stderr


def test_a_card_that_was_opened_elsewhere_stays_open(core, ttnn, card):
    core.open_device(card)
    assert ttnn.Tensor(np.zeros((32, 32), np.float32), ttnn.bfloat16, card, ttnn.TILE_LAYOUT).shape == (32, 32)
