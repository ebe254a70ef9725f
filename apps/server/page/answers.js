// How an answer comes about: asked as a chat, or gone on with by the ids of its tokens.
import {Lost, Refused, json, stream} from "/api.js";
import {path} from "/store.js";

// Ids that end a chat's answer.
let ends = null;

async function end_tokens(signal) {
  ends ??= new Set((await json("/tokenizer_info", undefined, signal)).end_token_ids);
  return ends;
}

// An answer may be gone on with where it is. Not so one with a form or with thinking: the first is held from its beginning, the second is
// told apart from the answer only there. They are begun again, and the same seed gives the same answer.
export const can_go_on = message => message.prompt_ids.length > 0 && message.ids.length > 0 && !message.settings.schema && !message.reasoning;

// What is not set is left out: the server has it from the model. There are no penalties on the presence or frequency of tokens, which
// would count those of the answer alone, and so would not go on as they began.
function fields_of(message) {
  const fields = {model: message.model, seed: message.seed, return_token_ids: true};
  for (const name of ["temperature", "top_p", "top_k", "min_p", "repetition_penalty"])
    if (message.settings[name] !== "") fields[name] = Number(message.settings[name]);
  return fields;
}

function chat_body(conversation, message) {
  const {system, schema, max_tokens} = message.settings;
  const messages = path(conversation, message.parent).filter(one => one.text).map(({role, text}) => ({role, content: text}));
  if (system) messages.unshift({role: "system", content: system});
  const body = {...fields_of(message), messages};
  if (max_tokens) body.max_completion_tokens = Number(max_tokens);
  if (schema) body.response_format = {type: "json_schema", json_schema: {name: "answer", schema: JSON.parse(schema)}};
  return body;
}

const decode = async (message, ids, signal) => (await json("/detokenize", {model: message.model, tokens: ids, skip_special_tokens: true}, signal)).prompt;

// Streams the answer into `message`, from its beginning or from where it is, and calls `changed` after each part. Throws as stream() does.
export async function generate(conversation, message, signal, changed) {
  let parts, first = 0, last = 0, count = 0;
  message.model ||= (await models(signal))[0].id;  // the question may be faster than the page
  const goes_on = can_go_on(message);
  if (goes_on) {
    // Not as a chat's last message: its text need not fall into the same tokens again.
    const stop_token_ids = [...await end_tokens(signal)], left = message.settings.max_tokens ? Number(message.settings.max_tokens) - message.ids.length : Infinity;
    message.finish = stop_token_ids.includes(message.ids.at(-1)) ? "stop" : left <= 0 ? "length" : "";
    message.text = await decode(message, message.ids.slice(0, message.finish === "stop" ? -1 : undefined), signal);
    changed();
    if (message.finish) return;
    const body = {...fields_of(message), prompt: [...message.prompt_ids, ...message.ids], stop_token_ids};
    if (left < Infinity) body.max_tokens = left;
    parts = stream("/v1/completions", body, signal);
  } else {
    Object.assign(message, {text: "", reasoning: "", ids: [], prompt_ids: [], finish: ""});
    parts = stream("/v1/chat/completions", chat_body(conversation, message), signal);
  }
  for await (const part of parts) {
    const choice = part.choices?.[0];
    if (choice) {
      const ids = choice.token_ids ?? [], prompt = part.prompt_token_ids ?? choice.prompt_token_ids;
      if (!goes_on && prompt) message.prompt_ids = prompt;
      message.ids.push(...ids);
      message.text += choice.delta?.content ?? choice.text ?? "";
      message.reasoning += choice.delta?.reasoning_content ?? "";
      message.finish = choice.finish_reason ?? "";
      if (ids.length) {
        last = performance.now();
        first ||= last;
        count += ids.length;
      }
      message.speed = last - first > 100 ? 1000 * (count - 1) / (last - first) : 0;
    }
    if (part.usage) {
      message.prompt = part.usage.prompt_tokens;
      message.cached = part.usage.prompt_tokens_details.cached_tokens;
    }
    changed();
  }
  if (!goes_on) return;
  // A text that begins anew may lack what its first token has behind others: a space.
  const ended = (await end_tokens(signal)).has(message.ids.at(-1));
  if (ended || message.finish === "length") message.text = await decode(message, message.ids.slice(0, ended ? -1 : undefined), signal);
}

// The state of an answer that ended by `error`, and what to say of it.
export function what_happened(error, message) {
  if (error.name === "AbortError") return {state: "stopped", text: ""};
  if (error instanceof Lost) return {state: "cut", text: `${error.message} ${can_go_on(message) ? "What has come is kept, and the answer can go on from there." : "It can be asked again."}`};
  if (error instanceof Refused) {
    const wait = error.retry_after > 0 ? ` It asks to wait ${error.retry_after} s.` : "";
    return {state: message.ids.length ? "cut" : "failed", text: `The server says: ${error.message}.${wait}`};
  }
  return {state: "failed", text: String(error.message)};
}

// What is answered with: [{id, max_model_len}].
export const models = async signal => (await json("/v1/models", undefined, signal)).data;
