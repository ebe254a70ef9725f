"""Texts that a form holds, against validators that know nothing of it: what a schema lets pass is valid by jsonschema, whatever keyword it
has, and valid values that keep to the schema's order of properties pass."""
import json
import random
import subprocess

import jsonschema
import pytest

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


def validator(schema):
    return jsonschema.Draft202012Validator(schema)


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
        return [json.loads(line) for line in done.stdout.splitlines()]
