"""Texts that a form holds, against validators that know nothing of it: what a schema lets pass is valid by jsonschema, whatever keyword it
has, and valid values that keep to the schema's order of properties pass."""
import json
import random
import subprocess

import jsonschema
import pytest

from conftest import made_weights

STRINGS = ["", "a", "ab", "abc", "abcdefgh", "\u00e9\u4e2d", "a\"b\\", "12", "2026-11-30", "x_1", "\n"]
NUMBERS = [0, 1, -1, 2, 3, 7, 10, 12, 99, 100, 101, -5, -100, 0.5, 1.5, -2.25, 3.0, 1e3, 0.001]
PATTERNS = ["^a+$", "^[a-c]{2,4}$", "^\\d{2}$", "^x_\\d$", "^(ab|abc)$", "^[^a]*$"]


def any_value(r, depth=0):
    kinds = [lambda: r.choice(STRINGS), lambda: r.choice(NUMBERS), lambda: r.choice([True, False, None])]
    if depth < 2:
        kinds += [lambda: [any_value(r, depth + 1) for _ in range(r.randrange(4))],
                  lambda: {r.choice("abcd"): any_value(r, depth + 1) for _ in range(r.randrange(4))}]
    return r.choice(kinds)()


def string_schema(r):
    schema = {"type": "string"}
    if r.random() < 0.4:
        schema["pattern"] = r.choice(PATTERNS)
    else:
        if r.random() < 0.5:
            schema["minLength"] = r.randrange(4)
        if r.random() < 0.5:
            schema["maxLength"] = r.randrange(3, 7)
    return schema


def number_schema(r, kind):
    schema = {"type": kind}
    bound = (lambda: r.randrange(-120, 121)) if kind == "integer" or r.random() < 0.5 else (lambda: round(r.uniform(-9, 9), 2))
    low = bound()
    if r.random() < 0.5:
        schema[r.choice(["minimum", "exclusiveMinimum"])] = low
    if r.random() < 0.5:
        schema[r.choice(["maximum", "exclusiveMaximum"])] = low + r.randrange(2, 200)
    if kind == "integer" and r.random() < 0.3:
        schema["multipleOf"] = r.randrange(1, 8)
    return schema


def array_schema(r, depth):
    schema = {"type": "array"}
    if r.random() < 0.3:
        schema["prefixItems"] = [some_schema(r, depth + 1) for _ in range(r.randrange(1, 3))]
    if r.random() < 0.7:
        schema["items"] = r.choice([False, some_schema(r, depth + 1)]) if "prefixItems" in schema else some_schema(r, depth + 1)
    if r.random() < 0.4:
        schema["minItems"] = r.randrange(3)
    if r.random() < 0.4:
        schema["maxItems"] = r.randrange(2, 5)
    return schema


def object_schema(r, depth):
    schema = {"type": "object"}
    names = r.sample("abcd", r.randrange(4))
    if names:
        schema["properties"] = {name: some_schema(r, depth + 1) for name in names}
        schema["required"] = r.sample(names, r.randrange(len(names) + 1))
    if r.random() < 0.2:
        schema["patternProperties"] = {r.choice(["^x", "^[ef]$"]): some_schema(r, depth + 1)}
    if r.random() < 0.5:
        schema["additionalProperties"] = r.choice([True, False, some_schema(r, depth + 1)])
    if r.random() < 0.1:
        schema["propertyNames"] = {"pattern": "^[a-d]$"}
    if r.random() < 0.2:
        schema["minProperties"] = r.randrange(3)
    if r.random() < 0.2:
        schema["maxProperties"] = r.randrange(2, 5)
    return schema


