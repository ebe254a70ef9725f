// What any part of the page needs: what it says, asks and remembers.
import {element} from "/markdown.js";

export const $ = id => document.getElementById(id);

export const local = {
  get: name => { try { return localStorage.getItem("tessera-" + name) ?? ""; } catch { return ""; } },
  set: (name, value) => { try { localStorage.setItem("tessera-" + name, value); } catch { /* it is not kept */ } },
};

export function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

export const tell = text => { $("told").textContent = text; };

export function button(text, action, properties = {}) {
  const made = element("button", {type: "button", ...properties}, text);
  made.addEventListener("click", action);
  return made;
}

// A question of the page's own; null: it was cancelled.
export function ask(title, {text = "", value, type = "text", yes = "OK"}) {
  const dialog = $("ask"), input = $("ask-input");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  input.hidden = value === undefined;
  input.type = type;
  input.value = value ?? "";
  dialog.returnValue = "";
  dialog.showModal();
  if (value !== undefined) input.select();
  return new Promise(resolve => dialog.addEventListener("close", () => {
    const given = value === undefined ? true : input.value;
    input.value = "";
    resolve(dialog.returnValue === "ok" ? given : null);
  }, {once: true}));
}

$("ask-no").addEventListener("click", () => $("ask").close());
export async function copy(text, from) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // of a page that came without TLS from another machine
    const area = element("textarea", {className: "unseen"});
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    from.focus();
  }
  const label = from.textContent;
  from.textContent = "Copied";
  tell("Copied");
  setTimeout(() => { from.textContent = label; }, 1500);
}

export function read_json(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function set_theme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  $("theme").value = theme;
}

$("theme").addEventListener("change", () => {
  set_theme($("theme").value);
  local.set("theme", $("theme").value);
});

set_theme(local.get("theme"));
