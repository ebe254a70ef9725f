// A link to an answer: the question, the seed, the settings and the model, which draw it again. They stand behind '#': no server is sent them.
import {read_json} from "/parts.js";
import {find, read_settings, text_of} from "/store.js";

// "": this answer needs more than that, what was said before it or the token that was chosen.
export function link_to(conversation, message) {
  const asked = find(conversation, message.parent), {model, seed, settings} = message;
  if (!asked || asked.parent !== null || message.chosen !== undefined || seed === undefined) return "";
  const carried = {model, question: asked.text, settings: {...settings, seed: String(seed)}};
  return location.origin + location.pathname + "#" + new URLSearchParams({ask: JSON.stringify(carried)});
}

// {model, question, settings}; null: it is no such link.
export function read_link(hash) {
  const carried = read_json(new URLSearchParams(hash.slice(1)).get("ask"));
  return carried && {model: text_of(carried.model), question: text_of(carried.question), settings: read_settings(carried.settings)};
}
