"""float32 mode against transformers' float32: real small models, and tiny random ones with one trait each."""
import pytest
from parity import (INSTRUCTION_SETS, PROMPTS, assert_cut_does_not_matter, assert_lively, assert_same_greedy_ids, assert_same_logits,
                    compare_choices, prompt_ids, random_ids)
from tiny_checkpoints import MULTIMODAL_LAYOUTS, TRAITS, make, make_multimodal


@pytest.fixture(scope="module", params=["gemma3_270m", "phi3_smollm2"])
def real(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def forced(hf, real, long_text):
    """A text's ids, and Hugging Face's logits, whose first rows are those of every beginning of it."""
    ids = prompt_ids(real, long_text)[:1100]
    return ids, hf.logits(real, ids)


def test_a_long_text_s_logits_and_choices_equal_hugging_face(tessera, real, forced, measured):
    ours = assert_same_logits(tessera, real, *forced, measured)
    assert compare_choices(ours, forced[1], real.name, measured) >= 1000


@pytest.mark.parametrize("length", [1, 31, 32, 33, 600])
def test_a_prompt_s_logits_equal_hugging_face(tessera, real, forced, measured, length):
    ids, reference = forced
    assert_same_logits(tessera, real, ids[:length], reference[:length], measured)


def test_greedy_ids_equal_generate(tessera, hf, real, measured):
    assert assert_same_greedy_ids(tessera, hf, real, prompt_ids(real, PROMPTS[0]), 16, measured) >= 10


@pytest.mark.parametrize("length, cuts", [(130, [1]), (600, [31, 512])])  # 600 are past Gemma's window of 512
def test_the_cut_of_a_prompt_does_not_matter(tessera, real, forced, measured, length, cuts):
    assert_cut_does_not_matter(tessera, real, forced[0][:length], cuts, measured)


@pytest.mark.slow
@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_every_instruction_set_equals_hugging_face(tessera, real, forced, measured, monkeypatch, isa):
    monkeypatch.setenv("TESSERA_CPU_ISA", isa)
    ids, reference = forced[0][:130], forced[1][:130]
    ours = assert_same_logits(tessera, real, ids, reference, measured)
    assert_cut_does_not_matter(tessera, real, ids, (1, 31), measured, ours)


@pytest.mark.parametrize("length", [40, 100])
def test_longrope_logits_equal_hugging_face_on_both_sides_of_the_boundary(tessera, hf, phi3_smollm2_longrope, long_text, measured, length):
    ids = prompt_ids(phi3_smollm2_longrope, long_text)[:length]
    ours = assert_same_logits(tessera, phi3_smollm2_longrope, ids, hf.logits(phi3_smollm2_longrope, ids), measured)
    assert_cut_does_not_matter(tessera, phi3_smollm2_longrope, ids, (1, 16, 40), measured, ours)


def test_a_generation_that_crosses_the_longrope_boundary_equals_generate(tessera, hf, phi3_smollm2_longrope, long_text, measured):
    ids = prompt_ids(phi3_smollm2_longrope, long_text)[:58]
    compared = assert_same_greedy_ids(tessera, hf, phi3_smollm2_longrope, ids, 16, measured)
    assert compared > 64 - 58 + 5, "too few ids behind the boundary"


@pytest.mark.parametrize("name", TRAITS)
def test_tiny_checkpoint_equals_hugging_face(tessera, hf, tmp_path, measured, name):
    checkpoint = make(tmp_path / name, TRAITS[name])
    for length in (20, 40) if "longrope" in name else (40,):  # below and above its 32
        ids = random_ids(length, TRAITS[name].config["vocab_size"])
        reference = hf.logits(checkpoint, ids)
        assert_lively(reference)
        ours = assert_same_logits(tessera, checkpoint, ids, reference, measured)
        assert_cut_does_not_matter(tessera, checkpoint, ids, (1, 7), measured, ours)


@pytest.mark.parametrize("layout", MULTIMODAL_LAYOUTS)
def test_text_of_a_sharded_multimodal_checkpoint_equals_hugging_face(tessera, hf, tmp_path, measured, layout):
    checkpoint = make_multimodal(tmp_path / f"multimodal, {layout} names", layout)
    assert type(hf.model(checkpoint)).__name__ == "Gemma3ForConditionalGeneration"  # the text class would silently load nothing
    ids = random_ids(40, 262144)
    reference = hf.logits(checkpoint, ids)
    assert_lively(reference)
    assert_same_logits(tessera, checkpoint, ids, reference, measured)
