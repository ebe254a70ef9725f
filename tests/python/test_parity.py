"""float32 mode against transformers' float32: real small models, and tiny random ones with one trait each."""
import json
import re

import numpy as np
import pytest
from hf_reference import HfReference, max_difference
from parity import (COUNTED_TOLERANCE, DECIDED, INSTRUCTION_SETS, PROMPTS, assert_cut_does_not_matter, assert_lively, assert_same_greedy_ids, assert_same_logits,
                    compare_choices, prompt_ids, random_ids)
from tiny_checkpoints import (FULL, LLAMA, LLAMA3, MISTRAL, MULTIMODAL_LAYOUTS, QWEN2, QWEN3, SLIDING, SMALL, TRAITS, YARN, longrope, make, make_multimodal,
                              row)


@pytest.fixture(scope="module", params=["gemma3_270m", "phi3_smollm2", "llama_smollm2"])
def real(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def forced(hf, real, long_text):
    """A text's ids, and Hugging Face's logits, whose first rows are those of every beginning of it."""
    ids = prompt_ids(real, long_text)[:1100]
    return ids, hf.logits(real, ids)


@pytest.fixture(scope="module")
def ours(tessera, real, forced):
    """Our logits of the text, in pieces of 512."""
    return tessera.logits(real, forced[0])


def test_a_long_text_s_logits_and_choices_equal_hugging_face(real, forced, ours, measured):
    ids, reference = forced
    assert_same_logits(ours, reference, real.name, measured)
    assert compare_choices(ours, reference, real.name, measured) >= 1000


@pytest.mark.parametrize("length", [1, 31, 32, 33, 600])
def test_a_prompt_s_logits_equal_hugging_face(tessera, real, forced, measured, length):
    ids, reference = forced
    assert_same_logits(tessera.logits(real, ids[:length]), reference[:length], real.name, measured)


def test_greedy_ids_equal_generate(tessera, hf, real, measured):
    assert assert_same_greedy_ids(tessera, hf, real, prompt_ids(real, PROMPTS[0]), 16, measured) >= 10


@pytest.mark.parametrize("length, cuts", [(130, [1]), (600, [31, 600])])  # 600 are past Gemma's window of 512
def test_the_cut_of_a_prompt_does_not_matter(tessera, real, forced, ours, measured, length, cuts):
    assert_cut_does_not_matter(tessera, real, forced[0][:length], cuts, measured, ours[:length])


@pytest.mark.slow
@pytest.mark.parametrize("real", ["gemma3_270m"], indirect=True)
@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_every_instruction_set_equals_hugging_face(tessera, real, forced, measured, monkeypatch, isa):
    monkeypatch.setenv("TESSERA_CPU_ISA", isa)
    ids, reference = forced[0][:130], forced[1][:130]
    ours = tessera.logits(real, ids)
    assert_same_logits(ours, reference, f"{real.name}, {isa}", measured)
    assert_cut_does_not_matter(tessera, real, ids, (1, 31), measured, ours)


@pytest.fixture(scope="module")
def counted(hf, gemma3_270m, tmp_path_factory):
    """The ids of "1 2 3 ... 200", Hugging Face's logits by its default attention, and how far those of its eager one are from them."""
    ids = prompt_ids(gemma3_270m, " ".join(map(str, range(1, 201))))
    reference = hf.logits(gemma3_270m, ids)
    eager = HfReference(tmp_path_factory.mktemp("eager"))
    eager.path, eager.loaded = gemma3_270m, hf.model(gemma3_270m)
    eager.loaded.set_attn_implementation("eager")
    spread, _ = max_difference(eager.logits(gemma3_270m, ids), reference)
    eager.loaded.set_attn_implementation("sdpa")
    eager.close()
    return ids, reference, spread


@pytest.mark.slow
@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_counted_numbers_get_hugging_face_s_choices(tessera, gemma3_270m, counted, measured, monkeypatch, isa):
    """Rounding is magnified on such a text: Hugging Face differs from itself by more than 1e-3, and so do we from it."""
    monkeypatch.setenv("TESSERA_CPU_ISA", isa)
    ids, reference, spread = counted
    ours = tessera.logits(gemma3_270m, ids)
    difference, _ = max_difference(ours, reference)
    measured(f"{gemma3_270m.name}, {isa}, {len(ids)} tokens of counted numbers: max |logit difference| to Hugging Face {difference:.1e}, its own "
             f"attentions' {spread:.1e}")
    assert difference <= COUNTED_TOLERANCE
    assert compare_choices(ours, reference, gemma3_270m.name, measured) > 600


@pytest.mark.parametrize("length", [40, 100])
def test_longrope_logits_equal_hugging_face_on_both_sides_of_the_boundary(tessera, hf, phi3_smollm2_longrope, long_text, measured, length):
    ids = prompt_ids(phi3_smollm2_longrope, long_text)[:length]
    ours = tessera.logits(phi3_smollm2_longrope, ids)
    assert_same_logits(ours, hf.logits(phi3_smollm2_longrope, ids), phi3_smollm2_longrope.name, measured)
    assert_cut_does_not_matter(tessera, phi3_smollm2_longrope, ids, (1, 16, 40), measured, ours)


def test_a_generation_that_crosses_the_longrope_boundary_equals_generate(tessera, hf, phi3_smollm2_longrope, long_text, measured):
    ids = prompt_ids(phi3_smollm2_longrope, long_text)[:58]
    compared = assert_same_greedy_ids(tessera, hf, phi3_smollm2_longrope, ids, 16, measured)
    assert compared > 64 - 58 + 5, "too few ids behind the boundary"


@pytest.mark.parametrize("architecture", ["mistral", "qwen2", "smollm3", "granite"])
def test_the_same_weights_rewritten_for_another_architecture_give_the_same_bits(tessera, hf, llama_smollm2, rewritten_smollm2, long_text, measured,
                                                                                architecture):
    rewritten = rewritten_smollm2(architecture)
    ids = prompt_ids(llama_smollm2, long_text)[:300]
    reference = hf.logits(llama_smollm2, ids)
    expected = hf.greedy(llama_smollm2, ids[:20], 24)
    ours = tessera.logits(rewritten, ids)
    assert_same_logits(ours, reference, rewritten.name, measured)
    assert np.array_equal(ours, tessera.logits(llama_smollm2, ids)), "to multiply by a power of two, or to add zero, loses nothing"
    assert compare_choices(ours, reference, rewritten.name, measured) >= 250
    assert min(expected[1]) > DECIDED and tessera.greedy(rewritten, ids[:20], 24) == expected[0]
    assert_same_logits(hf.logits(rewritten, ids[:40]), reference[:40], f"Hugging Face's own {rewritten.name}", measured)


LENGTHS = dict.fromkeys(("mistral-default-window", "ministral-default-window", "olmo3-default-window"), (4150,))  # past their 4096


@pytest.mark.parametrize("name", TRAITS)
def test_tiny_checkpoint_equals_hugging_face(tessera, hf, tmp_path, measured, name):
    checkpoint = make(tmp_path / name, TRAITS[name])
    for length in LENGTHS.get(name, (20, 40) if "longrope" in name else (40,)):  # below and above its 32
        ids = random_ids(length, TRAITS[name].config["vocab_size"])
        reference = hf.logits(checkpoint, ids)
        assert_lively(reference)
        ours = tessera.logits(checkpoint, ids)
        assert_same_logits(ours, reference, name, measured)
        assert_cut_does_not_matter(tessera, checkpoint, ids, (1, 7), measured, ours)


FAMILIES = ["small-gemma3", "small-gemma2", "small-phi3", "small-llama", "small-mistral", "small-ministral3", "small-smollm3", "small-arcee",
            "small-granite", "small-qwen2", "small-qwen3", "small-olmo2", "small-olmo3", "small-qwen3-moe", "small-olmoe"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_s_prompts_of_1_to_600_tokens_equal_hugging_face(tessera, hf, tmp_path, measured, name):
    checkpoint = make(tmp_path / name, SMALL[name])
    ids = random_ids(600, SMALL[name].config["vocab_size"])
    reference = hf.logits(checkpoint, ids)
    assert_lively(reference)
    ours = tessera.logits(checkpoint, ids)
    assert_same_logits(ours, reference, name, measured)
    assert compare_choices(ours, reference, name, measured) >= 300
    for length in (1, 31, 33):
        assert_same_logits(tessera.logits(checkpoint, ids[:length]), reference[:length], name, measured)


@pytest.mark.parametrize("layout", MULTIMODAL_LAYOUTS)
def test_text_of_a_sharded_multimodal_checkpoint_equals_hugging_face(tessera, hf, tmp_path, measured, layout):
    checkpoint = make_multimodal(tmp_path / f"multimodal, {layout} names", layout)
    assert type(hf.model(checkpoint)).__name__ == "Gemma3ForConditionalGeneration"  # the text class would silently load nothing
    ids = random_ids(40, 262144)
    reference = hf.logits(checkpoint, ids)
    assert_lively(reference)
    assert_same_logits(tessera.logits(checkpoint, ids), reference, checkpoint.name, measured)


def without(key, rope):
    return {name: value for name, value in rope.items() if name != key}


# The config's fields and the one that is named. Hugging Face fails at most of them and computes what was hardly meant by the others.
REFUSED = {
    "ropes by layer type": (QWEN2, {"rope_parameters": {FULL: {"rope_type": "default"}, SLIDING: {"rope_type": "default"}}}, "rope_parameters"),
    "Mistral's ropes by layer type": (MISTRAL, {"rope_parameters": {FULL: {"rope_type": "default"}, SLIDING: {"rope_type": "default"}}}, "rope_parameters"),
    "a part of a head rotated": (LLAMA, {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    "a part of a head rotated, linear": (MISTRAL, {"partial_rotary_factor": 0.5, "rope_scaling": {"type": "linear", "factor": 2.0}}, "partial_rotary_factor"),
    "a part of a head rotated, inside": (QWEN3, {"rope_parameters": {**YARN, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    "an unknown rope": (LLAMA, {"rope_scaling": {"rope_type": "proportional", "factor": 2.0}}, "rope_type.*proportional"),
    "an unknown rope, old key": (QWEN2, {"rope_scaling": {"type": "su", "factor": 2.0}}, "type.*su"),
    "linear without a factor": (LLAMA, {"rope_scaling": {"type": "linear"}}, "factor"),
    "dynamic without a factor": (LLAMA, {"rope_scaling": {"type": "dynamic"}}, "factor"),
    "yarn without a factor": (QWEN2, {"rope_scaling": without("factor", YARN)}, "factor"),
    "llama3 without a band": (LLAMA, {"rope_scaling": {**without("low_freq_factor", LLAMA3), "rope_type": "llama3"}}, "low_freq_factor"),
    "longrope without its short factors": (LLAMA, {"rope_scaling": without("short_factor", longrope(16))}, "short_factor"),
    "longrope of another width": (LLAMA, {"rope_scaling": longrope(8)}, "_factor"),
    "a null theta": (LLAMA, {"rope_theta": None}, "rope_theta"),
    "a null flag": (LLAMA, {"attention_bias": None}, "attention_bias"),
    "a hidden_size that is no multiple of the heads": (LLAMA, {"hidden_size": 130, "head_dim": 32}, "hidden_size"),
    "key heads that do not divide the heads": (QWEN3, {"num_key_value_heads": 3}, "num_key_value_heads"),
    "Qwen2's null head_dim": (QWEN2, {"head_dim": None}, "head_dim"),
    "Qwen3's null head_dim": (QWEN3, {"head_dim": None}, "head_dim"),
    "sliding layers whose window is not used": (QWEN2, {"sliding_window": 4, "layer_types": [SLIDING, FULL, FULL]}, "layer_types"),
    "Qwen3's sliding layers whose window is not used": (QWEN3, {"sliding_window": 4, "layer_types": [SLIDING, FULL, FULL]}, "layer_types"),
    "sliding layers without a window": (QWEN2, {"use_sliding_window": True, "sliding_window": None, "layer_types": [SLIDING, FULL, FULL]}, "layer_types"),
    "too few layer types": (QWEN2, {"layer_types": [FULL, FULL]}, "layer_types"),
    "an unknown layer type": (QWEN3, {"layer_types": ["linear_attention", FULL, FULL]}, "layer_types"),
    "an activation": (LLAMA, {"hidden_act": "relu"}, "hidden_act"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """One checkpoint of each architecture."""
    folder = tmp_path_factory.mktemp("sound")
    return {base["model_type"]: make(folder / base["model_type"], row(base)) for base in (LLAMA, MISTRAL, QWEN2, QWEN3)}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_implemented_is_refused_by_its_field(tessera, sound, tmp_path, name):
    base, changed, field = REFUSED[name]
    folder = tmp_path / "refused"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**base, **changed}))
    (folder / "model.safetensors").symlink_to(sound[base["model_type"]] / "model.safetensors")
    (tmp_path / "ids.json").write_text("[1, 2, 3]")
    assert re.search(field, tessera.run("run", "-m", folder, "--ids-file", tmp_path / "ids.json", "-n", 1, expect=3).stderr)
