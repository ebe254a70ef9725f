"""lm-eval takes a model of ours where it takes one of transformers', and gives the same numbers: loglikelihood, generate_until, rolling, and
through a chat template, which stays transformers' own."""
import copy

import numpy as np
import pytest
from lm_eval_tasks import TASKS, folder, lm_eval  # noqa: F401  (fixtures)
from tessera_package import need_package

tessera = need_package()
torch = pytest.importorskip("torch")
from transformers import AutoModelForCausalLM  # noqa: E402

pytestmark = pytest.mark.slow


def samples(lm_eval, model, **options):  # noqa: F811
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
def test_a_task_has_the_numbers_that_it_has_on_transformers(lm_eval, folder, measured, options):  # noqa: F811
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
