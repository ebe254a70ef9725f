"""The bodies that clients send: docs/serving.md's table against the readers, row by row."""
import json
import re

import pytest
from api_tool import ApiTool
from conftest import ROOT

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
BASES = {CHAT: {"messages": [{"role": "user", "content": "a"}]}, COMPLETIONS: {"prompt": "a"}}
URLS = {"chat": [CHAT], "completions": [COMPLETIONS], "both": [CHAT, COMPLETIONS]}
USER, CALL = {"role": "user", "content": "a"}, {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}


@pytest.fixture(scope="module")
def tool(build):
    return ApiTool(build)


def rows():
    """(field, urls, kind, examples, refused values) of the table."""
    text = (ROOT / "docs/serving.md").read_text(encoding="utf-8").split("\n## Fields\n")[1].split("\n## ")[0]
    for line in text.splitlines():
        if line.startswith("| `"):
            name, route, kind, _, examples, refused = [cell.strip() for cell in line.strip("|").split("|")]
            yield name.strip("`"), URLS[route], kind, *([json.loads(value) for value in re.findall(r"`([^`]+)`", cell)] for cell in (examples, refused))


def body_of(url, name, value):
    """An object that has the field's own name is a part of a body."""
    return {**BASES[url], **(value if isinstance(value, dict) and name in value else {name: value})}


ROWS = list(rows())


@pytest.mark.parametrize("name, urls, kind, examples, refused", ROWS, ids=[f"{row[0]} {len(row[1])}{row[1][0][4:6]}" for row in ROWS])
def test_each_field_is_what_the_table_says(tool, name, urls, kind, examples, refused):
    assert kind in ("honoured", "ignored", "refused") and (examples if kind != "refused" else refused)
    assert kind == "ignored" or refused
    for url in urls:
        bodies = [body_of(url, name, value) for value in examples]
        without = [{**{key: value for key, value in body.items() if key != name}, **({name: BASES[url][name]} if name in BASES[url] else {})} for body in bodies]
        for body, read, plain in zip(bodies, tool.read([(url, body) for body in bodies]), tool.read([(url, body) for body in without])):
            assert "fields" in read, (body, read)
            assert (read != plain) == (kind == "honoured"), body
        bodies = [body_of(url, name, value) for value in refused]
        for body, read in zip(bodies, tool.read([(url, body) for body in bodies])):
            assert "error" in read and read["status"] == 400, body
            error = read["error"]
            assert list(error) == ["message", "type", "param", "code"] and error["type"] == "invalid_request_error" and error["code"] is None
            assert re.match(rf"{re.escape(name)}\b", error["param"]) and error["message"].startswith(error["param"]), (body, error)
        (read,), (plain,) = (tool.read([(url, body)]) for body in ({**BASES[url], name: None}, BASES[url]))
        assert read == plain or name in BASES[url], "null is as absent"


def test_every_field_of_openai_s_client_stands_in_the_table():
    from openai.types import completion_create_params as completions
    from openai.types.chat import completion_create_params as chat

    for url, params in (CHAT, chat.CompletionCreateParamsBase), (COMPLETIONS, completions.CompletionCreateParamsBase):
        known = {name for name, urls, *_ in ROWS if url in urls}
        missing = set(params.__annotations__) - known
        assert not missing and "stream" in known
    assert len({(name, url) for name, urls, *_ in ROWS for url in urls}) == sum(len(urls) for _, urls, *_ in ROWS), "a field has two rows"


@pytest.mark.parametrize("url", BASES)
def test_what_nobody_knows_is_ignored(tool, url):
    unknown = {"a_new_field": {"deep": [1, {"x": None}]}, "__proto__": 3, "": True}
    one, other = tool.read([(url, {**BASES[url], **unknown}), (url, BASES[url])])
    assert one == other


