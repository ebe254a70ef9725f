"""Gemma 3 in float32 mode against transformers' float32: the real 270M, and tiny random ones with one trait each."""
import pytest
import tiny_checkpoints
from parity import (INSTRUCTION_SETS, PROMPTS, assert_cut_does_not_matter, assert_lively, assert_same_greedy_ids, assert_same_logits,
                    compare_teacher_forced, prompt_ids, random_ids)

CUTS = (1, 31, 512)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 600, 1500])
def test_logits_of_every_row_equal_hugging_face(tessera, hf, gemma3_270m, long_text, measured, length):
    assert_same_logits(tessera, hf, gemma3_270m, prompt_ids(gemma3_270m, long_text)[:length], measured, "Gemma 3 270M")


def test_teacher_forced_choices_equal_hugging_face(tessera, hf, gemma3_270m, measured):
    prompts = [prompt_ids(gemma3_270m, text) for text in PROMPTS]
    assert compare_teacher_forced(tessera, hf, gemma3_270m, prompts, 64, measured, "Gemma 3 270M") >= 300


def test_greedy_ids_equal_generate(tessera, hf, gemma3_270m, measured):
    prompts = [prompt_ids(gemma3_270m, text) for text in PROMPTS]
    compared = sum(assert_same_greedy_ids(tessera, hf, gemma3_270m, ids, 64, measured, "Gemma 3 270M") for ids in prompts)
    assert compared >= 100


def test_the_cut_of_a_prompt_does_not_matter(tessera, gemma3_270m, long_text, measured):
    ids = prompt_ids(gemma3_270m, long_text)[:600]  # past the window of 512
    assert_cut_does_not_matter(tessera, gemma3_270m, ids, CUTS, measured, "Gemma 3 270M")


@pytest.mark.slow
@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_every_instruction_set_equals_hugging_face(tessera, hf, gemma3_270m, long_text, measured, monkeypatch, isa):
    monkeypatch.setenv("TESSERA_CPU_ISA", isa)
    ids = prompt_ids(gemma3_270m, long_text)[:130]
    assert_same_logits(tessera, hf, gemma3_270m, ids, measured, f"Gemma 3 270M, {isa}")
    assert_cut_does_not_matter(tessera, gemma3_270m, ids, (1, 31), measured, f"Gemma 3 270M, {isa}")


@pytest.mark.parametrize("trait", tiny_checkpoints.GEMMA3_TRAITS)
def test_tiny_checkpoint_equals_hugging_face(tessera, hf, tmp_path, measured, trait):
    checkpoint = tiny_checkpoints.make(tmp_path / "tiny", tiny_checkpoints.GEMMA3, tiny_checkpoints.GEMMA3_TRAITS[trait])
    ids = random_ids(40, tiny_checkpoints.GEMMA3["vocab_size"])
    assert_lively(hf.logits(checkpoint, ids))
    assert_same_logits(tessera, hf, checkpoint, ids, measured, f"tiny Gemma 3, {trait}")
    assert_cut_does_not_matter(tessera, checkpoint, ids, (1, 7), measured, f"tiny Gemma 3, {trait}")


@pytest.mark.parametrize("layout", tiny_checkpoints.MULTIMODAL_LAYOUTS)
def test_text_of_a_sharded_multimodal_checkpoint_equals_hugging_face(tessera, hf, tmp_path, measured, layout):
    checkpoint = tiny_checkpoints.make_multimodal(tmp_path / "tiny", layout)
    assert type(hf.model(checkpoint)).__name__ == "Gemma3ForConditionalGeneration"  # the text class would silently load nothing
    ids = random_ids(40, 262144)
    assert_lively(hf.logits(checkpoint, ids))
    assert_same_logits(tessera, hf, checkpoint, ids, measured, f"tiny multimodal Gemma 3, {layout} names")
