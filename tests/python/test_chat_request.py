"""Bodies of /v1/chat/completions as a checkpoint's template has them: apply_chat_template's text, and where it knows no tools, a text of ours."""
import json

import pytest
from chat_cases import CASES, TOOLS, USER, assistant, call, result, user
from conftest import made_weights
from test_jinja import SPECIAL_TOKENS, JinjaTool, fixed_time, ours, templates, theirs  # noqa: F401  (fixtures)

# What is known of templates: how they write a call, if they do it in a way that is read, and ids of nine letters.
FORMATS = {
    "Qwen-Qwen2.5-7B-Instruct": "tagged", "Qwen-Qwen3-0.6B": "tagged <think>", "Qwen-QwQ-32B": "tagged <think>", "ibm-granite-granite-4.0": "tagged",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": "tagged", "meta-llama-Llama-3.1-8B-Instruct": "object", "meta-llama-Llama-3.2-3B-Instruct": "object",
    "meta-llama-Llama-3.3-70B-Instruct": "object", "mistralai-Mistral-Nemo-Instruct-2407": "list short", "Mistral-Small-3.2-24B-Instruct-2506": "named short",
    "mistralai-Ministral-3-14B-Reasoning-2512": "named [THINK]", "unsloth-mistral-Devstral-Small-2507": "named",
    "Qwen3-Coder": "", "google-gemma-2-2b-it": "no system", "microsoft-Phi-3.5-mini-instruct": "", "HuggingFaceTB-SmolLM3-3B": "<think>",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": "<think>", "ibm-granite-granite-3.3-2B-Instruct": "<think>", "openai-gpt-oss-120b": "developer",
}
ONLY_WITH_TOOLS = "NousResearch-Hermes-3-Llama-3.1-8B-tool_use"  # one of a checkpoint's two templates
OUTSIDE = {"a result that is an object", "content in parts", "all contents in parts", "a picture", "a developer's message", "an unknown role"}  # of OpenAI's bodies, or not as they are


@pytest.fixture(scope="module")
def tool(build):
    path = build / "tests/api/chat_tool"
    if not path.exists():
        pytest.skip(f"{path} is not built")
    tool = JinjaTool(path)
    yield tool
    tool.process.communicate()


def body_of(messages, tools=None, **more):
    """As OpenAI's clients send it: arguments are text."""
    sent = []
    for message in messages:
        message = {key: value for key, value in message.items() if not (message["role"] == "tool" and key == "name")}
        if "tool_calls" in message:
            message["tool_calls"] = [{**one, "function": {**one["function"], "arguments": one["function"]["arguments"] if isinstance(one["function"]["arguments"], str)
                                                          else json.dumps(one["function"]["arguments"], ensure_ascii=False)}} for one in message["tool_calls"]]
        sent.append(message)
    return {"messages": sent, **({"tools": tools} if tools else {}), **more}


def as_rendered(messages):
    """What apply_chat_template is given for the same: arguments are dicts, and a call's content is text."""
    messages = [{**message, "content": message["content"] or ""} for message in messages]
    for i, message in enumerate(messages):
        if "tool_calls" in message:
            messages[i] = {**message, "tool_calls": [{**one, "function": {**one["function"], "arguments": json.loads(one["function"]["arguments"])}}
                                                     if isinstance(one["function"]["arguments"], str) else one for one in message["tool_calls"]]}
        if message["role"] == "tool":
            messages[i] = {key: value for key, value in message.items() if key != "name"}
    return messages


def ask(tool, template, body, special_tokens=SPECIAL_TOKENS, tokenizer=None):
    return tool.ask(template=template, special_tokens=special_tokens, tokenizer=tokenizer and str(tokenizer), body=body)


def test_how_templates_have_tools_is_found_out(tool, templates):
    for name, known in FORMATS.items():
        format = ask(tool, templates[name], body_of([USER]))["format"]
        found = [format["calls"] if format["tools_in_template"] else "", "short" if format["short_call_ids"] else "", format["think_begin"],
                 "developer" if format["has_developer"] else "", "" if format["has_system"] or format["tools_in_template"] else "no system"]
        assert " ".join(word for word in found if word) == known, name


