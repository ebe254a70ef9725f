"""Phi-3 in float32 mode against transformers' float32: SmolLM2-135M rewritten as a Phi-3, and tiny random ones with one trait each."""
import pytest
import tiny_checkpoints
from parity import (PROMPTS, assert_cut_does_not_matter, assert_lively, assert_same_greedy_ids, assert_same_logits, compare_teacher_forced,
                    prompt_ids, random_ids)

LONGROPE_CUTS = (1, 16, 40)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 600, 1500])
def test_logits_of_every_row_equal_hugging_face(tessera, hf, phi3_smollm2, long_text, measured, length):
    assert_same_logits(tessera, hf, phi3_smollm2, prompt_ids(phi3_smollm2, long_text)[:length], measured, "SmolLM2 as Phi-3")


def test_teacher_forced_choices_equal_hugging_face(tessera, hf, phi3_smollm2, measured):
    prompts = [prompt_ids(phi3_smollm2, text) for text in PROMPTS]
    assert compare_teacher_forced(tessera, hf, phi3_smollm2, prompts, 64, measured, "SmolLM2 as Phi-3") >= 300


def test_the_cut_of_a_prompt_does_not_matter(tessera, phi3_smollm2, long_text, measured):
    assert_cut_does_not_matter(tessera, phi3_smollm2, prompt_ids(phi3_smollm2, long_text)[:600], (1, 31, 512), measured, "SmolLM2 as Phi-3")


@pytest.mark.parametrize("length", [40, 100])
def test_longrope_logits_equal_hugging_face_on_both_sides_of_the_boundary(tessera, hf, phi3_smollm2_longrope, long_text, measured, length):
    ids = prompt_ids(phi3_smollm2_longrope, long_text)[:length]
    assert_same_logits(tessera, hf, phi3_smollm2_longrope, ids, measured, "LongRoPE after 64")
    assert_cut_does_not_matter(tessera, phi3_smollm2_longrope, ids, LONGROPE_CUTS, measured, "LongRoPE after 64")


def test_a_generation_that_crosses_the_longrope_boundary_equals_generate(tessera, hf, phi3_smollm2_longrope, long_text, measured):
    ids = prompt_ids(phi3_smollm2_longrope, long_text)[:50]
    compared = assert_same_greedy_ids(tessera, hf, phi3_smollm2_longrope, ids, 40, measured, "LongRoPE after 64")
    assert compared > 64 - 50 + 5, "too few ids behind the boundary"


@pytest.mark.parametrize("trait", tiny_checkpoints.PHI3_TRAITS)
@pytest.mark.parametrize("length", [20, 40])  # below and above the tiny LongRoPE's 32
def test_tiny_checkpoint_equals_hugging_face(tessera, hf, tmp_path, measured, trait, length):
    checkpoint = tiny_checkpoints.make(tmp_path / "tiny", tiny_checkpoints.PHI3, tiny_checkpoints.PHI3_TRAITS[trait])
    ids = random_ids(length, tiny_checkpoints.PHI3["vocab_size"])
    assert_lively(hf.logits(checkpoint, ids))
    assert_same_logits(tessera, hf, checkpoint, ids, measured, f"tiny Phi-3, {trait}")
    assert_cut_does_not_matter(tessera, checkpoint, ids, (1, 7), measured, f"tiny Phi-3, {trait}")
