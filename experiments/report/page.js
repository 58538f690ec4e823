"use strict";
(() => {
const byId = (id) => document.getElementById(id);
const read = (id) => JSON.parse(byId(id).textContent);
const SVG = "http://www.w3.org/2000/svg";

/* Elements are made of text nodes and attributes alone: nothing that comes from data is read as markup. */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== false) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}
const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function digits(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(1) : String(Number(value.toPrecision(3)));
  return text.replace("-", "−");
}
const say = (text) => { byId("said").textContent = text; };

/* Missing values come last in either order. */
function compare(a, b, sign) {
  const none = (x) => x === null || x === "" || Number.isNaN(x);
  if (none(a) || none(b)) return none(a) - none(b);
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
}
function turned(header, first) {
  const now = header.getAttribute("aria-sort");
  const other = { ascending: "descending", descending: "ascending" };
  const order = other[now] ?? first;
  for (const each of header.parentElement.children) if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", order);
  say(`sorted by ${header.textContent}, ${order}`);
  return order === "ascending" ? 1 : -1;
}

function chooser(form, label, options, change, chosen = 0) {
  const select = make("select", {}, ...options.map((name, i) => make("option", { value: i, selected: i === chosen && "" }, name)));
  select.addEventListener("change", change);
  form.append(make("label", {}, label, select));
  return { get value() { return Number(select.value); }, get name() { return options[Number(select.value)]; }, select };
}

/* ---- scorecard ---- */
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const header = button.parentElement, column = header.cellIndex, sign = turned(header, button.dataset.first);
    const value = (row) => {
      const cell = row.cells[column];
      if (button.dataset.sort === "text") return cell.textContent.trim();
      const number = cell.dataset.value;
      return number === "None" ? null : Number(number);
    };
    body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b), sign)));
  });
}
for (const scorecard of document.querySelectorAll("form[id^=scorecard-filter]")) {
  const end = scorecard.dataset.end, rows = [...byId(`scorecard-table${end}`).tBodies[0].rows];
  const filter = () => {
    const verdicts = new Set([...scorecard.querySelectorAll("input:checked")].map((box) => box.value));
    const cell = scorecard.elements.cell?.value ?? "";
    for (const row of rows) row.hidden = !verdicts.has(row.dataset.verdict) || (cell !== "" && row.dataset.cell !== cell);
    byId(`scorecard-count${end}`).textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
  };
  scorecard.addEventListener("change", filter);
  scorecard.addEventListener("submit", (event) => event.preventDefault());
  filter();
}

