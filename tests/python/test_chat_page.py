"""The chat page of `tessera serve` in a browser: what people do on it, what a hostile answer cannot do, and axe-core's rules."""
import json
import math
import re
import shutil
import socket
import threading
import urllib.parse
from pathlib import Path

import pytest
import scripted_model
from serving import Server

try:
    from playwright.sync_api import expect, sync_playwright
except ImportError:
    sync_playwright = None

pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 60_000  # ms: a loaded machine's

HOSTILE = ["<script>window.pwned = 1</script>", "<img src=x onerror='window.pwned = 2'>\n\n", "![a picture](http://192.0.2.1/picture.png)\n\n",
           "[click](javascript:window.pwned=3)\n\n", "[inward](data:text/html,<script>parent.pwned=4</script>)\n\n", "<svg onload=window.pwned=5>\n\n",
           "<http://192.0.2.2/link>\n\n", "<style>* { display: none }</style>"]
MARKDOWN = ["# A title\n\n", "- one\n- two\n  1. inner\n\n", "| name | size |\n|---|---:|\n| a | **1** |\n| b | `2` |\n\n", "```python\nreturn 'text'  # why\n```\n\n",
            "> a quote\n\n", "*lean* ~~gone~~ 2 * 3 [site](https://example.org/x)\n"]


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None or sync_playwright is None:
        pytest.skip("no chromium or no playwright here: scripts/setup check installs them on Debian")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Opens the page of a server in a browser that has never been there. Fails for an error on it, and for a request to anywhere else."""
    contexts, wrong = [], []

    def visit(url, path="/", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith((url.partition("#")[0], "data:", "blob:")) else None)
        page.on("requestfailed", lambda request: wrong.remove(request.url) if request.failure == "csp" and request.url in wrong else None)
        page.goto(url + path)
        return page

    expect.set_options(timeout=PATIENCE)
    yield visit
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture(scope="module")
def tiny(tessera, bases):
    with Server(tessera, bases["gemma"], "--served-model-name", "tiny") as server:
        yield server


@pytest.fixture(scope="module")
def scripted(tessera, tmp_path_factory):
    answers = {"1": ["It ", "is one."], "2": HOSTILE, "3": MARKDOWN, "9": ["on and ", "on, ", ...]}
    with Server(tessera, scripted_model.make(tmp_path_factory.mktemp("page") / "scripted", answers), "--served-model-name", "scripted") as server:
        yield server


def ask(page, text):
    page.get_by_label("Your message").fill(text)
    page.get_by_label("Your message").press("Enter")


def set_fields(page, **fields):
    page.get_by_role("button", name="Settings").click()
    for name, value in fields.items():
        page.locator(f"#settings [name={name}]").fill(str(value))
    page.locator("#settings").get_by_role("button", name="Save").click()


def answers(page):
    return page.locator("article.assistant")


def ended(page):
    expect(page.locator("article.running")).to_have_count(0)
    expect(page.locator("article.assistant .facts")).not_to_have_count(0)
    return answers(page).last.locator(".text")


def kept(page):
    """The conversations that the browser has."""
    return page.evaluate("""async () => {
        const done = request => new Promise((resolve, reject) => { request.onsuccess = () => resolve(request.result); request.onerror = reject; });
        const database = await done(indexedDB.open("tessera", 1));
        return done(database.transaction("conversations").objectStore("conversations").getAll());
    }""")


def last_answer(page):
    """As it is kept, which is soon after it has ended."""
    page.wait_for_function("""async () => {
        const request = indexedDB.open("tessera", 1);
        const database = await new Promise(resolve => { request.onsuccess = () => resolve(request.result); });
        const all = database.transaction("conversations").objectStore("conversations").getAll();
        return new Promise(resolve => { all.onsuccess = () => resolve(all.result.length > 0 && all.result.every(one => one.messages.every(message => message.state !== "running"))); });
    }""")
    conversation, = kept(page)
    return next(message for message in conversation["messages"] if message["id"] == conversation["leaf"])


def choice(server, path, body, **more):
    return server.post(path, {"return_token_ids": True, **body, **more})["choices"][0]


def test_a_conversation_is_streamed_kept_renamed_found_and_deleted(scripted, visit):
    page = visit(scripted.url)
    ask(page, "what is 1")
    expect(ended(page)).to_have_text("It is one.")
    ask(page, "and 9, without end, is 9")
    expect(answers(page).nth(1).locator(".text")).to_contain_text("on and on, on and on, ")  # while it runs
    page.keyboard.press("Escape")
    expect(answers(page).nth(1)).to_contain_text("Stopped.")
    stopped = ended(page).inner_text()
    assert stopped.startswith("on and on, ")
    page.reload()
    expect(answers(page)).to_have_count(2)
    expect(answers(page).first.locator(".text")).to_have_text("It is one.")
    assert ended(page).inner_text() == stopped
    page.get_by_role("button", name="Rename").click()
    page.locator("#ask-input").fill("Numbers")
    page.locator("#ask-yes").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Numbers")
    page.keyboard.press("Alt+n")
    ask(page, "another 1")
    ended(page)
    entries = page.locator("#list button")
    expect(entries).to_have_text(["another 1", "Numbers"])
    page.get_by_role("searchbox").fill("WITHOUT end")
    expect(entries).to_have_text(["Numbers"])
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Delete").click()
    page.locator("#ask-yes").click()
    expect(entries).to_have_text(["Numbers"])
    page.reload()
    expect(entries).to_have_text(["Numbers"])


def test_a_question_may_come_before_the_model_is_known(scripted, visit):
    page, held = visit(scripted.url), []
    expect(page.locator("#model-name")).to_have_text("scripted")
    page.route("**/v1/models", lambda route: route.continue_() if held else held.append(route))
    page.reload()
    ask(page, "what is 1")
    expect(ended(page)).to_have_text("It is one.")
    expect(page.locator("#model-name")).to_have_text("")
    held[0].continue_()
    expect(page.locator("#model-name")).to_have_text("scripted")


def test_what_is_exported_can_be_imported(scripted, visit, tmp_path):
    page = visit(scripted.url)
    ask(page, "what is 1")
    ended(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export all").click()
    download.value.save_as(tmp_path / "all.json")
    other = visit(scripted.url)
    other.locator("#file").set_input_files(tmp_path / "all.json")
    other.locator("#list button").click()
    expect(answers(other).locator(".text")).to_have_text("It is one.")
    (tmp_path / "bad.json").write_text(json.dumps({"format": "tessera-conversations", "version": 1, "conversations": [{"messages": [{"role": "root", "text": {}}]}]}))
    other.locator("#file").set_input_files(tmp_path / "bad.json")
    expect(other.locator("#notice")).to_have_text("A message of this file is not whole.")
    expect(other.locator("#list button")).to_have_count(1)


def test_answers_are_drawn_again_and_messages_edited_as_branches(tiny, visit):
    page = visit(tiny.url)
    set_fields(page, temperature=4, max_tokens=12, system="be short")
    ask(page, "ab")
    first = ended(page).inner_text()
    page.get_by_role("button", name="Regenerate").click()
    expect(page.locator(".version")).to_have_count(2)
    ended(page)
    drawn = last_answer(page)
    body = {"model": "tiny", "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "ab"}], "temperature": 4, "max_completion_tokens": 12}
    assert drawn["ids"] == choice(tiny, "/v1/chat/completions", body, seed=drawn["seed"])["token_ids"]  # the shown seed draws it
    expect(answers(page).locator(".facts")).to_contain_text(f"seed {drawn['seed']}")
    page.get_by_role("button", name="Previous version").click()
    assert ended(page).inner_text() == first
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("The message, to be changed").fill("ba")
    page.get_by_label("The message, to be changed").press("Enter")
    ended(page)
    expect(page.locator("article.user .text")).to_have_text("ba")
    page.locator("article.user").get_by_role("button", name="Previous version").click()
    expect(page.locator("article.user .text")).to_have_text("ab")
    expect(answers(page).locator(".tools")).to_contain_text("2/2")
    conversation, = kept(page)
    assert [message["role"] for message in conversation["messages"]] == ["user", "assistant", "assistant", "user", "assistant"]


def test_a_link_draws_the_same_answer_again_elsewhere(tiny, visit):
    page = visit(tiny.url, permissions=["clipboard-read", "clipboard-write"])
    set_fields(page, temperature=4, max_tokens=12, system="be & stay # short")
    ask(page, "a + b?")
    ended(page)
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("status")).to_have_text("Copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(tiny.url + "/#")
    other = visit(link, path="")
    expect(other.locator("#ask-text")).to_contain_text("system: be & stay # short")
    other.locator("#ask-yes").click()
    expect(other.get_by_label("Your message")).to_have_value("a + b?")
    assert kept(other) == []  # it is for the reader to send it
    other.get_by_label("Your message").press("Enter")
    ended(other)
    assert last_answer(other)["ids"] == last_answer(page)["ids"]
    ask(other, "and?")
    ended(other)
    expect(other.get_by_role("button", name="Copy link")).to_have_count(1)  # a second turn's answer needs the first


def test_the_second_turn_tells_what_was_cached(tiny, visit):
    page = visit(tiny.url)
    set_fields(page, max_tokens=4)
    ask(page, "abc " * 30)
    ended(page)
    ask(page, "abc")
    ended(page)
    cached, prompt = map(int, re.search(r"(\d+) of (\d+) prompt tokens cached", answers(page).nth(1).inner_text()).groups())
    assert 32 <= cached < prompt


def test_an_answer_keeps_to_a_schema(tiny, visit):
    page = visit(tiny.url)
    page.get_by_role("button", name="Settings").click()
    page.locator("[name=schema]").fill("{no")
    page.locator("#settings").get_by_role("button", name="Save").click()
    expect(page.locator("#schema-wrong")).to_have_text("The schema must be a JSON object.")
    page.locator("[name=schema]").fill(json.dumps({"enum": ["left", "right"]}))
    page.locator("#settings").get_by_role("button", name="Save").click()
    ask(page, "where?")
    assert json.loads(ended(page).inner_text()) in ("left", "right")


def test_the_token_view_shows_the_probabilities_and_continues_from_another_token(tiny, visit):
    page = visit(tiny.url)
    set_fields(page, temperature=4, max_tokens=20, seed=5)
    ask(page, "ab")
    ended(page)
    whole = last_answer(page)
    body = {"model": "tiny", "temperature": 4, "seed": 5}
    lone = choice(tiny, "/v1/chat/completions", body, messages=[{"role": "user", "content": "ab"}], max_completion_tokens=20, logprobs=True, top_logprobs=8)
    page.get_by_role("button", name="Tokens").click()
    tokens = page.locator(".tokens [role=button]")
    expect(tokens).to_have_count(len(whole["ids"]))
    shown = [float(re.search(r"([\d.]+) %", tokens.nth(i).get_attribute("title"))[1]) for i in range(len(lone["logprobs"]["content"]))]
    assert shown == pytest.approx([100 * math.exp(token["logprob"]) for token in lone["logprobs"]["content"]], abs=0.051)  # as decoded, one by one
    at = 6
    tokens.nth(at).focus()
    page.keyboard.press("Enter")
    lines = page.locator(".others tbody tr")
    taken = lone["logprobs"]["content"][at]["token"]
    tops = [top["token"] for top in lone["logprobs"]["content"][at]["top_logprobs"]]
    seen = [re.sub(r"^#\d{3,}$", "", line.split("\t")[0]) for line in lines.all_inner_texts()]  # a token without a text is shown by its id
    assert seen[:len(tops)] == [top.replace(" ", "␣").replace("\n", "↵") for top in tops]
    other = next(top for top in tops if top not in ("", taken) and "<" not in top)
    page.get_by_role("button", name=f"Continue from {other.replace(' ', '␣')}", exact=True).click()
    expect(page.locator(".version")).to_have_count(2)
    ended(page)
    expect(page.get_by_role("button", name="Copy link")).to_have_count(0)  # no seed draws what was chosen
    branch = last_answer(page)
    begin = [*whole["prompt_ids"], *whole["ids"][:at], branch["ids"][at]]
    assert branch["ids"][:at] == whole["ids"][:at] and branch["ids"][at] != whole["ids"][at]
    alone = choice(tiny, "/v1/completions", body, prompt=begin, max_tokens=20 - at - 1)
    assert branch["ids"][at + 1:] == alone["token_ids"]
    page.get_by_role("button", name="Previous version").click()
    assert last_answer(page)["ids"] == whole["ids"]


class Line:
    """A line to a server that can be cut: `cut_after` so many bytes of the next answer that is a stream."""

    def __init__(self, port):
        self.to, self.cut_after, self.cuts = port, None, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.to))
            threading.Thread(target=self.carry, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self.carry, args=(server, client, True), daemon=True).start()

    def carry(self, source, target, answers):
        left = None
        try:
            while data := source.recv(4096):
                if answers and self.cut_after is not None and left is None and b"text/event-stream" in data:
                    left, self.cut_after = self.cut_after, None
                target.sendall(data if left is None else data[:left])
                if left is not None and (left := left - len(data)) <= 0:
                    self.cuts += 1
                    break
        except OSError:
            pass
        for end in source, target:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@pytest.mark.parametrize("bytes_before", [300, 5000])
def test_an_answer_whose_connection_is_lost_goes_on_as_if_it_had_not_been(tiny, visit, bytes_before):
    line = Line(tiny.port)
    page = visit(line.url)
    set_fields(page, temperature=4, max_tokens=40, seed=11)
    line.cut_after = bytes_before
    ask(page, "ab")
    expect(answers(page)).to_contain_text("The connection was lost.")
    assert line.cuts == 1
    before = last_answer(page)["ids"]
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("button", name="Go on")).to_have_count(0)
    ended(page)
    lone = choice(tiny, "/v1/chat/completions", {"model": "tiny", "temperature": 4, "seed": 11, "max_completion_tokens": 40, "messages": [{"role": "user", "content": "ab"}]})
    answer = last_answer(page)
    assert len(before) < len(lone["token_ids"]) and (answer["ids"], answer["text"]) == (lone["token_ids"], lone["message"]["content"])
    line.listener.close()


def test_a_stream_that_ends_in_between_is_no_whole_answer(tiny, visit):
    def half(route):
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text()[:len(answer.text()) // 2])

    page = visit(tiny.url)
    page.route("**/v1/chat/completions", half)
    set_fields(page, temperature=4, max_tokens=40)
    ask(page, "ab")
    expect(answers(page)).to_contain_text("The connection was lost.")
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    assert last_answer(page)["state"] == "cut"


def test_a_server_that_is_not_there_is_said_to_be_so(tessera, bases, visit):
    with Server(tessera, bases["gemma"]) as server:
        page = visit(server.url)
        server.stop()
        ask(page, "ab")
        expect(answers(page)).to_contain_text("The server does not answer.")
        expect(page.get_by_role("button", name="Go on")).to_be_visible()


def test_no_answer_can_run_a_script_or_send_a_request(scripted, visit):
    page = visit(scripted.url)
    ask(page, "say 2")
    text = ended(page)
    expect(text).to_contain_text("<script>window.pwned = 1</script>")
    expect(text).to_contain_text("</style>")
    assert page.evaluate("window.pwned") is None
    assert text.locator("script, img, svg, style, iframe").count() == 0
    links = text.locator("a")
    assert {urllib.parse.urlsplit(links.nth(i).get_attribute("href")).scheme for i in range(links.count())} == {"http"}
    assert page.evaluate("""() => {
        try { document.body.innerHTML = "<p>"; return "markup was made of text"; } catch (error) { return error.name; }
    }""") == "TypeError"  # the policy holds where the page's own code would fail
    assert page.evaluate("fetch('http://192.0.2.1/').then(() => 'sent', () => 'refused')") == "refused"


def test_markdown_is_shown_as_what_it_is(scripted, visit):
    page = visit(scripted.url)
    ask(page, "say 3")
    text = ended(page)
    expect(text.locator("h3")).to_have_text("A title")
    expect(text.locator("ul > li")).to_have_count(2)
    expect(text.locator("ul > li ol > li")).to_have_text("inner")
    expect(text.locator("th")).to_have_text(["name", "size"])
    expect(text.locator("td")).to_have_text(["a", "1", "b", "2"])
    expect(text.locator("td strong")).to_have_text("1")
    expect(text.locator("pre")).to_have_text("return 'text'  # why")
    expect(text.locator("pre .keyword")).to_have_text("return")
    expect(text.locator("blockquote")).to_have_text("a quote")
    expect(text.locator("em")).to_have_text("lean")
    expect(text.locator("s")).to_have_text("gone")
    expect(text).to_contain_text("2 * 3")
    expect(text.locator("a")).to_have_attribute("href", "https://example.org/x")


def test_a_key_is_asked_for_and_a_wrong_one_again(tessera, bases, visit):
    with Server(tessera, bases["gemma"], "--served-model-name", "tiny", environment={"TESSERA_API_KEY": "secret"}) as server:
        page = visit(server.url)
        page.locator("#ask-input").fill("wrong")
        page.locator("#ask-yes").click()
        expect(page.locator("#ask-text")).to_contain_text("is not known here")
        page.locator("#ask-input").fill("secret")
        page.locator("#ask-yes").click()
        expect(page.locator("#model-name")).to_have_text("tiny")
        set_fields(page, max_tokens=3)
        ask(page, "ab")
        assert len(ended(page).inner_text()) >= 0 and last_answer(page)["state"] == "done"
        status = visit(server.url, "/status")
        status.get_by_label("API key").fill("secret")
        status.get_by_label("API key").press("Enter")
        expect(status.locator("#state")).to_contain_text("Ready: tiny")


def test_the_status_page_shows_what_runs(scripted, visit):
    page = visit(scripted.url)
    ask(page, "on and on 9")
    expect(answers(page).locator(".text")).to_contain_text("on and on")
    status = visit(scripted.url, "/status")
    expect(status.locator("#state")).to_contain_text("Ready: scripted")
    running = status.locator("#cards div", has=status.locator("dt", has_text=re.compile("^Running$"))).locator("dd")
    expect(running).to_have_text("1sequences")
    page.get_by_role("button", name="Stop").click()
    expect(running).to_have_text("0sequences")


def broken_rules(page):
    import axe_playwright_python

    page.evaluate((Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text())
    found = page.evaluate("axe.run()")
    return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_axe_finds_nothing_wide_and_narrow_light_and_dark(scripted, visit, scheme, width):
    look = {"color_scheme": scheme, "viewport": {"width": width, "height": 700}}
    page = visit(scripted.url, **look)
    assert broken_rules(page) == []
    ask(page, "a title that is longer than the screen of a phone is wide: say 3")
    ended(page)
    assert broken_rules(page) == []
    page.get_by_role("button", name="Tokens").click()
    page.locator(".tokens [role=button]").first.click()
    expect(page.locator(".others")).to_be_visible()
    assert broken_rules(page) == []
    page.get_by_role("button", name="Settings").click()
    assert broken_rules(page) == []
    page.keyboard.press("Escape")
    assert page.evaluate("""[...document.querySelectorAll("main, main > *, header *, #composer *, article")].filter(one => {
        const {left, right} = one.getBoundingClientRect();  // what was scrolled to reach beyond shows on the left
        return left < 0 || right > innerWidth;
    }).map(one => one.outerHTML.slice(0, 200))""") == []
    if width < 700:
        assert page.evaluate("document.querySelector('main').getBoundingClientRect().width") == width
        page.get_by_role("button", name="Menu").click()
        expect(page.get_by_role("searchbox")).to_be_visible()
        assert broken_rules(page) == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 384) == (scheme == "dark")
    status = visit(scripted.url, "/status", **look)
    expect(status.locator("#state")).to_contain_text("Ready")
    assert broken_rules(status) == []


def test_the_keyboard_alone_will_do(scripted, visit):
    page = visit(scripted.url)
    expect(page.get_by_label("Your message")).to_be_focused()
    page.keyboard.type("first\nis 1")  # Enter sends: the line break is a message's end
    expect(page.locator("article.user .text").first).to_have_text("first")
    page.keyboard.press("Escape")
    ended(page)
    page.get_by_role("button", name="Copy", exact=True).last.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Copied")
