"""What other people's tools ask of a model of transformers': given with transformers' own numbers, or refused in a word that says so."""
import json

import hostile_files as f
import pytest
from tessera_package import need_package

tessera = need_package()
torch = pytest.importorskip("torch")
from bringups import load_hf  # noqa: E402
from tiny_checkpoints import TRAITS, make, make_multimodal  # noqa: E402
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments  # noqa: E402

IDS = torch.tensor([[5, 17, 101, 42, 9, 77, 150, 3], [64, 120, 33, 8, 4, 7, 12, 90]])
COUNTED = ["gemma3-window-4", "llama-plain", "llama-biases", "llama-tied", "llama-tied-own-head", "llama-tied-head-alone", "qwen2-plain", "phi3-tied"]


def ours(folder):
    return tessera.from_pretrained(folder, weights="float32", activations="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make(tmp_path_factory.mktemp("tiny") / "tiny", TRAITS["llama-plain"])


@pytest.fixture
def model(folder):
    return ours(folder)


@pytest.fixture
def hf(folder):
    return load_hf(folder)


def loaded_from_memory(folder):
    from tessera.bringup import Bringup
    return Bringup(architecture=None, weights=None, activations=None).build_model(load_hf(folder), "cpu", 64)


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_are_counted_as_transformers_counts_them(tmp_path, name):
    folder = make(tmp_path / "tiny", TRAITS[name])
    hf = load_hf(folder)
    for model in ours(folder), loaded_from_memory(folder):
        assert model.num_parameters() == hf.num_parameters()
        assert model.num_parameters(exclude_embeddings=True) == hf.num_parameters(exclude_embeddings=True)
        assert model.num_parameters(only_trainable=True) == 0


def test_parameters_of_a_multimodal_model_are_its_language_model_s(tmp_path):
    folder = make_multimodal(tmp_path / "tiny", "hub")
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert ours(folder).num_parameters() == hf.model.language_model.num_parameters()


def test_it_is_named_by_the_place_of_its_tokenizer(folder, model):
    assert model.name_or_path == str(folder) == loaded_from_memory(folder).name_or_path


def test_ties_are_as_they_were(folder, model):
    before = model(IDS).logits
    model.tie_weights()
    assert torch.equal(model(IDS).logits, before)


@pytest.mark.parametrize("labels, options", [
    (IDS, {}), (torch.where(IDS > 60, -100, IDS), {}), (IDS, {"num_items_in_batch": torch.tensor(5)}),
    (IDS, {"shift_labels": IDS.roll(-1, 1)}), (IDS.flip(1), {"return_dict": False})])
@torch.no_grad()
def test_labels_give_transformers_loss(model, hf, labels, options):
    (loss, logits), (expected, expected_logits) = (one(IDS, labels=labels, **options)[:2] for one in (model, hf))
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(logits, expected_logits, atol=1e-4, rtol=0)
    assert float(expected) > 1


@pytest.mark.parametrize("pads, unlabelled", [(slice(0, 3), slice(0, 4)), (slice(5, 8), slice(5, 8))], ids=["left", "right"])
@torch.no_grad()
def test_the_loss_of_padded_rows_is_transformers_where_pads_have_no_label(model, hf, pads, unlabelled):
    mask, labels = torch.ones_like(IDS), IDS.clone()
    mask[0, pads], labels[0, unlabelled] = 0, -100
    losses = [one(IDS, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), labels=labels).loss for one in (model, hf)]
    torch.testing.assert_close(*losses, atol=1e-4, rtol=0)


def test_without_labels_there_is_no_loss(model):
    assert model(IDS).loss is None and model(IDS, num_items_in_batch=3).loss is None


@pytest.mark.parametrize("options", [{"labels": IDS[:, 1:]}, {"labels": IDS, "logits_to_keep": 2}, {"labels": IDS, "logits_to_keep": torch.tensor([1])}])
def test_labels_that_do_not_fit_are_refused(model, options):
    with pytest.raises(ValueError, match="labels: "):
        model(IDS, **options)


