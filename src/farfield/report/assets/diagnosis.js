// The page of a diagnosis, and, of the ranking alone, that of a recommendation.

const content = JSON.parse(byId("content").textContent);
const OPEN = ["issue", "tip"]; // what there is something to do about
const TITLE = 210; // pixels of an axis's title; the text below the plot has the whole of it
const TALL = 190; // and of one that stands upright
const LABELS = 40; // categories, up to which each has its name on the axis
const NONE = "\u2013"; // where there is no figure

const known = (value) => value !== null && value !== undefined;
const short = (value) => (!known(value) ? NONE : Math.abs(value) >= 1000 ? counted(Math.round(value)) : String(Number(value.toPrecision(4))));
const signed = (share) => `${share < 0 ? "" : "+"}${percent(share)}`;
const row = ({ auroc, interval }) => [auroc, ...interval];
const TURNING = /[\u0590-\u08ff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc]/;
const apart = (text) => (TURNING.test(text) ? `\u2068${text}\u2069` : text); // in a text of its own direction, which turns nothing around it
const box = (label, shown) => el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, shown);

let commands = 0;

// A command with a button that copies it, or where a browser does not let it, marks it for the keyboard.
function command(text) {
  const id = `command-${commands++}`;
  const code = el("code", { id }, text);
  const said = (word) => {
    button.textContent = word;
    window.setTimeout(() => (button.textContent = "Copy"), 2500);
  };
  const press = async () => {
    try {
      await navigator.clipboard.writeText(text);
      said("Copied");
    } catch {
      window.getSelection().selectAllChildren(code);
      said("Ctrl + C");
    }
  };
  const button = el("button", { type: "button", class: "copy", "aria-live": "polite", "aria-describedby": id, onclick: press }, "Copy");
  return el("div", { class: "command" }, el("pre", {}, code), button);
}

// --- the plot of what was seen -------------------------------------------------------------------------------------------------------------

// Names of a scale are told apart even where two categories are called the same.
function distinct(names) {
  const met = new Map();
  return names.map((name) => {
    met.set(name, (met.get(name) || 0) + 1);
    return met.get(name) > 1 ? `${name} (${met.get(name)})` : name;
  });
}

const swatch = (s, kind) => swatchOf({ colour: dress(s).colour, shape: kind === "bars" || kind === "histogram" ? "square" : dress(s).shape });

const legend = ({ series, kind }) => (series.some((one) => one.name) ? el("ul", { class: "legend" }, series.map(({ name }, s) => el("li", {}, swatch(s, kind), el("bdi", {}, name)))) : null);

const around = ({ low, high }, i) => (low && known(low[i]) && high && known(high[i]) ? ` (${short(low[i])} to ${short(high[i])})` : "");
const told = (series, i) => `${series.name ? `${apart(series.name)} ` : ""}${short(series.y[i])}${around(series, i)}`;

// Every point with its place on the axis; `stops` are the indices in the order of the axis. The first series is drawn last, over the others, and those
// without intervals have small marks where others have some.
function pointsOf({ series, kind }, xs, stops) {
  const some = kind === "points" && series.some((one) => stops.some((at) => around(one, at)));
  return series.flatMap((one, s) => stops.map((at, i) => {
    const ends = around(one, at) ? { low: one.low[at], high: one.high[at] } : {};
    return { i, s: String(s), x: xs[at], y: one.y[at], size: some && !around(one, at) ? 16 : 46, ...dress(s), ...ends };
  })).reverse().filter((point) => known(point.y) && known(point.x));
}

function limitOf({ limit }, channel) {
  return known(limit) ? [{ data: { values: [{}] }, mark: { type: "rule", stroke: "currentColor", strokeWidth: 1.5, strokeDash: [5, 4] }, encoding: { [channel]: { datum: limit, type: "quantitative" } } }] : [];
}

