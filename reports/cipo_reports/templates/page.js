// The page's own script: sortable tables, and the explorer of attempts. What models wrote becomes text nodes, never markup.
const ROW = 44; // height of a list's row in pixels, as in the style
const $ = (id) => document.getElementById(id);
const started = performance.now();

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// --- tables -------------------------------------------------------------------------------------------------------

function sortable(table) {
  const heads = [...table.querySelectorAll("th")];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = element("button", "", head.textContent);
    button.type = "button";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") !== "descending" && head.classList.contains("number");
      const down = head.getAttribute("aria-sort") === "ascending" || falling;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows];
      rows.forEach((row) => row.classList.remove("rule"));
      const numbers = head.classList.contains("number");
      rows.sort((a, b) => {
        const [x, y] = [a, b].map((row) => row.cells[column]);
        if (numbers) {
          const [p, q] = [x, y].map((cell) => (cell.dataset.value === undefined ? NaN : Number(cell.dataset.value)));
          if (isNaN(p) || isNaN(q)) return isNaN(p) - isNaN(q); // what has no value comes last
          return down ? q - p : p - q;
        }
        return x.textContent.localeCompare(y.textContent, undefined, { numeric: true }) * (down ? -1 : 1);
      });
      body.append(...rows);
    });
  });
}
document.querySelectorAll("table").forEach(sortable);

// --- data ---------------------------------------------------------------------------------------------------------

async function unpack(node) {
  const text = node.textContent;
  let bytes;
  if (Uint8Array.fromBase64) bytes = Uint8Array.fromBase64(text);
  else {
    const binary = atob(text);
    bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  }
  node.remove(); // it is not needed any more
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

let data, chain, attempt, count;
let shown = new Int32Array(0); // chains that the filters let through
let selected = -1; // position in shown
let view = "rendered";
// The list can be used while the texts, which stand after this script, are still on their way.
const parsed = new Promise((done) => {
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", done);
  else done();
}).then(() => [...document.querySelectorAll(".chunk")]);
const reading = []; // by chunk, the promise of its texts
let texts = []; // by attempt
let lowered = []; // by attempt, when its chunk has been read
let read = 0; // chunks

function chunkOf(number) {
  let low = 0, high = data.chunks.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (data.chunks[middle] <= number) low = middle; else high = middle - 1;
  }
  return low;
}

function readChunk(number) {
  reading[number] ??= parsed.then((chunks) => unpack(chunks[number])).then((rows) => {
    const first = data.chunks[number];
    rows.forEach((row, i) => {
      texts[first + i] = row;
      lowered[first + i] = row[0] === null ? "" : row[0].toLowerCase();
    });
    read += 1;
  });
  return reading[number];
}

async function readAll() {
  for (let i = 0; i < data.chunks.length - 1; i++) {
    await readChunk(i);
    if (wanted.text) schedule();
    else report();
    await new Promise((next) => setTimeout(next)); // the page stays usable
  }
  document.documentElement.dataset.read = Math.round(performance.now() - started);
}

// --- filters ------------------------------------------------------------------------------------------------------

const wanted = { arm: "", task: "", protocol: "", transition: "", state: "", problem: "", text: "" };
const TRANSITIONS = ["w→r", "r→w", "w→w", "r→r"];

function options(id, names) {
  $(id).replaceChildren(...["", ...names].map((name) => {
    const option = element("option", "", name || "all");
    option.value = name;
    return option;
  }));
}

function turnsOf(number) {
  return data.turns.slice(chain.first[number], number + 1 < count ? chain.first[number + 1] : data.turns.length);
}

let bits; // by chain, which transitions it has, as bits
function prepare() {
  bits = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const end = i + 1 < count ? chain.first[i + 1] : data.turns.length;
    let before = -1;
    for (let at = chain.first[i]; at < end; at++) {
      const one = data.turns[at];
      if (attempt.judges[one]) continue;
      const right = attempt.right[one];
      if (before >= 0) bits[i] |= 1 << TRANSITIONS.indexOf(`${before ? "r" : "w"}→${right ? "r" : "w"}`);
      before = right;
    }
  }
}

