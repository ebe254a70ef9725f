"""OpenAI's own client against `tessera serve`: chats, completions, streams, sampling, errors by class, and its retries."""
import re
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import openai
import pytest
import scripted_model
from openai import AuthenticationError, BadRequestError, InternalServerError, NotFoundError, OpenAI, RateLimitError
from serving import Server

QUESTION = [{"role": "user", "content": "what is ab?"}]
SAMPLED = {"max_completion_tokens": 24, "temperature": 4.0, "seed": 5, "extra_body": {"ignore_eos": True}}


def client_of(server, **options):
    return OpenAI(base_url=server.url + "/v1", **{"api_key": "nobody's", "max_retries": 0, "timeout": 120, **options})


@pytest.fixture(scope="module")
def server(tessera, bases):
    with Server(tessera, bases["gemma"], "--served-model-name", "tiny", "--served-model-name", "other") as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    return client_of(server)


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    return scripted_model.make(tmp_path_factory.mktemp("scripted") / "scripted", {"1": ["It ", "is one."], "9": ["on and ", "on, ", ...]})


def say(client, messages=QUESTION, **options):
    return client.chat.completions.create(model="tiny", messages=messages, **{**SAMPLED, **options})


def texts(answer):
    return [choice.message.content for choice in answer.choices]


def streamed(client, **options):
    """The chunks, and each choice's text, log-probabilities and finish reason."""
    chunks = list(say(client, stream=True, **options))
    choices = {}
    for chunk in chunks:
        for one in chunk.choices:
            text, tokens, reasons = choices.setdefault(one.index, ([], [], []))
            text.append(one.delta.content or "")
            tokens += one.logprobs.content if one.logprobs else []
            reasons += [one.finish_reason] if one.finish_reason else []
    return chunks, [("".join(text), tokens, reasons) for _, (text, tokens, reasons) in sorted(choices.items())]


@pytest.mark.parametrize("options", [{}, {"n": 3}, {"max_completion_tokens": 3, "logprobs": True, "top_logprobs": 4}, {"stop": ["a", "b", "c", "d"]}], ids=str)
def test_a_stream_says_what_the_whole_answer_says(client, options):
    whole = say(client, **options)
    chunks, choices = streamed(client, stream_options={"include_usage": True}, **options)
    assert [(choice.message.content, choice.logprobs.content if choice.logprobs else [], [choice.finish_reason]) for choice in whole.choices] == choices
    assert len({chunk.id for chunk in chunks} | {whole.id}) == 2 and whole.id.startswith("chatcmpl-")
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"} and whole.object == "chat.completion"
    assert {chunk.model for chunk in chunks} | {whole.model} == {"tiny"}
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1) and chunks[-1].choices == []
    spent, own = chunks[-1].usage, whole.usage
    assert (spent.prompt_tokens, spent.completion_tokens, spent.total_tokens) == (own.prompt_tokens, own.completion_tokens, own.total_tokens)


def test_usage_counts_tokens(server, client):
    prompt = server.post("/tokenize", {"messages": QUESTION})["count"]
    answer = say(client, n=2, logprobs=True)
    assert all(len(choice.logprobs.content) == 24 and choice.finish_reason == "length" for choice in answer.choices)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (prompt, 48, prompt + 48)
    chunks = list(say(client, stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True}))
    assert [chunk.usage.completion_tokens for chunk in chunks] == sorted(chunk.usage.completion_tokens for chunk in chunks)
    assert {chunk.usage.prompt_tokens for chunk in chunks} == {prompt} and chunks[0].usage.completion_tokens == 1 and chunks[-1].usage.completion_tokens == 24


def test_a_second_turn_is_not_computed_anew(server, client):
    messages = [{"role": "user", "content": "a long first question, of more than a page of the cache: " + "abc " * 12}]
    first = say(client, messages, temperature=0)
    messages += [{"role": "assistant", "content": first.choices[0].message.content}, {"role": "user", "content": "and?"}]
    usage = say(client, messages, temperature=0).usage
    # Of a window of 4 tokens pages are forgotten: what ends a prompt is kept.
    assert 32 <= usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens
    assert say(client, messages, temperature=0, extra_body={"cache_salt": "x", "ignore_eos": True}).usage.prompt_tokens_details.cached_tokens == 0


