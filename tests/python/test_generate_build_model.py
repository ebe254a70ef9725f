"""build_model of each bring-up: where its weights come from, its precision, its device, and what it refuses."""
import gc
import json
import shutil
import types
import weakref

import pytest
from bringups import FLOAT32, GEMMA3, PHI3, load_bringup, load_hf
from tessera_package import need_package

tessera = need_package()
torch = pytest.importorskip("torch")
import transformers  # noqa: E402
from tessera.bringup import load_directory, load_module  # noqa: E402
from tiny_checkpoints import MULTIMODAL, MULTIMODAL_LAYOUTS, TRAITS, make, make_multimodal  # noqa: E402


IDS = torch.tensor([[5, 17, 101, 42, 9, 77, 150, 3, 64, 120, 33, 8]])
BRINGUPS = {"Gemma3ForCausalLM": GEMMA3, "Phi3ForCausalLM": PHI3}


@pytest.fixture(scope="module")
def gemma3(tmp_path_factory):
    return make(tmp_path_factory.mktemp("gemma3") / "tiny", TRAITS["gemma3-window-4"])


@pytest.fixture(scope="module")
def phi3(tmp_path_factory):
    return make(tmp_path_factory.mktemp("phi3") / "tiny", TRAITS["phi3-head-dim-96"])


def build(name, hf_model, tt_device="cpu", max_seq_len=64, system="cpu", **precision):
    return load_bringup(name, system).build_model(hf_model, tt_device, max_seq_len, **precision)


def logits_of(model, ids=IDS):
    with torch.no_grad():
        return model(input_ids=ids).logits


def types_of(model):
    options = model.engine.loaded.options
    return options.weights, options.activations, options.cache


@pytest.mark.parametrize("trait", [name for name, row in TRAITS.items() if row.config["architectures"][0] in BRINGUPS])
def test_a_modules_memory_gives_what_its_checkpoint_gives(tmp_path, trait):
    checkpoint, name = make(tmp_path / "tiny", TRAITS[trait]), BRINGUPS[TRAITS[trait].config["architectures"][0]]
    hf = load_hf(checkpoint)
    ours = logits_of(build(name, hf, **FLOAT32))
    assert torch.equal(ours, logits_of(build(name, checkpoint, **FLOAT32)))
    torch.testing.assert_close(ours, logits_of(hf), atol=1e-4, rtol=0)


@pytest.mark.parametrize("layout", MULTIMODAL_LAYOUTS)
def test_the_text_model_of_a_multimodal_one(tmp_path, layout):
    checkpoint = make_multimodal(tmp_path / "tiny", layout)
    hf = load_hf(checkpoint)
    assert type(hf).__name__ == "Gemma3ForConditionalGeneration"
    ids = torch.cat([IDS, torch.tensor([[262144 - 1, 262207]])], dim=1)
    ours = build(GEMMA3, hf, **FLOAT32)
    assert torch.equal(logits_of(ours, ids), logits_of(build(GEMMA3, checkpoint, **FLOAT32), ids))
    torch.testing.assert_close(logits_of(ours, ids), logits_of(hf, ids), atol=1e-4, rtol=0)
    generated = [model.generate(IDS, do_sample=False, max_new_tokens=5) for model in (ours, hf)]
    assert torch.equal(*generated)


@pytest.mark.parametrize("name, checkpoint, system, expected", [(GEMMA3, "gemma3", "cpu", ("bfloat16", "bfloat16", "bfloat16")),
                                                                (GEMMA3, "gemma3", "n150", ("bfloat8_b", "bfloat16", "bfloat16")),
                                                                (PHI3, "phi3", "cpu", ("bfloat16", "bfloat16", "bfloat16")),
                                                                (PHI3, "phi3", "n150", ("bfloat16", "bfloat16", "bfloat16"))])
def test_each_bringup_has_its_precision_and_may_be_given_another(request, monkeypatch, name, checkpoint, system, expected):
    checkpoint = request.getfixturevalue(checkpoint)
    assert types_of(build(name, checkpoint, system=system)) == expected
    monkeypatch.setenv("TESSERA_WEIGHTS", "bfloat4_b")
    monkeypatch.setenv("TESSERA_ACTIVATIONS", "float32")
    assert types_of(build(name, checkpoint, system=system)) == ("bfloat4_b", "float32", "float32")
    assert types_of(build(name, checkpoint, system=system, weights="float32", activations="bfloat16", cache="bfloat8_b")) == ("float32", "bfloat16", "bfloat8_b")
    monkeypatch.setenv("TESSERA_WEIGHTS", "int8")
    with pytest.raises(ValueError, match="TESSERA_WEIGHTS: 'int8'.*bfloat8_b"):
        build(name, checkpoint, system=system)


