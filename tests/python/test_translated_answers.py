"""What the writers of /v1/responses and /v1/messages say, as the official clients understand it."""
import json
import random

import anthropic
import httpx2
import openai
import pydantic
import pytest
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from api_tool import ApiTool
from openai.types.responses import Response, ResponseStreamEvent

RESPONSES, MESSAGES, COUNT = "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"
TURN = [{"role": "user", "content": "a"}]
BODIES = {RESPONSES: {"input": "a", "tools": [{"type": "function", "name": name, "parameters": {"type": "object"}} for name in "fg"]}, MESSAGES: {"messages": TURN, "max_tokens": 9, "stop_sequences": ["END"]}}
STRICT = pydantic.ConfigDict(strict=True)
TEXT = 'Héll"o\n\r\x85\u2028\u2029'
CALLS = [{"id": "call_1", "name": "f", "arguments": '{"x": "é\\n"}'}, {"id": "call_2", "name": "g", "arguments": "{}"}]
PARTS = [{}, {"reasoning": "so "}, {"reasoning": "it is"}, {"text": TEXT[:2]}, {"text": TEXT[2:]}, {"calls": [{"index": 0, "id": "call_1", "name": "f", "arguments": ""}]}, {"calls": [{"index": 0, "arguments": '{"x": '}]},
         {"calls": [{"index": 0, "arguments": '"é\\n"}'}, {"index": 1, "id": "call_2", "name": "g", "arguments": "{}"}]}, {"finish_reason": "tool_calls"}]
WHOLE = {"text": TEXT, "reasoning": "so it is", "calls": CALLS, "finish_reason": "tool_calls"}


@pytest.fixture(scope="module")
def tool(build):
    return ApiTool(build)


def stream(tool, url, parts, error=None, **options):
    """The events' data, whose names are their types, and all of them as bytes."""
    (answer,) = tool.run("write", [{"url": url, "body": {**BODIES[url], "stream": True, **options}, "parts": parts, **({"error": error} if error else {})}])
    events = answer["events"].split("\n\n")
    assert events.pop() == ""
    named = [event.split("\ndata: ") for event in events]
    datas = [json.loads(data) for _, data in named]
    assert [name for name, _ in named] == [f"event: {data['type']}" for data in datas]
    return datas, answer["events"].encode()


def whole(tool, url, choice, **options):
    return tool.run("write", [{"url": url, "body": {**BODIES[url], **options}, "choices": [choice]}])[0]["body"]


def transport(content, status=200):
    """A server that answers with these bytes, or with this JSON. A stream comes in pieces of an odd size."""
    def answer(request):
        if isinstance(content, bytes):
            return httpx2.Response(status, content=(content[at:at + 7] for at in range(0, len(content), 7)), headers={"content-type": "text/event-stream"})
        return httpx2.Response(status, json=content)
    return {"api_key": "k", "base_url": "http://server", "max_retries": 0, "http_client": httpx2.Client(transport=httpx2.MockTransport(answer))}


def openai_client(*answer):
    return openai.OpenAI(**transport(*answer))


def anthropic_client(*answer):
    return anthropic.Anthropic(**transport(*answer))


def response_of(content, **options):
    """The whole that OpenAI's client makes of a stream, and what it yields on the way."""
    with openai_client(content).responses.stream(model="m", input="a", tools=BODIES[RESPONSES]["tools"], **options) as events:
        yielded = list(events)
        return events.get_final_response(), yielded


def message_of(content):
    with anthropic_client(content).messages.stream(model="m", max_tokens=9, messages=TURN) as events:
        yielded = list(events)
        return events.get_final_message(), yielded


def types(events):
    return [event["type"].removeprefix("response.") for event in events]