@pytest.mark.parametrize("option", ["output_hidden_states", "output_attentions"])
def test_what_the_layers_gave_is_refused(model, option):
    with pytest.raises(ValueError, match=f"{option}: not supported"):
        model(IDS, **{option: True})
    with pytest.raises(ValueError, match=f"{option}: not supported"):
        model.generate(IDS, max_new_tokens=2, return_dict_in_generate=True, **{option: True})
    assert model(IDS, **{option: False}).logits.shape[-1] == model.config.vocab_size


# trl's trainers begin with add_model_tags.
@pytest.mark.parametrize("name", ["add_model_tags", "get_input_embeddings", "get_output_embeddings", "resize_token_embeddings", "save_pretrained",
                                  "load_adapter", "gradient_checkpointing_enable", "enable_input_require_grads"])
def test_what_only_weights_of_torch_have_is_refused_by_name_and_seen_to_be_absent(model, name):
    with pytest.raises(AttributeError, match=f"{name}: not supported: a TesseraForCausalLM generates and scores"):
        getattr(model, name)()
    assert not hasattr(model, name)


def test_what_nobody_has_is_told_as_torch_tells_it(model):
    with pytest.raises(AttributeError, match="object has no attribute 'frobnicate'"):
        model.frobnicate()


def test_training_is_refused_where_it_begins(model):
    with pytest.raises(ValueError, match="train: a TesseraForCausalLM .* cannot be trained"):
        model.train()
    assert model.train(False) is model and model.eval() is model and not model.training


def test_peft_is_told_where_it_looks_for_adapters(model):
    """get_peft_model and PeftModel.from_pretrained ask hasattr(model, "peft_config") before they wrap anything."""
    with pytest.raises(ValueError, match="peft: no adapter can be put in: .* merge_and_unload"):
        hasattr(model, "peft_config")


# The tools themselves, which scripts/setup check installs.

@pytest.mark.slow
def test_peft_itself(model):
    peft = pytest.importorskip("peft")
    for targets in ["q_proj"], "all-linear":
        with pytest.raises(ValueError, match="peft: no adapter can be put in"):
            peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=targets))


@pytest.mark.slow
def test_accelerate_prepares_it_as_it_is(model):
    """There is nothing to move or wrap: what comes back gives the same."""
    accelerate = pytest.importorskip("accelerate")
    prepared = accelerate.Accelerator(cpu=True).prepare(model)
    assert prepared is model and torch.equal(prepared(IDS).logits, model(IDS).logits)


@pytest.mark.slow
def test_transformers_trainer_evaluates_it_and_is_refused_training(model, hf, tmp_path):
    pytest.importorskip("accelerate")
    rows = [{"input_ids": row.tolist(), "labels": row.tolist()} for row in IDS]
    arguments = TrainingArguments(tmp_path, use_cpu=True, report_to=[], max_steps=1)
    losses = [Trainer(model=one, args=arguments, eval_dataset=rows).evaluate()["eval_loss"] for one in (model, hf)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4) and losses[1] > 1
    with pytest.raises(ValueError, match="train: a TesseraForCausalLM"):
        Trainer(model=model, args=arguments, train_dataset=rows).train()


@pytest.mark.slow
def test_trl_itself(model, tmp_path):
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    (tmp_path / "tokenizer.json").write_text(json.dumps(f.tokenizer_json()))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token="<eos>", pad_token="<pad>")
    with pytest.raises(AttributeError, match="add_model_tags: not supported"):
        trl.SFTTrainer(model=model, args=trl.SFTConfig(output_dir=str(tmp_path), use_cpu=True, report_to=[], bf16=False),
                       train_dataset=datasets.Dataset.from_dict({"text": ["abab"] * 4}), processing_class=tokenizer)