def test_float32_weights_stay_as_they_are_stored(tmp_path):
    checkpoint = make(tmp_path / "tiny", TRAITS["gemma3-float32"])
    assert types_of(build(GEMMA3, checkpoint)) == types_of(build(GEMMA3, load_hf(checkpoint))) == ("float32", "bfloat16", "bfloat16")


def test_the_model_in_memory_is_let_go(gemma3):
    hf = load_hf(gemma3)
    expected = logits_of(hf)
    ours = build(GEMMA3, hf, **FLOAT32)
    gone = weakref.ref(hf)
    del hf
    gc.collect()
    assert gone() is None
    torch.testing.assert_close(logits_of(ours), expected, atol=1e-4, rtol=0)


def test_configs_are_the_models_own(gemma3):
    hf = load_hf(gemma3)
    ours = build(GEMMA3, hf)
    ours.generation_config.eos_token_id = 7
    assert hf.generation_config.eos_token_id == 1
    assert build(GEMMA3, gemma3).generation_config.eos_token_id == 1
    assert ours.config.model_type == "gemma3_text" and "weights bfloat" in repr(ours) or "weights float32" in repr(ours)


def test_a_checkpoint_without_generation_config_takes_configs_tokens(gemma3, tmp_path):
    shutil.copytree(gemma3, tmp_path / "tiny")
    (tmp_path / "tiny/generation_config.json").unlink()
    config = build(GEMMA3, tmp_path / "tiny").generation_config
    assert (config.eos_token_id, config.bos_token_id, config.pad_token_id) == (1, 2, 0)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub/models--someone--tiny"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("abc")
    return folder / "snapshots/abc"


def test_an_id_names_what_the_hub_cache_holds(gemma3, hub):
    shutil.copytree(gemma3, hub)
    assert torch.equal(logits_of(build(GEMMA3, "someone/tiny")), logits_of(build(GEMMA3, gemma3)))


def test_an_id_that_no_cache_holds_is_downloaded_where_allowed(gemma3, hub, monkeypatch):
    import huggingface_hub
    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        if name == "someone/absent":
            raise OSError("offline")
        return str(shutil.copytree(gemma3, hub))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert torch.equal(logits_of(build(GEMMA3, "someone/tiny")), logits_of(build(GEMMA3, gemma3)))
    with pytest.raises(tessera.FileError, match="someone/absent: is in no local cache, and was not downloaded: offline"):
        build(GEMMA3, "someone/absent")
    assert [name for name, _ in asked] == ["someone/tiny", "someone/absent"]
    assert not any(pattern in patterns for _, patterns in asked for pattern in ("*", "*.py", "*.bin"))
    with pytest.raises(tessera.FileError):
        build(GEMMA3, "/absent/directory")
    assert len(asked) == 2


def test_devices_are_named_or_given(gemma3):
    device = tessera.open_device("cpu", threads=1)
    assert build(GEMMA3, gemma3, device).engine.device is device
    assert build(GEMMA3, gemma3).engine.device is build(GEMMA3, gemma3).engine.device, "models on the cpu share its threads"
    open_card = types.new_class("MeshDevice", exec_body=lambda namespace: namespace.update(__module__="ttnn.device"))()
    for tt_device, error, message in (("n150", RuntimeError, "n150"), (open_card, RuntimeError, "Python cannot import ttnn"), ("gpu", ValueError, "'gpu' is not a device"),
                                      (3, TypeError, "an? int is no device")):
        for system in "cpu", "n150":
            with pytest.raises(error, match=message):
                build(GEMMA3, gemma3, tt_device, system=system)


def test_another_model_is_refused(gemma3, phi3):
    with pytest.raises(ValueError, match="this bring-up is of a Gemma3ForConditionalGeneration; the model is a phi3"):
        build(GEMMA3, phi3)
    with pytest.raises(ValueError, match="this bring-up is of a Phi3ForCausalLM; the model is a gemma3_text"):
        build(PHI3, load_hf(gemma3))
    with pytest.raises(TypeError, match="hf_model: a Linear is neither"):
        build(PHI3, torch.nn.Linear(2, 2))


