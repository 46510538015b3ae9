// The page of an experiment.

const content = JSON.parse(byId("content").textContent);
const figure = content.plot;
const look = (series) => dress(figure.series.indexOf(series));
const named = (series, text) => (series ? `${series} ${text}` : text);
const place = (x) => (figure.numeric ? String(Number(x.toPrecision(5))) : x);

// --- the plot ------------------------------------------------------------------------------------------------------------------------------

// The specification of a panel. All panels have the same axes, so that they can be compared.
function drawing(points, paper, ends) {
  const bars = figure.kind === "bars";
  const scale = figure.numeric ? { type: "quantitative", scale: { zero: false, nice: true, domain: [Math.min(...figure.xs), Math.max(...figure.xs)] } } : { type: "ordinal", sort: null, scale: { domain: figure.xs } };
  const x = { field: "x", title: figure.x, ...scale, axis: figure.numeric ? { format: ".4~g" } : { labelAngle: figure.xs.length > 4 ? -40 : 0, labelLimit: 90 } };
  const y = { field: "y", type: "quantitative", title: figure.y, scale: { domain: ends, zero: false, nice: true }, axis: { format: ".4~g" } };
  const colour = { field: "colour", type: "nominal", scale: null };
  const shape = { field: "shape", type: "nominal", scale: null };
  const aside = bars && figure.series.length > 1 ? { xOffset: { field: "series", sort: null, scale: { domain: figure.series } } } : {};
  const lines = figure.kind === "lines";
  const joined = { x, y, detail: { field: "series" }, order: { field: "order", type: "quantitative" }, stroke: colour };
  const marks = { x, y, ...aside, shape };
  return {
    height: figure.panels.length > 1 ? HEIGHT : 1.7 * HEIGHT,
    data: { values: points },
    layer: [
      ...(bars ? [{ mark: { type: "bar", fillOpacity: 0.6 }, encoding: { x, y, y2: { datum: 0 }, ...aside, fill: colour } }] : []),
      { transform: [{ filter: "isValid(datum.low)" }], mark: { type: "rule", strokeWidth: 1.5, clip: true }, encoding: { x, ...aside, y: { ...y, field: "low" }, y2: { field: "high" }, stroke: bars ? { value: "currentColor" } : colour } },
      ...(lines ? [{ mark: { type: "line", strokeWidth: 2 }, encoding: joined }] : []),
      ...(bars ? [] : [{ mark: { type: "point", filled: true, size: 48, opacity: 1 }, encoding: { ...marks, fill: colour } }]),
      ...(lines ? [{ data: { values: paper }, mark: { type: "line", strokeWidth: 1.5, strokeDash: [4, 4], strokeOpacity: 0.7 }, encoding: joined }] : []),
      { data: { values: paper }, mark: { type: "point", filled: false, fill: "transparent", size: 60, opacity: 1, strokeWidth: 1.8 }, encoding: { ...marks, stroke: bars ? { value: "currentColor" } : colour } },
      at({ mark: { type: "point", filled: true, size: 90, opacity: 1, fill: "currentColor" }, encoding: marks }),
    ],
  };
}

// The ends of the vertical axis: all figures and their intervals have room, but for intervals that are far longer than what is shown.
function ends() {
  const every = figure.panels.flatMap((panel) => [...panel.points, ...panel.paper]);
  const low = Math.min(...every.map((point) => point.y));
  const high = Math.max(...every.map((point) => point.y));
  const room = Math.max(high - low, 1e-3 * Math.max(Math.abs(high), 1e-3));
  const whole = (value, end) => (Math.abs(value - end) > room ? end + Math.sign(value - end) * 0.15 * room : value);
  const from = whole(Math.min(...every.map((point) => point.low ?? point.y)), low);
  const to = whole(Math.max(...every.map((point) => point.high ?? point.y)), high);
  return figure.kind === "bars" ? [Math.min(0, from), Math.max(0, to)] : [from, to];
}

