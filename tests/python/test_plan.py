"""`tessera plan` against arithmetic from the models' sizes and against `tessera inspect` on the CPU; tests/n150/test_memory.py holds it against TTNN's own
allocator."""
import json
import shutil

import pytest

GEMMA_4B = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16",
            "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
                            "sliding_window": 1024, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}}
PHI3_MINI = {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "torch_dtype": "bfloat16", "max_position_embeddings": 131072,
             "original_max_position_embeddings": 4096, "sliding_window": 262144,
             "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48}}
BLOCKS = ("--weights", "bfloat8_b")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Checkpoints of which there is config.json alone."""
    made = {}
    for name, config in (("gemma", GEMMA_4B), ("phi", PHI3_MINI)):
        made[name] = tmp_path_factory.mktemp(name)
        (made[name] / "config.json").write_text(json.dumps(config))
    return made


def plan(tessera, folder, *flags, fits=True):
    facts = json.loads(tessera.run("plan", "-m", folder, *flags, "--json", "-", expect=0 if fits else 4).stdout)
    assert facts["fits"] == fits
    return facts


# Bytes of keys and values a token; Gemma's once its 29 windowed layers are full: 5 layers of 34.
@pytest.mark.parametrize("name, cache, a_token", [("phi", "bfloat16", 393216), ("phi", "bfloat8_b", 208896),
                                                  ("gemma", "bfloat16", 139264 * 5 // 34), ("gemma", "bfloat8_b", 73984 * 5 // 34)])
def test_a_token_of_the_cache_takes_what_its_heads_take(tessera, folders, name, cache, a_token):
    less, more = (plan(tessera, folders[name], *BLOCKS, "--cache", cache, "-c", context)["bytes"]["cache"] for context in (6144, 12288))
    assert more - less == a_token * 6144


# The longest caches that the allocator gave without any room for activations.
@pytest.mark.parametrize("flags, longest", [((), {1: (13184, 24960), 32: (384, 768)}), (BLOCKS, {1: (22144, 41600), 32: (640, 1280)})])
def test_phi3_s_longest_contexts_are_near_those_of_the_allocator(tessera, folders, flags, longest):
    rows = {row["sequences"]: row for row in plan(tessera, folders["phi"], *flags, "-c", 256)["longest_context"]}
    for sequences, contexts in longest.items():
        for cache, most in zip(("bfloat16", "bfloat8_b"), contexts):
            # The allocator's were sought in steps of up to 256.
            assert 0.9 * most <= rows[sequences][cache] <= 1.2 * most, (sequences, cache)


def test_gemma_s_windows_leave_room_for_its_whole_context(tessera, folders):
    facts = plan(tessera, folders["gemma"], *BLOCKS, "-c", 131072)
    assert 2.8e9 < facts["bytes"]["cache"] < 3.1e9  # 2.68 GB of five layers, and 29 windows
    assert facts["longest_context"][0] == {"sequences": 1, "bfloat16": 131072, "bfloat8_b": 131072}


def test_the_longest_context_fits_and_one_page_more_does_not(tessera, folders):
    for name, sequences in (("phi", 1), ("phi", 7), ("gemma", 32)):
        flags = (*BLOCKS, "--sequences", sequences, "--cache", "bfloat8_b")
        others = plan(tessera, folders[name], *flags, "-c", 131072, fits=False)["fits_with"]
        context = next(int(flag.split()[1]) for flag in others if flag.startswith("-c"))
        assert context % 64 == 0
        plan(tessera, folders[name], *flags, "-c", context)
        plan(tessera, folders[name], *flags, "-c", context + 1, fits=False)


# As computed once from the allocator's room with rings of exactly one window, and with rotary tables of the whole context, a fortieth of the
# room, which are not kept here. Our pool also keeps what may be taken back of each sequence.
@pytest.mark.parametrize("sequences, context, part", [(8, 74000, 0.95), (32, 14000, 0.85)])
def test_gemma_s_longest_contexts_are_near_those_of_bare_windows(tessera, folders, sequences, context, part):
    rows = {row["sequences"]: row["bfloat8_b"] for row in plan(tessera, folders["gemma"], *BLOCKS)["longest_context"]}
    assert part * context <= rows[sequences] <= 1.03 * context


@pytest.mark.parametrize("name, flags", [("phi", ("-c", 16384)), ("phi", ("-c", 30000)), ("phi", ("-c", 4096, "--sequences", 8)),
                                         ("gemma", ("-c", 65536, "--sequences", 8)), ("phi", (*BLOCKS, "-c", 131072)),
                                         ("phi", ("--memory", 7))])
def test_each_change_that_is_named_makes_it_fit(tessera, folders, name, flags):
    facts = plan(tessera, folders[name], *flags, fits=False)
    text = tessera.run("plan", "-m", folders[name], *flags, expect=4).stdout
    for change in facts["fits_with"]:
        assert f"it fits with {change}" in text
        changed = {**dict(zip(flags[::2], flags[1::2])), **dict(zip(change.split()[::2], change.split()[1::2]))}
        plan(tessera, folders[name], *(word for pair in changed.items() for word in pair))
    assert facts["bytes"]["all"] > facts["memory_bytes"] and "does not fit" in text
    if not facts["fits_with"]:
        assert "no other type" in text


def test_nothing_is_named_when_the_weights_alone_are_too_large(tessera, folders):
    assert plan(tessera, folders["phi"], "--memory", 3, fits=False)["fits_with"] == []


def test_the_cpu_is_planned_as_inspect_describes_it(tessera, gemma3_270m, tmp_path):
    shutil.copy(gemma3_270m / "config.json", tmp_path)
    described = json.loads(tessera.run("inspect", "-m", gemma3_270m, "--json", "-").stdout)
    for weights in ("float32", "bfloat16", "bfloat8_b"):
        facts = plan(tessera, tmp_path, "--device", "cpu", "--memory", 8, "--weights", weights, "-c", 4096)
        assert facts["bytes"]["weights"] == described["weights_bytes"][weights]
        assert facts["bytes"]["cache"] == next(row["bfloat16"] for row in described["cache_bytes"] if row["context"] == 4096)
    assert plan(tessera, tmp_path, "--device", "cpu")["memory_bytes"] > 0


def test_recordings_take_the_room_of_their_commands_and_their_logits(tessera, folders):
    less, more = (plan(tessera, folders["phi"], *BLOCKS, "--trace", trace)["bytes"] for trace in (0, 1))
    taken = 128_000_000 + 32 * 32064 * 4  # a tile's rows of float32
    assert 0 <= more["working"] - less["working"] - taken < 12 * 2 * 4096  # at most a page of each bank more
    assert more["all"] - less["all"] == more["working"] - less["working"]


@pytest.mark.parametrize("config, words", [
    ({"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2"}, "n150: attention with a softcap is not supported; choose the cpu"),
    ({"architectures": ["OlmoeForCausalLM"], "model_type": "olmoe"}, "n150: mixtures of experts are not supported; choose the cpu"),
    ({**PHI3_MINI, "hidden_size": 5120, "num_attention_heads": 40}, "n150: 40 heads are not supported; up to 32 are, or choose the cpu")])
def test_what_the_n150_does_not_compute_with_is_refused_before_its_weights_are_there(tessera, tmp_path, config, words):
    (tmp_path / "config.json").write_text(json.dumps(config if "rope_scaling" not in config else {**config, "rope_scaling": None}))
    assert words in tessera.run("plan", "-m", tmp_path, expect=2).stderr
    plan(tessera, tmp_path, "--device", "cpu", "--memory", 1000, "-c", 64)


def test_flags_and_files_are_checked(tessera, folders, tmp_path):
    for flags, said in [(("--weights", "float32"), "float32"), (("--activations", "float32"), "activations are bfloat16"),
                        (("--cache", "float32"), "float32"), (("--sequences", 33), "at most 32"), (("-c", 131073), "131072"),
                        (("--device", "gpu"), "cpu or n150"), (("--device", "cpu", "--trace", 1), "only the n150 records")]:
        assert said in tessera.run("plan", "-m", folders["phi"], *flags, expect=2).stderr
    assert "config.json" in tessera.run("plan", "-m", tmp_path, expect=3).stderr
    (tmp_path / "config.json").write_text(json.dumps({**PHI3_MINI, "num_key_value_heads": 7}))
    assert "num_key_value_heads" in tessera.run("plan", "-m", tmp_path, expect=3).stderr
