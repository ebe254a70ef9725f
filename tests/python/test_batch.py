"""tessera batch: OpenAI's batch files through the scheduler, whatever stops it."""
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion
from tessera_program import FLOAT32

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TYPES = {CHAT: ChatCompletion, COMPLETIONS: Completion}
MOST_SECONDS = 120


def line(custom_id, url, body):
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def said(content):
    return [{"role": "user", "content": content}]


def write(path, lines):
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def read(path):
    """custom_id -> response, each once."""
    answers = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    assert all(list(answer) == ["id", "custom_id", "response", "error"] and answer["error"] is None for answer in answers)
    assert all(answer["id"].startswith("batch_req_") for answer in answers)
    found = {answer["custom_id"]: answer["response"] for answer in answers}
    assert len(found) == len(answers), "a custom_id was answered twice"
    return found


def said_of(response):
    """What an answer says: neither its names and times, nor how much of the prompt was computed before."""
    body = {key: value for key, value in response["body"].items() if key not in ("id", "created")}
    if "usage" in body:
        body["usage"] = {**body["usage"], "prompt_tokens_details": None}
    return response["status_code"], json.dumps(body)


@pytest.fixture
def batch(tessera, bases, tmp_path):
    """Runs lines and gives their responses by custom_id."""
    def go(lines, *flags, model=bases["gemma"], expect=0):
        out = tmp_path / "answers.jsonl"
        out.unlink(missing_ok=True)
        go.done = tessera.run("batch", "-m", model, "-i", write(tmp_path / "requests.jsonl", lines), "-o", out, *flags, expect=expect)
        return read(out)
    return go


def one(batch, url, body, *flags, **more):
    return batch([line("a", url, body)], *flags, **more)["a"]


PROMPTS = ["abc ab", "what is ba?", "The sun", "a", "ab" * 60]


def test_greedy_answers_are_those_of_run(batch, tessera, bases):
    lines = [line(f"{url}{i}", url, {"prompt" if url == COMPLETIONS else "messages": prompt if url == COMPLETIONS else said(prompt), "max_tokens": 24, "temperature": 0})
             for url in TYPES for i, prompt in enumerate(PROMPTS)]
    answers = batch(lines)
    for url, flags in (COMPLETIONS, []), (CHAT, ["--chat"]):
        for i, prompt in enumerate(PROMPTS):
            lone = tessera.run("run", "-m", bases["gemma"], "--temp", 0, "-n", 24, "-p", prompt, *flags).stdout.removesuffix("\n")
            choice = answers[f"{url}{i}"]["body"]["choices"][0]
            assert (choice["text"] if url == COMPLETIONS else choice["message"]["content"]) == lone


def test_ids_and_log_probabilities_are_hugging_face_s(batch, bases):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(bases["gemma"], dtype=torch.float32).eval()
    prompt, count = [2, 40, 41, 42, 50, 60], 8
    body = {"prompt": prompt, "max_tokens": count, "temperature": 0, "logprobs": 3, "echo": True, "ignore_eos": True}
    logprobs = one(batch, COMPLETIONS, body, *FLOAT32)["body"]["choices"][0]["logprobs"]
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            scores = model(torch.tensor([ids])).logits[0]
            scores[-1, 1] = -torch.inf  # the end token
            ids.append(int(scores[-1].argmax()))
        rows = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    vocabulary = json.loads((bases["gemma"] / "tokenizer.json").read_text())["model"]["vocab"]
    texts = {id: text.replace("▁", " ") for text, id in vocabulary.items()}
    assert logprobs["tokens"] == [texts.get(id, "") for id in ids]
    assert logprobs["token_logprobs"][0] is None and logprobs["top_logprobs"][0] is None
    for i, id in enumerate(ids[1:]):
        assert logprobs["token_logprobs"][i + 1] == pytest.approx(float(rows[i, id]), abs=1e-3)
        expected = {}
        for other in [*rows[i].topk(3).indices.tolist(), id]:  # of those of one text, the most probable
            expected.setdefault(texts.get(other, ""), float(rows[i, other]))
        assert logprobs["top_logprobs"][i + 1] == pytest.approx(expected, abs=1e-3)
    offsets = [sum(map(len, logprobs["tokens"][:i])) for i in range(len(ids))]
    assert logprobs["text_offset"] == offsets