def test_chats_are_rendered_as_transformers_renders_them(tool, templates, measured):
    equal = refused = 0
    for name in FORMATS:
        for case_name, case in CASES.items():
            if case_name in OUTSIDE:
                continue
            in_template = ask(tool, templates[name], body_of([USER]))["format"]["tools_in_template"]
            has_tools = case["tools"] or any("tool_calls" in message or message["role"] == "tool" for message in case["messages"])
            if has_tools and not in_template:
                continue
            got = ask(tool, templates[name], body_of(case["messages"], case["tools"], chat_template_kwargs=case["arguments"], add_generation_prompt=case["generate"]))
            messages = as_rendered(case["messages"])
            wanted = theirs(templates[name], messages, case["tools"], case["generate"], case["arguments"])
            if isinstance(wanted, Exception) and "length 9" in str(wanted):  # clients know nothing of that
                assert "text" in got, (name, case_name, got)
                continue
            if isinstance(wanted, Exception):
                refused += 1
                assert "error" in got, (name, case_name, wanted)
                continue
            assert got.get("text") == wanted, (name, case_name, got)
            equal += 1
    assert equal > 25 * len(FORMATS)
    measured(f"chat requests: {equal} texts equal, {refused} refused by both")


@pytest.mark.parametrize("content", ["Why did the", "Why did ", "\n Why\n", "", "  ", "a\n\nb"])
def test_a_last_message_is_continued_as_transformers_does(tool, templates, content):
    from transformers.utils.chat_template_utils import render_jinja_template

    equal = 0
    for name in FORMATS:
        messages = [user("Tell me a joke. Why did"), assistant(content)]
        got = ask(tool, templates[name], body_of(messages, continue_final_message=True, add_generation_prompt=False))
        try:
            wanted = render_jinja_template([messages], None, chat_template=templates[name], continue_final_message=True, **SPECIAL_TOKENS)[0][0]
        except Exception as error:
            if content:  # of an empty one theirs finds its own mark
                assert "error" in got, (name, error, got)
            continue
        assert got.get("text") == wanted, (name, got)
        equal += 1
    assert equal >= 15


def test_a_developer_s_message_is_the_system_s_where_the_template_has_none(tool, templates):
    for name, known in FORMATS.items():
        if name == ONLY_WITH_TOOLS:
            continue
        given, as_system = (ask(tool, templates[name], body_of([{"role": role, "content": "Answer in French."}, USER])) for role in ("developer", "system"))
        assert given.get("text") == as_system.get("text"), name
        assert ("error" in given) if known == "no system" else "Answer in French." in given["text"], name
    apart = "{% for m in messages %}{{ '<' + ('dev' if m.role == 'developer' else m.role) + '>' + m.content }}{% endfor %}"
    assert ask(tool, apart, body_of([{"role": "developer", "content": "x"}, user("y")]))["text"] == "<dev>x<user>y"


def test_tools_that_are_not_to_be_called_are_not_shown(tool, templates):
    for name in set(FORMATS) - {ONLY_WITH_TOOLS}:
        shown, hidden, none = (ask(tool, templates[name], body) for body in (body_of([USER], TOOLS), body_of([USER], TOOLS, tool_choice="none"), body_of([USER])))
        assert "get_weather" in shown["text"] and "The weather of a city, now." in shown["text"], name
        assert hidden["text"] == none["text"], name


OUR_TOOLS = """These functions can be called, each described by a line of JSON:
<tools>
{"name": "add", "description": "Adds \\"two\\" <b>.", "parameters": {"type":"object","properties":{"a":{"type":"number"}}}}
{"name": "now"}
</tools>
To call one, write its name and its arguments as JSON within these tags:
<tool_call>
{"name": NAME, "arguments": {...}}
</tool_call>
What it gives comes back within <tool_response></tool_response>."""
TWO_TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds \"two\" <b>.", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}},
             {"type": "function", "function": {"name": "now"}}]
TURNS = [user("1+2? And the time?"), assistant("Let me see.", tool_calls=[call("add", '{"a": 1}', "1"), call("now", "", "2")]), result("3", id="1"), result("noon", id="2"),
         user("Quickly!"), assistant("3, at noon."), user("Thanks")]


