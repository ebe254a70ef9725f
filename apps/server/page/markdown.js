// Markdown to elements. Text becomes text nodes and nothing else: there is no way from an answer to markup.

const kDeepest = 16;  // lists in lists, quotes in quotes, marks in marks
const kFence = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`\s]*)/, kRule = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/, kHeading = /^ {0,3}(#{1,6})(?:[ \t]+|$)/;
const kQuote = /^ {0,3}> ?/, kItem = /^( *)([-*+]|\d{1,9}[.)])(?: +|$)/, kDelimiters = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const kPunctuation = /[!-/:-@[-`{-~]/, kWord = /[\p{L}\p{N}_]/u, kSpace = /\s/;

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Shows `text` in `place`. What stood there is kept as far as it is the same: a selection outlives the next token.
export function show(text, place) {
  const blocks = [...split(text.replace(/\r\n?/g, "\n").split("\n"))];
  blocks.forEach((block, i) => {
    const source = block.lines.join("\n"), old = place.children[i];
    if (old && old.source === source && old.kind === block.kind) return;
    const made = build(block, 0);
    made.source = source;
    made.kind = block.kind;
    if (old) old.replaceWith(made);
    else place.append(made);
  });
  while (place.children.length > blocks.length) place.lastChild.remove();
}

const indent = line => line.length - line.trimStart().length;
const is_blank = line => line.trim() === "";
const begins_block = line => kFence.test(line) || kRule.test(line) || kHeading.test(line) || kQuote.test(line) || kItem.test(line);
const is_table = (lines, i) => lines[i].includes("|") && i + 1 < lines.length && lines[i + 1].includes("|") && kDelimiters.test(lines[i + 1]);

function* split(lines) {
  for (let i = 0; i < lines.length;) {
    const first = i, line = lines[i];
    const take = kind => ({kind, lines: lines.slice(first, i)});
    const fence = kFence.exec(line), item = kItem.exec(line);
    if (is_blank(line)) {
      ++i;
    } else if (fence) {
      const is_end = text => text.trim().startsWith(fence[1]) && text.trim().replaceAll(fence[1][0], "") === "";
      for (++i; i < lines.length && !is_end(lines[i]); ++i);
      ++i;
      yield take("code");
    } else if (kHeading.test(line)) {
      ++i;
      yield take("heading");
    } else if (kRule.test(line)) {
      ++i;
      yield take("rule");
    } else if (kQuote.test(line)) {
      while (i < lines.length && kQuote.test(lines[i])) ++i;
      yield take("quote");
    } else if (item && indent(line) < 4) {
      const ordered = item[2].length > 1, least = indent(line) + item[2].length;
      for (++i; i < lines.length; ++i) {
        const next = kItem.exec(lines[i]);
        if (is_blank(lines[i])) {
          let after = i + 1;
          while (after < lines.length && is_blank(lines[after])) ++after;
          if (after === lines.length) break;
          const more = kItem.exec(lines[after]);
          if (indent(lines[after]) <= least && !(more && more[2].length > 1 === ordered)) break;
          i = after - 1;
        } else if (next && indent(lines[i]) <= least && next[2].length > 1 !== ordered) {
          break;
        } else if (!next && indent(lines[i]) <= least && begins_block(lines[i])) {
          break;
        }
      }
      yield take("list");
    } else if (is_table(lines, i)) {
      for (i += 2; i < lines.length && !is_blank(lines[i]) && lines[i].includes("|"); ++i);
      yield take("table");
    } else {
      for (++i; i < lines.length && !is_blank(lines[i]) && !begins_block(lines[i]) && !is_table(lines, i); ++i);
      yield take("paragraph");
    }
  }
}

