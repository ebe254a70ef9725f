import {Lost, on_key_needed} from "/api.js";
import {generate, models, what_happened} from "/answers.js";
import {link_to, read_link} from "/link.js";
import {element, show} from "/markdown.js";
import {$, ask, button, copy, local, notice, read_json, tell} from "/parts.js";
import {ask_settings} from "/settings.js";
import * as store from "/store.js";
import {token_rows, token_view} from "/tokens.js";

const log = $("log"), question = $("question");
const running = new Map();  // the AbortController of each answer that comes, by its message's id
let current = null;         // the conversation that is shown; null: one that has not begun
let draft = store.read_settings();  // its settings then
let model = "";

on_key_needed(async again => await ask("An API key is needed", {
  text: (again ? "The key that was given is not known here. " : "") + "It is kept until this tab is closed.", value: "", type: "password", yes: "Use it"}) || null);

async function save(conversation) {
  try {
    await store.save(conversation);
  } catch (error) {
    notice(`The browser did not keep this conversation: ${error.message}`);
  }
}

// The list of conversations.

function show_list() {
  const found = store.list($("search").value);
  $("list").replaceChildren(...found.map(one => {
    const entry = button(one.title, () => open(one.id), {title: one.title});
    if (one === current) entry.setAttribute("aria-current", "true");
    return element("li", {}, entry);
  }));
  $("none").hidden = found.length > 0 || !$("search").value;
}

function open(id) {
  current = store.get(id) ?? null;
  if (!current) draft = store.read_settings(read_json(local.get("settings")));
  history.replaceState(null, "", current ? "#" + current.id : location.pathname);
  set_side(false);
  show_all();
  log.scrollTop = log.scrollHeight;
  question.focus();
}

function show_all() {
  const title = current?.title ?? "New conversation";
  $("title").textContent = title;
  document.title = current ? `${title} - Tessera` : "Tessera";
  $("rename").hidden = $("delete").hidden = !current;
  show_list();
  show_log();
}

function show_log() {
  const messages = current ? store.path(current) : [];
  log.replaceChildren(...messages.map(made));
  if (!messages.length) log.append(element("div", {className: "empty"}, element("h2", {}, "Ask the model something"),
    element("p", {className: "quiet"}, "It runs on this server, and what is said stays between it and this browser.")));
  show_composer();
}

function show_composer() {
  const comes = current !== null && running.has(current.leaf);
  $("send").hidden = comes;
  $("stop").hidden = !comes;
}

// Messages.

const place_of = message => document.getElementById("message-" + message.id);

function made(message) {
  const mine = message.role === "user", article = element("article", {id: "message-" + message.id, className: message.role});
  article.append(element("h2", {className: "head"}, mine ? "You" : message.model || "Answer"));
  const text = element("div", {className: "text"});
  if (mine) text.textContent = message.text;
  article.append(text, element("div", {className: "behind"}));
  if (mine) article.lastChild.append(tools_of_question(message));
  else update(message, article);
  return article;
}

function update(message, article = place_of(message)) {
  if (!article) return;
  const comes = running.has(message.id), stuck = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  article.classList.toggle("running", comes);
  let thinking = article.querySelector(".thinking");
  if (message.reasoning && !thinking) {
    thinking = element("p", {className: "thinking"});
    article.querySelector(".text").before(element("details", {open: true}, element("summary", {}, "Thinking"), thinking));
  }
  if (thinking) thinking.textContent = message.reasoning;
  show(message.text, article.querySelector(".text"));
  article.querySelector(".behind").replaceChildren(...comes ? [] : [trouble_of(message), facts_of(message), tools_of_answer(message)]);
  if (stuck) log.scrollTop = log.scrollHeight;
}

function facts_of(message) {
  const facts = [];
  if (message.seed !== undefined) facts.push(`seed ${message.seed}`);
  if (message.ids.length) facts.push(`${message.ids.length} tokens`);
  if (message.speed) facts.push(`${message.speed.toFixed(1)} tokens/s`);
  if (message.prompt !== undefined) facts.push(`${message.cached} of ${message.prompt} prompt tokens cached`);
  if (message.finish === "length") facts.push("ended by its length");
  return element("p", {className: "facts"}, facts.join(" · "));
}

function trouble_of(message) {
  const go_on = button("Go on", () => run(current, message));
  if (message.state === "cut") return element("div", {className: "trouble"}, element("span", {}, message.error || "The connection was lost. What has come is kept."), go_on);
  if (message.state === "stopped") return element("div", {className: "trouble"}, element("span", {}, "Stopped."), go_on);
  if (message.state === "failed") return element("div", {className: "trouble"}, element("span", {}, message.error), button("Try again", () => run(current, message)));
  return "";
}

