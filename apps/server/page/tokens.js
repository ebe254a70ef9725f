// The token view: an answer's tokens by their probability, and what might have stood in their place.
import {json} from "/api.js";
import {element} from "/markdown.js";

const kShown = 8, kSteps = [0.05, 0.15, 0.3, 0.5, 0.7, 0.9];
const step_of = probability => kSteps.filter(step => probability >= step).length;
const percent = logprob => {
  const value = 100 * Math.exp(logprob);
  return (value < 0.01 ? "< 0.01" : value < 10 ? value.toFixed(2) : value.toFixed(1)) + " %";
};
const visible = ({id, text}) => text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "␣") || "#" + id;

// Of each token of an answer: {id, text, logprob, others: [{id, text, logprob}]}. They come of the answer's ids, computed as a prompt: the
// model's numbers for a token do not depend on how it was computed, so these are those that the answer was drawn by.
export async function token_rows(message, signal) {
  const prompt = [...message.prompt_ids, ...message.ids];
  const answer = await json("/v1/completions", {model: message.model, prompt, max_tokens: 0, prompt_logprobs: kShown, temperature: 0}, signal);
  const told = answer.choices[0].prompt_logprobs;
  return message.ids.map((id, i) => {
    const entries = Object.entries(told[message.prompt_ids.length + i]).map(([other, one]) => ({id: Number(other), text: one.decoded_token, logprob: one.logprob}));
    entries.sort((a, b) => b.logprob - a.logprob || a.id - b.id);
    return {...entries.find(entry => entry.id === id), others: entries};
  });
}

// `go_on(i, other)` is asked to continue with that token in place of the i-th; without it none can be chosen, and `why` says why.
export function token_view(rows, go_on, why) {
  const others = element("div", {className: "others", hidden: true});
  const tokens = element("div", {className: "tokens", role: "group", "aria-label": "Tokens of the answer: arrows move, Enter shows what else might have stood there"});
  // No <button>: its text would not flow with the others'.
  const buttons = rows.map((row, i) => element("span", {
    role: "button", className: "p" + step_of(Math.exp(row.logprob)), tabIndex: i ? -1 : 0, title: percent(row.logprob), ariaPressed: "false",
    ariaLabel: `${visible(row)}, ${percent(row.logprob)}`,
  }, row.text.includes("\n") ? row.text.replaceAll("\n", "↵\n") : row.text || visible(row)));
  tokens.append(...buttons);
  const move = i => {
    if (!buttons[i]) return;
    for (const button of buttons) button.tabIndex = -1;
    buttons[i].tabIndex = 0;
    buttons[i].focus();
  };
  tokens.addEventListener("keydown", event => {
    const i = buttons.indexOf(document.activeElement), to = {ArrowRight: i + 1, ArrowDown: i + 1, ArrowLeft: i - 1, ArrowUp: i - 1, Home: 0, End: buttons.length - 1}[event.key];
    if (to === undefined && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    if (to === undefined) buttons[i].click();
    else move(to);
  });
  buttons.forEach((button, i) => button.addEventListener("click", () => {
    for (const other of buttons) {
      other.ariaPressed = String(other === button);
      other.tabIndex = other === button ? 0 : -1;
    }
    others.replaceChildren(...alternatives(rows[i], go_on && (other => go_on(i, other)), why));
    others.hidden = false;
  }));
  const labels = ["< 5 %", "5", "15", "30", "50", "70", "≥ 90 %"];
  const legend = element("div", {className: "legend"}, "Probability:", ...labels.map((label, i) => element("span", {className: "p" + i}, label)));
  return element("div", {}, legend, tokens, others);
}

function alternatives(row, go_on, why) {
  const lines = row.others.map(other => {
    const taken = other.id === row.id, text = visible(other);
    const action = taken ? "taken" : go_on ? element("button", {type: "button", ariaLabel: `Continue from ${text}`}, "Continue", element("span", {className: "more"}, " from this one")) : "";
    if (!taken && go_on) action.addEventListener("click", () => go_on(other));
    const meter = element("meter", {min: 0, max: 1, value: Math.exp(other.logprob), ariaLabel: `Probability of ${text}`});
    return element("tr", {}, element("td", {}, text), element("td", {className: "right"}, percent(other.logprob)), element("td", {}, meter), element("td", {}, action));
  });
  const heads = ["Token", "Probability", "", ""].map(text => text ? element("th", {scope: "col"}, text) : element("td"));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...lines));
  const title = element("h3", {}, `In place of ${visible(row)}`);
  return go_on || !why ? [title, table] : [title, table, element("p", {className: "quiet"}, why)];
}