def test_a_seed_makes_answers_repeatable(client):
    both = texts(say(client, n=2))
    assert both == texts(say(client, n=2)) and both[0] != both[1]
    assert texts(say(client)) != texts(say(client, seed=6))
    assert texts(say(client)) == both[:1]
    assert texts(say(client, seed=None)) != texts(say(client, seed=None))


def test_stop_strings_end_an_answer(client):
    (text,) = texts(say(client))
    stop = text[5:7]
    answer = say(client, stop=stop)
    assert texts(answer) == [text[:text.index(stop)]] and answer.choices[0].finish_reason == "stop"
    assert texts(say(client, stop=[stop], extra_body={"include_stop_str_in_output": True, "ignore_eos": True})) == [text[:text.index(stop) + 2]]
    assert texts(say(client, stop=[])) == [text]


def test_biases_force_and_bar(server, client):
    (z,) = server.post("/tokenize", {"prompt": "z"})["tokens"]
    assert texts(say(client, logit_bias={str(z): 100})) == ["z" * 24]
    (t,) = set(texts(say(client, temperature=0))[0])
    (barred,) = server.post("/tokenize", {"prompt": t})["tokens"]
    assert t not in texts(say(client, temperature=0, logit_bias={str(barred): -100}))[0]


def test_log_probabilities_are_told_of_the_best_and_of_the_chosen(client):
    answer = say(client, logprobs=True, top_logprobs=5, temperature=0)
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens if not token.token.startswith("<")) == answer.choices[0].message.content
    for token in tokens:
        best = [top.logprob for top in token.top_logprobs]
        assert len(best) == 5 and best == sorted(best, reverse=True) and token.logprob == best[0] and token.token == token.top_logprobs[0].token
        assert bytes(token.bytes).decode() == token.token
    assert say(client, logprobs=True, top_logprobs=0).choices[0].logprobs.content[0].top_logprobs == []


def test_completions_of_texts_and_of_ids(server, client):
    prompts = ["ab ba", "what", "<bos>x"]
    ids = [server.post("/tokenize", {"prompt": prompt})["tokens"] for prompt in prompts]
    assert [len(one) for one in ids] == [4, 4, 2]  # "ab" is a token, "<bos>" another
    options = {"model": "other", "max_tokens": 6, "temperature": 0}
    one_by_one = [client.completions.create(prompt=prompt, **options).choices[0].text for prompt in prompts]
    for together in prompts, ids:
        answer = client.completions.create(prompt=together, **options)
        assert [choice.index for choice in answer.choices] == [0, 1, 2] and [choice.text for choice in answer.choices] == one_by_one
        assert answer.usage.prompt_tokens == 10 and answer.object == "text_completion" and answer.model == "tiny"
    assert client.completions.create(prompt=ids[1], **options).choices[0].text == one_by_one[1]
    for given, shown in (prompts, prompts), (ids, ["ab ba", "what", "x"]):
        chunks = list(client.completions.create(prompt=given, stream=True, echo=True, **options))
        for index, prompt in enumerate(shown):
            assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices[0].index == index) == prompt + one_by_one[index]


def test_models(server, client):
    assert [model.id for model in client.models.list()] == ["tiny", "other"]
    model = client.models.retrieve("other")
    assert model.id == "other" and model.object == "model" and model.owned_by == "tessera" and model.max_model_len == 512
    with pytest.raises(NotFoundError) as error:
        client.models.retrieve("absent")
    assert error.value.code == "model_not_found"


@pytest.mark.parametrize("options, param", [({"temperature": -1}, "temperature"), ({"n": 99}, "n"), ({"top_logprobs": 3}, "top_logprobs"), ({"logit_bias": {"x": 1}}, "logit_bias"),
                                            ({"max_completion_tokens": 0}, "max_completion_tokens"), ({"messages": []}, "messages"),
                                            ({"messages": [{"role": "user", "content": "ab" * 600}]}, "messages")], ids=str)