def test_messages_keep_all_that_they_hold(tool):
    messages = [
        {"role": "developer", "content": "d", "cache_control": {}}, {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}, {"type": "text", "text": "b"}], "name": "n"},
        {"role": "assistant", "content": None, "reasoning_content": "r", "tool_calls": [CALL, {"function": {"name": "g", "arguments": {"y": [1, 2.5]}}}, {"function": {"name": "h", "arguments": ""}}],
         "refusal": None, "annotations": [], "audio": None, "function_call": None},
        {"role": "tool", "tool_call_id": "c1", "content": "<end_of_turn>", "name": "f"}, {"role": "assistant", "reasoning": "q"}, {"role": "assistant", "content": "", "tool_calls": []}]
    (read,) = tool.read([(CHAT, {"messages": messages})])
    empty = {"content": None, "name": None, "reasoning": None, "tool_calls": [], "tool_call_id": ""}
    assert read["fields"]["messages"] == [
        {**empty, "role": "developer", "content": "d"}, {**empty, "role": "user", "content": "a\nb", "name": "n"},
        {**empty, "role": "assistant", "reasoning": "r", "tool_calls": [{"id": "c1", "name": "f", "arguments": '{"x": 1}'}, {"id": "", "name": "g", "arguments": '{"y":[1,2.5]}'}, {"id": "", "name": "h", "arguments": "{}"}]},
        {**empty, "role": "tool", "tool_call_id": "c1", "content": "<end_of_turn>", "name": "f"}, {**empty, "role": "assistant", "reasoning": "q"}, {**empty, "role": "assistant", "content": ""}]


def call_with(**changed):
    return [{"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{}", **changed}}]}]


