"""--json-schema and --regex: texts of models that would say anything else, whatever draws their tokens."""
import json
import re

import pytest
from test_batch import CHAT, COMPLETIONS, batch, line, said  # noqa: F401

SCHEMA = {"type": "object", "required": ["name", "age", "colours", "kind"], "additionalProperties": False,
          "properties": {"name": {"type": "string", "maxLength": 6}, "age": {"type": "integer", "minimum": 10, "maximum": 99},
                         "colours": {"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 1, "maxItems": 3}, "kind": {"const": "cat"}}}
DATE = r"[1-9]\d{3}-(0\d|1[0-2])-[0-3]\d( at \d\d:\d\d)?"
NO_BLANKS = ("-l", "6-100", "-l", "7-100")  # between the parts of JSON there may be any number, and these models like them
SAMPLING = [("--temp", 0), ("--temp", 5, "-s", 3), ("--temp", 2, "--top-k", 5, "-s", 4), ("--temp", 2, "--top-k", 64, "--top-p", 0.95, "-s", 5),
            ("--temp", 3, "--repeat-penalty", 1.3, "--presence-penalty", 0.5, "-s", 6)]


def expect_of_schema(text):
    found = json.loads(text)
    assert sorted(found) == ["age", "colours", "kind", "name"]
    assert isinstance(found["name"], str) and len(found["name"]) <= 6
    assert type(found["age"]) is int and 10 <= found["age"] <= 99
    assert 1 <= len(found["colours"]) <= 3 and set(found["colours"]) <= {"red", "green"}
    assert found["kind"] == "cat"


@pytest.fixture
def schema(tmp_path):
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    return path


@pytest.mark.parametrize("sampling", SAMPLING, ids=lambda flags: " ".join(map(str, flags)))
def test_a_new_text_is_of_its_form_and_the_same_with_drafts(tessera, bases, schema, sampling):
    for form, expect in (("--json-schema", schema), expect_of_schema), (("--regex", DATE), lambda text: re.fullmatch(DATE, text) or pytest.fail(text)):
        texts = set()
        for prompt in "abab", "On 2024-10-12 at 10:20 there is {\"name\": \"red\", \"age\": 10":
            flags = ("-p", prompt, *form, *sampling, *NO_BLANKS)
            text = tessera.run("run", "-m", bases["gemma"], *flags).stdout.removesuffix("\n")
            expect(text)
            done = tessera.run("run", "-m", bases["gemma"], *flags, "--prompt-lookup", 8)
            assert done.stdout.removesuffix("\n") == text
            texts.add((text, "drafted" in done.stderr))
        assert len({text for text, _ in texts}) == 2 and any(drafted for _, drafted in texts)


def test_a_real_model_s_greedy_text(tessera, llama_smollm2, schema):
    text = tessera.run("run", "-m", llama_smollm2, "-p", "A cat as JSON:", "-n", 120, "--temp", 0, "--json-schema", schema).stdout
    expect_of_schema(text)


@pytest.mark.parametrize("flags, code, words", [
    (["--regex", "("], 2, "regex"), (["--regex", "a", "--ignore-eos"], 2, "--ignore-eos"), (["--regex", "a", "--json-schema", "x"], 2, "--regex"),
    (["--json-schema", "absent.json"], 3, "absent.json"), (["--json-schema", "cut.json"], 2, "not valid JSON"), (["--json-schema", "not.json"], 2, '"not"'),
    (["--regex", "a", "--min-new-tokens", "9"], 1, "min_new_tokens"), (["--regex", "\u00e9"], 2, "no token of the model"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_cannot_be_held_is_told(tessera, bases, tmp_path, monkeypatch, flags, code, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.json").write_text('{"type": ')
    (tmp_path / "not.json").write_text('{"type": "object", "not": {"required": ["a"]}}')
    assert words in tessera.run("run", "-m", bases["gemma"], "-p", "abab", *flags, expect=code).stderr


def test_a_batch_s_answers_are_of_their_requests_forms_or_of_the_flag_s(tessera, bases, batch, schema):  # noqa: F811
    bias = {"6": -100, "7": -100}
    own = {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "boolean"}, "strict": True}}}
    lines = [line("text", COMPLETIONS, {"prompt": "abab", "temperature": 0, "logit_bias": bias}),
             line("texts", COMPLETIONS, {"prompt": ["abab", "On 2024"], "n": 3, "temperature": 4, "seed": 1, "logit_bias": bias, "logprobs": 2}),
             line("chat", CHAT, {"messages": said("a"), "n": 2, "temperature": 2, "top_k": 20, "seed": 2, "logit_bias": bias}),
             line("own", CHAT, {"messages": said("a"), "temperature": 3, **own}), line("choice", COMPLETIONS, {"prompt": "a", "structured_outputs": {"choice": ["red", "green"]}}),
             line("refused", COMPLETIONS, {"prompt": "a", "structured_outputs": {"regex": "("}})]
    answers = batch(lines, "--json-schema", schema)
    texts = {key: [choice.get("text") or choice["message"]["content"] for choice in answers[key]["body"]["choices"]] for key in ("text", "texts", "chat", "own", "choice")}
    for text in texts["text"] + texts["texts"] + texts["chat"]:
        expect_of_schema(text)
    assert len(texts["texts"]) == 6 and len(set(texts["texts"])) > 3 and len(set(texts["chat"])) == 2
    assert texts["own"][0] in ("true", "false") and texts["choice"][0] in ("red", "green")
    assert {choice["finish_reason"] for key in texts for choice in answers[key]["body"]["choices"]} == {"stop"}
    assert texts["text"][0] == tessera.run("run", "-m", bases["gemma"], "-p", "abab", "--temp", 0, "--json-schema", schema, *NO_BLANKS).stdout.removesuffix("\n")
    assert answers["refused"]["status_code"] == 400 and "regex" in answers["refused"]["body"]["error"]["message"]
    for one in batch(lines[:2], "--regex", DATE).values():
        assert all(re.fullmatch(DATE, choice["text"]) for choice in one["body"]["choices"])


def test_a_batch_whose_flag_is_no_form_does_not_begin(tessera, bases, tmp_path):
    (tmp_path / "requests.jsonl").write_text(json.dumps(line("a", COMPLETIONS, {"prompt": "a"})))
    done = tessera.run("batch", "-m", bases["gemma"], "-i", tmp_path / "requests.jsonl", "-o", tmp_path / "out.jsonl", "--regex", "(", expect=2)
    assert "regex" in done.stderr
