"""What can be wrong with a checkpoint's tokenizer and its chat template."""
import functools
import json

import hostile_files as f
from hostile_checkpoint_cases import Case, directory, fifo

TOKENIZER = "tokenizer.json"
ALL = ("run", "chat", "perplexity")


def model(**values):
    return f.tokenizer(lambda content: content["model"].update(values))


def vocabulary(**tokens):
    return f.tokenizer(lambda content: content["model"]["vocab"].update(tokens))


def part(**values):
    return f.tokenizer(lambda content: content.update(values))


def split(pattern):
    return part(pre_tokenizer={"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False})


def added(index, **values):
    return f.tokenizer(lambda content: content["added_tokens"][index].update(values))


def bytes_as(token):
    return f.all_of(model(byte_fallback=True), vocabulary(**{token: 110}))


def nested(depth):
    inner = {"type": "NFC"}
    for _ in range(depth):
        inner = {"type": "Sequence", "normalizers": [inner]}
    return part(normalizer=inner)


def growing(content):
    content["normalizer"] = {"type": "Sequence",
                             "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}] * 4}


def crowded(folder):
    path = folder / TOKENIZER
    more = ",".join(f'"x{i}":{i % 1000}' for i in range(4_300_000))
    path.write_text(path.read_text().replace('"vocab": {', '"vocab": {' + more + ",", 1))


def no_json(number, name, content, words):
    return Case(number, name, f.write(TOKENIZER, content), [TOKENIZER, *words], commands=ALL)


def case(number, name, bad, words, good=None, **more):
    return Case(number, name, bad, words if more.get("exit", 3) == 2 else [TOKENIZER, *words], good=good, **{"commands": ALL, **more})


TOKENIZER_CASES = [
    case(56, "id negative", vocabulary(x=-1), ['model.vocab: the token "x" must have an integer of 0 to 4194303']),
    case(56, "id twice", vocabulary(**{"é": 8}), ['model.vocab: the token "é" has the id 8, as has "!"'], good=vocabulary(**{"é": 150})),
    case(56, "id of 2^31", vocabulary(**{"é": 2**31}), ['the token "é" must have an integer of 0 to 4194303']),
    case(56, "id that is no number", vocabulary(**{"é": "7"}), ['the token "é" must have an integer']),
    case(56, "added token with another's id", added(4, id=5), ["added_tokens[4].id: is 5"]),
    case(57, "merge of an unknown token", model(merges=[["a", "é"]]), ['model.merges[0]: "é" is not in the vocabulary']),
    case(57, "merge into an unknown token", model(merges=[["a", "c"]]), ['model.merges[0]: "ac" is not in the vocabulary']),
    case(57, "merge that is no pair", model(merges=[["a"]]), ["model.merges[0]: must be two texts"]),
    case(58, "token of 100 MB", f.text(TOKENIZER, '"ab":', '"' + "x" * 100_000_000 + '": 150, "ab":'),
         ["has 100000000 bytes; at most 65536"]),
    case(58, "four million tokens", crowded, ["model.vocab: has more than 4194303 tokens"]),
    no_json(58, "file above 128 MB", b" " * ((128 << 20) + 1), ["134217729 bytes; at most 134217728 are read"]),
    case(59, "byte token <0x-1>", bytes_as("<0x-1>"), ['model.vocab: the byte token "<0x-1>"'], good=bytes_as("<0x1F>")),
    case(59, "byte token <0xGG>", bytes_as("<0xGG>"), ['model.vocab: the byte token "<0xGG>"']),
    case(60, "pattern that backtracks without end", split("(a+)+$"), ['regular expression "(a+)+$" fails on this text'], exit=2,
         commands=("run", "perplexity"), prompt="a" * 5000 + "b", good=split("a+$")),
    case(61, "pattern that is none", split("(a"), ["pre_tokenizer.pattern.Regex", '"(a" is not valid'], good=split("(a)")),
    case(61, "pattern with control characters", split("(\x1b[2J\x9b\n"), ["pre_tokenizer.pattern.Regex"]),
    case(61, "parentheses by the thousand", split("(" * 2000 + ")" * 2000), ["pre_tokenizer.pattern.Regex"],
         good=split("(" * 50 + ")" * 50)),
    case(62, "unknown normalizer", part(normalizer={"type": "Precompiled"}),
         ['normalizer.type: the normalizer "Precompiled" is not supported'],
         good=part(normalizer={"type": "NFC"})),
    case(62, "unknown pre-tokenizer", part(pre_tokenizer={"type": "Bert\x1b\u202e"}), [r'pre_tokenizer.type: the pre-tokenizer "Bert']),
    case(62, "unknown decoder", part(decoder={"type": "WordPiece"}), ['decoder.type: the decoder "WordPiece" is not supported']),
    case(62, "unknown model", model(type="Unigram"), ['model.type: the model "Unigram" is not supported']),
    case(62, "unknown field", part(flavour=1), ['the field "flavour" is not known']),
    case(62, "random merges", model(dropout=0.1), ["model.dropout: random merges are not supported"], good=model(dropout=0.0)),
    case(62, "normalizers nested 9 deep", nested(9), ["nested more than 8 levels"], good=nested(8)),
    case(62, "a text that grows without end", f.tokenizer(growing), ["would grow to more than"], exit=2, commands=("run", "perplexity")),
    Case(62, "tokenizer missing", f.remove(TOKENIZER), [TOKENIZER, "is not there"], commands=ALL),
    no_json(62, "tokenizer empty", "", ["not valid JSON"]),
    no_json(62, "tokenizer cut", '{"model": {', ["not valid JSON"]),
    no_json(62, "tokenizer nested without end", "[" * 1_000_000, ["not valid JSON"]),
    no_json(62, "tokenizer that is no UTF-8", b'{"model": "\xff"}', ["not valid JSON"]),
    Case(62, "FIFO for a tokenizer", fifo(TOKENIZER), [TOKENIZER, "is not a regular file"], commands=ALL),
    Case(62, "directory for a tokenizer", directory(TOKENIZER), [TOKENIZER, "is not a regular file"], commands=ALL),
]

JINJA = "chat_template.jinja"
jinja = functools.partial(f.write, JINJA)


def template(number, name, bad, words, good=None, **more):
    return Case(number, name, bad, list(words), good=good, **{"commands": ("run --chat",), **more})


def in_field(tokenizer_config):
    return f.all_of(f.remove(JINJA), f.write("tokenizer_config.json", tokenizer_config))


TEMPLATE_CASES = [  # a template is data: what it may take is counted, and what it asks for beyond that is refused
    template(63, "range without end", jinja("{% for i in range(1000000000) %}x{% endfor %}" + f.TEMPLATE), ["more than 100000 items"], exit=2,
             good=jinja("{% for i in range(10) %}{% endfor %}" + f.TEMPLATE)),
    template(63, "loops within loops", jinja("{% for i in range(100000) %}{% for i in range(100000) %}{% endfor %}{% endfor %}" + f.TEMPLATE), ["steps"], exit=2),
    template(63, "macro that calls itself", jinja("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" + f.TEMPLATE), ["more than 1000 levels"], exit=2,
             good=jinja("{% macro f() %}{% endmacro %}{{ f() }}" + f.TEMPLATE)),
    template(63, "100,000 parentheses", jinja("{{" + "(" * 100_000 + ")" * 100_000 + "}}"), ["line 1", "nested more than 200 levels"]),
    template(63, "ten billion characters", jinja("{{ 'x' * 10000000000 }}" + f.TEMPLATE), ["bytes of values"], exit=2),
    template(63, "unknown filter", jinja("{{ messages | evil }}"), ['line 1, column 15: the filter "evil" is not supported']),
    template(64, "a way out of the sandbox", jinja("{{ ''.__class__.__mro__[1].__subclasses__() }}"), ["__class__", "is unsafe"], exit=2),
    template(64, "empty template", jinja(""), ["gives no text"], exit=2),
    template(64, "template above 1 MB", jinja("x" * ((1 << 20) + 1)), [JINJA, "1048577 bytes; at most 1048576 are read"]),
    template(64, "template that is a number", in_field('{"chat_template": 1}'),
             ["tokenizer_config.json: chat_template is 1: must be text"],
             good=in_field(json.dumps({"chat_template": f.TEMPLATE}))),
    template(64, "templates without a default", in_field('{"chat_template": [{"name": "rag", "template": "x"}]}'),
             ["rag", 'none of them is named "default"']),
    template(64, "FIFO for a template", f.all_of(jinja(""), fifo(JINJA)), [JINJA, "is not a regular file"]),
    template(64, "no template", f.remove(JINJA), ["no chat template: is it a base model?", "--template"]),
]