function drawing(evidence, points, xs, numeric) {
  const { kind, series } = evidence;
  const bars = kind === "bars";
  const crowded = xs.length > 12;
  const names = { labels: xs.length <= LABELS, ticks: xs.length <= LABELS, labelAngle: crowded ? -90 : xs.length > 4 || xs.some((x) => x.length > 10) ? -40 : 0, labelLimit: crowded ? 120 : 90, labelOverlap: false, titleLimit: TITLE };
  const x = numeric
    ? { field: "x", title: evidence.x_title, type: "quantitative", scale: { zero: false, nice: true, padding: 8 }, axis: { format: ".4~g", titleLimit: TITLE } }
    : { field: "x", title: evidence.x_title, type: "ordinal", sort: null, scale: { domain: xs }, axis: names };
  const y = { field: "y", title: evidence.y_title, type: "quantitative", scale: { zero: bars, nice: true }, axis: { format: ".4~g", titleLimit: TALL } };
  const aside = bars && series.length > 1 ? { xOffset: { field: "s", sort: null, scale: { domain: series.map((_, s) => String(s)) } } } : {};
  const colour = { field: "colour", type: "nominal", scale: null };
  const marks = { x, y, ...aside, shape: { field: "shape", type: "nominal", scale: null } };
  return {
    data: { values: points },
    layer: [
      ...(bars ? [{ mark: { type: "bar", fillOpacity: 0.65 }, encoding: { x, y, y2: { datum: 0 }, ...aside, fill: colour } }] : []),
      { transform: [{ filter: "isValid(datum.low)" }], mark: { type: "rule", strokeWidth: 1.8 }, encoding: { x, ...aside, y: { ...y, field: "low" }, y2: { field: "high" }, stroke: bars ? { value: "currentColor" } : colour } },
      ...(kind === "lines" ? [{ mark: { type: "line", strokeWidth: 2 }, encoding: { x, y, detail: { field: "s" }, order: { field: "i", type: "quantitative" }, stroke: colour } }] : []),
      ...(bars ? [] : [{ mark: { type: "point", filled: true, opacity: 1 }, encoding: { ...marks, fill: colour, size: { field: "size", type: "quantitative", scale: null } } }]),
      ...limitOf(evidence, "y"),
      at({ mark: { type: "point", filled: true, size: 80, opacity: 1, fill: "currentColor" }, encoding: marks }),
    ],
  };
}

// The first sample's bins are filled, the others' are steps.
function bins(evidence, edges) {
  const { series } = evidence;
  const x = { type: "quantitative", title: evidence.x_title, scale: { domain: [edges[0], edges[edges.length - 1]], nice: false, zero: false }, axis: { format: ".4~g", titleLimit: TITLE } };
  const y = { type: "quantitative", title: evidence.y_title, axis: { format: ".3~r", titleLimit: TALL } };
  const values = series.flatMap((one, s) => one.y.map((height, i) => ({ i, s: String(s), from: edges[i], to: edges[i + 1], middle: (edges[i] + edges[i + 1]) / 2, y: height, ...dress(s) })));
  const closed = series.map((one, s) => ({ i: -2, s: String(s), from: edges[edges.length - 1], to: edges[edges.length - 1], y: one.y[one.y.length - 1], ...dress(s) })); // so that the last step is drawn
  const limit = known(evidence.limit) && evidence.limit >= edges[0] && evidence.limit <= edges[edges.length - 1] ? limitOf(evidence, "x") : [];
  return {
    data: { values: [...values, ...closed] },
    layer: [
      { transform: [{ filter: "datum.s === '0'" }], mark: { type: "rect", fill: dress(0).colour, fillOpacity: 0.45 }, encoding: { x: { ...x, field: "from" }, x2: { field: "to" }, y: { ...y, field: "y" }, y2: { datum: 0 } } },
      { transform: [{ filter: "datum.s !== '0'" }], mark: { type: "line", interpolate: "step-after", strokeWidth: 2 }, encoding: { x: { ...x, field: "from" }, y: { ...y, field: "y" }, detail: { field: "s" }, order: { field: "i", type: "quantitative" }, stroke: { field: "colour", type: "nominal", scale: null } } },
      at({ mark: { type: "rule", stroke: "currentColor" }, encoding: { x: { ...x, field: "middle" } } }),
      ...limit,
    ],
  };
}

