"""tessera.from_pretrained: a checkpoint of any architecture, by its directory or id, beside transformers' own."""
import subprocess
import sys

import pytest
from tessera_package import need_package

tessera = need_package()
torch = pytest.importorskip("torch")
from bringups import load_hf  # noqa: E402
from tiny_checkpoints import TRAITS, enliven, from_config, make, make_multimodal, save, stored_tensors  # noqa: E402

IDS = torch.tensor([[5, 17, 101, 42, 9, 77, 150, 3, 64, 120, 33, 8]])
MISTRAL3 = {"architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3",
            "text_config": {**TRAITS["ministral3-queries-grow"].config, "architectures": ["Ministral3ForCausalLM"]},
            "vision_config": {"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                              "head_dim": 8, "image_size": 28, "patch_size": 14}}
ARCHITECTURES = sorted(architecture.name for architecture in tessera._core.architectures())


def tiny(folder, architecture):
    if architecture == "Gemma3ForConditionalGeneration":
        return make_multimodal(folder, "hub")
    if architecture == "Mistral3ForConditionalGeneration":
        model = enliven(from_config(folder, MISTRAL3, "AutoModelForImageTextToText"))
        save(stored_tensors(model), folder / "model.safetensors")
        return folder
    return make(folder, next(row for row in TRAITS.values() if row.config["architectures"] == [architecture]))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make(tmp_path_factory.mktemp("tiny") / "tiny", TRAITS["gemma3-window-4"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_generates_what_transformers_does(tmp_path, architecture):
    folder = tiny(tmp_path / "tiny", architecture)
    ours, hf = tessera.from_pretrained(folder, max_seq_len=64, weights="float32", activations="float32"), load_hf(folder)
    with torch.no_grad():
        torch.testing.assert_close(ours(input_ids=IDS).logits, hf(input_ids=IDS).logits, atol=1e-4, rtol=0)
    options = {"do_sample": False, "max_new_tokens": 8, "attention_mask": torch.ones_like(IDS), "eos_token_id": hf.config.get_text_config().eos_token_id}
    assert ours.generate(IDS, **options).tolist() == hf.generate(IDS, **options).tolist()


def test_types_and_length_are_the_checkpoints_unless_given(checkpoint, monkeypatch):
    def facts(**given):
        engine = tessera.from_pretrained(str(checkpoint), **given).engine
        return engine.loaded.options.weights, engine.loaded.options.activations, engine.loaded.options.cache, engine.max_seq_len
    assert facts() == ("bfloat16", "bfloat16", "bfloat16", 512)  # config.json's dtype and max_position_embeddings
    assert facts(weights="bfloat8_b", activations="float32", cache="bfloat8_b", max_seq_len=40) == ("bfloat8_b", "float32", "bfloat8_b", 40)
    monkeypatch.setenv("TESSERA_WEIGHTS", "bfloat4_b")
    assert facts()[0] == "bfloat4_b" and facts(weights="float32")[0] == "float32"


def test_devices_are_named_or_given(checkpoint):
    device = tessera.open_device("cpu", threads=1)
    assert tessera.from_pretrained(checkpoint, device).engine.device is device
    with pytest.raises(ValueError, match="'gpu' is not a device"):
        tessera.from_pretrained(checkpoint, "gpu")


def test_what_is_not_supported_is_named(checkpoint, tmp_path):
    with pytest.raises(tessera.FileError, match="nowhere"):
        tessera.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"architectures": ["MambaForCausalLM"], "model_type": "mamba"}')
    with pytest.raises((tessera.FileError, ValueError), match="MambaForCausalLM"):
        tessera.from_pretrained(tmp_path)


@pytest.mark.parametrize("module", ["torch", "transformers"])
def test_without_transformers_it_says_what_to_install(checkpoint, module):
    code = f"import sys\nsys.modules['{module}'] = None\nimport tessera\ntessera.from_pretrained({str(checkpoint)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("ModuleNotFoundError: from_pretrained: needs torch and transformers, pip install 'tessera[hf]': ")


def test_what_is_odd_is_warned_of_where_the_model_is_asked_for(tmp_path):
    from safetensors.torch import load_file, save_file
    folder = make(tmp_path / "tiny", TRAITS["gemma3-window-4"])
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UserWarning, match='"model.norm.weight" holds values that are not finite') as warned:
        tessera.from_pretrained(folder)
    assert warned[0].filename == __file__