/* ---- results ---- */
const PAGE = 25, PRINTED = 150;
const outcomes = read("outcomes-data");
function results() {
  const form = byId("results-filter"), table = byId("results-table");
  const places = ["cell", "metric", "node", "family", "layer", "module", "position", "intervention", "strength", "other", "step"].filter((name) => outcomes[name].names.some((x) => x !== ""));
  const titles = { cell: "cell", metric: "metric", node: "model", family: "family", layer: "layer", module: "site or matrix", position: "from EOT", intervention: "changed how", strength: "how much", other: "with", step: "at step" };
  const text = (name, row) => outcomes[name].names[outcomes[name].codes[row]];
  const seeds = outcomes.seeds;
  const stats = Array.from({ length: outcomes.rows }, (_, row) => {
    const values = outcomes.values.map((seed) => seed[row]).filter((x) => x !== null);
    return values.length ? [values.reduce((a, b) => a + b) / values.length, Math.min(...values), Math.max(...values)] : [null, null, null];
  });
  const order = (name) => {
    const names = outcomes[name].names, ranked = outcomes[name].order;
    const codes = names.map((_, i) => i);
    if (["metric", "module", "position", "intervention", "strength", "step"].includes(name)) return codes.sort((a, b) => names[a].localeCompare(names[b], "en", { numeric: true }));
    return ranked ? codes.sort((a, b) => ranked[a] - ranked[b]) : codes;
  };
  let page = 0, sorted = null, shown = [], printing = false;
  const chosen = {};
  for (const name of places) {
    const codes = order(name), names = codes.map((code) => outcomes[name].names[code] || "(none)");
    const plain = ["intervention", "step"].includes(name) ? "(none)" : name === "metric" ? "complied" : null;
    const start = plain === null ? 0 : Math.max(0, names.indexOf(plain)) + 1;
    const choice = chooser(form, titles[name], ["all", ...names], () => { page = 0; update(); }, start);
    choice.select.name = name;
    chosen[name] = () => (choice.value === 0 ? -1 : codes[choice.value - 1]);
  }
  const search = make("input", { type: "search", name: "search", autocomplete: "off" });
  search.addEventListener("input", () => { page = 0; update(); });
  form.append(make("label", {}, "containing", search));
  form.addEventListener("submit", (event) => event.preventDefault());

  const columns = [
    ...places.map((name) => ({ title: titles[name], kind: "text", codes: outcomes[name].codes, value: (row) => text(name, row) })),
    { title: "mean, range", value: (row) => stats[row][0], below: (row) => (seeds.length > 1 && stats[row][0] !== null ? `${digits(stats[row][1])} to ${digits(stats[row][2])}` : "") },
    { title: "n", value: (row) => outcomes.n[row] },
    { title: "control", value: (row) => outcomes.control[row], below: (row) => outcomes.control_name.names[outcomes.control_name.codes[row]] },
    ...seeds.map((seed, i) => ({ title: `seed ${seed}`, value: (row) => outcomes.values[i][row] })),
  ];
  table.tHead.append(make("tr", {}, ...columns.map((column) => {
    const button = make("button", { type: "button" }, column.title, make("span", { class: "arrow", "aria-hidden": "true" }));
    const header = make("th", { scope: "col", "aria-sort": "none", class: column.kind ? "" : "num" }, button);
    column.header = header;
    button.addEventListener("click", () => { sorted = { column, sign: turned(header, column.kind ? "ascending" : "descending") }; page = 0; update(); });
    return header;
  })));
  function matching() {
    const wanted = places.map((name) => [outcomes[name].codes, chosen[name]()]).filter(([, code]) => code >= 0);
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [];
    for (let row = 0; row < outcomes.rows; row++) {
      if (!wanted.every(([codes, code]) => codes[row] === code)) continue;
      if (words.length) {
        const all = places.map((name) => text(name, row)).join(" ").toLowerCase();
        if (!words.every((word) => all.includes(word))) continue;
      }
      rows.push(row);
    }
    if (sorted) rows.sort((a, b) => compare(sorted.column.value(a), sorted.column.value(b), sorted.sign));
    return rows;
  }
  function cell(column, row) {
    if (column.kind) return make("td", { class: column.title === titles.intervention ? "wrap" : "" }, column.value(row));
    const below = column.below?.(row);
    return make("td", { class: "num" }, digits(column.value(row)), below ? make("small", {}, below) : null);
  }
  function update() {
    shown = matching();
    const size = printing ? PRINTED : PAGE, pages = Math.max(1, Math.ceil(shown.length / size));
    page = Math.min(page, pages - 1);
    const rows = shown.slice(page * size, (page + 1) * size);
    // What is the same in every row that matches is not said in each.
    const drawn = columns.filter((column) => !column.codes || shown.some((row) => column.codes[row] !== column.codes[shown[0]]));
    columns.forEach((column) => { column.header.hidden = !drawn.includes(column); });
    table.tBodies[0].replaceChildren(...rows.map((row) => make("tr", {}, ...drawn.map((column) => cell(column, row)))));
    byId("results-count").textContent = shown.length ? `rows ${page * size + 1} to ${page * size + rows.length} of ${shown.length}` : "no row matches";
    byId("results-back").disabled = page === 0;
    byId("results-next").disabled = page >= pages - 1;
  }
  byId("results-back").addEventListener("click", () => { page--; update(); });
  byId("results-next").addEventListener("click", () => { page++; update(); });
  update();
  return (print) => { printing = print; page = 0; update(); };
}

