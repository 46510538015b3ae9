// Building blocks. Whatever is in a text, it is only ever put in as a text node or an attribute's value.

function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [property, wanted] of Object.entries(value)) made.style.setProperty(property, wanted);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  const shown = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  made.append(...shown.map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return made;
}

const byId = (id) => document.getElementById(id);
const fill = (id, ...children) => byId(id).replaceChildren(...children.flat().filter(Boolean));
const percent = (share) => (100 * share).toFixed(1);
const range = ([, low, high]) => `${percent(low)} to ${percent(high)}`;
const counted = (n) => n.toLocaleString("en-US");

// A dot and its interval on a line from `from` to `to`; all are shares.
function whisker([value, low, high], [from, to], kind = "") {
  const at = (share) => `${Math.min(100, Math.max(0, (100 * (share - from)) / (to - from)))}%`;
  const width = `${Math.max(0, (100 * (Math.min(high, to) - Math.max(low, from))) / (to - from))}%`;
  return el("span", { class: `whisker ${kind}`, "aria-hidden": "true" }, el("i", { style: { left: at(low), width } }), el("b", { style: { left: at(value) } }));
}

// The ends of an axis on which all of some figures have room, in steps of 5 %.
function domain(figures) {
  const low = Math.min(1, ...figures.map((figure) => figure[1]));
  const high = Math.max(0, ...figures.map((figure) => figure[2]));
  const from = Math.floor(20 * low) / 20;
  const to = Math.min(1, Math.ceil(20 * high) / 20);
  return to > from ? [from, to] : [0, 1];
}

// A text that may be broken after +, : and the comma, but not within ++.
const breakable = (text) => text.split(/(?<=[+:,])(?![+]|$)/).flatMap((part, i) => (i ? [el("wbr"), part] : [part]));

const orders = new Map(); // by table: the column it is sorted by, and the way; kept when the table is drawn again

// A table whose columns sort. A column: {key, label, cell(row, sorted, i, key it is sorted by), value(row) to sort by, number, down: high first}.
// `first` is the column it starts with; it starts again when that, or what it is `of`, is another.
function table(id, columns, rows, { caption, first, attributes = () => ({}), again }) {
  const find = (key) => columns.find((one) => one.key === key && one.value);
  const start = `${first.key} of ${first.of}`;
  if (!orders.has(id) || !find(orders.get(id).key) || (orders.get(id).start !== start && orders.get(id).key === first.key)) {
    orders.set(id, { start, key: first.key, down: Boolean(find(first.key).down) });
  }
  const order = orders.get(id);
  const { value } = find(order.key);
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  const sorted = [...rows].sort((a, b) => (order.down ? -1 : 1) * compare(value(a), value(b)));
  const heads = columns.map((one) => {
    if (!one.value) return el("th", { scope: "col", class: one.number && "number", "aria-label": one.title }, one.label);
    const press = () => {
      order.down = order.key === one.key ? !order.down : Boolean(one.down);
      order.key = one.key;
      again();
      byId(id).querySelector(`button[data-key="${CSS.escape(one.key)}"]`).focus();
    };
    const sort = order.key !== one.key ? "none" : order.down ? "descending" : "ascending";
    return el("th", { scope: "col", class: one.number && "number", "aria-sort": sort }, el("button", { type: "button", "data-key": one.key, onclick: press }, one.label));
  });
  const body = sorted.map((row, i) =>
    el("tr", attributes(row), columns.map((one) => {
      const cell = one.cell(row, sorted, i, order.key);
      return cell instanceof HTMLTableCellElement ? cell : el("td", { class: one.number ? "number" : one.name && "name" }, cell);
    })),
  );
  return el("table", { id }, caption && el("caption", {}, caption), el("thead", {}, el("tr", {}, heads)), el("tbody", {}, body));
}

// A table of what is so, which does not sort.
function facts(caption, heads, rows) {
  const numbers = (i) => i > 0 && heads.length > 2 && "number";
  return el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, heads.map((head, i) => el("th", { scope: "col", class: numbers(i) }, head)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, i) => el("td", { class: numbers(i) }, cell))))));
}

// The longest runs of rows, from one to another, in which no two can be told apart.
function runs(sorted, tied) {
  const found = [];
  for (let from = 0; from < sorted.length; from++) {
    let to = from;
    while (to + 1 < sorted.length && sorted.slice(from, to + 1).every((one) => tied(one, sorted[to + 1]))) to++;
    if (to > from && !found.some((run) => run.to >= to)) found.push({ from, to });
  }
  const ends = []; // of each lane, so that brackets that overlap stand side by side
  for (const run of found) {
    const lane = ends.findIndex((end) => end < run.from);
    run.lane = lane < 0 ? ends.length : lane;
    ends[run.lane] = run.to;
  }
  return found;
}

function rankCell(rank, brackets, sorted, i) {
  const mine = brackets.filter((run) => run.from <= i && i <= run.to);
  const lanes = 1 + Math.max(-1, ...brackets.map((run) => run.lane));
  const ties = mine.map((run) => el("i", { class: `tie ${i === run.from ? "tie-first" : i === run.to ? "tie-last" : "tie-middle"}`, style: { left: `${0.15 + 0.5 * run.lane}rem` } }));
  const names = [...new Set(mine.flatMap((run) => sorted.slice(run.from, run.to + 1)))].filter((each) => each !== sorted[i]).map((each) => each.name);
  const said = names.length ? el("span", { class: "hidden" }, `, not told apart from ${names.join(" and ")}`) : null;
  return el("td", { class: "rank", style: { "padding-left": `${0.3 + 0.5 * lanes}rem` } }, ties, rank || "", said);
}