def mixed(count):
    """Requests of every kind, which begin alike."""
    draw = random.Random(count)
    lines = []
    for i in range(count):
        body = {"max_tokens": draw.choice([1, 5, 40, 90]), "seed": i, "temperature": draw.choice([0, 0.7, 1.5]), "n": draw.choice([1, 1, 2, 3]),
                **draw.choice([{}, {"stop": ["a", "b?"]}, {"top_k": 5, "top_p": 0.9}, {"presence_penalty": 1.5, "frequency_penalty": 0.5},
                               {"logit_bias": {"40": 3.5, "41": -100}}, {"min_tokens": 3}, {"ignore_eos": True}, {"priority": i % 3}, {"cache_salt": "s"}])}
        text = "a text of which many begin with the same words " * draw.choice([0, 1, 3]) + draw.choice(PROMPTS)
        if i % 2:
            body |= {"messages": said(text), **draw.choice([{}, {"logprobs": True, "top_logprobs": 2}])}
        else:
            body |= {"prompt": draw.choice([text, [text, "b"]]), **draw.choice([{}, {"logprobs": 2}, {"logprobs": 1, "echo": True}])}
        lines.append(line(f"request {i}", CHAT if i % 2 else COMPLETIONS, body))
    return lines


def test_an_answer_does_not_depend_on_the_others(batch):
    lines = mixed(40)
    alone = batch(lines, "--max-num-seqs", "1", "--no-prefix-cache")
    cache = ["--cache-memory", "0.0009"]  # so little that some are put back
    for flags in [], ["--max-num-batched-tokens", "7"], [*cache, "--max-num-seqs", "8"], ["--max-num-seqs", "3", "-t", "1"]:
        together = batch(lines, *flags)
        for one_line in lines:
            name = one_line["custom_id"]
            assert alone[name]["status_code"] == 200, alone[name]
            assert said_of(together[name]) == said_of(alone[name]), (name, flags)


def test_answers_have_openai_s_types(batch):
    answers = batch(lines := mixed(24))
    for sent in lines:
        body = answers[sent["custom_id"]]["body"]
        if sent["body"].get("echo"):  # the first token of all has no probability, for which the types have no word
            for choice in body["choices"]:
                for field, nothing in ("token_logprobs", 0.0), ("top_logprobs", {}):
                    assert choice["logprobs"][field][0] is None
                    choice["logprobs"][field][0] = nothing
        answer = TYPES[sent["url"]].model_validate(body, strict=True)
        assert not answer.model_extra and not answer.usage.model_extra and not any(choice.model_extra for choice in answer.choices)
        prompts = sent["body"].get("prompt")
        count = sent["body"]["n"] * (len(prompts) if isinstance(prompts, list) else 1)
        assert [choice.index for choice in answer.choices] == list(range(count))
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        for choice in answer.choices:
            assert choice.finish_reason in ("stop", "length")


def text_of(answer, index=0):
    assert answer["status_code"] == 200, answer
    choice = answer["body"]["choices"][index]
    return choice["text"] if "text" in choice else choice["message"]["content"]