@pytest.mark.parametrize("param, messages, words", [
    ("messages[0].role", [{"content": "a"}], "must be"), ("messages[0].role", [{"role": "function", "content": "a"}], "must be"), ("messages[0].role", [{"role": 3, "content": "a"}], "text"),
    ("messages[1].content", [USER, {"role": "user"}], "not there"), ("messages[0].content", [{"role": "assistant", "tool_calls": []}], "not there"), ("messages[0].content", [{"role": "tool", "content": None}], "not there"),
    ("messages[0].content", [{**USER, "content": 3}], "text"), ("messages[0].content[0]", [{**USER, "content": ["a"]}], "object"),
    ("messages[0].content[1].type", [{**USER, "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}], "text"),
    ("messages[0].content[0].type", [{**USER, "content": [{"type": "input_audio", "input_audio": {}}]}], "text"), ("messages[0].content[0].text", [{**USER, "content": [{"type": "text"}]}], "not there"),
    ("messages[0].tool_calls", [{**USER, "tool_calls": [CALL]}], "assistant"), ("messages[0].tool_calls[0].type", [{"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}], "function"),
    ("messages[0].tool_calls[0].function", [{"role": "assistant", "tool_calls": [{}]}], "not there"), ("messages[0].tool_calls[0].function.name", call_with(name=None), "not there"),
    ("messages[0].tool_calls[0].function.arguments", call_with(arguments="{"), "not valid JSON"), ("messages[0].tool_calls[0].function.arguments", call_with(arguments="[]"), "object"),
    ("messages[0].tool_calls[0].function.arguments", call_with(arguments='{"a": 1, "a": 2}'), "twice"), ("messages[0].tool_calls[0].function.arguments", call_with(arguments=3), "object"),
    ("messages[0].audio", [{**USER, "audio": {"id": "x"}}], "not supported"), ("messages[0].function_call", [{"role": "assistant", "content": "a", "function_call": {}}], "not supported"),
    ("messages[0].name", [{**USER, "name": 3}], "text"), ("messages[0].tool_call_id", [{"role": "tool", "content": "a", "tool_call_id": 3}], "text"), ("messages", [USER] * 2049, "2048"),
])
def test_messages_that_are_not_taken_are_refused_by_their_place(tool, param, messages, words):
    (read,) = tool.read([(CHAT, {"messages": messages})])
    assert read["error"]["param"] == param and words in read["error"]["message"] and read["status"] == 400, read


def test_forms_of_answers(tool):
    kinds = ["json", "json_schema", "regex", "choice", "grammar"]  # GrammarSource::Kind's order
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    def response(**more):
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, **more}}}
    for body, kind, text, strict in [
            (response(), "json_schema", schema, False), (response(strict=True), "json_schema", schema, True), ({"response_format": {"type": "json_object"}}, "json", "", True),
            ({"structured_outputs": {"json": schema}}, "json_schema", schema, True), ({"structured_outputs": {"json": json.dumps(schema)}}, "json_schema", schema, True),
            ({"structured_outputs": {"choice": ["a", "é\n"]}}, "choice", ["a", "é\n"], True), ({"structured_outputs": {"regex": "a\\d"}}, "regex", "a\\d", True)]:
        for url in BASES:
            (read,) = tool.read([(url, {**BASES[url], **body})])
            form = read["fields"]["generation"]["format"]
            assert kinds[form["kind"]] == kind and form["strict"] == strict
            assert (json.loads(form["text"]) if isinstance(text, (dict, list)) else form["text"]) == text


@pytest.mark.parametrize("text, words", [
    ("", "the body: not valid JSON"), ("{", "at byte 2"), ('{"prompt": "a",}', "at byte 16"), ("[1]", "object"), ("3", "object"), ('{"prompt": "a", "prompt": "b"}', "stands twice"), ('{"prompt": 1e400}', "number"),
    ('{"prompt": "\\ud800"}', "not valid JSON"), ("[" * 100_000 + "]" * 100_000, "nested more than 64"), ('{"prompt": "a\0"}', "at byte"), ("\ufeff{}", "byte-order mark"), (" " * (9 << 20), "8388608"),
], ids=lambda value: value if len(value) < 30 else "text")
def test_a_body_that_is_no_json_is_refused_with_its_place(tool, text, words):
    (read,) = tool.run("read", [{"url": COMPLETIONS, "text": text}])
    assert read["status"] == 400 and read["error"]["param"] is None and words in read["error"]["message"] and "/" not in read["error"]["message"], read


def test_tokenize_s_bodies(tool):
    text, chat, plain, ids, name = tool.read([
        ("/tokenize", {"prompt": "a", "add_special_tokens": False, "return_token_strs": True, "model": "m", "x": 1}),
        ("/tokenize", {"messages": [USER], "tools": [{"type": "function", "function": {"name": "f"}}], "add_generation_prompt": False, "chat_template_kwargs": {"a": 1}}),
        ("/tokenize", {"prompt": ""}), ("/detokenize", {"tokens": [5, 6]}), ("/detokenize", {"tokens": [], "model": "m"})])
    assert text["fields"] == {"model": "m", "prompt": "a", "add_special_tokens": False, "return_token_strs": True}
    assert plain["fields"] == {"model": None, "prompt": "", "add_special_tokens": True, "return_token_strs": False}
    asked = chat["fields"]["prompt"]
    assert asked["messages"][0]["content"] == "a" and asked["tools"][0]["name"] == "f" and not asked["add_generation_prompt"] and len(asked["arguments"]) == 1
    assert ids["fields"]["tokens"] == [5, 6] and name["fields"] == {"model": "m", "tokens": []}
    refused = [("/tokenize", {}, "prompt"), ("/tokenize", {"prompt": ["a"]}, "prompt"), ("/tokenize", {"prompt": "a", "messages": [USER]}, "prompt"), ("/tokenize", {"messages": []}, "messages"),
               ("/tokenize", {"messages": [USER], "chat_template": "x"}, "chat_template"), ("/tokenize", {"prompt": "a", "return_token_strs": 1}, "return_token_strs"),
               ("/detokenize", {}, "tokens"), ("/detokenize", {"tokens": [200]}, "tokens"), ("/detokenize", {"tokens": [-1]}, "tokens"), ("/detokenize", {"tokens": "a"}, "tokens")]
    for (url, body, param), read in zip(refused, tool.read([(url, body) for url, body, _ in refused])):
        assert read["status"] == 400 and read["error"]["param"] == param, (url, body, read)
