"""lm-eval takes a model of ours where it takes one of transformers', and gives the same numbers: loglikelihood, generate_until, rolling, and
through a chat template, which stays transformers' own."""
import copy
import json

import hostile_files as f
import huggingface_hub
import numpy as np
import pytest
from tessera_package import need_package

tessera = need_package()
torch = pytest.importorskip("torch")
from tiny_checkpoints import TRAITS, make  # noqa: E402
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast  # noqa: E402

pytestmark = pytest.mark.slow
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


def samples(lm_eval, model, **options):
    """Of each task: its metrics, and each request's numbers or text."""
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    done = lm_eval.simple_evaluate(model=HFLM(pretrained=model, batch_size=2), tasks=copy.deepcopy(TASKS), log_samples=True, bootstrap_iters=0,
                                   task_manager=TaskManager(include_defaults=False), **options)
    assert done["config"]["model_num_parameters"] == model.num_parameters()
    found = {}
    for name, rows in done["samples"].items():
        metrics = {key: value for key, value in done["results"][name].items() if isinstance(value, float)}
        found[name] = metrics, [response for row in rows for responses in row["resps"] for response in (responses if isinstance(responses, list) else [responses])]
    return found


@pytest.mark.parametrize("options", [{}, {"apply_chat_template": True}], ids=["plain", "chat template"])
def test_a_task_has_the_numbers_that_it_has_on_transformers(lm_eval, folder, measured, options):
    ours = samples(lm_eval, tessera.from_pretrained(folder, weights="float32", activations="float32"), **options)
    theirs = samples(lm_eval, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), **options)
    assert sorted(ours) == ["answer", "choice", "rolling"]
    worst = 0.0
    for name, (metrics, responses) in theirs.items():
        assert ours[name][0] == pytest.approx(metrics, rel=1e-4)
        assert len(ours[name][1]) == len(responses) >= 2
        for our, their in zip(ours[name][1], responses):
            if isinstance(their, str):
                assert our == their
                continue
            our, their = np.atleast_1d(our).astype(float), np.atleast_1d(their).astype(float)  # the log probability, and whether it is the greedy one
            worst = max(worst, float(np.abs(our - their).max()))
    assert worst < 1e-3 and (options or "".join(theirs["answer"][1]))
    measured(f"lm-eval on {folder.name}, {options or 'plain'}: {sum(len(rows) for _, rows in theirs.values())} requests, log probabilities at most {worst:.1e} apart")
