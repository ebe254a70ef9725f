"""OpenAI's own client and what answers are held to: tools called and answered, schemas, patterns and grammars; and thinking apart from them."""
import json
import re
from typing import Literal

import pytest
import scripted_model
from openai import BadRequestError
from pydantic import BaseModel
from serving import Server
from test_serving_clients import client_of, texts


def tool(name, **properties):
    return {"type": "function", "function": {"name": name, "description": f"To {name}", "strict": True, "parameters": {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}}}


CITY = {"type": "string", "enum": ["Paris", "Rome"]}
TOOLS = [tool("get_weather", city=CITY), tool("add", a={"type": "integer"}, b={"type": "integer"})]
# Of prompts that end with these letters; a tool's result ends a prompt with ">".
ANSWERS = {
    "w": ["<tool_call>\n", '{"name": "get_weather", ', '"arguments": ', '{"city"', ': "Par', 'is"}', "}\n", "</tool_call>"],
    ">": ["It is ", "21 degrees", " in Paris."],
    "2": ["Let me look.", "\n<tool_call>\n", '{"name": "get_weather"', ', "arguments": {"city": ', '"Rome"}}', "\n</tool_call>", "\n<tool_call>\n{", '"name": "add", ',
          '"arguments": {"a"', ": 1, ", '"b": -2}', "}\n</", "tool_", "call>"],
    "x": ["<tool_call>\n{", '"name": "other", "arguments": {}}', "\n</tool_call>\n"],
    "v": ["<tool_call>\n{\"name\"", ': "get_weather", "arguments"', ': {"city": "Lon', 'don"}}', "\n</tool_call> "],
    "t": ["<think>\n", "The user wants", " it.\n", "</think>\n\n", "Sun", "ny."],
}
THINKING = "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"


@pytest.fixture(scope="module")
def server(tessera, tmp_path_factory):
    folder = scripted_model.make(tmp_path_factory.mktemp("scripted") / "scripted", ANSWERS, THINKING + scripted_model.TEMPLATE)
    with Server(tessera, folder) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    return client_of(server)


@pytest.fixture(scope="module")
def smollm2(tessera, llama_smollm2):
    with Server(tessera, llama_smollm2, "--served-model-name", "scripted") as server:
        yield client_of(server)


def asked(letter, **options):
    return {"model": "scripted", "messages": [{"role": "user", "content": letter}], "tools": TOOLS, "temperature": 0, "max_completion_tokens": 200, **options}


def calls_of(message):
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]


def test_a_tool_is_called_and_its_result_answered(server, client):
    first = client.chat.completions.create(**asked("w")).choices[0]
    assert first.finish_reason == "tool_calls" and first.message.content is None and calls_of(first.message) == [("get_weather", {"city": "Paris"})]
    (call,) = first.message.tool_calls
    messages = [{"role": "user", "content": "w"}, first.message, {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 21}'}]
    second = client.chat.completions.create(**asked("", messages=messages)).choices[0]
    assert second.finish_reason == "stop" and second.message.content == "It is 21 degrees in Paris." and second.message.tool_calls is None
    shown = server.post("/detokenize", {"tokens": server.post("/tokenize", {"messages": [m if isinstance(m, dict) else m.model_dump(exclude_none=True) for m in messages], "tools": TOOLS})["tokens"]})
    for part in '"get_weather"', '"city"', '{"temperature": 21}', '"Paris"':
        assert part in shown["prompt"], "the model sees the tools, the call and the result"


def test_a_stream_tells_a_call_as_it_comes(client):
    with client.chat.completions.stream(**asked("2")) as stream:
        events = list(stream)
        final = stream.get_final_completion().choices[0]
    assert calls_of(final.message) == [("get_weather", {"city": "Rome"}), ("add", {"a": 1, "b": -2})] and final.message.content == "Let me look."
    assert final.finish_reason == "tool_calls" and len({call.id for call in final.message.tool_calls}) == 2
    arguments = [(event.index, event.arguments_delta) for event in events if event.type == "tool_calls.function.arguments.delta"]
    for index, whole in enumerate(['{"city": "Rome"}', '{"a": 1, "b": -2}']):
        parts = [part for at, part in arguments if at == index]
        assert "".join(parts) == whole and len(parts) >= 2
    whole = client.chat.completions.create(**asked("2")).choices[0]
    assert calls_of(whole.message) == calls_of(final.message) and whole.message.content == final.message.content


def test_one_call_where_two_are_not_wanted(client):
    message = client.chat.completions.create(**asked("2", parallel_tool_calls=False)).choices[0].message
    assert calls_of(message) == [("get_weather", {"city": "Rome"})]


def test_no_call_where_none_is_wanted(server, client):
    prompt = lambda **options: client.chat.completions.create(**asked("w", **options)).usage.prompt_tokens
    answer = client.chat.completions.create(**asked("w", tool_choice="none"))
    assert answer.choices[0].message.tool_calls is None and answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == "".join(ANSWERS["w"])
    assert answer.usage.prompt_tokens == prompt(tools=None) < prompt()


def test_a_call_that_has_begun_is_one_of_the_tools(client):
    for letter in "x", "v":
        answer = client.chat.completions.create(**asked(letter, max_completion_tokens=60)).choices[0]
        text = answer.message.content or ""
        assert "other" not in text and "Lon" not in text
        for name, arguments in calls_of(answer.message) if answer.finish_reason == "tool_calls" else []:
            assert name in ("get_weather", "add") and arguments.get("city", "Rome") in CITY["enum"]


@pytest.mark.parametrize("choice, names", [("required", ("get_weather", "add")), ({"type": "function", "function": {"name": "add"}}, ("add",)), ({"type": "function", "function": {"name": "get_weather"}}, ("get_weather",))], ids=str)
def test_a_call_that_must_be_comes(smollm2, choice, names):
    question = [{"role": "user", "content": "What is the weather in Rome?"}]
    answer = smollm2.chat.completions.create(**asked("", messages=question, tool_choice=choice, parallel_tool_calls=False, max_completion_tokens=60)).choices[0]
    ((name, arguments),) = calls_of(answer.message)
    assert name in names and answer.finish_reason == "tool_calls" and answer.message.content is None
    if name == "get_weather":
        assert arguments == {"city": "Rome"}
    else:
        assert list(arguments) == ["a", "b"] and all(type(value) is int for value in arguments.values())


def test_a_tool_that_is_not_there_cannot_be_chosen(client):
    for choice in {"type": "function", "function": {"name": "absent"}}, "required":
        with pytest.raises(BadRequestError) as error:
            client.chat.completions.create(**asked("w", tool_choice=choice, **({"tools": None} if choice == "required" else {})))
        assert error.value.param.startswith("tool_choice")


class Person(BaseModel):
    name: Literal["Alice", "Bob"]
    age: int
    likes: list[Literal["tea", "coffee"]]


def test_a_schema_is_held_and_parsed(smollm2):
    messages = [{"role": "user", "content": "Alice is 30 years old and likes tea. Who is she?"}]
    answer = smollm2.chat.completions.parse(model="scripted", messages=messages, response_format=Person, temperature=0, max_completion_tokens=80)
    assert isinstance(answer.choices[0].message.parsed, Person) and answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.parsed.name == "Alice" and answer.choices[0].message.parsed.age == 30
    with smollm2.chat.completions.stream(model="scripted", messages=messages, response_format=Person, temperature=0, max_completion_tokens=80) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == answer.choices[0].message.parsed
    free = smollm2.chat.completions.create(model="scripted", messages=messages, temperature=0, max_completion_tokens=8)
    assert "{" not in texts(free)[0], "without a schema it says something else"


def test_any_object(smollm2):
    answer = smollm2.chat.completions.create(model="scripted", messages=[{"role": "user", "content": 'Say {"a": 1} and nothing else.'}], temperature=0, max_completion_tokens=60,
                                             response_format={"type": "json_object"})
    assert answer.choices[0].message.content.lstrip().startswith("{")
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)