def test_what_cannot_be_had_is_a_bad_request(client, options, param):
    for stream in False, True:
        with pytest.raises(BadRequestError) as error:
            say(client, **{**options, "stream": stream})
        assert error.value.param == param and error.value.type == "invalid_request_error" and param in error.value.message
    assert error.value.code == ("context_length_exceeded" if len(str(options)) > 1000 else None)


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(NotFoundError) as error:
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert (error.value.code, error.value.param) == ("model_not_found", "model") and "tiny" in error.value.message
    with pytest.raises(NotFoundError):
        client.embeddings.create(model="tiny", input="x")


def test_keys(tessera, scripted, tmp_path):
    (tmp_path / "keys").write_text("alice:secret-of-alice\nbob:secret-of-bob\n")
    with Server(tessera, scripted, "--api-key-file", tmp_path / "keys", "--max-requests-per-key", 1) as server:
        ask = lambda key, **options: client_of(server, api_key=key).chat.completions.create(model="scripted", messages=[{"role": "user", "content": "1"}], **options)
        for wrong in "secret", "secret-of-alice2", "alice":
            with pytest.raises(AuthenticationError) as error:
                ask(wrong)
            assert error.value.code == "invalid_api_key" and wrong not in error.value.message
        with pytest.raises(AuthenticationError):
            client_of(server, api_key="x").models.list()
        with client_of(server, api_key="secret-of-bob").chat.completions.create(model="scripted", messages=[{"role": "user", "content": "9"}], stream=True) as endless:
            assert next(endless).choices[0].delta.content
            assert texts(ask("secret-of-alice")) == ["It is one."]
            with pytest.raises(RateLimitError) as error:
                ask("secret-of-bob")
            assert 1 <= int(error.value.response.headers["retry-after"]) <= 60 and error.value.code == "rate_limit_exceeded"
        server.until(lambda: "499" in server.log())
        assert texts(ask("secret-of-bob")) == ["It is one."], "the client left, and its request with it"
    log = server.log()
    assert "key alice" in log and "secret" not in log and "one" not in log


def waiting(server):
    return int(re.search(rb"num_requests_waiting\S* (\d+)", server.ask("GET", "/metrics").body)[1])


def test_a_full_queue_is_tried_again_by_the_client_itself(tessera, scripted, monkeypatch):
    with Server(tessera, scripted, "--max-num-seqs", 1, "--max-waiting", 1) as server, ThreadPoolExecutor(1) as pool:
        ask = lambda client, letter, **options: client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": letter}], **options)
        running = ask(client_of(server), "9", stream=True)
        next(running)
        queued = pool.submit(ask, client_of(server), "1")
        server.until(lambda: waiting(server) == 1)
        with pytest.raises(InternalServerError) as error:
            ask(client_of(server), "1")
        assert error.value.status_code == 503 and error.value.code == "queue_full"
        waited = []

        def sleep(seconds):
            waited.append(seconds)
            running.close()
            server.until(lambda: waiting(server) == 0)
        monkeypatch.setattr(openai._base_client, "time", SimpleNamespace(**{**vars(time), "sleep": sleep}))
        again = ask(client_of(server, max_retries=2), "1")
        assert texts(again) == texts(queued.result()) == ["It is one."]
        assert len(waited) == 1 and 1 <= waited[0] <= 60, "what Retry-After says, where the client's own first is half a second"


def test_what_takes_too_long_is_not_tried_again(tessera, scripted):
    with Server(tessera, scripted, "--request-timeout", 1) as server:
        with pytest.raises(InternalServerError) as error:
            client_of(server, max_retries=2).chat.completions.create(model="scripted", messages=[{"role": "user", "content": "9"}])
        assert error.value.status_code == 504 and error.value.code == "timeout"
        assert server.log().count("/v1/chat/completions") == 1
