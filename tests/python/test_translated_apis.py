"""/v1/responses and /v1/messages: what is read of their bodies, and whether the official clients understand what is answered."""
import contextlib
import http.server
import json
import re
import threading

import pytest
from api_tool import ApiTool
from conftest import ROOT

RESPONSES, MESSAGES, COUNT = "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"
BASES = {RESPONSES: {"input": "a"}, MESSAGES: {"messages": [{"role": "user", "content": "a"}], "max_tokens": 9}}
URLS = {"responses": [RESPONSES], "messages": [MESSAGES], "both": [RESPONSES, MESSAGES]}
FUNCTION, CUSTOM = {"type": "function", "name": "f", "parameters": {"type": "object"}}, {"name": "f", "input_schema": {"type": "object"}}
EMPTY = {"content": None, "name": None, "reasoning": None, "tool_calls": [], "tool_call_id": ""}


@pytest.fixture(scope="module")
def tool(build):
    return ApiTool(build)


def rows():
    """(field, urls, kind, examples, refused values) of the table."""
    text = (ROOT / "docs/serving.md").read_text(encoding="utf-8").split("\n## Fields of /v1/responses and /v1/messages\n")[1].split("\n## ")[0]
    for line in text.splitlines():
        if line.startswith("| `"):
            name, route, kind, _, examples, refused = [cell.strip() for cell in line.strip("|").split("|")]
            yield name.strip("`"), URLS[route], kind, *([json.loads(value) for value in re.findall(r"`([^`]+)`", cell)] for cell in (examples, refused))


ROWS = list(rows())


def body_of(url, name, value):
    """An object that has the field's own name is a part of a body."""
    return {**BASES[url], **(value if isinstance(value, dict) and name in value else {name: value})}


@pytest.mark.parametrize("name, urls, kind, examples, refused", ROWS, ids=[f"{row[0]} {len(row[1])}{row[1][0][4]}" for row in ROWS])
def test_each_field_is_what_the_table_says(tool, name, urls, kind, examples, refused):
    assert kind in ("honoured", "ignored", "refused") and (examples if kind != "refused" else refused)
    assert kind == "ignored" or refused
    for url in urls:
        differs = False
        for value in examples:
            body = body_of(url, name, value)
            without = {**{key: one for key, one in body.items() if key != name}, **({name: BASES[url][name]} if name in BASES[url] else {})}
            read, plain = tool.read([(url, body), (url, without)])
            assert "fields" in read and "fields" in plain, (body, read)
            assert kind == "honoured" or read == plain, body
            differs = differs or read != plain
        assert differs == (kind == "honoured")
        for value in refused:
            body = body_of(url, name, value)
            (read,) = tool.read([(url, body)])
            assert "error" in read and read["status"] == 400, body
            assert re.match(rf"{re.escape(name)}\b", read["error"]["param"]) and read["error"]["message"].startswith(read["error"]["param"]), (body, read)
        (read,), (plain,) = (tool.read([(url, body)]) for body in ({**BASES[url], name: None}, BASES[url]))
        assert read == plain or name in BASES[url], "null is as absent"


def test_every_field_of_the_clients_stands_in_the_table():
    from anthropic.types.message_create_params import MessageCreateParamsBase
    from openai.types.responses.response_create_params import ResponseCreateParamsBase

    for url, params in (RESPONSES, ResponseCreateParamsBase), (MESSAGES, MessageCreateParamsBase):
        missing = set(params.__annotations__) - {name for name, urls, *_ in ROWS if url in urls}
        assert not missing, missing
    assert len({(name, url) for name, urls, *_ in ROWS for url in urls}) == sum(len(urls) for _, urls, *_ in ROWS), "a field has two rows"


@pytest.mark.parametrize("url", BASES)
def test_what_nobody_knows_is_ignored(tool, url):
    one, other = tool.read([(url, {**BASES[url], "a_new_field": {"deep": [1, {"x": None}]}, "__proto__": 3, "": True}), (url, BASES[url])])
    assert one == other and "fields" in one


def messages_of(tool, url, body):
    (read,) = tool.read([(url, body)])
    assert "fields" in read, read
    return [{key: value for key, value in message.items() if value != EMPTY.get(key)} for message in read["fields"]["messages"]]


