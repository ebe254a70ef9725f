"""What a model takes of a device's memory: `run`, `plan`, `inspect` and Python name the same numbers, and refuse in the same words."""
import itertools
import json
import re

import pytest
from tessera_package import need_package
from tiny_checkpoints import GEMMA3, LLAMA, MISTRAL, PHI3, QWEN3, make, row

tessera_python = need_package()
LONG = 1 << 30  # tokens, more than any memory holds
# One of each family, and stored types of each kind.
MODELS = {"gemma3": row(GEMMA3, max_position_embeddings=LONG, torch_dtype="bfloat16"),
          "phi3": row(PHI3, max_position_embeddings=LONG, original_max_position_embeddings=LONG, torch_dtype="float32", dtype="float32"),
          "llama": row(LLAMA, max_position_embeddings=LONG, torch_dtype="float16", dtype="float16"),
          "mistral": row(MISTRAL, max_position_embeddings=LONG, torch_dtype="bfloat16", sliding_window=9),
          "qwen3": row(QWEN3, max_position_embeddings=LONG, torch_dtype="bfloat16")}
WEIGHTS, CACHES = (None, "float32", "bfloat16", "bfloat8_b", "bfloat4_b"), (None, "float32", "bfloat8_b")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp("memory") / name, model) for name, model in MODELS.items()}


def flags_of(weights, cache):
    return [word for flag, value in (("--weights", weights), ("--cache", cache)) if value for word in (flag, value)]


def text_of(size):
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def refusal(text):
    """What does not fit: types, tokens and the bytes of all. What is free changes from one moment to the next."""
    found = re.search(r"(\w+) weights and a (\w+) cache of 1 x (\d+) tokens do not fit the cpu: ([\d.]+ [MG]B) of [\d.]+ [MG]B", text)
    assert found, text
    return found.groups()


@pytest.mark.parametrize("name", MODELS)
def test_run_plan_inspect_and_python_name_the_same_numbers(tessera, folders, name):
    folder, checkpoint = folders[name], tessera_python.Checkpoint.open(str(folders[name]))
    inspected = json.loads(tessera.run("inspect", "-m", folder, "--json", "-").stdout)
    caches = {facts["context"]: facts for facts in inspected["cache_bytes"]}
    text = tessera.run("inspect", "-m", folder).stdout
    for weights, cache in itertools.product(WEIGHTS, CACHES):
        for context in (1024, 32768, LONG):
            done = tessera.run("plan", "-m", folder, "--device", "cpu", *flags_of(weights, cache), "-c", context, "--memory", 4, "--json", "-",
                               expect=0 if context < LONG or name == "mistral" else 4)
            planned = json.loads(done.stdout)
            used, size = planned["precision"], planned["bytes"]
            assert used["weights"] == (weights or ("bfloat16" if MODELS[name].dtype == "bfloat16" else "float32"))
            assert size["weights"] == inspected["weights_bytes"][used["weights"]]
            assert size["cache"] == caches[context][used["cache"]]
            assert size["all"] == size["weights"] + size["cache"] + size["working"]
            assert text_of(size["weights"]) in text and text_of(size["cache"]) in text
        if name == "mistral":  # its windows are all that it keeps
            continue
        expected = used["weights"], used["cache"], str(LONG), text_of(size["all"])
        told = tessera.run("run", "-m", folder, "-p", "ab", *flags_of(weights, cache), "-c", LONG, expect=4).stderr
        assert refusal(told) == expected
        with pytest.raises(tessera_python.ResourceError) as error:
            tessera_python._core.expect_fits("cpu", checkpoint, LONG, weights=weights, cache=cache)
        assert refusal(str(error.value)) == expected
        assert str(error.value).split(": ")[0] in told and "it fits with" in told


@pytest.mark.parametrize("name", ["gemma3", "phi3", "llama", "qwen3"])
def test_build_model_refuses_in_the_words_of_run_before_it_packs(tessera, folders, name, monkeypatch):
    from tessera.bringup import Bringup

    told = tessera.run("bench", "-m", folders[name], "-p", 1, "-n", 0, "-d", LONG - 1, expect=4).stderr
    monkeypatch.setattr(tessera_python._core, "load_model", None)
    with pytest.raises(tessera_python.ResourceError) as error:
        Bringup(MODELS[name].config["architectures"][0], None, "bfloat16").build_model(str(folders[name]), "cpu", LONG)
    assert refusal(str(error.value)) == refusal(told)


def test_a_context_that_nobody_names_is_the_longest_that_plan_finds(tessera, folders, measured):
    for name in ("gemma3", "qwen3"):
        told = tessera.run("chat", "-m", folders[name], expect=3).stderr  # there is no template
        context = int(re.search(rf"the model's context is {LONG} tokens; memory is for (\d+)", told)[1])
        planned = json.loads(tessera.run("plan", "-m", folders[name], "--device", "cpu", "--json", "-").stdout)["longest_context"][0]["bfloat16"]
        measured(f"{name}: run takes a context of {context} tokens, plan a moment later {planned}")
        assert context == pytest.approx(planned, rel=0.2)  # what is free changes from one moment to the next


def test_the_engine_s_cache_is_what_the_device_has_room_for(folders):
    device = tessera_python.open_device("cpu", threads=1)
    loaded = tessera_python.load_model(str(folders["llama"]), device, weights="bfloat16")
    a_token = 3 * 2 * 2 * 32 * 2  # 3 layers of 2 key heads of 32 values in bfloat16
    tokens, sequences = tessera_python._core.largest_cache(device, loaded.model.spec.cache, "bfloat16", 1000)
    pages = -(-tokens // 32) + sequences
    free = device.free_memory()
    assert sequences == 4096 and (tokens == 1000 * sequences or pages * 32 * a_token == pytest.approx(free, rel=0.2))
    with pytest.raises(tessera_python.ResourceError, match=rf"^a bfloat16 cache of {LONG} tokens does not fit the cpu: {text_of(a_token * (LONG + 32))} of "):
        tessera_python._core.largest_cache(device, loaded.model.spec.cache, "bfloat16", LONG)