def test_every_field_is_honoured(batch):
    base = {"prompt": "abc ab", "max_tokens": 30, "temperature": 0, "ignore_eos": True}
    chat = {"messages": said("abc ab"), "max_tokens": 30, "temperature": 0, "ignore_eos": True}
    usual = text_of(one(batch, COMPLETIONS, base))
    assert len(usual) >= 20
    variants = {
        "temperature": {"temperature": 3, "seed": 1}, "seed": {"temperature": 3, "seed": 2}, "negative seed": {"temperature": 3, "seed": -2},
        "top_k": {"temperature": 3, "seed": 1, "top_k": 1}, "all of top_k": {"temperature": 3, "seed": 1, "top_k": -1}, "top_k 0": {"temperature": 3, "seed": 1, "top_k": 0},
        "top_p": {"temperature": 3, "seed": 1, "top_p": 1e-6}, "min_p": {"temperature": 3, "seed": 1, "min_p": 1},
        "repetition_penalty": {"repetition_penalty": 50}, "presence_penalty": {"presence_penalty": 2}, "frequency_penalty": {"frequency_penalty": 2},
        "logit_bias": {"logit_bias": {"50": 100}}, "stop": {"stop": usual[4:6]}, "stops": {"stop": ["never there", usual[6:8]]},
        "max_tokens": {"max_tokens": 3}, "echo": {"echo": True}, "n": {"n": 2, "temperature": 3, "seed": 1}, "best_of": {"n": 2, "best_of": 2, "temperature": 3, "seed": 1},
        "ignored": {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "safety_identifier": "x", "prompt_cache_key": "k",
                    "model": "any", "suffix": None, "logprobs": None, "stream": False, "response_format": {"type": "text"}}}
    lines = [line(name, COMPLETIONS, {**base, **body}) for name, body in variants.items()]
    lines += [line("chat", CHAT, chat), line("parts", CHAT, {**chat, "messages": said([{"type": "text", "text": "abc ab"}])}),
              line("max_completion_tokens", CHAT, {**chat, "max_completion_tokens": 2}),
              line("chat ignored", CHAT, {**chat, "reasoning_effort": "low", "verbosity": "low", "modalities": ["text"], "tools": [], "tool_choice": "none",
                                          "parallel_tool_calls": True, "logprobs": False, "top_logprobs": 0, "chat_template_kwargs": {"enable_thinking": False}})]
    answers = batch(lines)
    text = {name: text_of(answer) for name, answer in answers.items()}
    assert text["temperature"] != usual and text["seed"] != text["temperature"] and text["negative seed"] not in (text["seed"], text["temperature"])
    assert text["top_k"] == text["top_p"] == text["min_p"] == usual and text["all of top_k"] == text["top_k 0"] != text["temperature"]
    assert len({text[name] for name in ("repetition_penalty", "presence_penalty", "frequency_penalty")} - {usual}) >= 2
    assert len(set(text["logit_bias"])) == 1 and len(text["logit_bias"]) == 30
    assert text["stop"] == usual[:usual.index(usual[4:6])] and answers["stop"]["body"]["choices"][0]["finish_reason"] == "stop"
    assert text["stops"] == usual[:usual.index(usual[6:8])]
    assert answers["max_tokens"]["body"]["usage"]["completion_tokens"] == 3 and usual.startswith(text["max_tokens"])
    assert answers["max_tokens"]["body"]["choices"][0]["finish_reason"] == "length"
    assert text["echo"] == "abc ab" + usual and text["ignored"] == usual
    assert text["n"] == text["temperature"] != text_of(answers["n"], 1) and text_of(answers["best_of"], 1) == text_of(answers["n"], 1)
    assert text["parts"] == text["chat"] == text["chat ignored"] and text["chat"].startswith(text["max_completion_tokens"])
    assert answers["max_completion_tokens"]["body"]["usage"]["completion_tokens"] == 2


