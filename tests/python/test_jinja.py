"""Chat templates as transformers runs them with jinja2: the same text, or both refuse."""
import collections
import datetime
import json
import os
import subprocess

import pytest
from chat_cases import CASES
from conftest import made_weights
from jinja_snippets import EXPRESSIONS, TEMPLATES, VALUES

EPOCH = 1753963200  # 31 July 2025, noon
SPECIAL_TOKENS = {"bos_token": "<|begin|>", "eos_token": "<|end_of_text|>", "pad_token": "<pad>", "unk_token": "<unk>"}


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls):
        return cls.fromtimestamp(EPOCH, datetime.timezone.utc).replace(tzinfo=None)


class JinjaTool:
    """tests/text/jinja_tool.cpp, asked many times."""

    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)})

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"no answer, exit {self.process.wait()}"
        return json.loads(line)


@pytest.fixture(scope="session")
def ours(build):
    path = build / "tests/text/jinja_tool"
    if not path.exists():
        pytest.skip(f"{path} is not built")
    tool = JinjaTool(path)
    yield tool
    tool.process.communicate()


@pytest.fixture(scope="session")
def templates():
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(made_weights("make_chat_templates.py").glob("*.jinja"))}


@pytest.fixture(autouse=True)
def fixed_time(monkeypatch):
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", FixedTime)


def theirs(template, messages, tools, generate, arguments, special_tokens=SPECIAL_TOKENS):
    """What apply_chat_template renders, or the exception."""
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [{key: value for key, value in message.items() if value is not None} for message in messages]
    try:
        texts, _ = render_jinja_template([messages], tools, chat_template=template, add_generation_prompt=generate, **{**special_tokens, **arguments})
    except Exception as error:
        return error
    return texts[0]


def compare(ours, template, case, **options):
    """("equal" | "both refuse" | "only ours refuses" | "only theirs refuses" | "other text", ours, theirs)."""
    got = ours.ask(template=template, special_tokens=SPECIAL_TOKENS, **case, **options)
    wanted = theirs(template, **case)
    if isinstance(wanted, Exception):
        return "only theirs refuses" if "text" in got else "both refuse", got, wanted
    if "text" not in got:
        return "only ours refuses", got, wanted
    return "equal" if got["text"] == wanted else "other text", got, wanted


def test_known_templates_render_as_with_jinja2(ours, templates, measured):
    counts, bad = collections.Counter(), []
    for name, template in templates.items():
        for case in CASES:
            verdict, got, wanted = compare(ours, template, CASES[case])
            counts[verdict] += 1
            if verdict not in ("equal", "both refuse"):
                bad.append((name, case, verdict, got, repr(wanted)))
    assert len(templates) >= 70 and len(CASES) >= 20
    assert not bad, f"{len(bad)}: {bad[:3]}"
    assert counts["equal"] >= 0.7 * len(templates) * len(CASES)
    measured(f"chat templates: {len(templates)} templates x {len(CASES)} conversations: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()))


def snippets():
    expressions = [expression.strip() for line in EXPRESSIONS.splitlines() for expression in line.split("; ")]
    return [f"[{{{{ {expression} }}}}]" for expression in expressions] + TEMPLATES


def test_jinja_and_python_rules_one_by_one(ours, measured):
    """What we refuse and jinja2 renders must be refused by name."""
    counts, bad = collections.Counter(), []
    for template in snippets():
        verdict, got, wanted = compare(ours, template, {"messages": [{"role": "user", "content": "x"}], "tools": None, "generate": True, "arguments": VALUES})
        refused_by_name = verdict == "only ours refuses" and "not supported" in got.get("refused", got.get("failed", ""))
        counts["refused by name" if refused_by_name else verdict] += 1
        if verdict not in ("equal", "both refuse") and not refused_by_name:
            bad.append((template, verdict, got, repr(wanted)))
    assert not bad, f"{len(bad)}: {bad[:5]}"
    assert counts["refused by name"] <= 20
    measured(f"Jinja's rules: {len(snippets())} small templates: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()))
