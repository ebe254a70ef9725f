"""Anthropic's own client against /v1/messages, and OpenAI's against /v1/responses."""
import anthropic
import openai
import pytest
import scripted_model
from anthropic import Anthropic
from serving import Server
from test_serving_clients import client_of
from test_serving_tools import ANSWERS, THINKING, TOOLS

FUNCTIONS = [one["function"] for one in TOOLS]
CLAUDE_TOOLS = [{"name": one["name"], "description": one["description"], "input_schema": one["parameters"]} for one in FUNCTIONS]
KEY = "secret-of-alice"


@pytest.fixture(scope="module")
def server(tessera, tmp_path_factory):
    folder = scripted_model.make(tmp_path_factory.mktemp("scripted") / "scripted", {**ANSWERS, "9": ["on and ", "on, ", ...]}, THINKING + scripted_model.TEMPLATE)
    with Server(tessera, folder, "--max-requests-per-key", 1, environment={"TESSERA_API_KEY": KEY}) as server:
        yield server
    assert KEY not in server.log()


@pytest.fixture(scope="module")
def client(server):
    return Anthropic(base_url=server.url, api_key=KEY, max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def responses(server):
    return client_of(server, api_key=KEY).responses


def asked(letter, **options):
    return {"model": "scripted", "messages": [{"role": "user", "content": letter}], "max_tokens": 200, **options}


def blocks(message):
    return [block.model_dump(exclude={"signature", "id", "citations", "caller"}, exclude_none=True) for block in message.content]


THOUGHT = [{"type": "thinking", "thinking": "The user wants it."}, {"type": "text", "text": "Sunny."}]
CALLED = [{"type": "text", "text": "Let me look."}, {"type": "tool_use", "name": "get_weather", "input": {"city": "Rome"}}, {"type": "tool_use", "name": "add", "input": {"a": 1, "b": -2}}]


@pytest.mark.parametrize("options, expected, reason", [
    (asked("t"), THOUGHT, "end_turn"), (asked("2", tools=CLAUDE_TOOLS), CALLED, "tool_use"), (asked("t", max_tokens=3), [THOUGHT[0]], "max_tokens"),
    (asked("t", stop_sequences=["nny"]), [THOUGHT[0], {"type": "text", "text": "Su"}], "stop_sequence")], ids=["thinking", "calls", "length", "a stop sequence"])
def test_a_message_and_its_stream_are_one(client, options, expected, reason):
    whole = client.messages.create(**options)
    assert (blocks(whole), whole.stop_reason, whole.role, whole.model) == (expected, reason, "assistant", "scripted") and whole.id.startswith("msg_")
    assert whole.stop_sequence == ("nny" if reason == "stop_sequence" else None)
    with client.messages.stream(**options) as stream:
        events = [event.type for event in stream]
        streamed = stream.get_final_message()
    assert (blocks(streamed), streamed.stop_reason, streamed.stop_sequence) == (expected, reason, whole.stop_sequence)
    assert streamed.usage.output_tokens == whole.usage.output_tokens and events[0] == "message_start" and events[-1] == "message_stop"
    total = lambda usage: usage.input_tokens + usage.cache_read_input_tokens
    assert total(streamed.usage) == total(whole.usage) == client.messages.count_tokens(**{key: options[key] for key in ("model", "messages", "tools") if key in options}).input_tokens


def test_a_tool_s_result_is_answered(client):
    messages = [{"role": "user", "content": [{"type": "text", "text": "w"}]}]
    first = client.messages.create(**asked("", messages=messages, tools=CLAUDE_TOOLS, tool_choice={"type": "auto"}))
    (call,) = first.content
    assert (first.stop_reason, call.type, call.name, call.input) == ("tool_use", "tool_use", "get_weather", {"city": "Paris"})
    messages += [{"role": "assistant", "content": first.content},
                 {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "21", "cache_control": {"type": "ephemeral"}}]}]}]
    second = client.messages.create(**asked("", messages=messages, tools=CLAUDE_TOOLS))
    assert blocks(second) == [{"type": "text", "text": "It is 21 degrees in Paris."}] and second.stop_reason == "end_turn"