function evidenceOf(evidence, label, height = 170) {
  const { kind, series, x_title: across, y_title: up } = evidence;
  const histogram = kind === "histogram";
  const numeric = histogram || (kind !== "bars" && evidence.x.every((x) => typeof x === "number"));
  const xs = numeric ? evidence.x : distinct(evidence.x.map((x) => (typeof x === "number" ? short(x) : x)));
  const places = histogram ? xs.slice(0, -1) : xs;
  const stops = places.map((_, i) => i);
  if (numeric && !histogram) stops.sort((a, b) => xs[a] - xs[b]);
  const place = (i) => (histogram ? `${short(xs[i])} to ${short(xs[i + 1])}` : numeric ? short(xs[i]) : apart(xs[i]));
  const limit = known(evidence.limit) ? ` The dashed line is at ${short(evidence.limit)}.` : "";
  const says = (i) => {
    if (i >= 0) return `${apart(across)} ${place(stops[i])}: ${series.map((one) => told(one, stops[i])).join("; ")}.`;
    if (stops.length === 0) return "There is no figure in it.";
    const range = numeric ? `${short(xs[stops[0]])} to ${short(xs[histogram ? xs.length - 1 : stops[stops.length - 1]])}` : `${counted(stops.length)}`;
    return `${apart(across)}: ${range}.${limit}`;
  };
  const several = series.filter((one) => one.name).map((one) => apart(one.name));
  const spoken = `${label}: ${up} over ${across}${several.length ? `, of ${several.join(", ")}` : ""}.${limit}`.replace(/\.$/, "");
  const spec = histogram ? bins(evidence, xs) : drawing(evidence, pointsOf(evidence, xs, stops), xs, numeric);
  const along = stops.map((i) => (histogram ? (xs[i] + xs[i + 1]) / 2 : xs[i]));
  return [plot(spoken, { height, ...spec }, along, says, () => null), legend(evidence)];
}

// The same as a table.
function evidenceTable(evidence) {
  const histogram = evidence.kind === "histogram";
  const places = histogram ? evidence.x.slice(0, -1).map((x, i) => `${short(x)} to ${short(evidence.x[i + 1])}`) : evidence.x.map((x) => (typeof x === "number" ? short(x) : el("bdi", {}, x)));
  const heads = [evidence.x_title, ...evidence.series.map((one) => el("bdi", {}, one.name || evidence.y_title))];
  const rows = places.map((x, i) => [x, ...evidence.series.map((one) => [short(one.y[i]), around(one, i)])]);
  return el("div", { class: "wide tall", tabindex: "0", role: "region", "aria-label": "The figures of the plot" }, facts(evidence.y_title, heads, rows));
}

// --- findings ------------------------------------------------------------------------------------------------------------------------------

function picture({ uri, caption, width }) {
  return el("li", {}, el("figure", {}, uri ? el("img", { src: uri, alt: caption, class: width <= 64 && "small" }) : el("span", { class: "blank" }, "no picture"), el("figcaption", {}, el("bdi", {}, caption))));
}

const todo = (one) => (one.do || one.command ? el("div", { class: "do" }, one.do && el("p", {}, el("strong", {}, "What to do:"), " ", el("bdi", {}, one.do)), one.command && command(one.command)) : null);

function findingOf(one) {
  const { evidence, figures } = one;
  const table = figures.length ? box(`Figures of ${one.code}`, facts("", ["Figure", "value", "95 % interval"], figures)) : null;
  const more = el("div", {},
    el("details", { class: "how" }, el("summary", {}, "How it is detected"), el("p", {}, one.how), one.source && el("p", { class: "quiet" }, one.source)),
    (table || evidence) && el("details", { class: "figures" }, el("summary", {}, "All figures"), table, evidence && evidenceTable(evidence)));
  return el("article", { class: `card finding ${one.outcome}` },
    el("h3", {}, el("span", { class: "word" }, one.outcome), el("code", {}, el("bdi", {}, one.code)), el("bdi", {}, one.title)),
    el("div", { class: `seen ${evidence ? "both" : ""}` }, el("div", {}, el("p", { class: "said" }, one.said), todo(one)), evidence && el("div", {}, evidenceOf(evidence, one.title)), more),
    one.shown.length > 0 && el("ul", { class: "strip" }, one.shown.map(picture)));
}

const slug = (outcome) => `of-${outcome.replaceAll(" ", "-")}`;

// What there is something to do about lies open; the rest waits for a click.
function groupOf([outcome, said]) {
  const mine = content.findings.filter((one) => one.outcome === outcome);
  if (OPEN.includes(outcome)) return el("div", { id: slug(outcome) }, mine.map(findingOf));
  const codes = mine.flatMap((one, i) => [i ? ", " : "", el("bdi", {}, one.code)]);
  return el("details", { id: slug(outcome), class: "group" }, el("summary", {}, said, " ", el("span", { class: "quiet" }, codes)), mine.map(findingOf));
}

