// The server's API, as any client has it.

export class Refused extends Error {
  constructor(status, message, retry_after) {
    super(message);
    this.status = status;
    this.retry_after = retry_after;  // seconds, or NaN
  }
}

// No answer, or one that has no end.
export class Lost extends Error {}

let key = sessionStorage.getItem("tessera-key") ?? "";
let asking = null;
let ask_for_key = async () => null;

// `ask(again)` gives a key, or null; `again`: the one before was none.
export function on_key_needed(ask) {
  ask_for_key = ask;
}

function new_key() {
  asking ??= ask_for_key(key !== "").then(given => {
    asking = null;
    if (given === null) return false;
    sessionStorage.setItem("tessera-key", key = given);
    return true;
  });
  return asking;
}

// The response of what must be 200. Throws Refused, Lost, or the signal's AbortError.
export async function call(path, body, signal) {
  for (;;) {
    const used = key, headers = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (key) headers.Authorization = "Bearer " + key;
    let response;
    try {
      response = await fetch(path, {method: body === undefined ? "GET" : "POST", headers, body: body === undefined ? undefined : JSON.stringify(body), signal, cache: "no-store"});
    } catch (error) {
      throw signal?.aborted ? error : new Lost("The server does not answer.");
    }
    if (response.ok) return response;
    if (response.status === 401 && (used !== key || await new_key())) continue;
    let message = `The server answered ${response.status}.`;
    try {
      message = (await response.json()).error.message;
    } catch {
      // then there is no more to say
    }
    throw new Refused(response.status, message, parseInt(response.headers.get("Retry-After")));
  }
}

export const json = async (path, body, signal) => {
  const response = await call(path, body, signal);
  try {
    return await response.json();
  } catch (error) {
    throw signal?.aborted ? error : new Lost("The connection was lost.");
  }
};

// The objects of a stream. Throws as call() does; Lost also where it ends before its end.
export async function* stream(path, body, signal) {
  const response = await call(path, {...body, stream: true, stream_options: {include_usage: true}}, signal);
  const reader = response.body.getReader(), decoder = new TextDecoder();
  let text = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      throw signal?.aborted ? error : new Lost("The connection was lost.");
    }
    if (part.done) throw new Lost("The connection was lost.");
    text += decoder.decode(part.value, {stream: true});
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") return;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Refused(event.error.code ?? 500, event.error.message, NaN);
      yield event;
    }
  }
}