def said(role, text):
    return {"role": role, "content": text}


CALL, OTHER_CALL = ({"id": f"call_{n}", "name": f"f{n}", "arguments": '{"x":1}'} for n in (1, 2))


@pytest.mark.parametrize("body, messages", [
    ({"input": "hi", "instructions": "be brief"}, [said("system", "be brief"), said("user", "hi")]),
    ({"input": ""}, [said("user", "")]), ({"input": []}, [said("user", "")]), ({"max_output_tokens": 1}, [said("user", "")]),
    ({"instructions": "be brief", "input": []}, [said("system", "be brief"), said("user", "")]),
    ({"instructions": "a", "input": [said("developer", "b"), said("system", "c"), said("user", "d"), {"type": "message", **said("user", [{"type": "input_text", "text": "e"}, {"type": "input_text", "text": "f"}])}]},
     [said("system", "a\nb\nc"), said("user", "d\ne\nf")]),
    ({"input": [said("user", "a"),
                {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}, {"type": "reasoning_text", "text": "so"}], "encrypted_content": "x"},
                {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "text": "b", "annotations": []}, {"type": "refusal", "refusal": "no"}]},
                {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f1", "arguments": '{"x":1}', "status": "completed"},
                {"type": "function_call", "call_id": "call_2", "name": "f2", "arguments": '{"x":1}'},
                {"type": "function_call_output", "call_id": "call_1", "output": "one"},
                {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "two"}, {"type": "input_text", "text": "three"}]},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "short"}]}, {"type": "reasoning", "summary": [], "encrypted_content": "x"}, said("assistant", "c")]},
     [said("user", "a"), {**said("assistant", "b\nno"), "reasoning": "hm\nso", "tool_calls": [CALL, OTHER_CALL]}, {**said("tool", "one"), "tool_call_id": "call_1"},
      {**said("tool", "two\nthree"), "tool_call_id": "call_2"}, {**said("assistant", "c"), "reasoning": "short"}]),
])
def test_input_becomes_turns(tool, body, messages):
    assert messages_of(tool, RESPONSES, body) == messages