@pytest.mark.parametrize("form, pattern", [({"regex": "[0-9]{3}-[a-f]{2}"}, "[0-9]{3}-[a-f]{2}"), ({"choice": ["yes", "no", "perhaps"]}, "yes|no|perhaps"),
                                           ({"grammar": 'root ::= "(" root ")" | "x"'}, r"\(*x\)*"), ({"json": {"enum": [12, 34]}}, "12|34")], ids=str)
def test_patterns_choices_and_grammars(client, smollm2, form, pattern):
    for one in client, smollm2:
        for n, temperature in (1, 0), (3, 2.0):
            answer = one.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "t"}], temperature=temperature, n=n, seed=1, max_completion_tokens=40, extra_body={"structured_outputs": form})
            for text, choice in zip(texts(answer), answer.choices):
                assert re.fullmatch(pattern, text) or (choice.finish_reason == "length" and "grammar" in form), text
                assert text.count("(") == text.count(")") or choice.finish_reason == "length"
    text = client.completions.create(model="scripted", prompt="t", max_tokens=40, temperature=0, extra_body={"structured_outputs": form}).choices[0].text
    assert re.fullmatch(pattern, text) or "grammar" in form


@pytest.mark.parametrize("schema, named", [({"type": "object", "not": {"required": ["a"]}}, "not"), ({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}, "uniqueItems"),
                                           ({"enum": [str(i) for i in range(2_000)]}, "enum"), ({"enum": [str(i) for i in range(100_000)]}, "bytes"), ({"type": "string", "pattern": "(" * 60_000 + ")" * 60_000}, "pattern")], ids=["not", "uniqueItems", "enum", "large enum", "pattern"])
def test_a_schema_that_cannot_be_held_is_refused_by_name(client, schema, named):
    with pytest.raises(BadRequestError) as error:
        client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "t"}], response_format={"type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": schema}})
    assert named in error.value.message and error.value.param == "response_format" and len(error.value.message) < 2000
    assert texts(client.chat.completions.create(**asked("t", tools=None))) == ["Sunny."]


def test_thinking_is_told_apart(client):
    answer = client.chat.completions.create(**asked("t", tools=None))
    message = answer.choices[0].message
    assert (message.reasoning_content, message.content, answer.choices[0].finish_reason) == ("The user wants it.", "Sunny.", "stop")
    deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(**asked("t", tools=None, stream=True)) if chunk.choices]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "The user wants it."
    assert [delta.content for delta in deltas if delta.content] == ["Sun", "ny."]


def test_thinking_is_switched_by_the_template_s_argument(client):
    tokens = lambda **kwargs: client.chat.completions.create(**asked("t", tools=None, extra_body={"chat_template_kwargs": kwargs})).usage.prompt_tokens
    assert tokens(enable_thinking=False) == tokens(enable_thinking=True) + len("<think>\n\n</think>\n\n") == tokens() + 19


def test_a_form_begins_behind_the_thinking(client):
    message = client.chat.completions.create(**asked("t", tools=None, extra_body={"structured_outputs": {"choice": ["Sunny.", "Rainy."]}})).choices[0].message
    assert (message.reasoning_content, message.content) == ("The user wants it.", "Sunny.")
    message = client.chat.completions.create(**asked("t", tools=None, extra_body={"structured_outputs": {"choice": ["Rainy."]}})).choices[0].message
    assert (message.reasoning_content, message.content) == ("The user wants it.", "Rainy.")