def test_a_system_is_a_text_or_blocks_and_a_bill_is_none(server, client):
    tokens = lambda **options: client.messages.count_tokens(model="scripted", messages=[{"role": "user", "content": "t"}], **options).input_tokens
    cached = {"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}
    assert tokens(system="be brief") == tokens(system=[cached]) == tokens() + len("be brief") + len("system:") + 2
    assert tokens(system=[{"type": "text", "text": "x-anthropic-billing-header: cch=12345;"}, cached]) == tokens(system="be brief")


def test_a_second_turn_reads_the_cache(client):
    messages = [{"role": "user", "content": "a question of more than one page of the cache " * 3 + "w"}]
    first = client.messages.create(**asked("", messages=messages, tools=CLAUDE_TOOLS))
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": first.content[0].id, "content": "21"}]}]
    usage = client.messages.create(**asked("", messages=messages, tools=CLAUDE_TOOLS)).usage
    assert usage.cache_read_input_tokens >= 128 and usage.input_tokens >= 1 and usage.output_tokens == len(ANSWERS[">"]) + 1


def test_errors_by_class(server, client):
    say = lambda options, **other: Anthropic(base_url=server.url, **{"api_key": KEY, "max_retries": 0, **other}).messages.create(**options)
    for options, of_client, kind, name in [
            (asked("t", extra_body={"temperature": -1}), {}, anthropic.BadRequestError, "invalid_request_error"), (asked("t", model="claude"), {}, anthropic.NotFoundError, "not_found_error"),
            (asked("t"), {"api_key": "wrong"}, anthropic.AuthenticationError, "authentication_error"), (asked("t"), {"api_key": None, "auth_token": KEY + "x"}, anthropic.AuthenticationError, "authentication_error")]:
        with pytest.raises(kind) as error:
            say(options, **of_client)
        assert error.value.body["type"] == "error" and error.value.body["error"]["type"] == name
    assert blocks(say(asked("t"), api_key=None, auth_token=KEY)) == THOUGHT
    with client.messages.create(**asked("9", max_tokens=60_000, stream=True)) as endless:
        assert [next(endless).type for _ in range(3)] == ["message_start", "content_block_start", "content_block_delta"]  # the client leaves pings out
        with pytest.raises(anthropic.RateLimitError) as error:
            say(asked("t"))
        assert error.value.body["error"]["type"] == "rate_limit_error" and int(error.value.response.headers["retry-after"]) >= 1
    server.until(lambda: "499" in server.log())


def test_a_response_and_its_stream_are_one(server, responses):
    tools = [{"type": "function", **one} for one in FUNCTIONS] + [{"type": "web_search"}]
    whole = responses.create(model="scripted", input="2", tools=tools, temperature=0)
    assert [item.type for item in whole.output] == ["message", "function_call", "function_call"] and whole.output_text == "Let me look." and whole.status == "completed"
    assert [(item.name, item.arguments) for item in whole.output[1:]] == [("get_weather", '{"city": "Rome"}'), ("add", '{"a": 1, "b": -2}')]
    with responses.stream(model="scripted", input="2", tools=tools, temperature=0) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [(item.type, getattr(item, "arguments", None)) for item in final.output] == [(item.type, getattr(item, "arguments", None)) for item in whole.output]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Let me look."
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (final.usage.input_tokens, final.usage.output_tokens) == (whole.usage.input_tokens, whole.usage.output_tokens)
    thought = responses.create(model="scripted", input=[{"role": "developer", "content": "be brief"}, {"role": "user", "content": [{"type": "input_text", "text": "t"}]}], temperature=0)
    assert [item.type for item in thought.output] == ["reasoning", "message"] and thought.output_text == "Sunny." and thought.usage.output_tokens_details.reasoning_tokens == 2


def test_a_function_s_output_is_answered(responses):
    tools = [{"type": "function", **one} for one in FUNCTIONS]
    said = [{"role": "user", "content": "w"}]
    (call,) = responses.create(model="scripted", input=said, tools=tools, temperature=0).output
    said += [call.model_dump(exclude_none=True), {"type": "function_call_output", "call_id": call.call_id, "output": "21"}]
    assert responses.create(model="scripted", input=said, tools=tools, temperature=0).output_text == "It is 21 degrees in Paris."


def test_a_response_that_is_remembered_cannot_be_had(responses):
    for options in {"previous_response_id": "resp_1"}, {"background": True}, {"max_output_tokens": 0}:
        with pytest.raises(openai.BadRequestError) as error:
            responses.create(model="scripted", input="t", **options)
        assert error.value.param == next(iter(options))
