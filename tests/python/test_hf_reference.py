"""The reference itself: computed in slices, it must be what Hugging Face's whole forward pass gives."""
import pytest
import tiny_checkpoints
import torch
from hf_reference import max_difference
from parity import random_ids


@pytest.mark.parametrize("family", ["GEMMA3", "PHI3"])
def test_sliced_logits_are_those_of_the_whole_forward_pass(hf, tmp_path, family):
    base, traits = getattr(tiny_checkpoints, family), getattr(tiny_checkpoints, f"{family}_TRAITS")
    checkpoint = tiny_checkpoints.make(tmp_path / "tiny", base, next(iter(traits.values())))
    ids = random_ids(100, base["vocab_size"])
    with torch.no_grad():
        whole = hf.model(checkpoint)(torch.tensor([ids])).logits[0].numpy()
    assert max_difference(hf.logits(checkpoint, ids), whole)[0] <= 1e-5


def test_sliced_logits_of_a_multimodal_checkpoint_are_those_of_the_whole_forward_pass(hf, tmp_path):
    checkpoint = tiny_checkpoints.make_multimodal(tmp_path / "tiny", "hub")
    ids = random_ids(10, 262144)
    with torch.no_grad():
        whole = hf.model(checkpoint)(torch.tensor([ids])).logits[0].numpy()
    assert max_difference(hf.logits(checkpoint, ids), whole)[0] <= 1e-5


def test_both_multimodal_layouts_hold_the_same_weights(hf, tmp_path):
    ids = random_ids(5, 262144)
    one, other = (hf.logits(tiny_checkpoints.make_multimodal(tmp_path / str(i), layout), ids)
                  for i, layout in enumerate(tiny_checkpoints.MULTIMODAL_LAYOUTS))
    assert max_difference(one, other)[0] == 0
