import {Lost, call, json, on_key_needed} from "/api.js";
import {element} from "/markdown.js";

const $ = id => document.getElementById(id);
const kSeconds = 2, kPoints = 150;
const speeds = [];

on_key_needed(() => new Promise(resolve => {
  $("state").textContent = "An API key is needed.";
  $("key-form").hidden = false;
  $("key-form").addEventListener("submit", event => {
    event.preventDefault();
    $("key-form").hidden = true;
    resolve($("key").value);
    $("key").value = "";
  }, {once: true});
}));

// Of Prometheus' text: {name: [{labels, value}]}.
function read(text) {
  const found = {};
  for (const line of text.split("\n")) {
    const parts = /^tessera:(\w+)\{(.*)\} (\S+)$/.exec(line);
    if (parts) (found[parts[1]] ??= []).push({labels: parts[2], value: Number(parts[3])});
  }
  return found;
}

const value = (metrics, name) => (metrics[name] ?? []).reduce((sum, one) => sum + one.value, 0);

// The bound under which a part of all is; null: there were none.
function quantile(metrics, name, part) {
  const counts = metrics[name + "_bucket"] ?? [], all = value(metrics, name + "_count");
  if (!all) return null;
  const found = counts.find(one => one.value >= part * all);
  return /le="([^"]*)"/.exec(found.labels)[1];
}

const under = (metrics, name) => {
  const half = quantile(metrics, name, 0.5);
  if (half === null) return ["-"];
  const text = bound => bound === "+Inf" ? "more than is told apart" : bound < 1 ? `≤ ${Math.round(1000 * bound)} ms` : `≤ ${Number(bound)} s`;
  return [text(half), `99 %: ${text(quantile(metrics, name, 0.99))}`];
};
const whole = number => Math.round(number).toLocaleString("en");
const part = (some, all) => all ? `${(100 * some / all).toFixed(1)} %` : "-";

function show_cards(now, before, seconds) {
  const rate = name => before ? Math.max(0, value(now, name) - value(before, name)) / seconds : 0;
  speeds.push(rate("generation_tokens_total"));
  if (speeds.length > kPoints) speeds.shift();
  const computed = rate("prompt_tokens_total") - rate("prefix_cache_hits_total");
  const of_reason = (now.requests_refused_total ?? []).filter(one => one.value).map(one => `${/reason="([^"]*)"/.exec(one.labels)[1]}: ${one.value}`).join(", ");
  const cards = [
    ["Running", whole(value(now, "num_requests_running")), "sequences"],
    ["Waiting", whole(value(now, "num_requests_waiting")), "requests"],
    ["Cache in use", part(value(now, "kv_cache_usage_perc"), 1), `sequences that gave way: ${whole(value(now, "num_preemptions_total"))}`],
    ["Found in the cache", part(value(now, "prefix_cache_hits_total"), value(now, "prefix_cache_queries_total")), "of the prompts' tokens"],
    ["New tokens", `${speeds.at(-1).toFixed(1)} /s`, `${whole(value(now, "generation_tokens_total"))} in all`],
    ["Prompts' tokens", `${Math.max(0, computed).toFixed(1)} /s`, `computed; ${whole(value(now, "prompt_tokens_total"))} in all`],
    ["To the first token, half of all", ...under(now, "time_to_first_token_seconds")],
    ["Between tokens, half of all", ...under(now, "inter_token_latency_seconds")],
    ["Ended", whole(value(now, "request_success_total")), `with clients gone: ${whole(value(now, "requests_cancelled_total"))}`],
    ["Refused", whole(value(now, "requests_refused_total")), of_reason],
  ];
  $("cards").replaceChildren(...cards.map(([name, text, more]) => element("div", {}, element("dt", {}, name), element("dd", {}, text, element("small", {}, more || "")))));
  const most = Math.max(...speeds), first = kPoints - speeds.length;
  $("speed").firstElementChild.setAttribute("points", speeds.map((speed, i) => `${300 * (first + i) / (kPoints - 1)},${98 - 94 * speed / Math.max(1, most)}`).join(" "));
  $("speed-title").textContent = `New tokens a second, of the last five minutes (at most ${most.toFixed(1)})`;
}

let before = null, time = 0, about = "";
for (;;) {
  try {
    if (!about) {
      const [{version}, {data}] = [await json("/version"), await json("/v1/models")];
      about = `${data.map(one => one.id).join(", ")}, context ${whole(data[0].max_model_len)}, Tessera ${version}`;
    }
    const now = read(await (await call("/metrics")).text()), ready = await fetch("/ready", {cache: "no-store"});
    const text = ready.ok ? `Ready: ${about}` : (await ready.json()).error.message;
    if ($("state").textContent !== text) $("state").textContent = text;
    show_cards(now, before, (performance.now() - time) / 1000);
    [before, time] = [now, performance.now()];
  } catch (error) {
    $("state").textContent = error instanceof Lost ? "The server does not answer." : error.message;
  }
  await new Promise(resolve => setTimeout(resolve, 1000 * kSeconds));
}