function build({kind, lines}, depth) {
  if (depth > kDeepest) return element("p", {}, lines.join("\n"));
  if (kind === "code") return code_block(lines);
  if (kind === "rule") return element("hr");
  if (kind === "heading") {
    const level = kHeading.exec(lines[0])[1].length;
    // The page's own headings come first: an answer's begin below them.
    const title = lines[0].trim().slice(level).trim(), closing = title.lastIndexOf(" ") + 1;
    return inline(/^#+$/.test(title.slice(closing)) ? title.slice(0, closing).trim() : title, element("h" + Math.min(level + 2, 6)), depth);
  }
  if (kind === "quote") return inner(lines.map(line => line.replace(kQuote, "")), element("blockquote"), depth + 1);
  if (kind === "list") return list(lines, depth);
  if (kind === "table") return table(lines, depth);
  return inline(lines.map(line => line.trimStart()).join("\n").trimEnd(), element("p"), depth);
}

function inner(lines, place, depth) {
  for (const block of split(lines)) place.append(build(block, depth));
  return place;
}

function list(lines, depth) {
  const [, , mark] = kItem.exec(lines[0]), base = indent(lines[0]);
  const made = element(mark.length > 1 ? "ol" : "ul");
  if (mark.length > 1) made.start = parseInt(mark);
  let item = null, inset = 0;
  const end = () => {
    if (!item) return;
    const place = element("li"), blocks = [...split(item)];
    for (const block of blocks) {
      const child = build(block, depth + 1);
      if (block === blocks[0] && block.kind === "paragraph") place.append(...child.childNodes);
      else place.append(child);
    }
    made.append(place);
  };
  for (const line of lines) {
    const found = kItem.exec(line);
    if (found && (!item || indent(line) < Math.max(inset, base + 2))) {
      end();
      inset = Math.min(found[0].length, indent(line) + found[2].length + 4);
      item = [line.slice(found[0].length)];
    } else {
      item.push(line.slice(Math.min(indent(line), inset)));
    }
  }
  end();
  return made;
}

function cells(line) {
  const found = [""];
  const text = line.trim().replace(/^\|/, "");
  let code = false;
  for (let i = 0; i < text.length; ++i) {
    if (text[i] === "\\" && text[i + 1] === "|") found[found.length - 1] += text[++i];
    else if (text[i] === "|" && !code) found.push("");
    else {
      if (text[i] === "`") code = !code;
      found[found.length - 1] += text[i];
    }
  }
  if (found.length > 1 && is_blank(found.at(-1))) found.pop();
  return found.map(cell => cell.trim());
}

function table(lines, depth) {
  const sides = cells(lines[1]).map(cell => cell.endsWith(":") ? cell.startsWith(":") ? "center" : "right" : "left");
  const row = (line, tag) => element("tr", {}, ...sides.map((side, i) => inline(cells(line)[i] ?? "", element(tag, {className: side}), depth)));
  const made = element("table", {}, element("thead", {}, row(lines[0], "th")), element("tbody", {}, ...lines.slice(2).map(line => row(line, "td"))));
  return element("div", {className: "table", tabIndex: 0, role: "group", "aria-label": "Table"}, made);
}

function code_block(lines) {
  const [, fence, language] = kFence.exec(lines[0]);
  const last = lines.at(-1).trim(), closed = lines.length > 1 && last.startsWith(fence) && last.replaceAll(fence[0], "") === "";
  const inset = indent(lines[0]);
  const text = lines.slice(1, closed ? -1 : undefined).map(line => line.slice(Math.min(indent(line), inset))).join("\n");
  const code = element("code");
  highlight(text, language.toLowerCase(), code);
  const bar = element("div", {className: "bar"}, element("span", {}, language || "text"), element("button", {type: "button", className: "copy-code"}, "Copy code"));
  return element("div", {className: "code"}, bar, element("pre", {tabIndex: 0, role: "group", "aria-label": "Code"}, code));
}

const kKeywords = new Set(("abstract and as async await auto bool break case catch char class const constexpr continue def default del delete do double elif else enum except export extends "
  + "extern false final finally float fn for from func function if impl import in int interface is lambda let long match mut namespace new nil none not null of or package pass private protected "
  + "public raise return select self short signed sizeof static string struct super switch template this throw true try type typedef typename union unsigned use using var virtual void while "
  + "with yield where insert update create table join on group order by having limit values into set fi then done echo local esac").split(" "));
const kHashes = /^(py|python|sh|bash|shell|zsh|ruby|rb|yaml|yml|toml|r|perl|make|makefile|cmake|dockerfile|ini|conf)$/, kDashes = /^(sql|lua|haskell|hs|ada)$/;
const kPlain = /^(|text|txt|plain|markdown|md|output|console|csv)$/;

function highlight(text, language, place) {
  if (kPlain.test(language) || text.length > 20000) return place.append(text);
  const comment = kHashes.test(language) ? "#[^\\n]*" : kDashes.test(language) ? "--[^\\n]*" : "//[^\\n]*|/\\*[^]*?(?:\\*/|$)|<!--[^]*?(?:-->|$)";
  const parts = new RegExp(`(${comment})|("(?:\\\\.|[^"\\\\\\n])*"?|'(?:\\\\.|[^'\\\\\\n])*'?|\`(?:\\\\.|[^\`\\\\])*\`?)|(\\b\\d[\\w.]*)|([A-Za-z_]\\w*)`, "g");
  let from = 0;
  for (const found of text.matchAll(parts)) {
    const [whole, remark, quoted, number, word] = found;
    const kind = remark ? "remark" : quoted ? "quoted" : number ? "number" : kKeywords.has(language === "sql" ? word.toLowerCase() : word) ? "keyword" : "";
    if (!kind) continue;
    place.append(text.slice(from, found.index), element("span", {className: kind}, whole));
    from = found.index + whole.length;
  }
  place.append(text.slice(from));
}

// What a link may lead to; undefined: it is shown as text.
function address(text) {
  try {
    const url = new URL(text);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : undefined;
  } catch {
    return undefined;
  }
}

const link = (href, ...children) => element("a", {href, target: "_blank", rel: "noopener noreferrer", referrerPolicy: "no-referrer"}, ...children);

function inline(text, place, depth) {
  if (depth > kDeepest) {
    place.append(text);
    return place;
  }
  let plain = "";
  const missing = new Set();  // what was looked for behind here, and is not there: no text makes this quadratic
  const find = (what, from, fits = () => true) => {
    if (missing.has(what)) return -1;
    for (let at = text.indexOf(what, from); at >= 0; at = text.indexOf(what, at + 1))
      if (fits(at)) return at;
    missing.add(what);
    return -1;
  };
  const add = made => {
    place.append(plain, made);
    plain = "";
  };
  for (let i = 0; i < text.length;) {
    const c = text[i];
    if (c === "\\" && i + 1 < text.length && kPunctuation.test(text[i + 1])) {
      plain += text[i + 1];
      i += 2;
    } else if (c === "\n") {
      plain = plain.trimEnd().replace(/\\$/, "");
      add(element("br"));
      ++i;
    } else if (c === "`") {
      const run = /^`+/.exec(text.slice(i, i + 64))[0];
      const end = find(run, i + run.length, at => text[at - 1] !== "`" && text[at + run.length] !== "`");
      if (end >= 0) add(element("code", {}, text.slice(i + run.length, end).replace(/^ (.*[^ ].*) $/s, "$1")));
      else plain += run;
      i = end >= 0 ? end + run.length : i + run.length;
    } else if (c === "[" || (c === "!" && text[i + 1] === "[")) {
      const from = i + (c === "!" ? 2 : 1), length = text.slice(from, from + 1024).indexOf("]("), middle = from + length, end = length < 0 ? -1 : close(text, middle + 2);
      const href = end < 0 ? undefined : address(text.slice(middle + 2, end).trim().split(/\s/)[0]);
      if (href && !text.slice(from, middle).includes("[")) {
        add(inline(text.slice(from, middle) || href, link(href), depth + 4));
        i = end + 1;
      } else {
        plain += text.slice(i, from);
        i = from;
      }
    } else if (c === "<" || (c === "h" && !kWord.test(text[i - 1] ?? " "))) {
      const found = /^<((?:https?:\/\/|mailto:)[^\s<>]+)>|^https?:\/\/[^\s<>"'`|*]+/.exec(text.slice(i, i + 2048));
      const shown = found && (found[1] ?? found[0].replace(/[.,;:!?)\]]+$/, "")), href = shown && address(shown);
      if (href) add(link(href, shown));
      else plain += c;
      i += href ? found[1] ? found[0].length : shown.length : 1;
    } else if (c === "*" || c === "_" || (c === "~" && text[i + 1] === "~")) {
      const run = new RegExp(`^\\${c}{1,3}`).exec(text.slice(i, i + 3))[0];
      const before = text[i - 1] ?? " ", behind = text[i + run.length] ?? " ";
      const opens = !kSpace.test(behind) && !(c === "_" && kWord.test(before)) && !(c === "~" && run.length !== 2);
      const ends = at => !kSpace.test(text[at - 1]) && text[at - 1] !== c && text[at + run.length] !== c && !(c === "_" && kWord.test(text[at + run.length] ?? " "));
      const end = opens ? find(run, i + run.length + 1, ends) : -1;
      if (end >= 0) {
        const content = text.slice(i + run.length, end);
        const tag = c === "~" ? "s" : run.length === 1 ? "em" : "strong";
        add(run.length === 3 ? element("em", {}, inline(content, element("strong"), depth + 1)) : inline(content, element(tag), depth + 1));
      } else {
        plain += run;
      }
      i = end >= 0 ? end + run.length : i + run.length;
    } else {
      plain += c;
      ++i;
    }
  }
  place.append(plain);
  return place;
}

// Where the bracket that is open before `from` is closed; -1: nowhere near.
function close(text, from) {
  for (let i = from, open = 1; i < Math.min(text.length, from + 2048) && text[i] !== "\n"; ++i) {
    if (text[i] === "(") ++open;
    if (text[i] === ")" && --open === 0) return i;
  }
  return -1;
}
