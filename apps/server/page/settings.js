// The dialog of a conversation's settings.
import {$, read_json} from "/parts.js";
import {kSettings} from "/store.js";

const dialog = $("settings"), form = dialog.querySelector("form"), fields = form.elements;

// As read_settings() gives them; null: it was cancelled.
export function ask_settings(settings) {
  for (const name of kSettings) fields[name].value = settings[name];
  $("schema-wrong").textContent = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise(resolve => dialog.addEventListener("close", () => resolve(
    dialog.returnValue === "ok" ? Object.fromEntries(kSettings.map(name => [name, fields[name].value.trim()])) : null), {once: true}));
}

$("reset").addEventListener("click", () => {
  for (const name of kSettings) fields[name].value = "";
});
$("cancel-settings").addEventListener("click", () => dialog.close());
form.addEventListener("submit", event => {
  const schema = fields.schema.value.trim(), read = schema ? read_json(schema) : {};
  if (typeof read === "object" && read !== null && !Array.isArray(read)) return;
  event.preventDefault();
  $("schema-wrong").textContent = "The schema must be a JSON object.";
  fields.schema.focus();
});