function showFindings() {
  const { findings, order } = content;
  byId("findings-box").hidden = !findings;
  if (!findings) return;
  const open = (outcome) => () => {
    if (byId(slug(outcome)).matches("details")) byId(slug(outcome)).open = true;
  };
  fill("tally", order.map(([outcome, said]) => el("li", { class: outcome }, el("a", { href: `#${slug(outcome)}`, onclick: open(outcome) }, said))));
  const clear = order.some(([outcome]) => OPEN.includes(outcome)) ? null : el("p", { class: "note" }, "No check has anything to say against this classifier.");
  fill("findings", clear, order.map(groupOf));
}

// --- remedies ------------------------------------------------------------------------------------------------------------------------------

const KINDS = { better: "better", worse: "worse" }; // of what a remedy did, those with a colour
const within = (figure) => (figure ? [percent(figure.auroc), el("small", { class: "quiet" }, ` (${range(row(figure))})`)] : NONE);
const signedRange = ([low, high]) => `${signed(low)} to ${signed(high)}`;
const change = (value) => (value ? [signed(value[0]), el("small", { class: "quiet" }, ` (${signedRange(value[1])})`)] : NONE);

// A table of texts and figures that does not sort; `numbers` are its columns of figures.
function listing(id, heads, numbers, rows) {
  const number = (i) => numbers.includes(i) && "number";
  const cells = (row) => row.map((cell, i) => (cell instanceof HTMLTableCellElement ? cell : el("td", { class: number(i) || (i === 0 && "name") }, cell)));
  return el("table", { id }, el("thead", {}, el("tr", {}, heads.map((head, i) => el("th", { scope: "col", class: number(i) }, head)))),
    el("tbody", {}, rows.map(({ kind, row }) => el("tr", { class: kind }, cells(row)))));
}

function gainCell({ gain }, ends) {
  if (!gain) return el("td", { class: "line" }, NONE);
  const drawn = whisker(row(gain), ends);
  drawn.append(el("span", { class: "zero", style: { left: `${(100 * (0 - ends[0])) / (ends[1] - ends[0])}%` } }));
  return el("td", { class: "line" }, el("strong", {}, signed(gain.auroc)), el("small", { class: "quiet" }, ` (${signedRange(gain.interval)})`), drawn);
}

function remedyOf(one, i) {
  const measured = one.gain && [el("p", {}, el("span", { class: "gain" }, signed(one.gain.auroc)), ` points (${signedRange(one.gain.interval)}) of AUROC, `, el("span", { class: "told" }, one.told))];
  return el("article", { class: `card remedy ${KINDS[one.told] || ""}`, id: `remedy-${i}` },
    el("h3", {}, el("span", { class: "word" }, el("bdi", {}, one.cost)), el("bdi", {}, one.name)),
    el("p", {}, one.said), measured || el("p", { class: "quiet" }, one.told), one.note && el("p", { class: "quiet" }, one.note), one.command && command(one.command));
}

function showRemedies() {
  const { remedies } = content;
  const some = Boolean(remedies && remedies.length);
  byId("remedies-box").hidden = !some;
  if (!some) return;
  const gains = remedies.filter((one) => one.gain).flatMap((one) => [0, ...one.gain.interval]);
  const ends = gains.length && Math.max(...gains) > Math.min(...gains) ? [Math.min(...gains), Math.max(...gains)] : [-0.01, 0.01];
  const name = (one, i) => el("a", { href: `#remedy-${i}` }, el("bdi", {}, one.name));
  const rows = remedies.map((one, i) => ({
    kind: KINDS[one.told],
    row: [name(one, i), el("bdi", {}, one.cost), gainCell(one, ends), el("span", { class: "told" }, one.told), within(one.before), within(one.after), change(one.accuracy_change)],
  }));
  fill("remedies", listing("remedies-table", ["Remedy", "cost", "gain, points", "AUROC is", "AUROC before, %", "after, %", "ID accuracy, points"], [4, 5, 6], rows));
  fill("remedy-cards", remedies.map(remedyOf));
}

// --- ranking -------------------------------------------------------------------------------------------------------------------------------

