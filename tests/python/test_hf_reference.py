"""The reference itself: computed in slices, it must be what Hugging Face's whole forward pass gives."""
import pytest
import torch
from hf_reference import max_difference
from parity import random_ids
from tiny_checkpoints import MULTIMODAL_LAYOUTS, TRAITS, make, make_multimodal


@pytest.mark.parametrize("name", ["gemma3-window-4", "gemma3-softcap", "phi3-head-dim-96"])
def test_sliced_logits_are_those_of_the_whole_forward_pass(hf, tmp_path, name):
    checkpoint = make(tmp_path / "tiny", TRAITS[name])
    ids = random_ids(100, TRAITS[name].config["vocab_size"])
    with torch.no_grad():
        whole = hf.model(checkpoint)(torch.tensor([ids])).logits[0].numpy()
    assert max_difference(hf.logits(checkpoint, ids), whole)[0] <= 1e-5


def test_sliced_logits_of_a_multimodal_checkpoint_are_those_of_the_whole_forward_pass(hf, tmp_path):
    checkpoint = make_multimodal(tmp_path / "tiny", "hub")
    ids = random_ids(10, 262144)
    with torch.no_grad():
        whole = hf.model(checkpoint)(torch.tensor([ids])).logits[0].numpy()
    assert max_difference(hf.logits(checkpoint, ids), whole)[0] <= 1e-5


def test_both_multimodal_layouts_hold_the_same_weights(hf, tmp_path):
    ids = random_ids(5, 262144)
    one, other = (hf.logits(make_multimodal(tmp_path / str(i), layout), ids)
                  for i, layout in enumerate(MULTIMODAL_LAYOUTS))
    assert max_difference(one, other)[0] == 0
