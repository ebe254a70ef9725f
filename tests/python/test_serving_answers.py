"""What the writers of /v1/chat/completions and /v1/completions say, as OpenAI's own client understands it."""
import json
import random

import httpx2
import openai
import pytest
from api_tool import ApiTool
from openai.types import Completion
from openai.types.chat import ChatCompletion

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
BODIES = {CHAT: {"messages": []}, COMPLETIONS: {"prompt": "a"}}
TOP = [{"text": "b", "logprob": -0.125, "id": 6, "rank": 1}, {"text": "a", "logprob": -3.5, "id": 5, "rank": 2}]


@pytest.fixture(scope="module")
def tool(build):
    return ApiTool(build)


def token(text, logprob=-3.5, **more):
    return {"text": text, "logprob": logprob, "id": 5, "rank": 2, "top": TOP, **more}


def stream(tool, url, parts, error=None, **options):
    """What the events hold, each by itself, and all of them as bytes."""
    (answer,) = tool.run("write", [{"url": url, "body": {**BODIES[url], "stream": True, **options}, "parts": parts, **({"error": error} if error else {})}])
    events = answer["events"].split("\n\n")
    assert events.pop() == "" and all(event.startswith("data: ") and len(event.splitlines()) == 1 for event in events)
    return [event.removeprefix("data: ") for event in events], answer["events"].encode()


def whole(tool, url, choices, **options):
    return tool.run("write", [{"url": url, "body": {**BODIES[url], **options}, "choices": choices}])[0]["body"]


def client(content):
    return openai.OpenAI(api_key="k", base_url="http://server/v1", max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(
        lambda request: httpx2.Response(200, content=content, headers={"content-type": "text/event-stream"}))))


def understood(content, **options):
    """The whole answer that OpenAI's client makes of a stream."""
    tools = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("f", "g")]
    with client(content).chat.completions.stream(model="m", messages=[], tools=tools, **options) as events:
        return events.get_final_completion()


CALLS = [{"id": "call_1", "name": "f", "arguments": '{"x": "é\\n"}'}, {"id": "call_2", "name": "g", "arguments": "{}"}]
PARTS = [{"reasoning": "so "}, {"reasoning": "it is"}, {"text": "Hé"}, {"text": 'll"o\n\r\x85\u2028\u2029'}, {"calls": [{"index": 0, "id": "call_1", "name": "f", "arguments": ""}]},
         {"calls": [{"index": 0, "arguments": '{"x": '}]}, {"calls": [{"index": 0, "arguments": '"é\\n"}'}, {"index": 1, "id": "call_2", "name": "g", "arguments": "{}"}]}, {"finish_reason": "tool_calls"}]
WHOLE = {"text": 'Héll"o\n\r\x85\u2028\u2029', "reasoning": "so it is", "calls": CALLS, "finish_reason": "tool_calls"}


def test_a_streamed_chat_is_the_whole_one(tool):
    events, content = stream(tool, CHAT, PARTS)
    final, answer = understood(content), ChatCompletion.model_validate(whole(tool, CHAT, [WHOLE]), strict=True)
    for completion in final, answer:
        (choice,) = completion.choices
        assert (completion.id, completion.created, completion.model) == ("x-1", 1_700_000_000, 'a "model"')
        assert (choice.index, choice.finish_reason, choice.logprobs, choice.message.role) == (0, "tool_calls", None, "assistant")
        assert choice.message.content == WHOLE["text"] and choice.message.model_extra["reasoning_content"] == "so it is"
        assert [(call.type, call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls] == [("function", call["id"], call["name"], call["arguments"]) for call in CALLS]
    assert answer.object == "chat.completion" and answer.usage.total_tokens == 12 and answer.usage.prompt_tokens_details.cached_tokens == 3
    assert not answer.model_extra and set(answer.choices[0].message.model_extra) == {"reasoning_content"}


def test_the_events_of_a_chat(tool):
    events, _ = stream(tool, CHAT, [{}, *PARTS, {}])
    assert events.pop() == "[DONE]" and len(events) == len(PARTS), "what says nothing is no event"
    chunks = [json.loads(event) for event in events]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert [list(chunk) for chunk in chunks] == [["id", "object", "created", "model", "choices"]] * len(PARTS)
    assert deltas[0] == {"role": "assistant", "reasoning_content": "so "} and not any("role" in delta for delta in deltas[1:])
    assert deltas[4]["tool_calls"] == [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]
    assert deltas[5]["tool_calls"] == [{"index": 0, "function": {"arguments": '{"x": '}}]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(PARTS) - 1) + ["tool_calls"] and deltas[-1] == {}


