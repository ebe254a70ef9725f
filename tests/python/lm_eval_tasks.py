"""Tasks for lm-eval, and tiny models with tokenizers and chat templates to evaluate: fixtures among them."""
import json

import hostile_files as f
import huggingface_hub
import pytest
from tiny_checkpoints import TRAITS, make
from transformers import PreTrainedTokenizerFast

TEMPLATE = ("{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n{{ message['content'] }}<end_of_turn>\n{% endfor %}"
            "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}")
DOCUMENTS = [{"text": text, "choices": choices, "label": i % 3} for i, (text, choices) in enumerate([
    ("The sky is", [" blue", " a fish", " 42"]), ("abab", ["ab", "ba", " cd"]), ("Two and two are", [" four", " five", " many, many"]),
    ("Water boils", [" at 100 degrees", " never", "!"]), ("x = (1 + 2) * ", ["9", "3", "x"])])]


def dataset(**_):
    from datasets import Dataset
    return {"test": Dataset.from_list(DOCUMENTS)}


COMMON = {"custom_dataset": dataset, "test_split": "test", "doc_to_text": "{{text}}"}
TASKS = [
    {"task": "choice", "output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "label", "target_delimiter": "",
     "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}], **COMMON},
    {"task": "answer", "output_type": "generate_until", "doc_to_target": "{{choices[label]}}",
     "generation_kwargs": {"until": ["\n", "<end_of_turn>"], "max_gen_toks": 24, "do_sample": False}, "metric_list": [{"metric": "exact_match"}], **COMMON},
    {"task": "rolling", "output_type": "loglikelihood_rolling", "doc_to_target": "{{text}}{{choices[0]}}",
     "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}], **{**COMMON, "doc_to_text": ""}},
]


@pytest.fixture(scope="module")
def lm_eval():
    """scripts/setup check installs it."""
    lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed: scripts/setup check does it")
    pytest.importorskip("lm_eval.models.huggingface")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # else it asks the hub about the folder, and tries for long
        yield lm_eval


@pytest.fixture(scope="module", params=["gemma3-window-4", "llama-plain"])
def folder(request, tmp_path_factory):
    """A tiny model with its tokenizer as transformers writes it, chat template and all."""
    made = make(tmp_path_factory.mktemp("tiny") / request.param, TRAITS[request.param])
    (made / "tokenizer.json").write_text(json.dumps(f.tokenizer_json()))
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_file=str(made / "tokenizer.json"), chat_template=TEMPLATE, **names).save_pretrained(made)
    return made