BILLING = {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cch=abc;"}


@pytest.mark.parametrize("body, messages", [
    ({"system": "s", "messages": [said("user", "a")]}, [said("system", "s"), said("user", "a")]),
    ({"system": [BILLING, {"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "t"}], "messages": [said("user", "a"), said("user", "b")]}, [said("system", "s\nt"), said("user", "a\nb")]),
    ({"system": [BILLING], "messages": [said("user", "a")]}, [said("user", "a")]), ({"system": [], "messages": [said("user", "a")]}, [said("user", "a")]),
    ({"system": BILLING["text"], "messages": [said("user", "a")]}, [said("system", BILLING["text"]), said("user", "a")]),
    ({"messages": [said("user", [BILLING])]}, [said("user", BILLING["text"])]),
    ({"messages": [said("user", "a"), said("system", "s"), said("user", "b")]}, [said("user", "a"), said("system", "s"), said("user", "b")]),
    ({"messages": [said("user", [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]),
                   said("assistant", [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "c"},
                                      {"type": "tool_use", "id": "call_1", "name": "f1", "input": {"x": 1}}, {"type": "tool_use", "id": "call_2", "name": "f2", "input": {"x": 1}}]),
                   said("user", [{"type": "tool_result", "tool_use_id": "call_1", "content": "one", "is_error": True},
                                 {"type": "tool_result", "tool_use_id": "call_2", "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "three"}]},
                                 {"type": "tool_result", "tool_use_id": "call_3"}, {"type": "text", "text": "d"}])]},
     [said("user", "a\nb"), {**said("assistant", "c"), "reasoning": "hm", "tool_calls": [CALL, OTHER_CALL]}, {**said("tool", "one"), "tool_call_id": "call_1"},
      {**said("tool", "two\nthree"), "tool_call_id": "call_2"}, {**said("tool", ""), "tool_call_id": "call_3"}, said("user", "d")]),
])
def test_messages_become_turns(tool, body, messages):
    assert messages_of(tool, MESSAGES, {"max_tokens": 1, **body}) == messages
    assert messages_of(tool, COUNT, body) == messages


def test_what_the_assistant_began_is_gone_on_with(tool):
    call = {"type": "tool_use", "id": "call_1", "name": "f1", "input": {}}
    for turn, goes_on in (said("assistant", "It is"), True), (said("assistant", [{"type": "text", "text": "It"}, {"type": "text", "text": "is"}]), True), (said("assistant", [call]), False), (said("assistant", [{"type": "text", "text": "b"}, call]), False), (said("user", "b"), False):
        (read,) = tool.read([(MESSAGES, {**BASES[MESSAGES], "messages": [said("user", "a"), turn]})])
        assert (read["fields"]["continue_final_message"], read["fields"]["add_generation_prompt"]) == (goes_on, not goes_on), turn
    (read,) = tool.read([(RESPONSES, {"input": [said("user", "a"), said("assistant", "b")]})])
    assert not read["fields"]["continue_final_message"] and read["fields"]["add_generation_prompt"]


@pytest.mark.parametrize("url, body, param, words", [
    (RESPONSES, {"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type", "item_reference"), (RESPONSES, {"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type", "not supported"),
    (RESPONSES, {"input": [said("user", "a"), said("user", [{"type": "input_image", "image_url": "http://169.254.169.254/"}])]}, "input[1].content[0].type", "only text"),
    (RESPONSES, {"input": [said("user", [{"type": "input_text"}])]}, "input[0].content[0].text", "not there"), (RESPONSES, {"input": [said("tool", "a")]}, "input[0].role", "must be"), (RESPONSES, {"input": [{"role": "user"}]}, "input[0].content", "not there"),
    (RESPONSES, {"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id", "not there"), (RESPONSES, {"input": [{"type": "function_call", "call_id": "c", "arguments": "{}"}]}, "input[0].name", "not there"),
    (RESPONSES, {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"}]}, "input[0].arguments", "JSON"), (RESPONSES, {"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output", "not there"),
    (RESPONSES, {"input": [{"type": "function_call_output", "output": "a"}]}, "input[0].call_id", "not there"), (RESPONSES, {"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image"}]}]}, "input[0].output[0].type", "only text"),
    (RESPONSES, {"input": [said("user", "a")] * 8193}, "input", "8192"), (RESPONSES, {"input": "a", "tools": [{"name": "f"}]}, "tools[0].type", "not there"), (RESPONSES, {"input": "a", "tools": [FUNCTION, FUNCTION]}, "tools[1].name", "twice"),
    (RESPONSES, {"input": "a", "tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice", "wants tools"), (RESPONSES, {"input": "a", "tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice.name", "none of the tools"),
    (RESPONSES, {"input": "a", "stream_options": {"include_obfuscation": False}}, "stream_options", "stream"),
    (MESSAGES, {"max_tokens": None}, "max_tokens", "not there"), (MESSAGES, {"messages": [said("user", [{"type": "image", "source": {"type": "url", "url": "http://169.254.169.254/"}}])]}, "messages[0].content[0].type", "only text"),
    (MESSAGES, {"messages": [said("user", [{"type": "document"}])]}, "messages[0].content[0].type", "only text"), (MESSAGES, {"messages": [said("user", [{"type": "tool_use", "id": "c", "name": "f", "input": {}}])]}, "messages[0].content[0].type", "only text"),
    (MESSAGES, {"messages": [said("assistant", [{"type": "tool_result", "tool_use_id": "c"}])]}, "messages[0].content[0].type", "only text"), (MESSAGES, {"messages": [said("developer", "a")]}, "messages[0].role", "must be"), (MESSAGES, {"messages": [{"role": "user"}]}, "messages[0].content", "not there"),
    (MESSAGES, {"messages": [said("user", [{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "image"}]}])]}, "messages[0].content[0].content[0].type", "only text"), (MESSAGES, {"messages": [said("user", [{"type": "tool_result"}])]}, "messages[0].content[0].tool_use_id", "not there"),
    (MESSAGES, {"messages": [said("assistant", [{"type": "tool_use", "id": "c", "name": "f", "input": "{}"}])]}, "messages[0].content[0].input", "object"), (MESSAGES, {"messages": [said("user", [])]}, "messages", "no text"), (MESSAGES, {"messages": [said("user", "a")] * 2049}, "messages", "2048"),
    (MESSAGES, {"tools": [{"name": "f"}]}, "tools[0].input_schema", "not there"), (MESSAGES, {"tools": [CUSTOM, {"type": "custom", **CUSTOM}]}, "tools[1].name", "twice"), (MESSAGES, {"tools": [CUSTOM], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name", "none of the tools"),
])
def test_what_is_not_taken_is_refused_by_its_place(tool, url, body, param, words):
    (read,) = tool.read([(url, {**BASES[url], **body} if url == MESSAGES else body)])
    assert read["status"] == 400 and read["error"]["param"] == param and words in read["error"]["message"], read


def test_tools_and_forms_are_a_chat_s(tool):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    def read(url, **body):
        (read,) = tool.read([(url, {**BASES[url], **body})])
        return read["fields"]
    server_tools = [{"type": "web_search"}, {"type": "namespace", "name": "n", "tools": [FUNCTION]}, {"type": "custom", "name": "g"}]
    fields = read(RESPONSES, tools=[*server_tools, {**FUNCTION, "parameters": schema, "description": "d", "strict": True}], tool_choice={"type": "function", "name": "f"}, parallel_tool_calls=False)
    assert fields["tools"] == [{"name": "f", "description": "d", "parameters": json.dumps(schema, separators=(",", ":")), "strict": True}]
    assert (fields["tool_choice"], fields["tool_name"], fields["parallel"]) == (3, "f", False)
    fields = read(MESSAGES, tools=[{"type": "web_search_20250305", "name": "web_search"}, {"name": "f", "input_schema": schema, "description": "d", "cache_control": {}}], tool_choice={"type": "any", "disable_parallel_tool_use": True})
    assert fields["tools"] == [{"name": "f", "description": "d", "parameters": json.dumps(schema, separators=(",", ":")), "strict": False}]
    assert (fields["tool_choice"], fields["parallel"]) == (2, False)
    choices = ["none", "auto", "required"]  # Tools::Choice's order
    for index, word in enumerate(choices):
        assert read(RESPONSES, tools=[FUNCTION], tool_choice=word)["tool_choice"] == index
        assert read(MESSAGES, tools=[CUSTOM], tool_choice={"type": word.replace("required", "any")})["tool_choice"] == index
    def form(url, **body):
        given = read(url, **body)["generation"]["format"]
        return given["kind"], given["text"] and json.loads(given["text"]), given["strict"]
    assert form(RESPONSES, text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}}) == (1, schema, True)
    assert form(RESPONSES, text={"format": {"type": "json_schema", "name": "n", "schema": schema}, "verbosity": "low"}) == (1, schema, False)
    assert form(RESPONSES, text={"format": {"type": "json_object"}})[0] == 0
    assert "format" not in read(RESPONSES, text={"format": {"type": "text"}})["generation"]
    assert form(MESSAGES, output_config={"format": {"type": "json_schema", "schema": schema}, "effort": "low"}) == (1, schema, True)
    assert read(MESSAGES, stop_sequences=["x"])["generation"]["stop"] == ["x"]
    assert read(MESSAGES, thinking={"type": "disabled"})["arguments"] == ["enable_thinking bool false"]
    assert read(MESSAGES, thinking={"type": "enabled", "budget_tokens": 1024})["arguments"] == ["enable_thinking bool true"]
    assert read(MESSAGES, thinking={"type": "adaptive"})["arguments"] == []
    assert read(MESSAGES, thinking={"type": "enabled"}, chat_template_kwargs={"enable_thinking": False})["arguments"] == ["enable_thinking bool false"]
    (counted,) = tool.read([(COUNT, {"model": "m", "messages": [said("user", "a")], "tools": [CUSTOM], "thinking": {"type": "disabled"}})])
    assert counted["fields"]["generation"]["model"] == "m" and counted["fields"]["tools"][0]["name"] == "f" and counted["fields"]["arguments"]
