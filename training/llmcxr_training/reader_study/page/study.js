"use strict";
// One reader's tab. It knows what the server sends: a picture, perhaps two reports, and never
// which of them is real. Every change is sent at once; nothing counts as saved until the server
// has said so, and what it has not taken stays in the form.

const IMAGE_CHOICES = [
  [1, "Certainly real: a patient's radiograph"],
  [2, "Rather real"],
  [3, "Rather generated"],
  [4, "Certainly generated: drawn by a model"],
];
const PROBLEMS = [
  ["anatomy", "Anatomy is impossible or missing", "a"],
  ["texture", "Texture, noise or sharpness is odd", "s"],
  ["borders", "Borders or collimation are odd", "d"],
  ["devices", "Devices or lines are odd", "f"],
  ["writing", "Writing or side markers are odd", "g"],
];
const REPORT_CHOICES = [
  [-2, "A is much better"],
  [-1, "A is slightly better"],
  [0, "Equally good, or equally bad"],
  [1, "B is slightly better"],
  [2, "B is much better"],
];
const ERRORS = [
  ["false_finding", "Finding not there", "q", "a"],
  ["missed_finding", "Finding missed", "w", "s"],
  ["location", "Wrong place or side", "e", "d"],
  ["severity", "Wrong severity or size", "r", "f"],
  ["comparison", "Wrong comparison", "t", "g"],
];
const GRADES = ["none", "minor", "significant"];

const $ = (id) => document.getElementById(id);
const now = { tab: sessionStorage.getItem("tab") || "", reader: "", view: null, seen: 0, looked: 0, since: 0 };
let queue = Promise.resolve();

class Refused extends Error {
  constructor(status, code, detail) {
    const sentence = detail[0].toUpperCase() + detail.slice(1);
    super(sentence.endsWith(".") ? sentence : `${sentence}.`);
    this.status = status;
    this.code = code;
  }
}

async function ask(method, path, body) {
  const headers = { Authorization: `Bearer ${now.tab}` };
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Refused(0, "unreachable", "The study cannot be reached.");
  }
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, content.code, content.detail || "Refused.");
  return content;
}

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-")) element.setAttribute(key, value); else element[key] = value;
  }
  element.append(...children);
  return element;
}

// --- What is shown -------------------------------------------------------------------------

function only(id) {
  for (const section of ["entrance", "work", "end"]) $(section).hidden = section !== id;
  $("progress").hidden = id === "entrance";
}

function choice(type, name, value, text, key) {
  const input = make("input", { type, name, value: String(value) });
  return make("label", { className: "choice" }, input, make("span", { textContent: text }),
    make("kbd", { textContent: key, "aria-hidden": "true" }));
}

function gradeCell(side, [category, text, ...keys]) {
  const name = `${side}.${category}`;
  const label = `Report ${side === "first" ? "A" : "B"}, ${text}`;
  const cell = make("div", { className: "grades", role: "radiogroup", "aria-label": label });
  GRADES.forEach((grade, value) => {
    const input = make("input", { type: "radio", name, value: String(value), checked: value === 0 });
    cell.append(make("label", { className: `grade ${grade}` }, input, grade));
  });
  cell.append(make("kbd", { textContent: keys[side === "first" ? 0 : 1], "aria-hidden": "true" }));
  return make("td", {}, cell);
}

function showReports(reports) {
  $("reports").hidden = !reports.length;
  $("reports").replaceChildren(...reports.map((report, number) => {
    const body = make("section", { className: "report" },
      make("h2", { textContent: `Report ${"AB"[number]}` }));
    for (const [name, text] of [["Findings", report.findings], ["Impression", report.impression]]) {
      if (text) body.append(make("p", {}, make("strong", { textContent: name }), text));
    }
    return body;
  }));
}

function showForm(kind) {
  const image = kind === "image";
  $("question").textContent = image ? "Is this picture real or generated?" : "Which report is better for this radiograph?";
  const choices = image ? IMAGE_CHOICES : REPORT_CHOICES;
  $("choices").replaceChildren(...choices.map(([value, text], i) => choice("radio", "choice", value, text, i + 1)));
  $("details-legend").textContent = image ? "What looks wrong? (any number)" : "Errors in each report";
  if (image) {
    $("details-body").replaceChildren(...PROBLEMS.map(([value, text, key]) => choice("checkbox", "problem", value, text, key)));
  } else {
    const head = make("tr", {}, make("th", { scope: "col", textContent: "Error" }),
      ...["Report A", "Report B"].map((text) => make("th", { scope: "col", textContent: text })));
    const rows = ERRORS.map((error) => make("tr", {}, make("th", { scope: "row", textContent: error[1] }),
      gradeCell("first", error), gradeCell("second", error)));
    $("details-body").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
  }
}