def test_stop_token_ids_end_an_answer_and_min_tokens_bars_end_tokens(batch, tessera, bases, tmp_path):
    drawn = {"prompt": [2, 40, 41], "max_tokens": 20, "temperature": 5, "top_k": 0, "seed": 1, "logit_bias": {"1": -100}}
    free = one(batch, COMPLETIONS, {**drawn, "logprobs": 0})["body"]["choices"][0]
    vocabulary = json.loads((bases["gemma"] / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = free["logprobs"]["tokens"]
    last = next(i for i, token in enumerate(tokens) if i >= 2 and token.replace(" ", "▁") in vocabulary and token not in tokens[:i])
    for more in {"ignore_eos": True}, {}:
        answer = one(batch, COMPLETIONS, {**drawn, "stop_token_ids": [vocabulary[tokens[last].replace(" ", "▁")]], **more})["body"]
        assert answer["choices"][0]["text"] == "".join(tokens[:last]) and answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["completion_tokens"] == last + 1
    ends = {"prompt": "ab", "max_tokens": 20, "temperature": 0, "logit_bias": {"1": 100}}
    answers = batch([line("0", COMPLETIONS, ends), line("5", COMPLETIONS, {**ends, "min_tokens": 5})])
    assert [answers[name]["body"]["usage"]["completion_tokens"] for name in ("0", "5")] == [1, 6]
    assert text_of(answers["0"]) == "" and answers["0"]["body"]["choices"][0]["finish_reason"] == "stop"


def test_flags_are_what_a_request_does_not_say(batch):
    body = {"prompt": "abc ab", "ignore_eos": True}
    flags = ["-n", "7", "--temp", "2", "--seed", "3"]
    answers = batch([line("as flagged", COMPLETIONS, body), line("said", COMPLETIONS, {**body, "max_tokens": 7, "temperature": 2, "seed": 3}),
                     line("other", COMPLETIONS, {**body, "max_tokens": 9, "temperature": 0})], *flags)
    assert text_of(answers["as flagged"]) == text_of(answers["said"]) != text_of(answers["other"])
    assert [answers[name]["body"]["usage"]["completion_tokens"] for name in ("as flagged", "other")] == [7, 9]


def test_the_common_beginning_is_found_in_the_cache(batch):
    beginning = "a text that all of them begin with " * 8
    lines = [line(str(i), COMPLETIONS, {"prompt": f"{beginning}{i}", "max_tokens": 2, "temperature": 0}) for i in range(6)]
    cached = lambda answers: [a["body"]["usage"]["prompt_tokens_details"]["cached_tokens"] for a in answers.values()]
    assert sum(n > 0 for n in cached(batch(lines))) == 5
    assert sum(cached(batch(lines, "--no-prefix-cache"))) == 0


REFUSED = [  # param, url, what is changed; words of the message
    ("messages", CHAT, {"messages": []}, "at least one"), ("messages", CHAT, {"messages": "hi"}, "list"), ("messages", CHAT, {"messages": None}, "at least one"),
    ("messages[0]", CHAT, {"messages": ["hi"]}, "object"), ("messages[0].role", CHAT, {"messages": [{"role": "function", "content": "a"}]}, "must be"),
    ("messages[1].content", CHAT, {"messages": [*said("a"), {"role": "user"}]}, "not there"), ("messages[0].content", CHAT, {"messages": said(3)}, "text"),
    ("messages[0].content[1].type", CHAT, {"messages": said([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}])}, "text"),
    ("messages[0].tool_calls", CHAT, {"messages": [{**said("a")[0], "tool_calls": [{}]}]}, "assistant's"),
    ("tools[0].function", CHAT, {"tools": [{"type": "function"}]}, "not there"), ("tool_choice", CHAT, {"tool_choice": "required"}, "wants tools"),
    ("audio", CHAT, {"audio": {}}, "not supported"), ("modalities", CHAT, {"modalities": ["audio"]}, "not supported"),
    ("web_search_options", CHAT, {"web_search_options": {}}, "not supported"), ("functions", CHAT, {"functions": []}, "not supported"),
    ("response_format.type", CHAT, {"response_format": {"type": "xml"}}, "text"), ("stream", CHAT, {"stream": True}, "false"),
    ("top_logprobs", CHAT, {"top_logprobs": 2}, "logprobs"), ("top_logprobs", CHAT, {"logprobs": True, "top_logprobs": 21}, "0 to 20"),
    ("logprobs", CHAT, {"logprobs": 1}, "true or false"), ("chat_template_kwargs", CHAT, {"chat_template_kwargs": {"a": []}}, "must be"),
    ("chat_template", CHAT, {"chat_template": "x"}, "not supported"), ("max_completion_tokens", CHAT, {"max_completion_tokens": 0}, "1 to"),
    ("prompt", COMPLETIONS, {"prompt": None}, "not there"), ("prompt", COMPLETIONS, {"prompt": []}, "must be"), ("prompt", COMPLETIONS, {"prompt": [2, 199]}, "0 to 198"),
    ("prompt", COMPLETIONS, {"prompt": [[2], [-1]]}, "0 to 198"), ("prompt", COMPLETIONS, {"prompt": {"a": 1}}, "must be"), ("prompt", COMPLETIONS, {"prompt": ["a"] * 129}, "128"),
    ("prompt", COMPLETIONS, {"prompt": "ab" * 2000}, "context of 512"), ("max_tokens", COMPLETIONS, {"max_tokens": -1}, "0 to"),
    ("prompt", COMPLETIONS, {"max_tokens": 512}, "context of 512"), ("max_tokens", COMPLETIONS, {"max_tokens": 1.5}, "whole number"),
    ("temperature", COMPLETIONS, {"temperature": "hot"}, "number"), ("temperature", COMPLETIONS, {"temperature": -1}, "0 to 100"),
    ("top_p", COMPLETIONS, {"top_p": 1.5}, "0 to 1"), ("top_p", COMPLETIONS, {"top_p": 0}, "(0, 1]"), ("top_k", COMPLETIONS, {"top_k": -2}, "-1 to"), ("min_p", COMPLETIONS, {"min_p": 2}, "0 to 1"),
    ("n", COMPLETIONS, {"n": 9}, "1 to 8"), ("n", COMPLETIONS, {"n": 0}, "1 to 8"), ("best_of", COMPLETIONS, {"best_of": 3}, "n"), ("seed", COMPLETIONS, {"seed": "x"}, "whole"),
    ("suffix", COMPLETIONS, {"suffix": "x"}, "not supported"), ("stop", COMPLETIONS, {"stop": ""}, "1 to 1024"), ("stop", COMPLETIONS, {"stop": ["a"] * 17}, "16"),
    ("stop", COMPLETIONS, {"stop": [3]}, "text"), ("stop_token_ids", COMPLETIONS, {"stop_token_ids": [199]}, "199"), ("logit_bias", COMPLETIONS, {"logit_bias": {"199": 1}}, "199"),
    ("logit_bias", COMPLETIONS, {"logit_bias": {"a": 1}}, "token id"), ("logit_bias.5", COMPLETIONS, {"logit_bias": {"5": 101}}, "100"),
    ("presence_penalty", COMPLETIONS, {"presence_penalty": 3}, "-2 to 2"), ("frequency_penalty", COMPLETIONS, {"frequency_penalty": -3}, "-2 to 2"),
    ("repetition_penalty", COMPLETIONS, {"repetition_penalty": 0}, "0"), ("logprobs", COMPLETIONS, {"logprobs": 21}, "0 to 20"), ("echo", COMPLETIONS, {"echo": 1}, "true or false"),
    ("min_tokens", COMPLETIONS, {"min_tokens": -1}, "0 to"), ("priority", COMPLETIONS, {"priority": "high"}, "whole"), ("cache_salt", COMPLETIONS, {"cache_salt": 3}, "text"),
    ("model", COMPLETIONS, {"model": 3}, "text"), ("ignore_eos", COMPLETIONS, {"ignore_eos": "yes"}, "true or false"), ("stream_options", COMPLETIONS, {"stream_options": {"include_usage": True}}, "stream"),
    ("use_beam_search", COMPLETIONS, {"use_beam_search": True}, "not supported"), ("response_format", COMPLETIONS, {"response_format": "text"}, "object"),
]


def test_what_is_not_supported_is_refused_by_its_name_and_the_others_are_answered(batch):
    base = {CHAT: {"messages": said("a"), "max_tokens": 2}, COMPLETIONS: {"prompt": "ab", "max_tokens": 2}}
    lines = [line(f"{i}", url, {**base[url], **change}) for i, (_, url, change, _) in enumerate(REFUSED)]
    lines += [{**line("method", CHAT, base[CHAT]), "method": "GET"}, line("url", "/v1/embeddings", {"input": "a"}), {**line("body", CHAT, {}), "body": "x"},
              {**line("more", CHAT, base[CHAT]), "more": 1}, line("good", CHAT, base[CHAT])]
    answers = batch(lines)
    assert answers.pop("good")["status_code"] == 200 and len(answers) == len(lines) - 1
    for i, (param, _, change, words) in enumerate([*REFUSED, ("method", "", "", "POST"), ("url", "", "", "/v1/completions"), ("body", "", "", "object"), ("more", "", "", "not supported")]):
        answer = answers[str(i) if i < len(REFUSED) else param]
        assert answer["status_code"] == 400, (param, change, answer)
        error = answer["body"]["error"]
        assert list(error) == ["message", "type", "param", "code"] and error["type"] == "invalid_request_error"
        assert error["param"] == param and words in error["message"], (change, error)
        assert error["code"] == ("context_length_exceeded" if "context" in words else None)
    assert "1 answered" in batch.done.stderr and f"{len(lines) - 1} with errors" in batch.done.stderr


def test_a_checkpoint_without_a_template_completes_texts(batch, bases, tmp_path):
    folder = shutil.copytree(bases["gemma"], tmp_path / "bare")
    (folder / "chat_template.jinja").unlink()
    answers = batch([line("chat", CHAT, {"messages": said("a"), "max_tokens": 2}), line("text", COMPLETIONS, {"prompt": "a", "max_tokens": 2})], model=folder)
    assert answers["text"]["status_code"] == 200
    assert answers["chat"]["status_code"] == 400 and "chat template" in answers["chat"]["body"]["error"]["message"]


GOOD = json.dumps(line("a", COMPLETIONS, {"prompt": "ab", "max_tokens": 2}))


@pytest.mark.parametrize("content, words", [
    (f"{GOOD}\n{{\n", "line 2: not valid JSON"), (f"{GOOD}\n\n[1]\n", "line 3: is no JSON object"), (f"{GOOD}\n{{}}\n", "line 2: has no custom_id"),
    (GOOD.replace('"a"', "3"), "line 1: has no custom_id"), (f"{GOOD}\n{GOOD}", "lines 1 and 2 have the same custom_id"), ("", "holds no requests"),
    (f"{GOOD}\n" + '{"custom_id": "b", "custom_id": "c"}', "stands twice"), (GOOD.encode() + b"\n\xff\n", "line 2: not valid JSON"),
    (GOOD + "\n" + " " * (9 << 20), "more than 8388608 bytes"), ("[" * 100_000 + "]" * 100_000, "nested more than"),
], ids=lambda value: value if len(value) < 30 else "content")
def test_a_file_that_is_no_batch_is_refused_before_anything_is_computed(tessera, bases, tmp_path, content, words):
    path, out = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = tessera.run("batch", "-m", bases["gemma"], "-i", path, "-o", out, expect=2)
    assert words in done.stderr and str(path) in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not out.exists()


def ours(custom_id, **changed):
    return json.dumps({"id": "batch_req_1", "custom_id": custom_id, "response": {"status_code": 200, "request_id": "x", "body": {}}, "error": None, **changed}, separators=(",", ":"))


@pytest.mark.parametrize("content, words", [
    ("a diary\n", "line 1: not valid JSON"), ("a diary", "no answer of a batch"), ('{"a": 1}\n', "line 1: is no answer"), (ours("z") + "\n", "does not ask"),
    (ours("a") + "\n" + ours("a") + "\n", "a second time"), (ours("a", id="chatcmpl-1") + "\n", "line 1: is no answer"), (ours("a") + "\nx", "no answer of a batch"),
], ids=lambda value: value if len(value) < 30 else "content")
def test_a_file_that_holds_something_else_stays_as_it_is(tessera, bases, tmp_path, content, words):
    out = tmp_path / "answers.jsonl"
    out.write_text(content)
    done = tessera.run("batch", "-m", bases["gemma"], "-i", write(tmp_path / "requests.jsonl", [json.loads(GOOD)]), "-o", out, expect=2)
    assert words in done.stderr and str(out) in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert out.read_text() == content


def test_the_input_is_not_its_own_output(tessera, bases, tmp_path):
    path = write(tmp_path / "requests.jsonl", [json.loads(GOOD)])
    content = path.read_text()
    for other in path, tmp_path / "link", tmp_path / "hard":
        if other.name == "link":
            other.symlink_to(path)
        if other.name == "hard":
            os.link(path, other)
        assert "-i reads" in tessera.run("batch", "-m", bases["gemma"], "-i", path, "-o", other, expect=2).stderr
    assert path.read_text() == content
    os.mkfifo(tmp_path / "pipe")
    assert "regular file" in tessera.run("batch", "-m", bases["gemma"], "-i", path, "-o", tmp_path / "pipe", expect=2).stderr
    assert "cannot be opened" in tessera.run("batch", "-m", bases["gemma"], "-i", path, "-o", tmp_path / "no/such", expect=2).stderr


@pytest.fixture(scope="module")
def long_batch(tmp_path_factory):
    """60 requests that take some seconds."""
    lines = [line(f"é {i}", COMPLETIONS, {"prompt": f"{i} ab", "max_tokens": 60 + 5 * i, "temperature": 1, "seed": i, "ignore_eos": True, "logprobs": i % 3}) for i in range(60)]
    return write(tmp_path_factory.mktemp("long") / "requests.jsonl", lines)


@pytest.fixture(scope="module")
def whole(tessera, bases, long_batch):
    out = long_batch.with_name("whole.jsonl")
    tessera.run("batch", "-m", bases["gemma"], "-i", long_batch, "-o", out)
    return read(out)


@pytest.fixture
def start(tessera, bases, long_batch, tmp_path):
    running = []

    def go(**more):
        child = subprocess.Popen([tessera.path, "batch", "-m", bases["gemma"], "-i", long_batch, "-o", tmp_path / "answers.jsonl", "--max-num-seqs", "4"],
                                 stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **more)
        running.append(child)
        return child

    yield go
    for child in running:
        child.kill()
        child.communicate()


def lines_of(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_lines(child, path, count):
    end = time.monotonic() + MOST_SECONDS
    while lines_of(path) < count:
        assert child.poll() is None and time.monotonic() < end, child.stderr.read()
        time.sleep(0.001)


def test_a_killed_batch_goes_on_and_answers_nothing_twice(start, whole, tmp_path):
    out, draw = tmp_path / "answers.jsonl", random.Random(1)
    for _ in range(5):
        child = start()
        wait_for_lines(child, out, lines_of(out) + draw.randint(1, 8))
        child.kill()
        child.wait()
        before = out.read_bytes()
        with out.open("ab") as file:  # as a kill in the midst of a write leaves it
            file.write(b'{"id":"batch_req_0123", "custom_id": "\xc3'[:draw.randint(0, 39)].replace(b", ", b",").replace(b": ", b":"))
    child = start()
    assert child.wait(MOST_SECONDS) == 0
    assert out.read_bytes().startswith(before[:before.rindex(b"\n") + 1])
    answers = read(out)
    assert answers.keys() == whole.keys()
    for name, answer in answers.items():
        assert said_of(answer) == said_of(whole[name]), name
    content = out.read_bytes()
    child = start()
    assert child.wait(MOST_SECONDS) == 0 and "answered already" in child.stderr.read()
    assert out.read_bytes() == content


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_whole_lines_and_it_goes_on(start, whole, tmp_path, number):
    out = tmp_path / "answers.jsonl"
    child = start()
    wait_for_lines(child, out, 5)
    child.send_signal(number)
    assert child.wait(MOST_SECONDS) == 128 + number
    found = read(out)
    assert f"stopped: {len(found)} of 60" in child.stderr.read() and 5 <= len(found) < 60
    child = start()
    assert child.wait(MOST_SECONDS) == 0
    assert f"{len(found)} had been before" in child.stderr.read()
    assert {name: said_of(answer) for name, answer in read(out).items()} == {name: said_of(answer) for name, answer in whole.items()}


def test_a_full_disk_leaves_whole_lines(start, whole, tmp_path):
    out = tmp_path / "answers.jsonl"
    child = start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_001, 30_001)))
    assert child.wait(MOST_SECONDS) == 4
    assert "answers.jsonl: cannot be written: File too large" in child.stderr.read()
    assert 0 < len(read(out)) < 60 and out.read_bytes().endswith(b"\n")
    assert start().wait(MOST_SECONDS) == 0
    assert read(out).keys() == whole.keys()