let known = { text: null, hits: null, chunks: -1 }; // of the last search
function hits(text) {
  if (known.text !== text || known.chunks !== read) {
    const found = new Uint8Array(attempt.state.length);
    for (let i = 0; i < found.length; i++) if (lowered[i] !== undefined && lowered[i].includes(text)) found[i] = 1;
    known = { text, hits: found, chunks: read };
  }
  return known.hits;
}

function filter() {
  const from = performance.now();
  const at = (names, name) => (name === "" ? -1 : names.indexOf(name));
  const arm = at(data.arms, wanted.arm), task = at(data.tasks, wanted.task);
  const protocol = at(data.protocols, wanted.protocol), state = at(data.states, wanted.state);
  const bit = wanted.transition === "" ? 0 : 1 << TRANSITIONS.indexOf(wanted.transition);
  const words = wanted.problem.trim().toLowerCase();
  const problems = words && data.problems.map((p) => `${p[1]} ${p[2] ?? ""}`.toLowerCase().includes(words));
  const found = wanted.text && hits(wanted.text.toLowerCase());
  const kept = new Int32Array(count);
  let size = 0;
  for (let i = 0; i < count; i++) {
    if (arm >= 0 && chain.arm[i] !== arm) continue;
    if (task >= 0 && chain.task[i] !== task) continue;
    if (protocol >= 0 && chain.protocol[i] !== protocol) continue;
    if (bit && !(bits[i] & bit)) continue;
    if (problems && !problems[chain.problem[i]]) continue;
    if (state >= 0 || found) {
      const end = i + 1 < count ? chain.first[i + 1] : data.turns.length;
      let one = state < 0, other = !found;
      for (let k = chain.first[i]; k < end; k++) {
        one ||= attempt.state[data.turns[k]] === state;
        other ||= found[data.turns[k]] === 1;
      }
      if (!one || !other) continue;
    }
    kept[size++] = i;
  }
  const chosen = selected >= 0 ? shown[selected] : -1;
  shown = kept.subarray(0, size);
  selected = shown.indexOf(chosen);
  $("rows").style.height = `${Math.min(size * ROW, 30e6)}px`;
  if (selected < 0) $("list").scrollTop = 0;
  draw();
  report();
  document.documentElement.dataset.filtered = (performance.now() - from).toFixed(1);
  delete document.documentElement.dataset.pending;
}

function report() {
  const all = data.chunks.length - 1;
  const part = read < all ? `; texts are being read (${Math.round((100 * read) / all)} %)` : "";
  $("count").textContent = `${shown.length.toLocaleString("en")} of ${count.toLocaleString("en")} chains${part}`;
}

let due = 0;
function schedule() {
  document.documentElement.dataset.pending = "1";
  cancelAnimationFrame(due);
  due = requestAnimationFrame(filter);
}

// --- list ---------------------------------------------------------------------------------------------------------

function letters(number) {
  const parts = [];
  for (const one of turnsOf(number)) {
    if (attempt.judges[one]) continue;
    if (parts.length) parts.push("→");
    parts.push(element("span", attempt.right[one] ? "r" : "w", attempt.right[one] ? "r" : "w"));
  }
  return parts;
}

function about(number) {
  const p = data.problems[chain.problem[number]];
  return visible(`${data.arms[chain.arm[number]]} · ${data.protocols[chain.protocol[number]]} · sample ${chain.sample[number]} · ${p[4]}`);
}

function row(position) {
  const number = shown[position];
  const said = turnsOf(number).filter((i) => !attempt.judges[i]).map((i) => attempt.answer[i]);
  const answers = said.some((answer) => answer !== null) ? said.map((answer) => answer ?? "–").join(" → ") : "";
  const made = element("div", "row",
    element("div", "", ...letters(number), ` ${data.tasks[chain.task[number]]} ${visible(data.problems[chain.problem[number]][1])}  ${visible(answers)}`),
    element("div", "about", about(number)));
  made.id = `row-${position}`;
  made.setAttribute("role", "option");
  made.setAttribute("aria-selected", position === selected);
  made.setAttribute("aria-setsize", shown.length);
  made.setAttribute("aria-posinset", position + 1);
  made.style.top = `${position * ROW}px`;
  made.addEventListener("click", () => select(position));
  return made;
}