def some_schema(r, depth=0):
    kinds = [lambda: string_schema(r), lambda: number_schema(r, "integer"), lambda: number_schema(r, "number"), lambda: {"type": "boolean"},
             lambda: {"type": "null"}, lambda: {"const": any_value(r)}, lambda: {"enum": [any_value(r) for _ in range(3)]}]
    if depth < 2:
        kinds += 2 * [lambda: array_schema(r, depth), lambda: object_schema(r, depth)]
        kinds += [lambda: {"anyOf": [some_schema(r, depth + 1) for _ in range(2)]}, lambda: {"allOf": [some_schema(r, depth + 1)]},
                  lambda: {"type": r.sample(["string", "integer", "null", "array", "boolean"], 2)}]
    schema = r.choice(kinds)()
    if r.random() < 0.2:
        schema |= {"title": "a title", "description": "what it is", "default": 1, "examples": [2], "x-mine": True}
    return schema


def strict(text):
    """The value of a JSON text; ValueError for what Python alone takes."""
    def constant(name):
        raise ValueError(name)
    return json.loads(text, parse_constant=constant)


class Tool:
    def __init__(self, build, tokenizer, end):
        self.command = [build / "tests/grammar/grammar_tool", tokenizer, end]

    def __call__(self, lines):
        done = subprocess.run(self.command, input="".join(json.dumps(line) + "\n" for line in lines), stdout=subprocess.PIPE, text=True, check=True)
        return [json.loads(line) for line in done.stdout.rstrip("\n").split("\n")]

    def schema(self, schema, **more):
        return self([{"kind": "json_schema", "text": json.dumps(schema), **more}])[0]


@pytest.fixture(scope="module")
def tool(build):
    made = Tool(build, made_weights("make_tokenizers.py", "llama-2") / "tokenizer.json", "</s>")
    if not made.command[0].exists():
        pytest.skip(f"{made.command[0]} is not built: run `make build`")
    return made


def test_what_a_schema_lets_pass_is_valid(tool):
    r = random.Random(25)
    schemas = [some_schema(r) for _ in range(150)]
    values = [[any_value(r) for _ in range(10)] for _ in schemas]
    dumps = [lambda value: json.dumps(value), lambda value: json.dumps(value, ensure_ascii=False, indent=2)]
    answers = tool([{"kind": "json_schema", "text": json.dumps(schema), "walks": 4, "tokens": 150,
                     "texts": [dump(value) for dump in dumps for value in some]} for schema, some in zip(schemas, values, strict=True)])
    held, valid, whole = 0, 0, 0
    for schema, some, answer in zip(schemas, values, answers, strict=True):
        if "refused" in answer:
            continue
        held += 1
        assert "stuck" not in answer, schema
        is_valid = jsonschema.Draft202012Validator(schema).is_valid
        for value, passes in zip(2 * some, answer["whole"], strict=True):
            assert is_valid(value) or not passes, (schema, value)
            valid += is_valid(value)
            whole += passes
        for text in answer["texts"]:
            assert text is None or is_valid(strict(text)), (schema, text)
    assert held > 120 and whole > 0.9 * valid > 100  # those left are of another order or spelling, or name more properties