def test_two_commands_do_not_write_one_file(start, tmp_path):
    first = start()
    wait_for_lines(first, tmp_path / "answers.jsonl", 1)
    second = start()
    assert second.wait(MOST_SECONDS) == 2 and "another command writes it" in second.stderr.read()


def test_the_cache_is_as_large_as_it_is_told(tessera, bases, tmp_path):
    def told(*flags, expect=0):
        (tmp_path / "answers.jsonl").unlink(missing_ok=True)
        return tessera.run("batch", "-m", bases["gemma"], "-i", write(tmp_path / "requests.jsonl", [json.loads(GOOD)]), "-o", tmp_path / "answers.jsonl", *flags, expect=expect).stderr
    assert "cache: 16384 tokens in" in told() and "for up to 32 sequences of up to 512 tokens" in told()
    assert "for up to 3 sequences of up to 100 tokens" in told("--max-num-seqs", "3", "--max-seq-len", "100")
    small = told("--cache-memory", "0.002")
    tokens, megabytes, sequences = (float(word) for word in re.search(r"cache: (\d+) tokens in ([\d.]+) MB for up to (\d+)", small).groups())
    assert megabytes <= 2 and 512 <= tokens < 16384 and sequences == 32
    assert "takes at least" in told("--cache-memory", "0.00001", expect=4)
    assert "does not fit" in told("--cache-memory", "1e6", expect=4)