def test_calls_alone_have_no_content(tool):
    message = whole(tool, CHAT, [{"calls": CALLS, "finish_reason": "tool_calls"}])["choices"][0]["message"]
    assert message["content"] is None and "reasoning_content" not in message
    assert whole(tool, CHAT, [{"finish_reason": "stop"}])["choices"][0]["message"] == {"role": "assistant", "content": "", "refusal": None}


@pytest.mark.parametrize("url", BODIES)
def test_usage_is_told_as_it_is_asked_for(tool, url):
    parts = [{"text": "a"}, {"text": "b"}, {"finish_reason": "stop"}]
    def usages(**options):
        events, _ = stream(tool, url, parts, **({"stream_options": options} if options else {}))
        assert events[-1] == "[DONE]"
        return [json.loads(event) for event in events[:-1]]
    assert len(usages()) == 3 and not any("usage" in chunk for chunk in [*usages(), *usages(include_usage=False, continuous_usage_stats=True)])
    *before, last = usages(include_usage=True)
    assert [chunk["usage"] for chunk in before] == [None] * 3 and last["choices"] == []
    told = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "prompt_tokens_details": {"cached_tokens": 3}}
    assert last["usage"] == told
    assert [chunk["usage"]["completion_tokens"] for chunk in usages(include_usage=True, continuous_usage_stats=True)] == [1, 2, 3, 3]


@pytest.mark.parametrize("url", BODIES)
def test_an_error_ends_a_stream_without_done(tool, url):
    events, content = stream(tool, url, [{"text": "a"}], error='the "engine" stopped')
    assert json.loads(events[-1]) == {"error": {"message": 'the "engine" stopped', "type": "server_error", "param": None, "code": None}} and "[DONE]" not in events
    one = client(content)
    create = (lambda: one.chat.completions.create(model="m", messages=[], stream=True)) if url == CHAT else (lambda: one.completions.create(model="m", prompt="", stream=True))
    with pytest.raises(openai.APIError, match='the "engine" stopped'):
        list(create())


def test_answers_come_side_by_side(tool):
    draw, texts = random.Random(1), [["a", "b", "c"], ["é", "f"], ["g"]]
    parts = [{"choice": index, "text": text} for index, said in enumerate(texts) for text in said] + [{"choice": index, "finish_reason": "stop"} for index in range(3)]
    draw.shuffle(parts)
    parts.sort(key=lambda part: "finish_reason" in part)
    parts.sort(key=lambda part: part != {"choice": 2, "text": "g"})
    for url in BODIES:
        events, content = stream(tool, url, parts)
        chunks = [json.loads(event)["choices"][0] for event in events[:-1]]
        begun = [chunk["index"] for chunk in chunks if url == CHAT and chunk["delta"] == {"role": "assistant"}]
        assert [chunk["index"] for chunk in chunks[len(begun):]] == [part["choice"] for part in parts]
        if url == CHAT:
            assert begun == list(range(parts[0]["choice"])) and [chunk["index"] for chunk in chunks if "role" in chunk["delta"]] == [0, 1, 2]
            assert [sorted(choice.message.content) for choice in understood(content).choices] == [sorted(said) for said in texts]
    answer = whole(tool, CHAT, [{"text": "".join(said), "finish_reason": "length"} for said in texts])
    assert [(choice["index"], choice["message"]["content"]) for choice in answer["choices"]] == [(0, "abc"), (1, "éf"), (2, "g")]


