"""docs/ against the program: every flag stands in docs/commands.md with an example that runs, and nothing else does."""
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from serving import Server

COMMANDS = ROOT / "docs/commands.md"
FLAG = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")
PROMPT = ({"-p", "-f", "--ids-file", "--reference"}, ["-p", "abab"])
SIDES = {"--reference", "--save-reference", "--against-weights", "--against-activations", "--against-cache"}
OTHERS = {"--model-b", "--weights-b", "--activations-b", "--cache-b"}
NEEDS = {  # command -> what an example of one of its flags needs beside it, unless it has one of these flags itself
    "run": [PROMPT, ({"-n"}, ["-n", "2"])],
    "chat": [({"-n"}, ["-n", "2"])],
    "batch": [({"-i"}, ["-i", "requests.jsonl"]), ({"-o"}, ["-o", "answers.jsonl"])],
    "serve": [({"--port"}, ["--port", "0"])],
    "perplexity": [PROMPT],
    "inspect": [],
    "tokenize": [PROMPT],
    "eval": [PROMPT, (SIDES, ["--against-cache", "bfloat8_b"])],
    "bench": [({"-p"}, ["-p", "8"]), ({"-n"}, ["-n", "2"]), ({"-r"}, ["-r", "1"])],
    "compare": [PROMPT, (OTHERS, ["--weights-b", "bfloat8_b"])],
    "plan": [],
    "alone": [],
}


def sections():
    """Title -> text of docs/commands.md's second-level sections."""
    parts = re.split(r"^## (.*)$", COMMANDS.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def rows(title):
    """(flags, example) of the tables of a section and of the sections that it takes flags from."""
    all_sections = sections()
    for anchor in re.findall(r"\(#([a-z-]+)\)", all_sections[title]):
        (shared,) = [name for name in all_sections if name.lower().replace(" ", "-") == anchor]
        yield from rows(shared)
    for line in all_sections[title].splitlines():
        if line.startswith("| `-"):
            names, _, example = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:4]]
            yield FLAG.findall(names), example.strip("`")


def help_of(tessera, *command):
    return tessera.run(*command, "--help").stdout


def flags_in(text):
    return {flag for line in text.splitlines() if line.startswith("  -") for flag in FLAG.findall(re.sub(r" [^-].*", "",
                                                                                                         line[2:].replace(", ", ",")))}


@pytest.fixture(scope="module")
def titles(tessera):
    listed = re.findall(r"^  (\w+)$", help_of(tessera).split("\nCOMMANDS\n")[1].split("\n\n")[0], flags=re.M)
    return {**{f"tessera {name}": (name,) for name in listed}, "tessera alone": ()}


def test_the_commands_flags_are_those_of_the_help_and_no_others(tessera, titles):
    assert {title for title in sections() if title.startswith("tessera ")} == set(titles)
    for title, command in titles.items():
        told = [flag for names, _ in rows(title) for flag in names]
        assert len(told) == len(set(told)), f"{title}: a flag stands twice"
        assert set(told) == flags_in(help_of(tessera, *command)), title


def test_every_help_has_what_a_manual_page_has(tessera, titles):
    for command in titles.values():
        text = help_of(tessera, *command)
        for heading in ("NAME", "SYNOPSIS", "OPTIONS", "EXAMPLES", "ENVIRONMENT", "EXIT CODES"):
            assert f"\n{heading}\n" in "\n" + text, f"{command}: {heading}"
        assert "Option Group" not in text
        long = [line for line in text.splitlines() if len(line) > 100]
        assert not long, long