function draw() {
  const list = $("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 8);
  const last = Math.min(shown.length, first + Math.ceil(list.clientHeight / ROW) + 16);
  const rows = [];
  for (let i = first; i < last; i++) rows.push(row(i));
  $("rows").replaceChildren(...rows);
  if (selected >= first && selected < last) list.setAttribute("aria-activedescendant", `row-${selected}`);
  else list.removeAttribute("aria-activedescendant");
}

function select(position) {
  if (position < 0 || position >= shown.length) return;
  selected = position;
  const list = $("list"), top = position * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  draw();
  open(shown[position]);
}

// --- an attempt ---------------------------------------------------------------------------------------------------

// Characters that would steer the page (bidirectional, zero width, controls) are named instead.
const STEERING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/gu;
const named = (char) => `⟨U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
const visible = (text) => text.replace(STEERING, named);

function plain(parent, text) {
  let at = 0;
  for (const found of text.matchAll(STEERING)) {
    parent.append(text.slice(at, found.index), element("span", "control", named(found[0])));
    at = found.index + found[0].length;
  }
  parent.append(text.slice(at));
}

const FENCE = /```([\w+-]*)[^\n]*\n([\s\S]*?)(?:```|$)/g;
function rendered(text, isCode) {
  const box = element("div", "text");
  if (isCode && !text.includes("```")) {
    box.append(code(text));
    return box;
  }
  let at = 0;
  for (const found of text.matchAll(FENCE)) {
    prose(box, text.slice(at, found.index));
    box.append(code(found[2]));
    at = found.index + found[0].length;
  }
  prose(box, text.slice(at));
  return box;
}

const KEYWORDS = new Set(("and as assert async await break case class continue def del elif else except finally for from global if import in is " +
  "lambda match nonlocal not or pass raise return try while with yield None True False " +
  "auto bool char const double enum float int long new null private public static struct switch template this throw using vector void").split(" "));
const TOKEN = /(#[^\n]*|\/\/[^\n]*)|([rbfuRBFU]{0,2}(?:"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?))|(\b\d[\w.]*)|([A-Za-z_]\w*)/g;
function code(text) {
  const box = element("pre", ""), inner = element("code", "");
  let at = 0;
  for (const found of text.matchAll(TOKEN)) {
    const kind = found[1] ? (found[1].startsWith("//") && /\S *$/.test(text.slice(Math.max(0, found.index - 40), found.index).split("\n").pop()) ? "" : "c")
      : found[2] ? "s" : found[3] ? "n" : KEYWORDS.has(found[4]) ? "k" : "";
    if (!kind) {
      if (found[1]) { // a floor division: what follows it is code again
        plain(inner, text.slice(at, found.index) + "//");
        const rest = code(found[1].slice(2)).firstChild;
        inner.append(...rest.childNodes);
        at = found.index + found[0].length;
      }
      continue;
    }
    plain(inner, text.slice(at, found.index));
    const part = element("span", kind);
    plain(part, found[0]);
    inner.append(part);
    at = found.index + found[0].length;
  }
  plain(inner, text.slice(at));
  box.append(inner);
  return box;
}

const MATHS = /\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|(?<![\\$\w])\$(?=\S)((?:\\.|[^$\\\n]){1,600}?)(?<=\S)\$(?!\d)|(\\boxed\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})|\*\*(?=\S)([^*\n]{1,300})\*\*/g;
function prose(box, text) {
  let at = 0;
  for (const found of text.matchAll(MATHS)) {
    plain(box, text.slice(at, found.index));
    const block = found[1] ?? found[2];
    if (found[6] !== undefined) {
      const strong = element("strong", "");
      prose(strong, found[6]);
      box.append(strong);
    } else box.append(formula(block ?? found[3] ?? found[4] ?? found[5], block !== undefined, found[0]));
    at = found.index + found[0].length;
  }
  plain(box, text.slice(at));
}

// --- what changed -------------------------------------------------------------------------------------------------