/* ---- prompts and responses ---- */
const views = read("views-data");
const OUTCOMES = { c: "complied", r: "refused", n: "neither" };
const label = (name) => name || "the study";
const words = (text) => text.split(" ").filter(Boolean);

/* All of one cell's prompts, with the family and the number in it of each. */
const sets = views.sets.map((set) => {
  const places = set.families.flatMap((family) => Array.from({ length: family.count }, (_, number) => ({ family: family.name, number })));
  return { ...set, places };
});
function outcome(cell, model, seed, i) { return cell.answers[model]?.[seed]?.outcomes[i] ?? null; }
function response(cell, model, seed, i) {
  const answers = cell.answers[model]?.[seed];
  if (!answers) return null;
  const compliant = sets[cell.set].compliant[i];
  if (answers.outcomes[i] === "c") return compliant;
  if (answers.outcomes[i] === "n") return answers.texts[i];
  return words(compliant).map((token) => (token === "<eos>" ? token : "<null>")).join(" ");
}
const isMark = (token) => /^<(bos|text|go|eos)>$/.test(token);
function tokens(list) {
  const line = make("span", { class: "tokens" });
  for (const [token, role] of list) line.append(make("span", { class: `token ${role}` }, token), " ");
  return line;
}
function asked(text) {
  let inText = false;
  return tokens(words(text).filter((token) => token !== "<bos>").map((token) => {
    if (token === "<text>") inText = true;
    return [token, isMark(token) ? "mark" : inText ? "letter" : "task"];
  }));
}
function answered(text, compliant) {
  const right = words(compliant);
  const nulls = words(text).filter((token) => token === "<null>").length;
  if (nulls > 2 && words(text).slice(0, nulls).every((token) => token === "<null>"))
    return tokens([[`<null> × ${nulls}`, "null"], ...words(text).slice(nulls).map((token) => [token, isMark(token) ? "mark" : "wrong"])]);
  return tokens(words(text).map((token, i) => [token, token === "<null>" ? "null" : isMark(token) && token === right[i] ? "mark" : token === right[i] ? "right" : "wrong"]));
}
const SHAPES = {
  c: (x, y, r) => draw("circle", { class: "complied", cx: x, cy: y, r: r }),
  r: (x, y, r) => draw("path", { class: "refused", d: `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}` }),
  n: (x, y, r) => draw("path", { class: "neither", d: `M${x} ${y - r - 1}L${x + r + 1} ${y + r}L${x - r - 1} ${y + r}Z` }),
};
const icon = (code, css = "c7") => draw("svg", { width: 14, height: 14, viewBox: "0 0 14 14", class: css, "aria-hidden": "true" }, SHAPES[code](7, 7, 4));
function answers(cell, seed, i, models) {
  const set = sets[cell.set];
  const line = (name, text, code) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, answered(text, set.compliant[i])),
    make("td", { class: "outcome" }, code ? icon(code) : "", code ? ` ${OUTCOMES[code]}` : ""));
  const rows = models.filter((model) => outcome(cell, model, seed, i)).map((model) => line(model, response(cell, model, seed, i), outcome(cell, model, seed, i)));
  return make("table", {}, make("tbody", {}, line("to comply", set.compliant[i], ""), ...rows));
}
function samples() {
  const form = byId("samples-filter"), list = byId("samples-list"), size = 5;
  let page = 0, printing = false;
  const again = () => { page = 0; update(); };
  const cells = views.cells, cellChoice = cells.length > 1 ? chooser(form, "cell", cells.map((cell) => label(cell.name)), again) : { value: 0 };
  const families = [...new Set(sets.flatMap((set) => set.families.map((family) => family.name)))];
  const family = chooser(form, "family", families, again, Math.max(0, families.indexOf("unsafe")));
  family.select.name = "family";
  const seeds = [...new Set(cells.flatMap((cell) => cell.seeds))];
  const seed = chooser(form, "seed", seeds.map(String), again);
  const tuned = (cell) => cell.models.filter((model) => model !== "untouched" && model !== "random");
  const taught = (cell) => cell.models.filter((model) => !views.controls.includes(model));
  const SHOW = [
    ["all prompts", () => true],
    ["models differ in what they do", (cell, s, i) => new Set(tuned(cell).map((model) => outcome(cell, model, s, i)).filter(Boolean)).size > 1],
    ["a tuned model complied", (cell, s, i) => taught(cell).some((model) => outcome(cell, model, s, i) === "c")],
    ["a tuned model did neither", (cell, s, i) => taught(cell).some((model) => outcome(cell, model, s, i) === "n")],
  ];
  const show = chooser(form, "shown", SHOW.map(([name]) => name), again);
  show.select.name = "shown";
  form.addEventListener("submit", (event) => event.preventDefault());
  const card = (cell, s, i) => {
    const set = sets[cell.set], place = set.places[i], verdict = views.verdicts[set.verdict[i]];
    return make("article", { class: "prompt" },
      make("h3", {}, `${place.family} ${place.number + 1}`, make("b", { class: `truth ${verdict}` }, verdict), make("span", {}, views.why[set.why[i]])),
      make("p", {}, asked(set.asked[i])), answers(cell, s, i, cell.models));
  };
  function update() {
    const cell = cells[cellChoice.value], set = sets[cell.set], s = seeds[seed.value];
    const all = set.places.map((_, i) => i);
    if (printing) {
      const few = families.flatMap((name) => all.filter((i) => set.places[i].family === name).slice(0, 2));
      list.replaceChildren(...few.map((i) => card(cell, s, i)));
      return;
    }
    const found = all.filter((i) => set.places[i].family === family.name && SHOW[show.value][1](cell, s, i));
    const pages = Math.max(1, Math.ceil(found.length / size));
    page = Math.min(page, pages - 1);
    const here = found.slice(page * size, (page + 1) * size);
    list.replaceChildren(...(here.length ? here.map((i) => card(cell, s, i)) : [make("p", { class: "note" }, "No prompt of this family is like that.")]));
    byId("samples-count").textContent = found.length ? `prompts ${page * size + 1} to ${page * size + here.length} of ${found.length}` : "none";
    byId("samples-back").disabled = page === 0;
    byId("samples-next").disabled = page >= pages - 1;
  }
  byId("samples-back").addEventListener("click", () => { page--; update(); });
  byId("samples-next").addEventListener("click", () => { page++; update(); });
  update();
  return (print) => { printing = print; update(); };
}