function showRanking() {
  const { recommendation } = content;
  byId("ranking-box").hidden = !recommendation;
  if (!recommendation) return;
  const { kinds, ranked, refused, notes, verdict } = recommendation;
  const ends = domain(ranked.map((one) => row(one.mean)));
  const rank = (one) => ranked.indexOf(one);
  const cell = (figure) => (figure ? [percent(figure.auroc), el("small", { class: "quiet below" }, range(row(figure)))] : NONE);
  const behind = (one) => (rank(one) ? [percent(one.behind.auroc), el("small", { class: "quiet below" }, one.behind.interval.map(percent).join(" to "))] : NONE);
  const axis = el("span", { class: "ends" }, el("span", {}, percent(ends[0])), el("span", {}, percent(ends[1])));
  const columns = [
    { key: "detector", label: "Detector", name: true, value: rank, cell: (one) => [el("bdi", {}, breakable(one.detector)), one.current && el("small", { class: "quiet below" }, "in use")] },
    { key: "mean", label: "mean AUROC, %", number: true, down: true, value: (one) => one.mean.auroc, cell: (one) => [el("strong", {}, percent(one.mean.auroc)), el("small", { class: "quiet below" }, range(row(one.mean)))] },
    { key: "line", label: axis, title: `95 % intervals on a line from ${percent(ends[0])} to ${percent(ends[1])}`, cell: (one) => el("td", { class: "line" }, whisker(row(one.mean), ends)) },
    { key: "standing", label: "verdict", value: (one) => one.standing, cell: (one) => el("td", { class: "stands" }, one.standing) },
    { key: "noise", label: "noise failed", number: true, value: (one) => one.failed, cell: (one) => one.noise || NONE },
    { key: "behind", label: "behind the first", number: true, value: (one) => one.behind.auroc, cell: behind },
    ...kinds.map((kind) => ({ key: `kind ${kind}`, label: kind, number: true, down: true, value: (one) => (one.kinds[kind] ? one.kinds[kind].auroc : -1), cell: (one) => cell(one.kinds[kind]) })),
  ];
  byId("ranking-verdict").textContent = verdict === content.summary ? "" : verdict;
  fill("ranking", table("ranking-table", columns, ranked, { first: { key: "detector" }, again: showRanking, attributes: (one) => ({ class: rank(one) === 0 && "take chosen" }) }));
  const against = ranked.flatMap((one) => one.reasons.map((reason) => el("li", {}, el("bdi", {}, one.detector), ": ", el("bdi", {}, reason))));
  fill("ranking-notes",
    against.length > 0 && [el("h3", {}, "What speaks against some"), el("ul", { class: "reasons", id: "against" }, against)],
    refused.length > 0 && [el("h3", {}, "Detectors that do not take this classifier"), el("ul", { class: "reasons", id: "refused" }, refused.map(([name, reason]) => el("li", {}, el("bdi", {}, name), ": ", el("bdi", {}, reason))))],
    el("ul", { class: "reasons quiet" }, notes.map((note) => el("li", {}, note))));
}

// --- the rest ------------------------------------------------------------------------------------------------------------------------------

function showReal() {
  const { real } = content;
  const some = Boolean(real && real.length);
  byId("real-box").hidden = !some;
  if (!some) return;
  const fpr = (one) => [percent(one.fpr), el("small", { class: "quiet" }, ` (${range([0, ...one.fpr_interval])})`)];
  const rows = real.map((one) => ({ row: [el("bdi", {}, one.set), el("bdi", {}, one.detector), within(one), fpr(one)] }));
  fill("real", listing("real-table", ["Set", "detector", "AUROC, %", "FPR at 95 % TPR, %"], [2, 3], rows));
}

function showTop() {
  const { kind, title, summary, accuracy } = content;
  document.title = `${title} \u2013 Farfield ${content.findings ? "diagnosis" : "recommendation"}`;
  fill("kind", kind);
  fill("title", el("bdi", {}, title));
  fill("summary", el("bdi", {}, summary));
  if (accuracy) fill("accuracy", el("p", { class: "quiet" }, "ID accuracy ", el("strong", {}, `${percent(accuracy[0])} %`), ` (95 % interval ${range([0, ...accuracy[1]])})`));
  const parts = { findings: "Findings", remedies: "Remedies", ranking: "Detectors", real: "Real OOD" };
  const there = Object.entries(parts).filter(([part]) => !byId(`${part}-box`).hidden);
  fill("nav", there.map(([part, name]) => el("a", { href: `#h-${part}` }, name)));
}

showFindings();
showRemedies();
showRanking();
if (content.recommendation) {
  fill("ranking-plot", evidenceOf(content.recommendation.plot, "The mean of each detector, and the kinds of pseudo-OOD it is of", 260));
}
showReal();
showTop();
fill("ran",
  content.command ? [el("h3", {}, "The command that does it again"), command(content.command)] : null,
  box("Numbers of pictures, versions and machine", facts("", ["What", "value"], content.facts.map((pair) => pair.map((text) => el("bdi", {}, text))))));
drawRest();
document.documentElement.dataset.ready = "yes";