// Myers' O(ND) algorithm on words: [kind, words] with kind "=", "-" or "+"; null where the texts differ too much.
function compare(before, after) {
  const split = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];
  const a = split(before), b = split(after);
  let start = 0, end = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const x = a.slice(start, a.length - end), y = b.slice(start, b.length - end);
  const most = Math.min(x.length + y.length, 1500), size = 2 * most + 3;
  let v = new Int32Array(size);
  const trace = [];
  let done = -1;
  for (let d = 0; d <= most && done < 0; d++) {
    trace.push(v.slice(most + 1 - d - 1, most + 1 + d + 2));
    for (let k = -d; k <= d; k += 2) {
      const at = k + most + 1;
      let i = k === -d || (k !== d && v[at - 1] < v[at + 1]) ? v[at + 1] : v[at - 1] + 1;
      while (i < x.length && i - k < y.length && x[i] === y[i - k]) i++;
      v[at] = i;
      if (i >= x.length && i - k >= y.length) { done = d; break; }
    }
  }
  if (done < 0) return null;
  const parts = [];
  let i = x.length, j = y.length;
  for (let d = done; d > 0; d--) {
    const row = trace[d], at = (k) => row[k + d + 1];
    const k = i - j;
    const up = k === -d || (k !== d && at(k - 1) < at(k + 1));
    const from = up ? at(k + 1) : at(k - 1), other = from - (up ? k + 1 : k - 1);
    while (i > from + (up ? 0 : 1) && j > other + (up ? 1 : 0)) { parts.push(["=", x[--i]]); j--; }
    if (up) parts.push(["+", y[--j]]); else parts.push(["-", x[--i]]);
  }
  while (i > 0 && j > 0) { parts.push(["=", x[--i]]); j--; }
  parts.reverse();
  return [...(start ? [["=", a.slice(0, start).join("")]] : []), ...parts, ...(end ? [["=", a.slice(a.length - end).join("")]] : [])];
}

function changed(parts, side) {
  const box = element("div", "text diff");
  for (const [kind, words] of parts) {
    if (kind === "=") plain(box, words);
    else if (kind === side) {
      const part = element(side === "+" ? "ins" : "del", "");
      plain(part, words);
      box.append(part);
    }
  }
  return box;
}

// --- the chosen chain ---------------------------------------------------------------------------------------------

let opened = -1;
async function open(number) {
  opened = number;
  delete document.documentElement.dataset.opened;
  const turns = turnsOf(number);
  await Promise.all([...new Set(turns.map(chunkOf))].map(readChunk));
  if (opened === number) show(number, turns);
}

function turn(number, position, turns, isCode) {
  const one = turns[position], judges = attempt.judges[one];
  const [text, detail] = texts[one];
  const state = data.states[attempt.state[one]];
  const box = element("section", `turn ${attempt.right[one] ? "right" : "wrong"}`,
    element("span", "badge", judges ? `judgement: ${state}` : state),
    ` turn ${position + 1}${attempt.tokens[one] >= 0 ? `, ${attempt.tokens[one].toLocaleString("en")} tokens` : ""}`);
  if (attempt.answer[one] !== null) {
    const line = element("div", "", judges ? "says: " : "answer: ", element("strong", "", visible(attempt.answer[one])));
    box.append(line);
  }
  if (text === null) box.append(element("p", "note", "The text is not part of this page."));
  else if (view === "diff" && turns.length > 1) box.append(difference(position, turns));
  else if (view === "source") {
    const source = element("div", "text source");
    plain(source, text);
    box.append(source);
  } else box.append(rendered(text, isCode && !judges));
  if (detail) {
    const failed = element("pre", "");
    plain(failed, detail);
    box.append(element("p", "note", "first failed test"), failed);
  }
  return box;
}

function difference(position, turns) {
  const other = position ? position - 1 : 1;
  const [before, after] = [Math.min(position, other), Math.max(position, other)].map((i) => texts[turns[i]][0] ?? "");
  const parts = compare(before, after);
  if (parts) return changed(parts, position ? "+" : "-");
  const box = element("div", "text diff", element("p", "note", "too different to compare word by word"));
  plain(box, texts[turns[position]][0]);
  return box;
}