def test_a_streamed_response_is_the_whole_one(tool):
    events, content = stream(tool, RESPONSES, PARTS)
    for event in events:
        pydantic.TypeAdapter(ResponseStreamEvent).validate_python(event, strict=True)
    final, yielded = response_of(content)
    body = whole(tool, RESPONSES, WHOLE)
    answer = Response.model_validate(body, strict=True)
    assert not set(answer.model_extra) - {"store"} and openai_client(body).responses.create(model="m", input="a").output == answer.output
    for response in final, answer:
        assert (response.id, response.created_at, response.model, response.object, response.status) == ("x-1", 1_700_000_000, 'a "model"', "response", "completed")
        assert response.output_text == TEXT and response.error is None and response.incomplete_details is None
        thought, text, *calls = response.output
        assert [item.type for item in response.output] == ["reasoning", "message", "function_call", "function_call"] and {item.status for item in response.output} == {"completed"}
        assert [part.text for part in thought.content] == ["so it is"] and thought.summary == [] and text.role == "assistant"
        assert [{"id": call.call_id, "name": call.name, "arguments": call.arguments} for call in calls] == CALLS
        assert len({item.id for item in response.output}) == 4
        assert (response.usage.input_tokens, response.usage.input_tokens_details.cached_tokens, response.usage.output_tokens_details.reasoning_tokens) == (7, 3, 2)
        assert response.usage.total_tokens == 7 + response.usage.output_tokens
    assert [event.snapshot for event in yielded if event.type == "response.output_text.delta"] == [TEXT[:2], TEXT]
    assert [event.snapshot for event in yielded if event.type == "response.function_call_arguments.delta"] == ['{"x": ', CALLS[0]["arguments"], "{}"]
    completed = events[-1]["response"]
    assert {**body, "usage": None} == {**completed, "usage": None} and [event["sequence_number"] for event in events] == list(range(len(events)))