function fill(answer) {
  if (!answer) return;
  const form = $("form").elements;
  form.choice.value = String(answer.kind === "image" ? answer.judgement : answer.preference);
  for (const box of document.querySelectorAll("[name=problem]")) box.checked = (answer.problems || []).includes(box.value);
  for (const side of ["first", "second"]) {
    for (const [category, grade] of Object.entries(answer[side] || {})) form[`${side}.${category}`].value = String(grade);
  }
}

function read() {
  const form = $("form").elements;
  const chosen = form.choice.value;
  if (chosen === "") return null;
  if (now.view.case.kind === "image") {
    const problems = [...document.querySelectorAll("[name=problem]:checked")].map((box) => box.value);
    return { kind: "image", judgement: Number(chosen), problems };
  }
  const grades = (side) => Object.fromEntries(ERRORS.map(([c]) => [c, Number(form[`${side}.${c}`].value)]));
  return { kind: "report", preference: Number(chosen), first: grades("first"), second: grades("second") };
}

function show(view) {
  now.view = view;
  now.seen = view.revision || 0;
  $("who").textContent = now.reader;
  $("who").hidden = false;
  now.looked = view.seconds || 0;
  now.since = performance.now();
  $("bar").max = view.total;
  $("bar").value = view.done;
  $("count").textContent = `${view.done} of ${view.total} done`;
  $("saved").textContent = "";
  notice();
  if (!view.case) {
    only("end");
    $("back-from-end").disabled = view.total === 0;
    document.querySelector("#end h1").focus();
    return;
  }
  only("work");
  const { id, kind, number, of, reports } = view.case;
  const heading = `${kind === "image" ? "Picture" : "Reports"} ${number} of ${of}`;
  $("heading").textContent = heading;
  document.title = heading;
  $("picture").src = `/images/${id}.png`;
  resetDisplay();
  showReports(reports);
  showForm(kind);
  fill(view.answer);
  $("back").disabled = view.position === 0;
  ready();
  window.scrollTo(0, 0);
  $("heading").focus();
}

function ready() {
  $("next").disabled = read() === null;
}

function notice(text = "", first = null, second = null) {
  // A hidden button would swallow the next key.
  if (!text && $("notice").contains(document.activeElement)) $("heading").focus();
  $("notice").hidden = !text;
  $("notice-text").textContent = text;
  for (const [id, action] of [["notice-first", first], ["notice-second", second]]) {
    $(id).hidden = !action;
    $(id).textContent = action ? action[0] : "";
    $(id).onclick = action ? action[1] : null;
  }
  if (text && first) $("notice-first").focus();
}

// --- What is sent --------------------------------------------------------------------------

function seconds() {
  const visible = document.hidden ? 0 : performance.now() - now.since;
  return Math.min(86400, now.looked + visible / 1000);
}

function save(final) {
  const answer = read();
  if (answer === null) return;
  const { id } = now.view.case;
  // One after the other, so that each knows the revision before it.
  queue = queue.then(async () => {
    try {
      const body = { answer, final, seconds: seconds(), seen: now.seen };
      const { revision } = await ask("PUT", `/api/ratings/${id}`, body);
      if (now.view.case?.id === id) now.seen = revision;
      notice();
      $("saved").textContent = "Saved.";
      if (final) await load();
    } catch (error) {
      failed(error, () => save(final));
    }
  });
}

async function load(position) {
  const query = position === undefined ? "" : `?position=${position}`;
  try {
    show(await ask("GET", `/api/case${query}`));
  } catch (error) {
    failed(error, () => load(position));
  }
}

function failed(error, again) {
  $("saved").textContent = "";
  if (!(error instanceof Refused)) throw error;
  if (error.code === "taken-over") {
    if (!now.view) return enter();
    notice("This study was opened in another tab or window and goes on there. What you see here is kept until you close this tab.",
      ["Go on here", () => comeBack(again)]);
  } else if (error.code === "changed-elsewhere") {
    notice("This case was answered in another tab. Nothing was overwritten.",
      ["Show what was saved", () => load(now.view.position)],
      ["Save what is here", () => keepMine(again)]);
  } else {
    notice(`${error.message} What you entered is still here.`, ["Try again", again]);
  }
}