@pytest.fixture
def place(bases, tmp_path, tessera, monkeypatch):
    """A folder in which the examples find what they name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("A text of some words. " * 12)
    (tmp_path / "requests.jsonl").write_text('{"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {"prompt": "ab", "max_tokens": 2}}\n')
    (tmp_path / "ids.json").write_text("[2, 40, 41, 42]")
    (tmp_path / "schema.json").write_text('{"type": "array", "items": {"type": "boolean"}}')
    (tmp_path / "keys.txt").write_text("somebody:a-key\n")
    shutil.copy(bases["gemma"] / "chat_template.jinja", tmp_path / "template.jinja")
    tessera.run("eval", "-m", bases["gemma"], "-p", "abab", "-n", "8", "--save-reference", "reference.json")
    return lambda text: [str(bases["gemma"]) if word == "MODEL" else word for word in shlex.split(text)]


def done_by(program, *words):
    """What an example does; `serve` is ended when it is ready."""
    if words[0] != "serve" or "--help" in words:
        return subprocess.run([program, *words], input="ab\n", capture_output=True, text=True, timeout=60)
    with subprocess.Popen([program, *words], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        told = ""
        for line in server.stderr:
            told += line
            if line.startswith("tessera: ready:"):
                server.terminate()
        return subprocess.CompletedProcess(server.args, server.wait(60), stderr=told)


def test_the_examples_of_all_flags_run(tessera, titles, place):
    count = 0
    for title, command in titles.items():
        for names, example in rows(title):
            if not example:
                continue
            words = place(example)
            assert set(names) & set(words), f"{title}: {example} does not have the flag"
            rest = [word for unless, more in NEEDS[title.split()[1]] if not unless & set(words) for word in more]
            model = ["-m", *place("MODEL")] if command and "-m" not in words else []
            done = done_by(tessera.path, *command, *model, *words, *rest)
            assert done.returncode == 0, f"{title}: {example}: {done.stderr}"
            count += 1
    assert count > 80


@pytest.mark.parametrize("name", ["commands.md", "quick_start.md"])
def test_the_command_lines_run_one_after_the_other(tessera, place, name):
    lines = re.findall(r"^    tessera (.*)$", (ROOT / "docs" / name).read_text(encoding="utf-8"), flags=re.M)
    assert len(lines) >= 4
    for line in lines:
        command, *words = place(line)
        done = done_by(tessera.path, command, *words)
        assert done.returncode == 0, f"{line}: {done.stderr}"


def test_the_examples_of_the_page_on_serving_run(tessera, bases):
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```$", (ROOT / "docs/serving.md").read_text(encoding="utf-8"), flags=re.M | re.S)
    assert [kind for kind, _ in blocks] == ["sh", "python", "python"]
    with Server(tessera, bases["gemma"], "--served-model-name", "gemma") as server:
        for kind, text in blocks:
            assert "http://127.0.0.1:8000" in text
            text = text.replace("http://127.0.0.1:8000", server.url)
            done = subprocess.run(["sh", "-c", text] if kind == "sh" else [sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
            assert done.returncode == 0 and done.stdout.strip() and "error" not in done.stdout, f"{text}: {done.stdout} {done.stderr}"
    assert server.log().count(" 200 ") == 4, server.log()


def test_the_page_on_serving_tells_of_every_route_and_metric(tessera, bases):
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    with Server(tessera, bases["gemma"]) as server:
        routes = re.findall(r"/[a-z_/0-9]*", server.ask("GET", "/nope").json["error"]["message"])
        metrics = re.findall(r"# TYPE tessera:(\w+) ", server.ask("GET", "/metrics").body.decode())
    assert len(routes) > 10 and [route for route in routes if f"{route}`" not in page] == []
    assert len(metrics) > 20 and [name for name in metrics if not re.search(rf"`{name}[`{{]", page)] == []
    assert set(re.findall(r"`(?:GET|POST) (/[^`]*?)(?:/NAME)?`", page)) == set(routes)


def test_the_links_of_all_pages_lead_to_files_and_headings():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if link.startswith("http"):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.M) if anchor else []
            assert not anchor or anchor in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings], f"{page.name}: {link}"


def test_the_readme_leads_to_every_page():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in ["SECURITY.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]:
        assert f"({page})" in readme, page
