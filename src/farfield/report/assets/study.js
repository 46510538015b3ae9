// The page of a study.

const content = JSON.parse(byId("content").textContent);
const { answer, points } = content;
const HEADS = { fpr: "FPR", auroc: "AUROC", accuracy: "ID accuracy" };
const UNKNOWN = "not known";
const targets = Object.keys(points.values);
const about = new Map(content.classifiers.map((one) => [one.name, one]));
const chosen = { detector: answer ? answer.detector : content.detectors[0], measure: "fpr", colour: "", family: 0 };
const shown = (value, digits = 1) => (value === null || value === undefined ? "n/a" : value.toFixed(digits));
const ends = (interval, digits = 1) => (interval ? `${shown(interval[0], digits)} to ${shown(interval[1], digits)}` : "");
const signed = (value, digits = 1) => (value > 0 ? "+" : "") + value.toFixed(digits);
const told = (value) => (typeof value === "number" ? String(Number(value.toPrecision(6))) : value === null || value === undefined ? UNKNOWN : value);
const figureAndEnds = (value, interval, digits) => [el("strong", {}, shown(value, digits)), interval && [el("br"), el("small", { class: "quiet" }, ends(interval, digits))]];
const last = (value) => (value === null || value === undefined ? -Infinity : value);
const options = (id, labels, press) => {
  fill(id, labels.map(([value, label]) => el("option", { value }, label)));
  byId(id).addEventListener("change", () => press(byId(id).value));
};

// --- which classifier -----------------------------------------------------------------------------------------------------------------------

function showChoice() {
  byId("choice-box").hidden = !answer;
  if (!answer) return;
  const target = answer.target.replace(" OOD", "");
  fill("choice-said", `Percent, by ${answer.detector}: one detector for all, chosen by its mean AUROC over the pool. “Of the first”: whether the AUROC is told apart from that of the first on the same pictures. On the front nobody is as accurate with as low an FPR. “Own best” is the ${target} AUROC by the classifier’s own best detector, chosen on these very sets, so it flatters; “other sets’” is by the detector that has, for each set, the best mean AUROC on all the others.`);
  const apart = (line) => (line === answer.lines[0] ? "first" : line.p_holm === null ? "n/a" : answer.tied.includes(line.classifier) ? "not told apart" : `behind by ${shown(line.behind)}`);
  const others = Object.keys(answer.lines[0].others);
  const columns = [
    { key: "classifier", label: "Classifier", name: true, value: (line) => line.classifier, cell: (line) => breakable(line.classifier) },
    { key: "accuracy", label: "ID accuracy", number: true, down: true, value: (line) => last(line.accuracy), cell: (line) => figureAndEnds(line.accuracy, line.accuracy_interval) },
    { key: "auroc", label: `${target} AUROC`, number: true, down: true, value: (line) => last(line.auroc), cell: (line) => figureAndEnds(line.auroc, line.auroc_interval) },
    { key: "apart", label: "of the first", value: (line) => (line === answer.lines[0] ? 2 : last(line.p_holm)), down: true, cell: apart },
    { key: "fpr", label: `${target} FPR`, number: true, value: (line) => -last(line.fpr === null ? null : -line.fpr), cell: (line) => figureAndEnds(line.fpr, line.fpr_interval) },
    { key: "front", label: "front", value: (line) => Number(line.front), down: true, cell: (line) => (line.front ? "on it" : "") },
    ...others.map((other) => ({ key: `fpr ${other}`, label: `${other.replace(" OOD", "")} FPR`, number: true, value: (line) => -last(line.others[other].fpr === null ? null : -line.others[other].fpr), cell: (line) => shown(line.others[other].fpr) })),
    { key: "own", label: "own best", down: true, value: (line) => last(line.own.auroc), cell: (line) => [el("strong", {}, shown(line.own.auroc)), el("br"), el("small", { class: "quiet" }, breakable(line.own.detector))] },
    { key: "elsewhere", label: "other sets’", down: true, value: (line) => last(line.elsewhere && line.elsewhere.auroc), cell: (line) => line.elsewhere ? [el("strong", {}, shown(line.elsewhere.auroc)), el("br"), el("small", { class: "quiet" }, breakable([...new Set(Object.values(line.elsewhere.detectors))].join(", ")))] : "n/a" },
  ];
  fill("choice", table("choice-table", columns, answer.lines, { first: { key: "auroc" }, again: showChoice, attributes: (line) => (line === answer.lines[0] ? { class: "chosen" } : {}) }));
}