function versions_of(message) {
  const all = store.siblings(current, message), at = all.indexOf(message);
  if (all.length < 2) return [];
  const go = to => button(to < at ? "‹" : "›", () => {
    current.leaf = store.leaf_behind(current, all[to]);
    save(current);
    show_log();
    const tool = place_of(all[to])?.querySelector(`.version[data-way="${to < at ? "-" : "+"}"]`);
    (tool && !tool.disabled ? tool : log).focus();
  }, {className: "version", "data-way": to < at ? "-" : "+", ariaLabel: to < at ? "Previous version" : "Next version", disabled: !all[to]});
  return [go(at - 1), element("span", {className: "quiet"}, `${at + 1}/${all.length}`), go(at + 1)];
}

function tools_of_question(message) {
  const copied = button("Copy", () => copy(message.text, copied));
  return element("div", {className: "tools"}, ...versions_of(message), copied, button("Edit", () => edit(message)));
}

function tools_of_answer(message) {
  const copied = button("Copy", () => copy(message.text, copied));
  const tools = element("div", {className: "tools"}, ...versions_of(message), copied, button("Regenerate", () => answer(current, message.parent)));
  if (message.prompt_ids.length && message.ids.length) {
    const view = button("Tokens", () => toggle_tokens(message, view), {ariaPressed: "false"});
    tools.append(view);
  }
  const link = link_to(current, message), linked = button("Copy link", () => copy(link, linked), {title: "To what draws this answer again"});
  if (link) tools.append(linked);
  return tools;
}

async function toggle_tokens(message, view) {
  const article = place_of(message), text = article.querySelector(".text");
  const shown = article.querySelector(".view");
  text.hidden = !shown;
  view.ariaPressed = String(!shown);
  if (shown) return shown.remove();
  const place = element("div", {className: "view"}, element("p", {className: "quiet"}, "Computing the probabilities…"));
  text.after(place);
  tell("Computing the probabilities");
  try {
    const why = message.settings.schema ? "An answer that keeps to a schema is held from its beginning: it cannot be continued from within."
      : message.reasoning ? "An answer with thinking cannot be continued from within." : "";
    const conversation = current;
    const branch = async (i, other) => await answer(conversation, message.parent, {seed: message.seed, settings: message.settings, model: message.model,
      prompt_ids: message.prompt_ids, ids: [...message.ids.slice(0, i), other.id], chosen: i});
    place.replaceChildren(token_view(await token_rows(message), why ? null : branch, why));
    tell("The tokens are shown");
  } catch (error) {
    place.replaceChildren(element("p", {className: "wrong"}, error.message));
  }
}