VALID = [
    ({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150}}, "required": ["name"]},
     [{"name": "a"}, {"name": "\u00e9\n\"", "age": 150}]),
    ({"type": "object"}, [{}, {"a": [1, {"b": None}]}]),
    ({"type": "array"}, [[], [1, "a", {}, [None]]]),
    ({}, [1, "a", None, {}, []]),
    ({"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}],
      "$defs": {"tree": {"type": "object", "properties": {"left": {"$ref": "#"}, "value": {"type": "number"}}, "required": ["value"]}}},
     [None, {"value": 1.5}, {"left": {"left": None, "value": -1}, "value": 2}]),
    ({"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "integer"}}, "required": ["kind", "x"]},
                {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"]}], "discriminator": {"propertyName": "kind"}},
     [{"kind": "a", "x": 1}, {"kind": "b"}]),
    ({"type": "string", "enum": ["a", "b"]}, ["a", "b"]),
    ({"type": "string", "format": "date"}, ["2026-11-30"]),
    ({"type": "array", "items": {"type": "integer"}, "uniqueItems": False}, [[1, 1]]),
    ({"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "t", "description": "d", "type": "boolean", "default": True,
      "examples": [True], "deprecated": True, "readOnly": True, "$comment": "c", "x-order": 1}, [True, False]),
]


def test_valid_values_pass(tool):
    answers = tool([{"kind": "json_schema", "text": json.dumps(schema), "texts": [json.dumps(value) for value in values]} for schema, values in VALID])
    for (schema, values), answer in zip(VALID, answers, strict=True):
        assert [jsonschema.Draft202012Validator(schema).is_valid(value) for value in values] == len(values) * [True]
        assert answer.get("whole") == len(values) * [True], (schema, answer)


NOT_ENFORCED = [
    ("not", {"type": "string", "not": {"const": "a"}}),
    ("if", {"type": "object", "if": {"properties": {"a": {"const": 1}}}, "then": {"required": ["b"]}}),
    ("dependentRequired", {"type": "object", "dependentRequired": {"a": ["b"]}}),
    ("dependentSchemas", {"type": "object", "dependentSchemas": {"a": {"required": ["b"]}}}),
    ("contains", {"type": "array", "contains": {"type": "integer"}}),
    ("uniqueItems", {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
    ("minProperties", {"type": "object", "minProperties": 2}),
    ("multipleOf", {"type": "number", "multipleOf": 0.5}),
    ("minLength", {"type": "string", "pattern": "^a*$", "minLength": 2}),
    ("allOf", {"allOf": [{"type": "object"}, {"required": ["a"]}]}),
    ("oneOf", {"oneOf": [{"type": "integer"}, {"type": "number"}]}),
    ("properties", {"anyOf": [{"type": "object"}, {"type": "null"}], "properties": {"a": {"type": "integer"}}}),
    ("required", {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}, "required": ["b"]}),
    ("type", {"type": "string", "anyOf": [{"minLength": 1}, {"type": "integer"}]}),
    ("pattern", {"pattern": "^a$"}),
    ("minimum", {"type": "string", "minimum": 1}),
    ("enum", {"type": "string", "enum": ["a", 1]}),
    ("maxLength", {"const": "a", "maxLength": 0}),
    ("$ref", {"$ref": "https://example.com/schema"}),
    ("$dynamicRef", {"$dynamicRef": "#a"}),
    ("nullable", {"type": "object", "properties": {"a": {"type": "string", "nullable": True}}}),
    ("patternProperties", {"type": "object", "properties": {"a": {"type": "integer"}}, "patternProperties": {"^x": {"type": "null"}}}),
    ("patternProperties", {"type": "object", "patternProperties": {"^x": {"type": "null"}, "y$": {"type": "string"}}}),
]


def test_a_keyword_that_would_not_be_enforced_is_refused_by_name(tool):
    lines = [{"kind": "json_schema", "text": json.dumps(schema)} for _, schema in NOT_ENFORCED]
    for (keyword, schema), answer in zip(NOT_ENFORCED, tool(lines), strict=True):
        assert keyword in answer.get("refused", ""), schema
    for (_, schema), answer in zip(NOT_ENFORCED, tool([{**line, "strict": False} for line in lines]), strict=True):
        assert "refused" not in answer, schema


def test_gemmas_vocabulary_holds_forms(build):
    tool = Tool(build, made_weights("make_gemma3_270m.py") / "tokenizer.json", "<eos>")
    numbers = {"type": "array", "items": {"type": "integer"}, "maxItems": 3}
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}, "b": numbers}, "required": ["a", "b"], "additionalProperties": False}
    valid = ['{"a": "\u4e2d\u00e9 x", "b": [1, -20]}', '{"a":"","b":[]}']
    wrong = ['{"b": [], "a": ""}', '{"a": "0123456789", "b": []}', valid[0] + "x", valid[0][:-1]]
    answer = tool.schema(schema, texts=[*valid, *wrong], walks=8, tokens=200)
    assert answer["whole"] == [True, True, False, False, False, False]
    ended = [text for text in answer["texts"] if text is not None]
    assert len(ended) > 4
    for text in ended:
        jsonschema.validate(strict(text), schema)