// --- accuracy against figures ---------------------------------------------------------------------------------------------------------------

const kinds = () => {
  const values = points.names.map((name) => about.get(name).metadata[chosen.colour] ?? null);
  const known = [...new Set(values.filter((value) => value !== null))].sort((a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true })));
  return { values, order: values.includes(null) && known.length ? [...known, null] : known };
};

function marksOf(target) {
  const { values, order } = kinds();
  const mine = points.values[target][chosen.measure][chosen.detector];
  const made = points.names.map((name, i) => ({ name, kind: values[i], x: points.accuracy[i], y: mine[i] })).filter((point) => point.x && point.y);
  made.sort((a, b) => a.x[0] - b.x[0]);
  return made.map((point, i) => ({ name: point.name, kind: chosen.colour && told(point.kind), x: point.x[0], y: point.y[0], low: point.y[1], high: point.y[2], ...dress(Math.max(0, order.indexOf(point.kind))), i }));
}

function scatter(target) {
  const marks = marksOf(target);
  const title = `${HEADS[chosen.measure]}, ${target}, %`;
  if (!marks.length) return el("div", { class: "card" }, el("h3", {}, title), el("p", { class: "quiet" }, `${chosen.detector} has no figure here, or accuracy is not known.`));
  const x = { field: "x", type: "quantitative", title: "ID accuracy, %", scale: { zero: false, nice: true } };
  const y = { field: "y", type: "quantitative", title, scale: { zero: false, nice: true } };
  const plain = { type: "nominal", scale: null };
  const spec = {
    height: 2 * HEIGHT,
    data: { values: marks },
    layer: [
      { transform: [{ filter: "isValid(datum.low)" }], mark: { type: "rule", strokeWidth: 1, strokeOpacity: 0.35 }, encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" }, stroke: { field: "colour", ...plain } } },
      { mark: { type: "point", filled: true, size: 60, opacity: 1 }, encoding: { x, y, fill: { field: "colour", ...plain }, shape: { field: "shape", ...plain } } },
      at({ mark: { type: "point", filled: false, size: 160, strokeWidth: 2, stroke: "currentColor", opacity: 1 }, encoding: { x, y } }),
    ],
  };
  const says = (i) => {
    if (i < 0) return `${counted(marks.length)} classifiers by ${chosen.detector}.`;
    const one = marks[i];
    const interval = one.low === undefined ? "" : ` (${shown(one.low)} to ${shown(one.high)})`;
    return `${one.name}: ID accuracy ${shown(one.x)} %, ${HEADS[chosen.measure]} ${shown(one.y)} %${interval}${chosen.colour && `, ${chosen.colour} ${one.kind}`}.`;
  };
  const spoken = `${title} over ID accuracy, by ${chosen.detector}`;
  return el("div", { class: "card" }, el("h3", {}, target), plot(spoken, spec, marks.map((mark) => mark.x), says, () => null, marks.map((mark) => mark.y)));
}

function showPlots() {
  const { order } = kinds();
  forgetPlots();
  fill("legend", chosen.colour ? order.map((kind, i) => el("li", {}, swatchOf(dress(i)), told(kind))) : []);
  fill("plots", targets.map(scatter));
  drawRest();
}

function showCorrelations() {
  const by = new Map(content.correlations.map((one) => [`${one.detector}\n${one.target}\n${one.measure}`, one]));
  const all = content.targets.map((target) => target.name);
  const of = (detector, target) => by.get(`${detector}\n${target}\n${chosen.measure}`);
  if (!content.correlations.some((one) => one.spearman !== null)) return fill("correlations", el("p", { class: "quiet" }, "Fewer than five classifiers have both figures: no correlation is told."));
  const columns = [
    { key: "detector", label: "Detector", name: true, value: (detector) => detector, cell: (detector) => breakable(detector) },
    ...all.map((target) => ({
      key: `r ${target}`, label: target, number: true, value: (detector) => last(of(detector, target).spearman),
      cell: (detector) => [...figureAndEnds(of(detector, target).spearman, of(detector, target).spearman_interval, 2), el("br"), el("small", { class: "quiet" }, `Pearson ${shown(of(detector, target).pearson, 2)}`)],
    })),
  ];
  const caption = `Correlation of ID accuracy with ${HEADS[chosen.measure]}`;
  fill("correlations", table("correlations-table", columns, content.detectors, { caption, first: { key: "detector" }, again: showCorrelations }));
}

// --- which detector -------------------------------------------------------------------------------------------------------------------------

const families = [...new Map(content.winners.map((one) => [JSON.stringify([one.column, one.value]), one])).values()];

function ranking(one, place) {
  const rows = one.detectors.map((line) => ({ ...line, name: line.detector }));
  const tied = (a, b) => one.runs.some(([from, to]) => [a, b].every((each) => from <= rows.indexOf(each) && rows.indexOf(each) <= to));
  const columns = [
    { key: "rank", label: "mean rank", value: (line) => line.rank, cell: (line, sorted, i, key) => rankCell(line.rank.toFixed(2), key === "rank" ? runs(sorted, tied) : [], sorted, i) },
    { key: "detector", label: "Detector", name: true, value: (line) => line.detector, cell: (line) => breakable(line.detector) },
    { key: "mean", label: `mean ${HEADS[one.measure]}, %`, number: true, down: one.measure === "auroc", value: (line) => line.mean, cell: (line) => shown(line.mean) },
  ];
  const p = one.friedman_p === null ? "" : one.friedman_p < 0.001 ? ", Friedman p < 0.001" : `, Friedman p ${one.friedman_p.toFixed(3)}`;
  const tested = !one.tested ? `${counted(one.n)} classifiers: fewer than 5, not tested` : one.n < one.needed ? `${counted(one.n)} classifiers, too few for any pair: ${one.needed} are needed${p}` : `${counted(one.n)} classifiers${p}`;
  const without = one.classifiers_left_out.length ? el("small", {}, `Without ${counted(one.classifiers_left_out.length)} that refuse one of these: ${one.classifiers_left_out.slice(0, 3).join(", ")}${one.classifiers_left_out.length > 3 ? " and others" : ""}`) : null;
  const out = one.left_out.length ? el("small", {}, `Left out, as most classifiers refuse them: ${one.left_out.join(", ")}`) : null;
  return el("div", { class: "card" }, el("div", { class: "wide" }, table(`winners-${place}`, columns, rows, { caption: [one.target, el("small", {}, tested), out, without], first: { key: "rank" }, again: showWinners })));
}

function showWinners() {
  const { column, value } = families[chosen.family];
  const mine = content.winners.filter((one) => one.measure === chosen.measure && one.column === column && one.value === value && one.detectors.length);
  fill("winners", mine.map(ranking));
}

// --- settings -------------------------------------------------------------------------------------------------------------------------------

function showEffects() {
  const pairs = new Map();
  for (const one of content.effects) {
    const key = JSON.stringify([one.columns, one.from, one.to]);
    if (!pairs.has(key)) pairs.set(key, { of: one, cells: {} });
    if (one.measure === "accuracy") pairs.get(key).cells.accuracy = one;
    else if (one.detector === chosen.detector && one.measure === chosen.measure) pairs.get(key).cells[one.target] = one;
  }
  const change = (cell) => (cell ? [el("strong", {}, signed(cell.difference)), cell.interval && [el("br"), el("small", { class: "quiet" }, `${signed(cell.interval[0])} to ${signed(cell.interval[1])}`)]] : "n/a");
  const columns = [
    { key: "column", label: "Column", name: true, value: (row) => row.of.columns.join(", "), cell: (row) => breakable(row.of.columns.join(", ")) },
    { key: "change", label: "from, to", value: (row) => `${told(row.of.from)} ${told(row.of.to)}`, cell: (row) => `${told(row.of.from)} to ${told(row.of.to)}` },
    { key: "pairs", label: "pairs", number: true, down: true, value: (row) => row.of.pairs, cell: (row) => counted(row.of.pairs) },
    ...["accuracy", ...targets].map((target) => ({
      key: `change ${target}`, label: target === "accuracy" ? HEADS.accuracy : `${target} ${HEADS[chosen.measure]}`, number: true,
      value: (row) => last(row.cells[target] && row.cells[target].difference), cell: (row) => change(row.cells[target]),
    })),
  ];
  const rows = [...pairs.values()];
  const caption = `By ${chosen.detector}`;
  fill("effects", rows.length ? table("effects-table", columns, rows, { caption, first: { key: "column" }, again: showEffects }) : el("p", {}, "No two classifiers differ in one column alone."));
  fill("without", content.without_pairs.length ? `No two classifiers differ in one of these alone: ${content.without_pairs.join("; ")}.` : "");
}

// --- the page -------------------------------------------------------------------------------------------------------------------------------

const [take, ...evidence] = answer ? [answer.take, answer.sentence.slice(answer.take.length + 2)] : ["No near or far OOD, so no classifier to take"];
const failed = content.classifiers.filter((one) => one.reason);
const some = Object.entries(content.environment).map(([key, value]) => [key, String(value)]);
const columns = content.metadata.filter((name) => new Set(points.names.map((one) => about.get(one).metadata[name] ?? null)).size > 1);
chosen.colour = columns.find((name) => new Set(points.names.map((one) => about.get(one).metadata[name] ?? null)).size <= 2 * COLOURS) || columns[0] || "";

document.title = `${take} \u2013 Farfield study`;
fill("what", `A study of ${counted(content.classifiers.length)} classifiers and ${counted(content.detectors.length)} detectors on ${content.suite}`);
fill("answer", take);
if (evidence.length) byId("answer").after(el("p", { id: "evidence" }, evidence));
fill("failed", failed.length ? el("div", { class: "note" }, el("p", {}, `${counted(failed.length)} of ${counted(content.classifiers.length)} classifiers failed:`), el("ul", {}, failed.map((one) => el("li", {}, el("strong", {}, one.name), ` ${one.reason}`)))) : []);
options("detector", content.detectors.map((name) => [name, name]), (value) => again({ detector: value }));
options("colour", columns.length ? columns.map((name) => [name, name]) : [["", "nothing known"]], (value) => again({ colour: value }));
options("family", families.map((one, i) => [i, one.column === null ? `all ${one.n}` : `${one.column} ${told(one.value)} (${one.n})`]), (value) => again({ family: Number(value) }));
byId("measure").addEventListener("change", () => again({ measure: byId("measure").value }));
byId("detector").value = chosen.detector;
byId("colour").value = chosen.colour;
byId("effects-box").hidden = content.metadata.length === 0;

function again(change) {
  Object.assign(chosen, change);
  showPlots();
  showCorrelations();
  showWinners();
  showEffects();
}

showChoice();
again({});
fill("notes", content.notes.map((note) => el("li", {}, note)));
const settings = Object.entries(content.settings).map(([key, value]) => [key, Array.isArray(value) ? value.join(", ") : String(value)]);
fill("ran", content.command && [el("h3", {}, "The command that does it again"), el("pre", { id: "command" }, content.command)], facts("", ["What", "value"], [...settings, ["seconds, over all classifiers", shown(content.cost.seconds)], ["of which in the classifiers", shown(content.cost.forward_seconds)], ...some]));
document.documentElement.dataset.ready = "yes";