function panelOf(panel) {
  const scatter = figure.kind === "points" && figure.numeric;
  const stops = scatter ? panel.points : figure.xs.filter((x) => [...panel.points, ...panel.paper].some((point) => point.x === x));
  const dressed = (points, mine) => points.map((point, order) => ({ ...point, ...look(point.series), order, i: mine ? (scatter ? order : stops.indexOf(point.x)) : -1 }));
  const says = (i) => {
    if (stops.length === 0) return "The paper's figures alone.";
    if (i < 0) {
      const [first, last] = [stops[0], stops[stops.length - 1]].map((stop) => place(scatter ? stop.x : stop));
      return `${figure.x}: ${stops.length > 1 ? `${first} to ${last}, ${counted(stops.length)} ${scatter ? "marks" : "values"}` : first}.`;
    }
    if (scatter) return `${named(stops[i].series, [stops[i].name, `${figure.x} ${place(stops[i].x)}`, `${figure.y} ${stops[i].text}`].filter(Boolean).join(", "))}.`;
    const there = (points, whose) => points.filter((point) => point.x === stops[i]).map((point) => `${named(point.series, point.text)}${whose}`);
    return `${figure.x} ${place(stops[i])}: ${[...there(panel.points, ""), ...there(panel.paper, " (paper)")].join("; ")}.`;
  };
  const spoken = `${figure.y} over ${figure.x}${panel.name ? `, ${panel.name}` : ""}${figure.series.length > 1 ? `, of ${figure.series.join(", ")}` : ""}`;
  const spec = drawing(dressed(panel.points, true), dressed(panel.paper, false), ends());
  const heading = panel.points.length ? panel.name : `${panel.name}, the paper's`;
  return el("div", { class: "card" }, heading && el("h3", {}, heading), plot(spoken, spec, scatter ? stops.map((point) => point.x) : stops, says, () => null));
}

const swatch = (series) => swatchOf(figure.kind === "bars" ? { ...look(series), shape: "square" } : look(series));

function showPlot() {
  byId("plot-box").hidden = !figure;
  if (!figure) return;
  if (figure.panels.some((panel) => panel.paper.length)) fill("hollow", " Hollow marks and dashed lines are the paper's, of other networks and data.");
  fill("legend", figure.series.filter(Boolean).map((series) => el("li", {}, swatch(series), series)));
  fill("plots", figure.panels.map(panelOf));
  byId("plots").classList.toggle("one", figure.panels.length === 1);
  drawRest();
}

// --- tables --------------------------------------------------------------------------------------------------------------------------------

function cellOf({ figure: own, around, paper }) {
  return [own && el("strong", {}, own), around && el("small", { class: "quiet" }, ` ${around}`), paper && el("small", { class: "quiet below" }, `paper ${paper}`)];
}

function showTables(where) {
  const shown = content[where].map((one, t) => {
    const id = `${where}-${t}`;
    const keys = one.keys.map((key, k) => ({
      key: `key ${k}`, label: key, name: true, value: (row) => (k ? row.of[k] : one.rows.indexOf(row)), cell: (row) => breakable(row.of[k]),
    }));
    const figures = one.columns.map((label, c) => ({
      key: `figure ${c}`, label, number: true, down: true, value: (row) => row.cells[c].by ?? -1e9, cell: (row) => cellOf(row.cells[c]),
    }));
    const caption = one.title || one.columns.join(", ");
    const made = table(id, [...keys, ...figures], one.rows, { caption, first: { key: "key 0" }, again: () => showTables(where) });
    return el("div", { class: "wide experiment", tabindex: "0", role: "region", "aria-label": caption }, made);
  });
  fill(where, shown);
}

function showClaims() {
  byId("claims-box").hidden = content.claims.length === 0;
  fill("claims", facts("", ["Claim", "paper", "here", "holds here"], content.claims));
}

document.title = `${content.title} \u2013 Farfield experiment`;
fill("title", content.title);
fill("paper", content.paper);
fill("what", content.what);
fill("notes", content.notes.map((note) => el("li", {}, note)));
showPlot();
showClaims();
showTables("tables");
byId("papers-box").hidden = content.papers.length === 0;
showTables("papers");
fill("ran", el("h3", {}, "The command that does it again"), el("pre", { id: "command" }, content.command), facts("", ["What", "value"], content.facts));
document.documentElement.dataset.ready = "yes";
