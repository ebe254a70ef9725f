"""A conversation's cache and its ends: what is computed in a turn, and what ends an answer."""
import json
import re
import shutil
import subprocess

import pytest
from test_jinja import fixed_time, ours, theirs  # noqa: F401  (fixtures)

QUESTIONS = ["abc ab", "what is ba?", "and cab"]


def talk(tessera, folder, *flags, questions=QUESTIONS):
    """The answers, and how many tokens were computed for each."""
    done = subprocess.run([tessera.path, "chat", "-m", folder, "--temp", "0", "--show-timings", *flags], input="\n".join(questions) + "\n", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1], [int(n) for n in re.findall(r"prefill (\d+) tokens", done.stderr)]


def conversation(answers, questions=QUESTIONS):
    """The messages up to the last question; the last answer is still to come."""
    said = [{"role": role, "content": text} for pair in zip(questions, answers) for role, text in zip(("user", "assistant"), pair)]
    return said[:-1]


def test_only_what_is_new_is_computed(tessera, phi3_smollm2, ours):  # noqa: F811
    template, path = (phi3_smollm2 / "chat_template.jinja").read_text(), str(phi3_smollm2 / "tokenizer.json")
    questions = ["What is the capital of France?", "And of Germany?", "Thanks!"]
    answers, computed = talk(tessera, phi3_smollm2, "-n", "24", questions=questions)
    assert len(computed) == 3
    tokens = json.loads((phi3_smollm2 / "tokenizer_config.json").read_text())
    special = {key: tokens[key] for key in ("bos_token", "eos_token", "pad_token") if isinstance(tokens.get(key), str)}
    ids = lambda messages, generate: len(ours.ask(template=template, tokenizer=path, special_tokens=special, tools=None, arguments={}, messages=messages, generate=generate)["ids"])
    assert computed[0] == ids(conversation(answers[:1], questions), True)
    for turn in (1, 2):
        so_far = conversation(answers[:turn], questions) + [{"role": "assistant", "content": answers[turn - 1]}]
        new = ids(conversation(answers[:turn + 1], questions), True) - ids(so_far[:-1], True)
        in_answer = len(ours.ask(template="{{ messages[0].content }}", tokenizer=path, special_tokens={}, messages=so_far[-1:], tools=None, arguments={}, generate=True)["ids"])
        assert abs(computed[turn] - (new - in_answer)) <= 1, (computed, new, in_answer)  # the last token of an answer may be computed with it


@pytest.fixture
def forgetful(bases, tmp_path):
    """A tiny Gemma with a window of 4 tokens, and a template that changes earlier answers, as Qwen3's does."""
    folder = shutil.copytree(bases["gemma"], tmp_path / "gemma")
    template = """{%- for m in messages %}{{ '<start_of_turn>' + m.role }}{% if m.role == 'assistant' %}{{ m.content[:2] | upper }}{% else %}{{ m.content }}{% endif %}{{ '<end_of_turn>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model' }}{% endif %}"""
    (folder / "chat_template.jinja").write_text(template)
    return folder


def test_a_template_that_changes_earlier_answers_is_computed_anew_past_a_window(tessera, forgetful, ours):  # noqa: F811
    answers, computed = talk(tessera, forgetful, "-n", "40")
    assert len(answers) == 3 and all(len(answer) > 8 for answer in answers)
    template = (forgetful / "chat_template.jinja").read_text()
    for turn in range(3):
        text = theirs(template, conversation(answers[:turn + 1]), None, True, {}, {})
        fresh = tessera.run("run", "-m", forgetful, "--temp", "0", "-n", "40", "-p", text).stdout
        assert fresh.removesuffix("\n") == answers[turn], turn


def test_an_answer_that_the_template_leaves_alone_is_not_computed_again(tessera, bases):
    """Past a window of 4 tokens too, where nothing can be taken back."""
    _, computed = talk(tessera, bases["gemma"], "-n", "40")
    for turn, question in enumerate(QUESTIONS[1:], 1):
        new = 4 + len("user" + question + "assistant") - question.count("ab")  # two and two control tokens, a token a letter, and "ab" is one
        assert computed[turn] == new + 1, computed  # and the last token of the answer


def test_a_turn_ends_by_the_token_that_the_template_writes(tessera, bases):
    """The tiny checkpoint's generation_config.json knows <eos> alone; <end_of_turn> is 5."""
    flags = ["-m", bases["gemma"], "-p", "ab", "-n", "8", "--print-ids", "-l", "5+1000"]
    assert tessera.run("run", *flags).stdout.split() == ["5"] * 8
    assert tessera.run("run", "--chat", *flags).stdout.split() == ["5"]


def test_eos_of_config_and_tokenizer_config_end_a_turn_too(tessera, bases, tmp_path):
    folder = shutil.copytree(bases["gemma"], tmp_path / "gemma")
    edit = lambda name, **values: (folder / name).write_text(json.dumps({**(json.loads((folder / name).read_text()) if (folder / name).exists() else {}), **values}))
    edit("generation_config.json", eos_token_id=1)
    edit("config.json", eos_token_id=40)
    edit("tokenizer_config.json", eos_token="!")
    bang = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]["!"]
    for end in (40, bang):
        shown = tessera.run("run", "--chat", "-m", folder, "-p", "ab", "-n", "8", "--print-ids", "-l", f"{end}+1000").stdout.split()
        assert shown == [str(end)]
    assert tessera.run("run", "--chat", "-m", folder, "-p", "ab", "-n", "3", "--print-ids", "-l", "41+1000").stdout.split() == ["41"] * 3


def test_arguments_and_files_reach_the_template(tessera, bases, tmp_path):
    (tmp_path / "t.jinja").write_text("{{ raise_exception(n ~ '|' ~ (n is number) ~ '|' ~ s ~ '|' ~ (flag is false) ~ '|' ~ l[1] ~ '|' ~ strftime_now('%Y-%m-%d')) }}")
    done = subprocess.run([tessera.path, "run", "--chat", "-m", bases["gemma"], "-p", "ab", "--template", tmp_path / "t.jinja", "--template-arg", "n=3", "--template-arg", "s=some text",
                           "--template-arg", "flag=false", "--template-arg", "l=[1, 2]"], capture_output=True, text=True, env={"SOURCE_DATE_EPOCH": "86400", "TESSERA_PACKED_CACHE": "0"}, timeout=60)
    assert done.returncode == 2
    assert "3|True|some text|True|2|1970-01-02" in done.stderr


def test_inspect_tells_where_the_template_stands_and_what_it_takes(tessera, bases, tmp_path):
    folder = shutil.copytree(bases["gemma"], tmp_path / "gemma")
    (folder / "chat_template.jinja").unlink()
    assert re.search(r"^chat template +none$", tessera.run("inspect", "-m", folder).stdout, re.M)
    template = "{% for m in messages %}{% if m.role == 'system' %}s{% elif m.role == 'user' %}u{% endif %}{% endfor %}{{ tools | tojson }}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    assert re.search(r"^chat template +tokenizer_config.json: chat_template; roles system, user; takes tools$", tessera.run("inspect", "-m", folder).stdout, re.M)
