"""What else speaks OpenAI's API: lm-eval's local-completions, whose scores are those of its `hf` model, and LangChain's ChatOpenAI."""
import copy

import pytest
import scripted_model
from lm_eval_tasks import TASKS, folder, lm_eval  # noqa: F401  (fixtures)
from serving import Server
from tessera_program import FLOAT32
from test_serving_tools import ANSWERS, THINKING, TOOLS, Person
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("together", [1, 4])
def test_lm_eval_scores_as_its_hf_model_does(tessera, lm_eval, folder, measured, together):  # noqa: F811
    pytest.importorskip("tenacity")
    pytest.importorskip("aiohttp")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    from lm_eval.tasks import TaskManager

    def evaluate(model):
        done = lm_eval.simple_evaluate(model=model, tasks=copy.deepcopy(TASKS), log_samples=True, bootstrap_iters=0, task_manager=TaskManager(include_defaults=False))
        flat = lambda rows: [one for row in rows for one in (row if isinstance(row, list) else [row])]
        return {name: ({key: value for key, value in done["results"][name].items() if isinstance(value, float)}, [flat(row["resps"]) for row in rows]) for name, rows in done["samples"].items()}
    with Server(tessera, folder, "--served-model-name", "it", *FLOAT32) as server:
        ours = evaluate(LocalCompletionsAPI(model="it", base_url=server.url + "/v1/completions", tokenizer_backend="remote", batch_size=together, num_concurrent=together, max_retries=1))
    theirs = evaluate(HFLM(pretrained=AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval(), batch_size=1))  # a mate would let it go on past a stop
    worst, numbers = 0.0, 0
    for name, (metrics, answers) in theirs.items():
        assert ours[name][0] == pytest.approx(metrics, rel=1e-3)
        for our, their in zip(ours[name][1], answers, strict=True):
            for mine, other in zip(our, their, strict=True):
                if isinstance(other, str):
                    assert mine == other
                    continue
                pair = [(mine, other)] if isinstance(other, float) else [(float(a), float(b)) for a, b in zip(mine, other, strict=True)]
                worst, numbers = max(worst, *(abs(a - b) for a, b in pair)), numbers + 1
    assert worst < 1e-2 and numbers >= 15
    measured(f"lm-eval's local-completions on {folder.name}, {together} at a time: {numbers} log-likelihoods at most {worst:.1e} from its hf model's")


def test_langchain(tessera, llama_smollm2, tmp_path):
    langchain = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed: scripts/setup check does it")
    from langchain_core.messages import HumanMessage, ToolMessage

    chat = lambda server: langchain.ChatOpenAI(base_url=server.url + "/v1", api_key="nobody's", model="it", temperature=0, max_tokens=200, max_retries=0)
    with Server(tessera, scripted_model.make(tmp_path / "it", ANSWERS, THINKING + scripted_model.TEMPLATE)) as server:
        one = chat(server)
        assert one.invoke("t").content == "Sunny."
        assert "".join(chunk.text for chunk in one.stream("t")) == "Sunny."
        said = [HumanMessage("w")]
        said.append(one.bind_tools(TOOLS).invoke(said))
        (call,) = said[-1].tool_calls
        assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
        answer = one.bind_tools(TOOLS).invoke([*said, ToolMessage("21", tool_call_id=call["id"])])
        assert answer.content == "It is 21 degrees in Paris." and answer.usage_metadata["input_tokens"] > 0
    with Server(tessera, llama_smollm2, "--served-model-name", "it") as server:
        person = chat(server).with_structured_output(Person).invoke("Bob is 7 years old and likes coffee. Give the name, the age and a list of what he likes, as JSON.")
        assert isinstance(person, Person) and (person.name, person.age) == ("Bob", 7)