def test_log_probabilities_of_a_chat(tool):
    first, broken = token("é", -2.25), token("\ufffd", -9999)
    parts = [{"text": "é", "tokens": [first]}, {"tokens": [broken]}, {"text": "x", "tokens": [token("x"), token("")], "finish_reason": "stop"}]
    final = understood(stream(tool, CHAT, parts, logprobs=True)[1])
    answer = ChatCompletion.model_validate(whole(tool, CHAT, [{"text": "éx", "tokens": [first, broken, token("x"), token("")], "finish_reason": "stop"}]), strict=True)
    for completion in final, answer:
        tokens = completion.choices[0].logprobs.content
        assert [(one.token, one.logprob, one.bytes) for one in tokens] == [("é", -2.25, [0xC3, 0xA9]), ("\ufffd", -9999, None), ("x", -3.5, [0x78]), ("", -3.5, [])]
        assert [[(top.token, top.logprob) for top in one.top_logprobs] for one in tokens] == [[("b", -0.125), ("a", -3.5)]] * 4


def test_log_probabilities_of_a_completion(tool):
    tokens = [{**token("Ab", 0), "known": False, "top": []}, token("é"), token("a", -3.5), token("b", -7.5), token("c", -9.0, top=[])]
    (answer,) = whole(tool, COMPLETIONS, [{"text": "AbéabcZ", "tokens": tokens, "finish_reason": "stop"}])["choices"]
    logprobs = answer["logprobs"]
    Completion.model_validate(whole(tool, COMPLETIONS, [{"text": "a", "tokens": tokens[1:], "finish_reason": "stop"}]), strict=True)
    assert logprobs["tokens"] == ["Ab", "é", "a", "b", "c"] and logprobs["token_logprobs"] == [None, -3.5, -3.5, -7.5, -9.0]
    assert logprobs["text_offset"] == [0, 2, 3, 4, 5], "characters"
    # Of tokens with one text the more probable is told: lm-eval takes a token for the best one if its number is the largest.
    assert logprobs["top_logprobs"] == [None, {"b": -0.125, "a": -3.5, "é": -3.5}, {"b": -0.125, "a": -3.5}, {"b": -0.125, "a": -3.5}, {"c": -9.0}]
    pieces, _ = stream(tool, COMPLETIONS, [{"text": "Abé", "tokens": tokens[:2]}, {"choice": 1, "text": "Ab", "tokens": tokens[:1]}, {"text": "ab", "tokens": tokens[2:4]}, {"text": "c", "tokens": tokens[4:], "finish_reason": "stop"}], logprobs=2)
    chunks = [json.loads(piece)["choices"][0] for piece in pieces[:-1]]
    own = [chunk for chunk in chunks if chunk["index"] == 0]
    for name, values in logprobs.items():
        assert sum((chunk["logprobs"][name] for chunk in own), []) == values, name
    assert chunks[1]["logprobs"]["text_offset"] == [0] and "".join(chunk["text"] for chunk in own) == "Abéabc"
    for piece in pieces[:-1]:
        Completion.model_validate({**json.loads(piece), "choices": []})
    assert {json.loads(piece)["object"] for piece in pieces[:-1]} == {"text_completion"}


@pytest.mark.parametrize("url", BODIES)
def test_ids_and_the_prompt_s_log_probabilities_are_told_once(tool, url):
    prompt = [{**token("A"), "known": False, "top": []}, token("a")]
    entry = {"5": {"logprob": -3.5, "rank": 2, "decoded_token": "a"}, "6": {"logprob": -0.125, "rank": 1, "decoded_token": "b"}}
    body = whole(tool, url, [{"text": "ab", "ids": [5, 6], "prompt_ids": [2, 5], "prompt_tokens": prompt, "finish_reason": "stop"}])
    held = body if url == CHAT else body["choices"][0]
    assert held["prompt_token_ids"] == [2, 5] and body["choices"][0]["token_ids"] == [5, 6] and held["prompt_logprobs"] == [None, entry]
    pieces, _ = stream(tool, url, [{"text": "a", "ids": [5], "prompt_ids": [2, 5], "prompt_tokens": prompt}, {"ids": [6]}, {"text": "b", "finish_reason": "stop"}])
    chunks = [json.loads(piece) for piece in pieces[:-1]]
    held = [chunk if url == CHAT else chunk["choices"][0] for chunk in chunks]
    assert held[0]["prompt_token_ids"] == [2, 5] and held[0]["prompt_logprobs"] == [None, entry]
    assert not any("prompt_token_ids" in one or "prompt_logprobs" in one for one in held[1:])
    assert [chunk["choices"][0].get("token_ids") for chunk in chunks] == [[5], [6], None]