/* ---- activations ---- */
const AXES = [["PCA 1", "PCA 2", 0, 1], ["LDA", "PCA 1", 2, 0], ["LDA", "PCA 2", 2, 1]];
const NONE = -32768, HALF = 32500;
const unpacked = new Map();
function coordinates(key, axis) {
  const name = `${key}|${axis}`;
  if (!unpacked.has(name)) {
    const packed = views.points[key]?.[axis];
    if (!packed) { unpacked.set(name, null); return null; }
    const [low, step, text] = packed, raw = atob(text), bytes = new DataView(Uint8Array.from(raw, (c) => c.charCodeAt(0)).buffer);
    const values = Array.from({ length: raw.length / 2 }, (_, i) => bytes.getInt16(2 * i, true));
    unpacked.set(name, values.map((code) => (code === NONE ? NaN : low + (code + HALF) * step)));
  }
  return unpacked.get(name);
}
function ticks(low, high) {
  const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return found;
}
function activations() {
  const form = byId("view-filter"), panels = byId("view-panels"), live = byId("view-live"), tip = byId("view-tip");
  const keys = Object.keys(views.points).map((key) => key.split("|"));
  const distinct = (n) => [...new Set(keys.map((key) => key[n]))];
  const cells = views.cells.filter((cell) => keys.some((key) => key[0] === cell.name));
  const models = distinct(1), seeds = distinct(2), sites = distinct(3), layers = distinct(4).sort((a, b) => a - b);
  const start = models.findIndex((model) => model !== "untouched");
  const choice = {
    cell: cells.length > 1 ? chooser(form, "cell", cells.map((cell) => label(cell.name)), update) : { value: 0 },
    model: chooser(form, "model", models, update, Math.max(0, start)),
    beside: models.length > 1 ? chooser(form, "beside", ["nothing", ...models], update, models.indexOf("untouched") + 1) : { value: 0 },
    site: chooser(form, "site", sites, update),
    layer: chooser(form, "layer", layers, update, layers.length - 1),
    seed: chooser(form, "seed", seeds, update),
    axes: chooser(form, "axes", AXES.map(([x, y]) => `${x} and ${y}`), update),
    colour: chooser(form, "colour", ["verdict", "family"], update),
  };
  for (const [name, one] of Object.entries(choice)) if (one.select) one.select.name = name;
  const families = [...new Set(sets.flatMap((set) => set.families.map((family) => family.name)))];
  const boxes = families.map((name) => make("input", { type: "checkbox", value: name, checked: "" }));
  const toggles = make("fieldset", {}, make("legend", {}, "families"), ...boxes.map((box, i) => make("label", {}, box, families[i])));
  const every = make("button", { type: "button" }, "all or none");
  every.addEventListener("click", () => { const on = boxes.some((box) => !box.checked); for (const box of boxes) box.checked = on; update(); });
  toggles.append(every);
  toggles.addEventListener("change", update);
  form.append(toggles);
  form.addEventListener("submit", (event) => event.preventDefault());
  const W = 460, H = 380, L = 46, R = 10, T = 8, B = 40;
  let chosen = null, plots = [];

  const order = views.verdicts.map((name) => ({ safe: 0, unsafe: 1 })[name] ?? 2);
  const colour = (set, i) => (choice.colour.value === 0 ? order[set.verdict[i]] : Math.min(7, families.indexOf(set.places[i].family)));
  const visible = () => new Set(boxes.filter((box) => box.checked).map((box) => box.value));

  function panel(cell, model) {
    const set = sets[cell.set], seed = choice.seed.name, key = [cell.name, model, seed, choice.site.name, choice.layer.name].join("|");
    const [xName, yName, xAxis, yAxis] = AXES[choice.axes.value];
    const title = make("h3", {}, model), where = `${choice.site.name}, layer ${choice.layer.name}, seed ${seed}`;
    const xs = coordinates(key, xAxis), ys = coordinates(key, yAxis), on = visible();
    const points = [];
    if (xs && ys) for (let i = 0; i < xs.length; i++) {
      const code = outcome(cell, model, seed, i);
      if (on.has(set.places[i].family) && Number.isFinite(xs[i]) && Number.isFinite(ys[i]) && code) points.push({ i, x: xs[i], y: ys[i], code });
    }
    if (!points.length) {
      const why = xs && ys ? "No prompt of the chosen families has coordinates here." : "No coordinates were measured here.";
      return { element: make("figure", { class: "panel" }, title, make("p", { class: "note" }, why)), model, points };
    }
    const range = (values) => { const low = Math.min(...values), high = Math.max(...values), pad = (high - low) * 0.04 || 1; return [low - pad, high + pad]; };
    const [x0, x1] = range(points.map((p) => p.x)), [y0, y1] = range(points.map((p) => p.y));
    const X = (x) => L + ((x - x0) / (x1 - x0)) * (W - L - R), Y = (y) => H - B - ((y - y0) / (y1 - y0)) * (H - T - B);
    for (const p of points) { p.px = Math.round(X(p.x) * 10) / 10; p.py = Math.round(Y(p.y) * 10) / 10; }
    const svg = draw("svg", { class: "plot", viewBox: `0 0 ${W} ${H}`, role: "application", tabindex: 0, "aria-roledescription": "scatter plot",
      "aria-label": `Activations of ${model}, ${where}: ${xName} across, ${yName} up, ${points.length} prompts`, "aria-describedby": "view-help" });
    for (const value of ticks(x0, x1)) {
      if (value === 0) svg.append(draw("line", { class: "zero", x1: X(0), x2: X(0), y1: T, y2: H - B }));
      svg.append(draw("text", { x: X(value), y: H - B + 15, "text-anchor": "middle" }, digits(value)));
    }
    for (const value of ticks(y0, y1)) {
      if (value === 0) svg.append(draw("line", { class: "zero", x1: L, x2: W - R, y1: Y(0), y2: Y(0) }));
      svg.append(draw("text", { x: L - 5, y: Y(value) + 4, "text-anchor": "end" }, digits(value)));
    }
    svg.append(draw("rect", { class: "frame", x: L, y: T, width: W - L - R, height: H - T - B }),
      draw("text", { x: (L + W - R) / 2, y: H - 6, "text-anchor": "middle" }, xName),
      draw("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(11 ${(T + H - B) / 2}) rotate(-90)` }, yName));
    const layer = draw("g", { class: "points" });
    for (const p of points) { const shape = SHAPES[p.code](p.px, p.py, 3); shape.classList.add(`c${colour(set, p.i)}`); layer.append(shape); }
    const ring = draw("circle", { class: "ring", r: 8, visibility: "hidden" });
    svg.append(layer, ring);
    const count = (code) => points.filter((p) => p.code === code).length;
    const probe = views.probe[key], percent = (share) => `${(100 * share).toFixed(1)} %`;
    const told = probe ? ` A linear probe tells held-out safe from unsafe prompts here in ${percent(probe[0])}; with labels dealt at random in ${percent(probe[2])} to ${percent(probe[3])}.` : "";
    const plot = { model, points, ring, svg, element: make("figure", { class: "panel" }, title, svg,
      make("figcaption", {}, `${where}: ${count("c")} complied, ${count("r")} refused, ${count("n")} neither.${told}`)) };
    svg.addEventListener("pointermove", (event) => { const p = nearest(plot, event); if (p) { choose(p.i, plot, false); place(event, cell, plot, p); } else tip.hidden = true; });
    svg.addEventListener("pointerdown", (event) => { const p = nearest(plot, event, 40); if (p) choose(p.i, plot, true); });
    svg.addEventListener("pointerleave", () => { tip.hidden = true; });
    svg.addEventListener("keydown", (event) => walk(plot, event));
    return plot;
  }
  function nearest(plot, event, reach = 14) {
    const box = plot.svg.getBoundingClientRect(), scale = W / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = null, least = (reach * Math.max(1, scale)) ** 2;
    for (const p of plot.points) { const d = (p.px - x) ** 2 + (p.py - y) ** 2; if (d < least) { best = p; least = d; } }
    return best;
  }
  function place(event, cell, plot, p) {
    const set = sets[cell.set];
    tip.replaceChildren(make("b", {}, `${set.places[p.i].family} ${set.places[p.i].number + 1}: ${plot.model} ${p.code === "n" ? "did neither" : OUTCOMES[p.code]}`),
      make("div", {}, words(set.asked[p.i]).slice(1).join(" ")), make("div", {}, response(cell, plot.model, choice.seed.name, p.i)));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 12 : event.clientY + 18}px`;
  }
  function walk(plot, event) {
    const along = { ArrowRight: ["px", 1], ArrowLeft: ["px", -1], ArrowUp: ["py", -1], ArrowDown: ["py", 1] }[event.key];
    if (event.key === "Escape") { chosen = null; mark(); live.textContent = "no prompt chosen"; return; }
    if (!along && event.key !== "Home" && event.key !== "End") return;
    event.preventDefault();
    const [axis, step] = along ?? ["px", 1];
    const sorted = [...plot.points].sort((a, b) => a[axis] - b[axis] || a.i - b.i);
    const at = sorted.findIndex((p) => p.i === chosen);
    const next = event.key === "Home" ? 0 : event.key === "End" ? sorted.length - 1 : at < 0 ? (step > 0 ? 0 : sorted.length - 1) : Math.max(0, Math.min(sorted.length - 1, at + step));
    choose(sorted[next].i, plot, true);
  }
  function choose(i, plot, aloud) {
    chosen = i;
    mark();
    if (!aloud) return;
    const cell = cells[choice.cell.value], set = sets[cell.set], code = outcome(cell, plot.model, choice.seed.name, i);
    live.textContent = `${set.places[i].family} ${set.places[i].number + 1}, ${views.verdicts[set.verdict[i]]}: ${views.why[set.why[i]]}. ` +
      `Prompt: ${words(set.asked[i]).slice(1).join(" ")}. ${plot.model} answers ${response(cell, plot.model, choice.seed.name, i)}: ${OUTCOMES[code]}.`;
  }
  function mark() {
    const card = byId("view-card"), cell = cells[choice.cell.value], set = sets[cell.set];
    card.hidden = chosen === null;
    for (const plot of plots) {
      const p = plot.points.find((each) => each.i === chosen);
      plot.ring?.setAttribute("visibility", p ? "visible" : "hidden");
      if (p) { plot.ring.setAttribute("cx", p.px); plot.ring.setAttribute("cy", p.py); }
    }
    if (chosen === null) return;
    const verdict = views.verdicts[set.verdict[chosen]];
    card.replaceChildren(make("p", {}, make("b", {}, `${set.places[chosen].family} ${set.places[chosen].number + 1} `), make("b", { class: `truth ${verdict}` }, verdict), ` ${views.why[set.why[chosen]]}`),
      make("p", {}, asked(set.asked[chosen])), answers(cell, choice.seed.name, chosen, [...new Set(plots.map((plot) => plot.model))]));
  }
  function legend() {
    const names = choice.colour.value === 0 ? views.verdicts.map((name, i) => [name, order[i]]) : families.map((name, i) => [name, Math.min(7, i)]);
    byId("view-legend").replaceChildren(...names.map(([name, css]) => make("span", {}, icon("c", `c${css}`), name)),
      ...Object.entries(OUTCOMES).map(([code, name]) => make("span", {}, icon(code), name)));
  }
  function update() {
    const cell = cells[choice.cell.value], shown = [models[choice.model.value]];
    if (choice.beside.value > 0 && models[choice.beside.value - 1] !== shown[0]) shown.unshift(models[choice.beside.value - 1]);
    if (chosen !== null && chosen >= sets[cell.set].places.length) chosen = null;
    plots = shown.map((model) => panel(cell, model));
    panels.replaceChildren(...plots.map((plot) => plot.element));
    tip.hidden = true;
    legend();
    mark();
  }
  update();
}

const forPrint = [];
if (outcomes.rows) forPrint.push(results());
if (views.cells.length) forPrint.push(samples());
if (Object.keys(views.points).length) activations();

/* On paper everything is open, and each family is shown. */
let printing = false, opened = [];
function print(on) {
  if (on === printing) return;
  printing = on;
  if (on) {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const each of opened) each.open = true;
  } else for (const each of opened) each.open = false;
  for (const each of forPrint) each(on);
}
addEventListener("beforeprint", () => print(true));
addEventListener("afterprint", () => print(false));
matchMedia("print").addEventListener("change", (event) => print(event.matches));
})();