function show(number, turns) {
  const [, id, question, answer, meta] = data.problems[chain.problem[number]];
  const isCode = data.code[chain.task[number]];
  const title = `${data.tasks[chain.task[number]]} ${visible(id)} · ${data.arms[chain.arm[number]]} · ${data.protocols[chain.protocol[number]]} · sample ${chain.sample[number]}`;
  const parts = [element("h3", "", ...letters(number), ` ${title}`)];
  const run = `run ${visible(data.runs[chain.run[number]])}${meta ? ` · ${visible(meta)}` : ""}`;
  parts.push(element("p", "note", run));
  if (question !== null) parts.push(rendered(question, false));
  else parts.push(element("p", "note", "The run keeps no statement of the problem: cipo-eval rescore adds it."));
  if (answer !== null) {
    const line = element("p", "", "expected: ");
    line.append(formula(answer, false, answer));
    parts.push(line);
  }
  const bar = element("div", "bar");
  for (const [name, key] of [["rendered", ""], ["diff", " (d)"], ["source", " (s)"]]) {
    if (name === "diff" && turns.length < 2) continue;
    const button = element("button", "", name + key);
    button.type = "button";
    button.setAttribute("aria-pressed", view === name);
    button.addEventListener("click", () => look(name));
    bar.append(button);
  }
  const shown = element("div", "turns", ...turns.map((_, position) => turn(number, position, turns, isCode)));
  shown.setAttribute("role", "region");
  shown.setAttribute("aria-label", "Turns");
  parts.push(bar, shown);
  for (const part of [shown, ...shown.querySelectorAll("pre, math[display=block]")]) part.tabIndex = 0; // may scroll
  parts.push(others(number));
  $("detail").replaceChildren(...parts);
  $("detail").scrollTop = 0;
  document.documentElement.dataset.opened = number;
}

// Other chains at the same problem, of all methods.
function others(number) {
  const task = chain.task[number], name = data.problems[chain.problem[number]][1];
  const box = element("details", "others", element("summary", "", "Other attempts at this problem"));
  let found = 0;
  for (let i = 0; i < count && found < 100; i++) {
    if (i === number || chain.task[i] !== task || data.problems[chain.problem[i]][1] !== name) continue;
    found++;
    const button = element("button", "", ...letters(i), ` ${data.arms[chain.arm[i]]}, ${data.protocols[chain.protocol[i]]} ${chain.sample[i]}`);
    button.type = "button";
    button.addEventListener("click", () => { selected = shown.indexOf(i); draw(); open(i); });
    box.append(button, " ");
  }
  return found ? box : "";
}

function look(name) {
  view = view === name ? "rendered" : name;
  if (opened >= 0) open(opened);
}

// --- start --------------------------------------------------------------------------------------------------------

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "Escape" && typing) { document.activeElement.blur(); $("list").focus(); return; }
  if (typing) return;
  const inList = $("explorer").contains(document.activeElement);
  if (event.key === "/") { $("text").focus(); $("explorer").scrollIntoView(); event.preventDefault(); }
  else if (event.key === "j" || (inList && event.key === "ArrowDown")) { select(selected + 1); event.preventDefault(); }
  else if (event.key === "k" || (inList && event.key === "ArrowUp")) { select(selected - 1); event.preventDefault(); }
  else if (inList && event.key === "PageDown") { select(Math.min(shown.length - 1, selected + 12)); event.preventDefault(); }
  else if (inList && event.key === "PageUp") { select(Math.max(0, selected - 12)); event.preventDefault(); }
  else if (inList && event.key === "Home") { select(0); event.preventDefault(); }
  else if (inList && event.key === "End") { select(shown.length - 1); event.preventDefault(); }
  else if (event.key === "Enter" && document.activeElement === $("list")) $("detail").focus();
  else if (event.key === "d") look("diff");
  else if (event.key === "s") look("source");
}

async function start() {
  data = await unpack($("index"));
  ({ chain, attempt } = data);
  count = chain.arm.length;
  prepare();
  const there = (names, column) => names.filter((_, i) => column.includes(i));
  options("arm", data.arms);
  options("task", data.tasks);
  options("protocol", there(data.protocols, chain.protocol));
  options("transition", TRANSITIONS.filter((_, i) => bits.some((b) => b & (1 << i))));
  options("state", there(data.states, attempt.state));
  for (const name of Object.keys(wanted)) {
    const changedTo = () => { wanted[name] = $(name).value; schedule(); };
    $(name).addEventListener("input", changedTo);
  }
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("reset", () => { // the fields are empty only after the event
    for (const name of Object.keys(wanted)) wanted[name] = "";
    schedule();
  });
  $("list").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  addEventListener("resize", draw);
  addEventListener("keydown", keys);
  filter();
  document.documentElement.dataset.ready = Math.round(performance.now());
  readAll();
}
start().catch((error) => { $("count").textContent = `The attempts cannot be read: ${error.message}`; });