function edit(message) {
  const article = place_of(message), text = article.querySelector(".text"), behind = article.querySelector(".behind");
  const area = element("textarea", {rows: Math.min(12, message.text.split("\n").length + 1), ariaLabel: "The message, to be changed"});
  area.value = message.text;
  const end = () => {
    article.replaceWith(made(message));
    place_of(message).querySelector(".tools button:last-child").focus();
  };
  const send = () => {
    if (!area.value.trim()) return;
    say(current, message.parent, area.value.trim());
  };
  area.addEventListener("keydown", event => {
    if (event.key === "Escape") {
      event.stopPropagation();
      end();
    }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  text.replaceChildren(area);
  behind.replaceChildren(element("div", {className: "tools"}, button("Send as a new branch", send), button("Cancel", end)));
  area.focus();
}

// Asking.

function say(conversation, parent, text) {
  const message = {id: store.make_id(), parent, role: "user", text};
  conversation.messages.push(message);
  return answer(conversation, message.id);
}

// `given`: what the answer begins with, and is drawn with.
function answer(conversation, parent, given = {}) {
  const seed = conversation.settings.seed === "" ? crypto.getRandomValues(new Uint32Array(1))[0] : Number(conversation.settings.seed);
  const message = {id: store.make_id(), parent, role: "assistant", text: "", reasoning: "", ids: [], prompt_ids: [], seed, settings: {...conversation.settings}, model, ...given};
  conversation.messages.push(message);
  conversation.leaf = message.id;
  return run(conversation, message);
}

async function run(conversation, message) {
  if (running.has(message.id)) return;
  const controller = new AbortController();
  running.set(message.id, controller);
  Object.assign(message, {state: "running", error: ""});
  conversation.updated = Date.now();
  if (conversation === current) {
    show_all();
    log.scrollTop = log.scrollHeight;
    if (document.activeElement === document.body) log.focus();  // what was pressed is not there any more
  }
  tell("The answer is coming");
  save(conversation);
  let drawn = false, saved = performance.now();
  const changed = () => {
    if (performance.now() - saved > 2000) {
      saved = performance.now();
      save(conversation);
    }
    if (drawn) return;
    drawn = true;
    setTimeout(() => {
      drawn = false;
      if (running.get(message.id) === controller) update(message);
    }, 50);
  };
  try {
    await generate(conversation, message, controller.signal, changed);
    message.state = "done";
    tell("The answer: " + message.text.slice(0, 2000));
  } catch (error) {
    const {state, text} = what_happened(error, message);
    Object.assign(message, {state, error: text});
    tell(text || "Stopped");
  }
  running.delete(message.id);
  await save(conversation);
  if (conversation !== current) return;
  update(message);
  show_composer();
  show_list();
}

$("composer").addEventListener("submit", event => {
  event.preventDefault();
  const text = question.value.trim();
  if (!text || (current && running.has(current.leaf))) return;
  if (!current) {
    const title = text.split("\n")[0].slice(0, 60);
    current = {id: store.make_id(), title, updated: Date.now(), settings: draft, leaf: null, messages: []};
    history.replaceState(null, "", "#" + current.id);
  }
  question.value = "";
  size_question();
  say(current, current.leaf, text);
});

function size_question() {
  question.rows = Math.min(10, Math.max(1, question.value.split("\n").length));
}

const stop = () => current && running.get(current.leaf)?.abort();
question.addEventListener("input", size_question);
question.addEventListener("keydown", event => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("stop").addEventListener("click", () => {
  stop();
  question.focus();
});
document.addEventListener("keydown", event => {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && $("side").classList.contains("open")) set_side(false);
  else if (event.key === "Escape") stop();
  if (event.altKey && event.code === "KeyN") {
    event.preventDefault();
    open("");
  }
});
log.addEventListener("click", event => {
  const from = event.target.closest(".copy-code");
  if (from) copy(from.closest(".code").querySelector("pre").textContent, from);
});

// The list's side, and what is beside a conversation.

function set_side(is_open) {
  $("side").classList.toggle("open", is_open);
  $("show-side").setAttribute("aria-expanded", String(is_open));
}

$("show-side").addEventListener("click", () => {
  set_side(true);
  $("hide-side").focus();
});
$("hide-side").addEventListener("click", () => {
  set_side(false);
  $("show-side").focus();
});
$("new").addEventListener("click", () => open(""));
$("search").addEventListener("input", show_list);
$("rename").addEventListener("click", async () => {
  const conversation = current, title = await ask("New name of this conversation", {value: conversation.title, yes: "Rename"});
  if (!title?.trim()) return;
  conversation.title = title.trim();
  await save(conversation);
  show_all();
});
$("delete").addEventListener("click", async () => {
  const conversation = current;
  if (!await ask("Delete this conversation?", {text: conversation.title, yes: "Delete"})) return;
  for (const message of conversation.messages) running.get(message.id)?.abort();
  await store.remove(conversation.id);
  open("");
});
$("export").addEventListener("click", () => {
  const url = URL.createObjectURL(new Blob([store.exported(store.list())], {type: "application/json"}));
  element("a", {href: url, download: "tessera-conversations.json"}).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
});
$("import").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async () => {
  const [file] = $("file").files;
  if (!file) return;
  try {
    const found = store.imported(await file.text());
    for (const one of found) await store.save(one);
    tell(`${found.length} conversations were imported`);
    show_list();
  } catch (error) {
    notice(error.message);
  }
  $("file").value = "";
});

// Settings, and the model.

$("open-settings").addEventListener("click", async () => {
  const conversation = current, settings = await ask_settings(conversation?.settings ?? draft);
  if (!settings) return;
  local.set("settings", JSON.stringify(settings));
  if (conversation) save(Object.assign(conversation, {settings}));
  else draft = settings;
});

async function find_models() {
  for (;;) {
    try {
      const found = await models();
      $("model").replaceChildren(...found.map(({id}) => element("option", {value: id}, id)));
      $("model").hidden = found.length < 2;
      $("model-name").textContent = found.length < 2 ? found[0].id : "";
      model = found[0].id;
      return notice("");
    } catch (error) {
      const comes = error instanceof Lost || error.status === 503;
      notice(comes ? `${error.message} It is asked again.` : error.message);
      if (!comes) return;
      await new Promise(resolve => setTimeout(resolve, 2000));
    }
  }
}

// What a link carries is filled in, and not sent.
async function take(link) {
  if (!link) return;
  open("");
  const settings = Object.entries(link.settings).filter(([, value]) => value).map(([name, value]) => `${name}: ${value}`).join(", ");
  if (!await ask("Fill in what this link carries?", {text: `${link.question} (${settings})`, yes: "Fill in"})) return;
  draft = link.settings;
  question.value = link.question;
  size_question();
  if ([...$("model").options].some(({value}) => value === link.model)) $("model").value = model = link.model;
  question.focus();
}

$("model").addEventListener("change", () => { model = $("model").value; });
if (!await store.open()) notice("This browser keeps nothing here: conversations end with the page. Export what you need.");
const linked = read_link(location.hash);
open(location.hash.slice(1));
find_models().then(() => take(linked));
addEventListener("hashchange", () => take(read_link(location.hash)));