@pytest.mark.parametrize("name", ["microsoft-Phi-3.5-mini-instruct", "google-gemma-2-2b-it", "Qwen3-Coder"])
def test_where_the_template_knows_no_tools_they_are_told_in_a_text_of_ours(tool, templates, name):
    called = 'Let me see.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    results = "<tool_response>\n3\n</tool_response>\n<tool_response>\nnoon\n</tool_response>\nQuickly!"
    plain = [user("1+2? And the time?"), assistant(called), user(results), assistant("3, at noon."), user("Thanks")]
    if FORMATS[name] == "no system":
        plain[0] = user(OUR_TOOLS + "\n\n1+2? And the time?")
    else:
        plain.insert(0, {"role": "system", "content": OUR_TOOLS})
    assert ask(tool, templates[name], body_of(TURNS, TWO_TOOLS))["text"] == theirs(templates[name], plain, None, True, {})
    if FORMATS[name] != "no system":
        plain[0] = {"role": "system", "content": "Be brief.\n\n" + OUR_TOOLS}
        with_system = ask(tool, templates[name], body_of([{"role": "system", "content": "Be brief."}, *TURNS], TWO_TOOLS))
        assert with_system["text"] == theirs(templates[name], plain, None, True, {})


def test_short_ids_are_the_same_in_a_call_and_its_result(tool, templates):
    long = [USER, assistant("", tool_calls=[call("add", "{}", "call_" + "0" * 24), call("add", "{}", "call_" + "1" * 24)]), result("1", id="call_" + "0" * 24), result("2", id="call_" + "1" * 24)]
    text = ask(tool, templates["mistralai-Mistral-Nemo-Instruct-2407"], body_of(long, TOOLS))["text"]
    ids = [part[:9] for part in text.split('id": "')[1:]]
    assert len(ids) == 4 and ids[:2] == ids[2:] and ids[0] != ids[1] and all(id.isalnum() for id in ids)


@pytest.mark.parametrize("arguments", ["x", "[1]", '{"a": 1', '{"a": 1, "a": 2}', "[" * 5000])
def test_arguments_that_are_no_object_are_refused_by_name(tool, templates, arguments):
    messages = [USER, assistant("", tool_calls=[call("add", "{}"), call("add", arguments)]), result("1")]
    got = ask(tool, templates["Qwen-Qwen2.5-7B-Instruct"], body_of(messages, TOOLS))
    assert got["param"] == "messages[1].tool_calls[1].function.arguments", got


@pytest.mark.parametrize("made, names", [("qwen2", ["Qwen-Qwen2.5-7B-Instruct", "Qwen-Qwen3-0.6B", "Qwen3-Coder"]), ("llama-3", ["meta-llama-Llama-3.1-8B-Instruct", "meta-llama-Llama-3.2-3B-Instruct"]),
                                         ("phi-3", ["microsoft-Phi-3.5-mini-instruct"])])
def test_people_s_text_never_becomes_a_control_token(tool, templates, made, names):
    """Of messages, calls, results and tools, in the template's way and in ours."""
    path = made_weights("make_tokenizers.py", made) / "tokenizer.json"

    def talk(text):
        schema = {"type": "object", "properties": {text: {"description": text, "enum": [text]}}}
        return body_of([{"role": "system", "content": text}, user(text), assistant(text, reasoning_content=text, tool_calls=[call("f", {text: text, "list": [text]}, text)]), result(text, id=text), user(text)],
                       [{"type": "function", "function": {"name": "f", "description": text, "parameters": schema}}])

    for name in names:
        plain = ask(tool, templates[name], talk("x"), {"bos_token": "", "eos_token": ""}, path)
        controls = set(plain["controls"])
        from tokenizers import Tokenizer

        hf = Tokenizer.from_file(str(path))
        forged = " ".join(hf.id_to_token(id) for id in sorted(controls)[:40]) + "".join(hf.id_to_token(id) for id in sorted(controls)[:40])
        typed = ask(tool, templates[name], talk(forged), {"bos_token": "", "eos_token": ""}, path)
        count = lambda answer: [id for id in answer["ids"] if id in controls]  # noqa: E731
        assert len(count(plain)) > 5
        assert count(typed) == count(plain), name
        assert typed["ids"] != hf.encode(typed["text"], add_special_tokens=False).ids  # there they do