@pytest.mark.parametrize("trait, words", [("gemma2-window-4", "n150: attention with a softcap is not supported; choose the cpu"),
                                          ("qwen3-moe-plain", "n150: mixtures of experts are not supported; choose the cpu")])
def test_what_the_n150_does_not_compute_with_is_refused_before_it_is_loaded(tmp_path, trait, words):
    checkpoint, n150 = make(tmp_path / "tiny", TRAITS[trait]), types.SimpleNamespace(name="n150")  # which would be no device to load it
    for load, model in (load_directory, checkpoint), (load_module, load_hf(checkpoint)):
        with pytest.raises(ValueError, match=words):
            load(model, n150, {}, lambda config: None, 64)


def test_max_seq_len_and_the_models_context_are_limits(gemma3):
    with pytest.raises(ValueError, match="max_seq_len: 0"):
        build(GEMMA3, gemma3, max_seq_len=0)
    long = torch.ones((1, 513), dtype=torch.long)
    with pytest.raises(ValueError, match="row 0 would have 513 tokens; the model's context ends at 512"):
        build(GEMMA3, gemma3, max_seq_len=2048)(input_ids=long)
    with pytest.raises(ValueError, match="row 0 would have 513 tokens; max_seq_len is 512"):
        build(GEMMA3, gemma3, max_seq_len=512)(input_ids=long)


def test_numbers_that_are_not_finite_are_warned_of(gemma3):
    hf = load_hf(gemma3)
    hf.model.norm.weight.data[3] = float("nan")
    with pytest.warns(UserWarning, match='"model.norm.weight" holds values that are not finite'):
        build(GEMMA3, hf)


def fill(model):
    """In place: the parameters of a whole layer's width are big. Their values are bfloat16's, so that both sides have the same."""
    numbers = torch.Generator().manual_seed(4)
    for name, weight in model.named_parameters():
        std = 0.3 if weight.dim() == 1 else 3 / weight.shape[1] ** 0.5 if "embed_tokens" in name or "lm_head" in name else 1 / weight.shape[-1] ** 0.5
        weight.data.normal_(1 if weight.dim() == 1 and model.config.model_type == "phi3" else 0, std, generator=numbers)
        for rows in weight.data.split(1 << 15):
            rows.copy_(rows.bfloat16())
    return model.eval()


def full_width_gemma3():
    config = {key: value for key, value in MULTIMODAL.items() if key != "text_config"} | {
        "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 2, "sliding_window": 1024,
                        "layer_types": ["sliding_attention", "full_attention"], "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}}
    return transformers.Gemma3ForConditionalGeneration(transformers.Gemma3Config(**json.loads(json.dumps(config))))


def full_width_phi3():
    factors = [1 + 0.05 * i for i in range(48)]
    return transformers.Phi3ForCausalLM(transformers.Phi3Config(num_hidden_layers=2, max_position_embeddings=131072, original_max_position_embeddings=4096,
                                                                rope_scaling={"type": "longrope", "short_factor": factors, "long_factor": factors}))


@pytest.mark.slow
@pytest.mark.parametrize("name, make, rows", [(GEMMA3, full_width_gemma3, 262208), (PHI3, full_width_phi3, 32064)], ids=["Gemma 3 4B", "Phi-3 Mini"])
def test_two_layers_of_full_width_equal_transformers(measured, name, make, rows):
    hf = fill(make())
    ids = torch.randint(rows, (1, 40), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = hf(input_ids=ids).logits
        ids_of_hf = hf.generate(ids, do_sample=False, max_new_tokens=4, pad_token_id=0)
    ours = build(name, hf, weights="bfloat16", activations="float32", max_seq_len=2048)
    del hf
    got = logits_of(ours, ids)
    difference = float((got - expected).abs().max())
    measured(f"{name}, two layers of full width: max |logit difference| to Hugging Face {difference:.1e}, deviation {float(expected.std()):.1f}")
    assert got.shape == (1, 40, rows) and expected.std() > 1 and difference <= 1e-3
    assert torch.equal(ours.generate(ids, do_sample=False, max_new_tokens=4, pad_token_id=0), ids_of_hf)