def test_the_events_of_a_response(tool):
    events, _ = stream(tool, RESPONSES, [*PARTS, {}])
    call = ["function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
    assert types(events) == ["created", "in_progress", "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta", "reasoning_text.done", "content_part.done", "output_item.done",
                             "output_item.added", "content_part.added", "output_text.delta", "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
                             "output_item.added", call[0], *call, "output_item.added", *call, "completed"]
    assert [event["output_index"] for event in events if event["type"] == "response.output_item.added"] == [0, 1, 2, 3]
    ids = {}
    for event in events[2:-1]:  # each of an item's names it
        name = event["item"]["id"] if "item" in event else event["item_id"]
        assert ids.setdefault(event["output_index"], name) == name
    assert all(event["content_index"] == 0 for event in events if "part" in event or "text" in event)
    for event in events[:2]:
        assert event["response"]["status"] == "in_progress" and event["response"]["output"] == [] and event["response"]["usage"] is None
    assert events[-1]["response"]["output"] == [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert events[-2]["item"]["arguments"] == "{}" and events[-3]["arguments"] == "{}"


@pytest.mark.parametrize("parts, output", [
    ([{"finish_reason": "stop"}], [("message", "")]), ([{"text": "a"}, {"calls": [{"index": 0, **CALLS[1]}]}, {"text": "b"}, {"finish_reason": "tool_calls"}], [("message", "a"), ("function_call", "{}"), ("message", "b")]),
    ([{"text": "a", "reasoning": "r", "calls": [{"index": 0, **CALLS[1]}, {"index": 1, "id": "c", "name": "f"}], "finish_reason": "tool_calls"}], [("reasoning", "r"), ("message", "a"), ("function_call", "{}"), ("function_call", "")]),
], ids=["nothing", "text behind a call", "all at once"])
def test_items_follow_what_comes(tool, parts, output):
    events, content = stream(tool, RESPONSES, parts)
    final, _ = response_of(content)
    assert [(item.type, item.arguments if item.type == "function_call" else item.content[0].text) for item in final.output] == output


@pytest.mark.parametrize("last", ["reasoning", "text", "call", "nothing"])
def test_an_answer_that_is_cut_off_is_incomplete(tool, last):
    parts = {"reasoning": [{"reasoning": "so"}], "text": [{"reasoning": "so"}, {"text": "a"}], "call": [{"calls": [{"index": 0, "id": "c", "name": "f", "arguments": '{"x"'}]}], "nothing": []}[last]
    events, content = stream(tool, RESPONSES, [*parts, {"finish_reason": "length"}])
    for event in events:
        pydantic.TypeAdapter(ResponseStreamEvent).validate_python(event, strict=True)
    assert types(events)[-1] == "incomplete"
    response = Response.model_validate(events[-1]["response"], strict=True)
    assert response.status == "incomplete" and response.incomplete_details.reason == "max_output_tokens"
    assert [item.status for item in response.output] == ["completed"] * (len(response.output) - 1) + ["incomplete"]
    assert list(openai_client(content).responses.create(model="m", input="a", stream=True))[-1].response == response


def test_an_error_in_a_response_s_stream_is_its_end(tool):
    for parts, before in ([{"text": "a"}], 6), ([], 3):
        events, content = stream(tool, RESPONSES, parts, error='the "engine" stopped')
        assert types(events)[-1] == "failed" and len(events) == before and [event["sequence_number"] for event in events] == list(range(before))
        last = list(openai_client(content).responses.create(model="m", input="a", stream=True))[-1]
        pydantic.TypeAdapter(ResponseStreamEvent).validate_python(events[-1], strict=True)
        assert last.response.status == "failed" and last.response.error.message == 'the "engine" stopped' and last.response.error.code == "server_error"


def test_what_was_asked_for_is_told_without_its_texts(tool):
    schema = {"type": "object", "properties": {"long": {"type": "string", "description": "d" * 1000}}}
    tools = [{"type": "function", "name": "f", "parameters": schema, "description": "d" * 1000, "strict": True}, {"type": "web_search"}]
    body = whole(tool, RESPONSES, {"text": "a", "finish_reason": "stop"}, tools=tools, tool_choice={"type": "function", "name": "f"}, parallel_tool_calls=False, temperature=0.5, top_p=0.25, max_output_tokens=5, instructions="i" * 1000, metadata={"k": "v"})
    response = Response.model_validate(body, strict=True)
    assert [(one.type, one.name, one.strict) for one in response.tools] == [("function", "f", True)] and response.tool_choice.name == "f" and response.parallel_tool_calls is False
    assert (response.temperature, response.top_p, response.max_output_tokens) == (0.5, 0.25, 5) and len(json.dumps(body)) < 2000
    for choice in "none", "auto", "required":
        assert whole(tool, RESPONSES, {"finish_reason": "stop"}, tool_choice=choice)["tool_choice"] == choice


def test_a_schema_s_answer_is_parsed(tool):
    class Point(pydantic.BaseModel):
        x: int

    parts = [{"text": '{"x"'}, {"text": ": 3}"}, {"finish_reason": "stop"}]
    final, _ = response_of(stream(tool, RESPONSES, parts)[1], text_format=Point)
    assert final.output_parsed == Point(x=3)
    parsed = openai_client(whole(tool, RESPONSES, {"text": '{"x": 3}', "finish_reason": "stop"})).responses.parse(model="m", input="a", text_format=Point)
    assert parsed.output_parsed == Point(x=3)
    with anthropic_client(stream(tool, MESSAGES, parts)[1]).messages.stream(model="m", max_tokens=9, messages=TURN, output_format=Point) as events:
        assert events.get_final_message().parsed_output == Point(x=3)


def test_a_streamed_message_is_the_whole_one(tool):
    events, content = stream(tool, MESSAGES, PARTS)
    for event in events:
        assert event == {"type": "ping"} or pydantic.TypeAdapter(RawMessageStreamEvent).validate_python(event, strict=True)
    final, yielded = message_of(content)
    body = whole(tool, MESSAGES, WHOLE)
    answer = Message.model_validate(body, strict=True)
    assert not answer.model_extra and anthropic_client(body).messages.create(model="m", max_tokens=9, messages=TURN).content == answer.content
    for message in final, answer:
        assert (message.id, message.model, message.role, message.type, message.stop_reason, message.stop_sequence) == ("x-1", 'a "model"', "assistant", "message", "tool_use", None)
        thought, text, *calls = message.content
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
        assert (thought.thinking, thought.signature, text.text) == ("so it is", "", TEXT)
        assert [(call.id, call.name, call.input) for call in calls] == [(call["id"], call["name"], json.loads(call["arguments"])) for call in CALLS]
        assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (4, 3)
    assert final.usage.output_tokens == len(PARTS) and answer.usage.output_tokens == 5
    assert [event.snapshot for event in yielded if event.type == "thinking"] == ["so ", "so it is"] and [event.snapshot for event in yielded if event.type == "input_json"][-2:] == [{"x": "é\n"}, {}]
    with anthropic_client(content).messages.stream(model="m", max_tokens=9, messages=TURN) as texts:
        assert list(texts.text_stream) == [TEXT[:2], TEXT[2:]]
    with anthropic_client(content).beta.messages.stream(model="m", max_tokens=9, messages=TURN) as betas:
        assert [block.type for block in betas.get_final_message().content] == [block.type for block in final.content]


def test_the_events_of_a_message(tool):
    events, _ = stream(tool, MESSAGES, [*PARTS, {}])
    def block(deltas):
        return ["content_block_start", *["content_block_delta"] * deltas, "content_block_stop"]
    assert types(events) == ["message_start", "ping", *block(2), *block(2), *block(2), *block(1), "message_delta", "message_stop"]
    assert [event["index"] for event in events if event["type"] == "content_block_start"] == [0, 1, 2, 3]
    assert [event["content_block"] for event in events if event["type"] == "content_block_start"] == [
        {"type": "thinking", "thinking": "", "signature": ""}, {"type": "text", "text": ""}, *({"type": "tool_use", "id": call["id"], "name": call["name"], "input": {}} for call in CALLS)]
    start = events[0]["message"]
    assert start["content"] == [] and start["stop_reason"] is None and start["usage"]["input_tokens"] == 4 and start["usage"]["output_tokens"] == 2
    assert events[-2] == {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
                          "usage": {"input_tokens": 4, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 3, "output_tokens": len(PARTS) + 1}}


@pytest.mark.parametrize("ending, reason, sequence", [
    ({"finish_reason": "stop"}, "end_turn", None), ({"finish_reason": "length"}, "max_tokens", None), ({"finish_reason": "stop", "stop_string": "END"}, "stop_sequence", "END"),
    ({"finish_reason": "stop", "stop_string": "<|checkpoint's|>"}, "end_turn", None), ({"finish_reason": "tool_calls"}, "tool_use", None)])
def test_why_a_message_stops(tool, ending, reason, sequence):
    final, _ = message_of(stream(tool, MESSAGES, [{"text": "a"}, ending])[1])
    for message in final, Message.model_validate(whole(tool, MESSAGES, {"text": "a", **ending}), strict=True):
        assert (message.stop_reason, message.stop_sequence, message.content[0].text) == (reason, sequence, "a")
    final, _ = message_of(stream(tool, MESSAGES, [ending])[1])
    assert final.content == [] and final.stop_reason == reason


@pytest.mark.parametrize("arguments", ['{"x": 1', "", "[1]", '{"a": 1, "a": 2}', '{"x": ' + "[" * 200_000, '{"x": ' * 100 + "1" + "}" * 100], ids=len)
def test_arguments_that_are_no_object_give_an_empty_input(tool, arguments):
    call = {"id": "c", "name": "f", "arguments": arguments}
    message = Message.model_validate(whole(tool, MESSAGES, {"calls": [call], "finish_reason": "length"}), strict=True)
    assert message.content[0].input == {} and message.stop_reason == "max_tokens"
    events, _ = stream(tool, MESSAGES, [{"calls": [{"index": 0, **call}]}, {"finish_reason": "length"}])
    assert "".join(event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta") == arguments


def test_an_error_in_a_message_s_stream_is_its_end(tool):
    events, content = stream(tool, MESSAGES, [{"text": "a"}], error='the "engine" stopped')
    assert events[-1] == {"type": "error", "error": {"type": "overloaded_error", "message": 'the "engine" stopped'}} and "message_stop" not in types(events)
    with pytest.raises(anthropic.APIStatusError, match="the \\\\?\"engine\\\\?\" stopped"):
        message_of(content)


@pytest.mark.parametrize("status, kind, error", [
    (400, "invalid_request_error", anthropic.BadRequestError), (401, "authentication_error", anthropic.AuthenticationError), (403, "permission_error", anthropic.PermissionDeniedError), (404, "not_found_error", anthropic.NotFoundError),
    (408, "timeout_error", anthropic.APIStatusError), (413, "invalid_request_error", anthropic.APIStatusError), (415, "invalid_request_error", anthropic.APIStatusError), (429, "rate_limit_error", anthropic.RateLimitError),
    (500, "api_error", anthropic.InternalServerError), (503, "overloaded_error", anthropic.InternalServerError), (504, "timeout_error", anthropic.InternalServerError), (529, "overloaded_error", anthropic.InternalServerError)])
def test_errors_are_anthropic_s(tool, status, kind, error):
    (body,) = tool.run("error", [{"url": MESSAGES, "status": status, "message": "what and the limit"}])
    assert body == {"type": "error", "error": {"type": kind, "message": "what and the limit"}} and ErrorResponse.model_validate(body, strict=True).error.type == kind
    with pytest.raises(error, match="what and the limit") as caught:
        anthropic_client(body, status).messages.create(model="m", max_tokens=9, messages=TURN)
    assert caught.value.status_code == status and caught.value.type == kind


def test_counted_tokens(tool):
    (body,) = (answer["body"] for answer in tool.run("write", [{"url": COUNT, "tokens": 17}]))
    assert MessageTokensCount.model_validate(body, strict=True).input_tokens == 17
    assert anthropic_client(body).messages.count_tokens(model="m", messages=TURN).input_tokens == 17


def test_an_answer_comes_back_as_it_was_told(tool):
    """What clients put into their next request is the turn that the model had."""
    turn = {"role": "assistant", "content": TEXT, "name": None, "reasoning": "so it is", "tool_calls": CALLS, "tool_call_id": ""}
    final, _ = response_of(stream(tool, RESPONSES, PARTS)[1])
    message, _ = message_of(stream(tool, MESSAGES, PARTS)[1])
    items = [item.model_dump(mode="json", exclude_unset=True, exclude={"parsed_arguments"}) for item in final.output]
    history = [*TURN, json.loads(json.dumps(message.to_param(), default=lambda block: block.model_dump(mode="json")))]
    for url, body in (RESPONSES, {"input": [*TURN, *items]}), (MESSAGES, {"max_tokens": 9, "messages": history}):
        (read,) = tool.read([(url, body)])
        back = read["fields"]["messages"][1]
        for call in back["tool_calls"]:
            call["arguments"] = json.loads(call["arguments"])
        assert back == {**turn, "tool_calls": [{**call, "arguments": json.loads(call["arguments"])} for call in CALLS]}, url


def test_however_an_answer_is_divided_it_is_the_same(tool):
    draw = random.Random(2)
    for _ in range(20):
        parts = []
        for field in "reasoning", "text":
            text = WHOLE[field]
            cuts = sorted(draw.sample(range(1, len(text)), draw.randrange(4)))
            parts += [{field: text[a:b]} for a, b in zip([0, *cuts], [*cuts, len(text)])]
        for index, call in enumerate(CALLS):
            cut = draw.randrange(len(call["arguments"]) + 1)
            parts += [{"calls": [{"index": index, **call, "arguments": call["arguments"][:cut]}]}, {"calls": [{"index": index, "arguments": call["arguments"][cut:]}]}]
        parts.append({"finish_reason": "tool_calls"})
        while len(parts) > 1 and draw.random() < 0.3:  # with the last of what was said
            parts[-2:] = [{**parts[-2], **parts[-1]}]
            break
        assert {**stream(tool, RESPONSES, parts)[0][-1]["response"], "usage": None} == {**whole(tool, RESPONSES, WHOLE), "usage": None}
        final, _ = message_of(stream(tool, MESSAGES, parts)[1])
        assert final.model_dump(mode="json", include={"content", "stop_reason"}) == Message.model_validate(whole(tool, MESSAGES, WHOLE)).model_dump(mode="json", include={"content", "stop_reason"})
