// Conversations, kept by the browser and nowhere else. A conversation is a tree of messages, of which one way, to its leaf, is shown:
// {id, title, updated, settings, leaf, messages: [{id, parent, role, text, ...}]}, a message behind its parent.

let database = null;
const all = new Map();

export function make_id() {
  return [...crypto.getRandomValues(new Uint32Array(3))].map(part => part.toString(36)).join("");
}

const done = request => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

const objects = mode => database.transaction("conversations", mode).objectStore("conversations");

// False: the browser keeps nothing, and conversations end with the page.
export async function open() {
  try {
    const request = indexedDB.open("tessera", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("conversations", {keyPath: "id"});
    database = await done(request);
    for (const one of await done(objects("readonly").getAll())) {
      for (const message of one.messages)
        if (message.state === "running") Object.assign(message, {state: "cut", error: "The page was closed before the answer's end."});
      all.set(one.id, one);
    }
    return true;
  } catch {
    database = null;
    return false;
  }
}

export const get = id => all.get(id);

// The newest first; of those with all words of `search`, where there are any.
export function list(search = "") {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const has = one => {
    const text = [one.title, ...one.messages.map(message => message.text)].join("\n").toLowerCase();
    return words.every(word => text.includes(word));
  };
  return [...all.values()].filter(one => !words.length || has(one)).sort((a, b) => b.updated - a.updated);
}

export async function save(conversation) {
  all.set(conversation.id, conversation);
  if (database) await done(objects("readwrite").put(conversation));
}

export async function remove(id) {
  all.delete(id);
  if (database) await done(objects("readwrite").delete(id));
}

export const find = (conversation, id) => conversation.messages.find(message => message.id === id);

// From the first message to `leaf`.
export function path(conversation, leaf = conversation.leaf) {
  const found = [];
  for (let message = find(conversation, leaf); message; message = find(conversation, message.parent)) found.unshift(message);
  return found;
}

export const siblings = (conversation, message) => conversation.messages.filter(one => one.parent === message.parent && one.role === message.role);

// The newest leaf behind a message.
export function leaf_behind(conversation, message) {
  for (let next = message; next; next = conversation.messages.findLast(one => one.parent === message.id)) message = next;
  return message.id;
}

export const exported = conversations => JSON.stringify({format: "tessera-conversations", version: 1, conversations}, null, 1);

// The conversations of a file: only what they should have, of the types that it should be. Throws an Error that says what is wrong.
export function imported(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("This file is no JSON.");
  }
  if (file?.format !== "tessera-conversations" || file.version !== 1 || !Array.isArray(file.conversations)) throw new Error("This file is no export of conversations.");
  return file.conversations.map(read_conversation);
}

export const text_of = (value, fallback = "") => typeof value === "string" ? value : fallback;
const number_of = (value, fallback) => Number.isFinite(value) ? value : fallback;
const ids_of = value => Array.isArray(value) && value.every(id => Number.isInteger(id) && id >= 0) ? value : [];

function read_conversation(one) {
  if (!Array.isArray(one?.messages)) throw new Error("A conversation of this file has no messages.");
  const messages = [], known = new Map();
  for (const message of one.messages) {
    const parent = message?.parent ?? null;
    if (!["user", "assistant"].includes(message?.role) || (parent !== null && !known.has(parent)))
      throw new Error("A message of this file is not whole.");
    const id = make_id();
    const read = {id, parent: known.get(parent) ?? null, role: message.role, text: text_of(message.text), state: ["cut", "failed", "stopped"].includes(message.state) ? message.state : "done"};
    for (const name of ["reasoning", "error", "finish", "model"]) if (typeof message[name] === "string") read[name] = message[name];
    for (const name of ["seed", "prompt", "cached", "completion", "speed", "chosen"]) if (Number.isFinite(message[name])) read[name] = message[name];
    if (message.role === "assistant") Object.assign(read, {ids: ids_of(message.ids), prompt_ids: ids_of(message.prompt_ids), settings: read_settings(message.settings)});
    known.set(message.id, id);
    messages.push(read);
  }
  return {id: make_id(), title: text_of(one.title, "Imported"), updated: number_of(one.updated, Date.now()), settings: read_settings(one.settings), messages, leaf: known.get(one.leaf) ?? messages.at(-1)?.id ?? null};
}

export const kSettings = ["system", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed", "schema"];

// Each a text, as it was typed; "": the model's own.
export const read_settings = given => Object.fromEntries(kSettings.map(name => [name, text_of(given?.[name])]));