async function comeBack(again) {
  try {
    await begin(now.reader || sessionStorage.getItem("reader"));
    again();
  } catch (error) {
    failed(error, () => comeBack(again));
  }
}

async function keepMine(again) {
  try {
    now.seen = (await ask("GET", `/api/case?position=${now.view.position}`)).revision;
    again();
  } catch (error) {
    failed(error, () => keepMine(again));
  }
}

async function begin(reader) {
  const { tab } = await ask("POST", "/api/tab", { reader });
  now.tab = tab;
  now.reader = reader;
  sessionStorage.setItem("tab", tab);
  sessionStorage.setItem("reader", reader);
}

function enter() {
  only("entrance");
  $("reader").focus();
}

// --- Keys, mouse and display ---------------------------------------------------------------

function changed() {
  ready();
  save(false);
}

function step(side, category) {
  const group = $("form").elements[`${side}.${category}`];
  group.value = String((Number(group.value) + 1) % GRADES.length);
  changed();
}

function press(key) {
  const { kind } = now.view.case;
  const choices = kind === "image" ? IMAGE_CHOICES : REPORT_CHOICES;
  const number = Number(key);
  if (number >= 1 && number <= choices.length) {
    $("form").elements.choice.value = String(choices[number - 1][0]);
    return changed() ?? true;
  }
  if (kind === "image") {
    const problem = PROBLEMS.find(([, , letter]) => letter === key);
    if (problem) {
      const box = document.querySelector(`[name=problem][value=${problem[0]}]`);
      box.checked = !box.checked;
      return changed() ?? true;
    }
  } else {
    for (const [category, , first, second] of ERRORS) {
      if (key === first) return step("first", category) ?? true;
      if (key === second) return step("second", category) ?? true;
    }
  }
  const tool = { i: "invert", z: "zoom", x: "reset" }[key];
  if (tool) $(tool).click();
  return Boolean(tool);
}

function onKey(event) {
  if ($("work").hidden || !$("shortcuts").checked) return;
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || !$("notice").hidden) return;
  const onButton = event.target.closest("button, a, [type=range]");
  if (event.key === "Enter") {
    if (onButton) return;
    event.preventDefault();
    if (!$("next").disabled) save(true);
  } else if (event.key === "Backspace") {
    event.preventDefault();
    $("back").click();
  } else if (event.key.length === 1 && press(event.key.toLowerCase())) {
    event.preventDefault();
  }
}

function display() {
  const inverted = $("invert").getAttribute("aria-pressed") === "true";
  const filters = [`brightness(${$("brightness").value}%)`, `contrast(${$("contrast").value}%)`];
  $("picture").style.filter = (inverted ? ["invert(1)"] : []).concat(filters).join(" ");
  $("frame").classList.toggle("enlarged", $("zoom").getAttribute("aria-pressed") === "true");
}

function resetDisplay() {
  $("brightness").value = $("contrast").value = 100;
  for (const id of ["invert", "zoom"]) $(id).setAttribute("aria-pressed", "false");
  display();
}

function toggle(event) {
  const button = event.currentTarget;
  button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
  display();
}

function back() {
  if (now.view.position > 0) load(now.view.position - 1);
}

async function start() {
  $("entrance-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await begin($("reader").value.trim());
      await load();
    } catch (error) {
      notice(error.message, ["Close", () => { notice(); $("reader").focus(); }]);
    }
  });
  $("form").addEventListener("change", changed);
  $("form").addEventListener("submit", (event) => { event.preventDefault(); save(true); });
  for (const id of ["back", "back-from-end"]) $(id).addEventListener("click", back);
  for (const id of ["invert", "zoom"]) $(id).addEventListener("click", toggle);
  for (const id of ["brightness", "contrast"]) $(id).addEventListener("input", display);
  $("reset").addEventListener("click", resetDisplay);
  $("shortcuts").addEventListener("change", () =>
    document.body.classList.toggle("no-shortcuts", !$("shortcuts").checked));
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", () => {
    if (!now.view?.case) return;
    // Time away is not reading time.
    if (document.hidden) now.looked += (performance.now() - now.since) / 1000;
    now.since = performance.now();
  });
  const { title } = await ask("GET", "/api/title");
  $("title").textContent = title;
  if (!now.tab) return enter();
  now.reader = sessionStorage.getItem("reader") || "";
  await load();
}

start().catch((error) => notice(`${error.message} Reload the page to try again.`));
