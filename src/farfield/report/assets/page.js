// The page: what is chosen, and the sections that show it.

const content = JSON.parse(byId("content").textContent);
const MEASURES = { auroc: "AUROC", fpr: "FPR" };
const GROUPS = new Map([["near", "near-OOD"], ["far", "far-OOD"], ["shifted", "ID classes in another look; should pass"], ["unit-test", "unit test"]]);
const chosen = { unit: Math.max(0, content.units.findIndex((one) => one.detectors.length)), detector: null, measure: "auroc", column: null, rate: content.start };

const unit = () => content.units[chosen.unit];
const line = () => unit().detectors.find((one) => one.name === chosen.detector);
const severalSuites = new Set(content.units.map((one) => one.suite)).size > 1;
const unitName = (one) => (severalSuites ? `${one.name} on ${one.suite}` : one.name);
const columnName = (key) => (key === "near" || key === "far" ? `${key}-OOD, mean` : key);
const kind = (group) => GROUPS.get(group) || group;
const className = (index) => unit().classNames[index] ?? `class ${index}`;
const isShifted = (one, column) => one.sets.some((set) => set.name === column && set.group === "shifted");
const highFirst = (one, column) => (chosen.measure === "auroc") !== isShifted(one, column);
const score = (value) => (typeof value === "number" ? String(value) : value.replace("inf", "\u221e"));
const within = (value, from, to) => (typeof value === "number" && value >= from && value <= to ? value : null);

function options(id, pairs, current) {
  fill(id, pairs.map(([value, label]) => el("option", { value, selected: String(value) === String(current) }, label)));
}

function choose(changes) {
  Object.assign(chosen, changes);
  const { detectors } = unit();
  if (!line()) chosen.detector = detectors.length ? detectors[0].name : null;
  options("unit", content.units.map((one, i) => [i, unitName(one)]), chosen.unit);
  options("detector", detectors.map((one) => [one.name, one.name]), chosen.detector);
  for (const place of document.querySelectorAll(".of-unit")) place.textContent = unitName(unit());
  for (const place of document.querySelectorAll(".of-both")) place.textContent = `${chosen.detector} on ${unitName(unit())}`;
  showRanking();
  showEvery();
  showFamilies();
  forgetPlots();
  const missing = detectors.length ? unit().missing : "No detector could judge this classifier.";
  byId("from-scores").hidden = Boolean(missing);
  byId("no-scores").hidden = !missing;
  const mend = " So there are no plots, thresholds or pictures here. Run the benchmark again, and keep its folders scores and pictures beside results.json.";
  byId("no-scores").textContent = missing + (detectors.length ? mend : "");
  if (missing) return;
  showPlots();
  showThreshold();
  showPictures();
  showClasses();
}

// Ranking

function showRanking() {
  const columns = [...new Set(content.units.flatMap((one) => one.columns))];
  if (!columns.includes(chosen.column)) chosen.column = columns[0];
  options("column", columns.map((key) => [key, columnName(key)]), chosen.column);
  const { measure, column } = chosen;
  const units = content.units.filter((one) => one.columns.includes(column));
  const ends = domain(units.flatMap((one) => one.detectors.map((each) => each.cells[column][measure])));
  fill("ranking", units.map((one) => el("div", { class: "card" }, el("div", { class: "wide" }, rankingOf(one, ends)))));
  const tested = units.some((one) => one.detectors.some((each) => each.cells[column].beatenBy[measure]));
  byId("ties").textContent = units.some((one) => isShifted(one, column))
    ? "This set shows ID classes in another look: telling it from ID is not wanted, so a low AUROC is good."
    : tested
      ? "#: 1 + the number of detectors that are significantly better. Detectors under one bracket cannot be told apart (paired test, 5 %, not corrected for the number of pairs)."
      : "There are no tests between detectors in these results.";
}

function rankingOf(one, ends) {
  const { measure, column } = chosen;
  const figure = (each) => each.cells[column][measure];
  const beatenBy = (each) => each.cells[column].beatenBy[measure];
  const ranked = one.detectors.every(beatenBy);
  const rank = (each) => beatenBy(each).length + 1;
  const tied = (a, b) => !beatenBy(a).includes(b.name) && !beatenBy(b).includes(a.name);
  const axis = el("span", { class: "ends" }, el("span", {}, percent(ends[0])), el("span", {}, percent(ends[1])));
  const columns = [
    { key: "rank", label: "#", value: ranked && rank, cell: (each, sorted, i, key) => rankCell(ranked && rank(each), ranked && (key === "figure" || key === "rank") ? runs(sorted, tied) : [], sorted, i) },
    { key: "detector", label: "Detector", value: (each) => each.name, name: true, cell: (each) => chooser(one, each) },
    { key: "figure", label: `${MEASURES[measure]}, %`, value: (each) => figure(each)[0], down: highFirst(one, column), number: true, cell: (each) => [el("strong", {}, percent(figure(each)[0])), el("br"), el("small", { class: "quiet" }, range(figure(each)))] },
    { key: "interval", label: axis, title: `95 % intervals on a line from ${percent(ends[0])} to ${percent(ends[1])}`, cell: (each) => el("td", { class: "line" }, whisker(figure(each), ends)) },
  ];
  const accuracy = one.accuracy === null ? "ID accuracy not known" : `ID accuracy ${percent(one.accuracy)} %`;
  const refused = one.refused.map((each) => el("small", {}, `${each.detector}: n/a. ${each.reason}`));
  const caption = [unitName(one), el("small", {}, `${accuracy}; ${columnName(column)}`), refused];
  return table(`ranking-${content.units.indexOf(one)}`, columns, one.detectors, {
    caption, first: { key: "figure", of: `${measure} ${column}` }, again: showRanking, attributes: (each) => marked(one === unit() && each === line()),
  });
}

const marked = (is) => (is ? { class: "chosen", "aria-current": "true" } : {});

function chooser(one, each) {
  const place = content.units.indexOf(one);
  const press = () => {
    choose({ unit: place, detector: each.name });
    const again = [...byId(`ranking-${place}`).querySelectorAll(".choose")].find((button) => button.textContent === each.name);
    if (again) again.focus();
  };
  return el("button", { type: "button", class: "choose", title: `${each.paper ? `${each.paper}. ` : ""}Show this detector below.`, onclick: press }, breakable(each.name));
}

function showEvery() {
  const one = unit();
  const { measure } = chosen;
  const ends = domain(one.detectors.flatMap((each) => one.columns.map((column) => each.cells[column][measure])));
  const columns = [
    { key: "detector", label: "Detector", value: (each) => each.name, name: true, cell: (each) => breakable(each.name) },
    ...one.columns.map((column) => ({
      key: `set ${column}`, label: columnName(column), number: true, down: highFirst(one, column),
      value: (each) => each.cells[column][measure][0], cell: (each) => cellOf(each.cells[column][measure], ends),
    })),
  ];
  if (one.detectors.some((each) => each.worst[measure])) columns.push({
    key: "worst", label: "worst set", number: true, down: measure === "auroc", value: (each) => each.worst[measure].figure[0],
    cell: (each) => el("span", { title: range(each.worst[measure].figure) }, `${percent(each.worst[measure].figure[0])} ${each.worst[measure].set}`),
  });
  if (one.detectors.some((each) => each.failed)) columns.push({ key: "failed", label: "noise failed", number: true, value: (each) => parseInt(each.failed, 10), cell: (each) => each.failed });
  const caption = `${MEASURES[measure]}, %, with 95 % intervals on lines from ${percent(ends[0])} to ${percent(ends[1])}`;
  const first = { key: columns[Math.min(1, columns.length - 1)].key, of: measure };
  fill("every", table("every-table", columns, one.detectors, { caption, first, again: showEvery, attributes: (each) => marked(each === line()) }));
}

function cellOf(figure, ends) {
  return el("td", { class: "number", title: `${percent(figure[0])} (${range(figure)})` }, percent(figure[0]), el("span", { class: "hidden" }, ` (${range(figure)})`), whisker(figure, ends));
}

function showFamilies() {
  const one = unit();
  const names = one.detectors.length ? one.detectors[0].families.map((family) => family[0]) : [];
  byId("families-box").hidden = names.length === 0;
  const of = (each, name) => each.families.find((family) => family[0] === name);
  const columns = [
    { key: "family", label: "Family", value: (name) => name, name: true, cell: (name) => name },
    ...one.detectors.map((each) => ({
      key: `detector ${each.name}`, label: each.name, number: true, down: true, value: (name) => of(each, name)[1],
      cell: (name) => {
        const [, ...figure] = of(each, name);
        const failed = figure[0] > content.failedAbove;
        return el("td", { class: `number ${failed ? "bad" : ""}`, title: range(figure) }, `${failed ? "\u2717 " : ""}${percent(figure[0])}`);
      },
    })),
  ];
  fill("families", table("families-table", columns, names, { first: { key: "family" }, again: showFamilies }));
}

// Scores

const OTHERS = 5; // lines of other detectors in a plot, the best

const flaggedAt = (each, i) => each.curves.flagged[i] / unit().nId;
const caughtAt = (each, set, i) => each.curves.caught[set.name][i] / set.n;

function rocOf(each, set) {
  const points = content.rates.map((_, i) => ({ i, x: 100 * flaggedAt(each, i), y: 100 * caughtAt(each, set, i) }));
  return [...points, { i: points.length, x: 100, y: 100 }];
}

// The band's points stand where ID is flagged at their thresholds: with ties that is less than was asked for.
function bandOf(each, set) {
  const points = content.band.map((i, k) => ({ x: 100 * flaggedAt(each, i), low: 100 * each.curves.band[set.name][k][0], high: 100 * each.curves.band[set.name][k][1] }));
  return [...points, { x: 100, low: 100, high: 100 }];
}

function bandAt(band, x) {
  const after = band.findIndex((point) => point.x >= x);
  if (after <= 0 || band[after].x === x) return [band[Math.max(0, after)].low, band[Math.max(0, after)].high];
  const [a, b] = [band[after - 1], band[after]];
  const part = (x - a.x) / (b.x - a.x);
  return [a.low + part * (b.low - a.low), a.high + part * (b.high - a.high)];
}

function showPlots() {
  fill("plots", unit().sets.map(plotsOf));
  drawRest();
}

function plotsOf(set) {
  const each = line();
  const [low, high] = each.cells[set.name].auroc.slice(1).map(percent);
  const from = set.sources ? ` from ${counted(set.sources)} sources${set.sources < 10 ? ", too few to tell how others would do" : ""}` : "";
  const about = `${kind(set.group)}, ${counted(set.n)} image${set.n === 1 ? "" : "s"}${from}; AUROC ${percent(each.cells[set.name].auroc[0])} (${low} to ${high})`;
  return el("div", { class: "card" }, el("h3", {}, set.name, " ", el("small", { class: "quiet" }, about)), el("div", { class: "pair" }, histogramOf(each, set), curveOf(each, set)));
}

function histogramOf(each, set) {
  const { edges: [from, to], histograms, thresholds } = each.curves;
  const step = (to - from) / histograms.test.length;
  const bins = histograms.test.map((share, i) => ({ i, from: from + i * step, to: from + (i + 1) * step, middle: from + (i + 0.5) * step, id: 100 * share, ood: 100 * histograms[set.name][i] }));
  const closed = [...bins, { ...bins[bins.length - 1], i: -2, from: to }]; // so that the line's last step is drawn
  const says = (i) => {
    if (i < 0) return `Below the threshold, ${score(thresholds[chosen.rate])}: ${percent(flaggedAt(each, chosen.rate))} % of ID, ${percent(caughtAt(each, set, chosen.rate))} % of ${set.name}.`;
    const where = i === 0 ? `below ${bins[i].to.toPrecision(4)}` : i === bins.length - 1 ? `from ${bins[i].from.toPrecision(4)} on` : `${bins[i].from.toPrecision(4)} to ${bins[i].to.toPrecision(4)}`;
    return `Score ${where}: ${bins[i].id.toFixed(1)} % of ID, ${bins[i].ood.toFixed(1)} % of ${set.name}.`;
  };
  const cut = () => within(thresholds[chosen.rate], from, to);
  return plot(`Histogram of the scores of ${each.name}: ID, and ${set.name}`, histogram(closed, [from, to]), bins.map((bin) => bin.middle), says, cut);
}

function curveOf(each, set) {
  const curve = rocOf(each, set);
  const band = bandOf(each, set);
  const best = unit().detectors.filter((other) => other !== each).sort((a, b) => b.cells[set.name].auroc[0] - a.cells[set.name].auroc[0]).slice(0, OTHERS);
  const others = best.flatMap((other) => rocOf(other, set).map((point) => ({ ...point, d: other.name })));
  const says = (i) => {
    const { x, y } = curve[i < 0 ? chosen.rate : i];
    return `Of 100 ID flagged ${x.toFixed(1)}, of 100 OOD caught ${y.toFixed(1)} (${bandAt(band, x).map((end) => end.toFixed(1)).join(" to ")}).`;
  };
  const label = `ROC curve of ${each.name} on ${set.name}: AUROC ${percent(each.cells[set.name].auroc[0])} %`;
  return plot(label, roc(curve, band, others), curve.map((point) => point.x), says, () => 100 * flaggedAt(each, chosen.rate));
}

// Threshold

function showThreshold() {
  const each = line();
  const { curves } = each;
  const i = chosen.rate;
  const { nId, sets } = unit();
  const thousand = (share) => (1000 * share).toFixed(1);
  byId("rate").value = i;
  byId("rate").setAttribute("aria-valuetext", `${content.rates[i]} of 1,000`);
  byId("rate-said").textContent = `${content.rates[i]} of 1,000`;
  fill("threshold-said", "Flag scores below ", el("strong", { id: "limit" }, score(curves.thresholds[i])), ": ", el("strong", { id: "flagged" }, thousand(flaggedAt(each, i))),
    " false alarms per 1,000 ID images", el("span", { id: "flagged-interval" }, ` (${curves.flaggedIntervals[i].map(thousand).join(" to ")})`), `; ${counted(curves.flagged[i])} of the ${counted(nId)} here.`);
  const interval = (set) => [caughtAt(each, set, i), ...curves.caughtIntervals[set.name][i]];
  const columns = [
    { key: "set", label: "OOD set", value: (set) => sets.indexOf(set), name: true, cell: (set) => [set.name, el("br"), el("small", { class: "quiet" }, kind(set.group))] },
    { key: "caught", label: "caught, %", down: true, number: true, value: (set) => caughtAt(each, set, i), cell: (set) => el("td", { class: "number", "data-set": set.name }, percent(caughtAt(each, set, i))) },
    { key: "interval", label: "95 % interval", cell: (set) => el("td", { class: "figure" }, whisker(interval(set), [0, 1], "ood"), el("span", { class: "quiet" }, range(interval(set)))) },
  ];
  fill("caught", table("caught-table", columns, sets, { first: { key: "set" }, again: showThreshold }));
  byId("threshold-note").textContent = `The threshold is set on the ${counted(nId)} ID test images; the interval of its false alarms is the exact one from that many (Clopper and Pearson), and more images of your own make it narrower. ` +
    "The intervals of what is caught are at this very threshold. An image that scores the same as the threshold passes.";
  moveCuts();
}

// Pictures

function pictureOf(set, [row, value]) {
  const [name, number, taken, label] = unit().shown[set][row];
  const verdict = taken < 0 ? "" : set === "test" && label >= 0 ? `${className(label)}, taken for ${className(taken)}` : `taken for ${className(taken)}`;
  const source = number < 0 ? "" : content.pictures[number];
  const said = `${name}; ${verdict || "class not known"}; score ${score(value)}`;
  const grow = (event) => event.target.classList.toggle("small", event.target.naturalWidth <= 48);
  return el("li", {}, el("figure", { title: said, "data-row": row },
    source ? el("img", { src: source, alt: said, onload: grow }) : el("span", { class: "blank" }, "no picture"),
    el("figcaption", {}, el("strong", {}, score(value)), verdict && [el("br"), verdict], el("span", { class: "called" }, name))));
}

function strip(heading, about, set, rows, none) {
  return [el("h3", {}, heading, " ", el("small", { class: "quiet" }, about)), rows.length ? el("ul", { class: "strip" }, rows.map((row) => pictureOf(set, row))) : el("p", { class: "quiet" }, none)];
}

function showPictures() {
  const { wrong, drawn } = line();
  const { sets } = unit();
  fill("pictures",
    strip("ID flagged", "false alarms: the lowest scores of ID test images", "test", wrong.test, "No ID image is flagged."),
    ...sets.filter((set) => set.group !== "shifted").map((set) => strip(`${set.name} accepted`, "the highest scores", set.name, wrong[set.name], "No image of this set is accepted.")),
    el("details", {}, el("summary", {}, "What each set looks like: some of its images, drawn at random"),
      strip("ID test images", "", "test", drawn.test, ""), sets.map((set) => strip(set.name, kind(set.group), set.name, drawn[set.name], ""))));
}

// Classes

function showClasses() {
  const { classes, classCount, curves } = line();
  const some = classes.length < classCount ? ` These are ${counted(classes.length)} of ${counted(classCount)} classes, those with the most.` : "";
  byId("classes-note").textContent = classes.length === 0 ? "The classes of the ID test images are not known." :
    `${chosen.detector} on ${unitName(unit())}, where 95 % of ID is kept: ${counted(curves.flagged[content.start])} of ${counted(unit().nId)} ID test images are flagged. By ${unit().classesAre}; \u25B2 marks classes with more than chance makes (binomial, Holm, 5 %).${some}`;
  const columns = [
    { key: "class", label: "Class", value: (row) => className(row[0]), name: true, cell: (row) => className(row[0]) },
    { key: "n", label: "images", number: true, down: true, value: (row) => row[1], cell: (row) => counted(row[1]) },
    { key: "flagged", label: "flagged", number: true, down: true, value: (row) => row[2], cell: (row) => counted(row[2]) },
    { key: "share", label: "flagged, %", number: true, down: true, value: (row) => row[2] / row[1] + row[3] / 1e6, cell: (row) => percent(row[2] / row[1]) },
    { key: "interval", label: "95 % interval", cell: (row) => el("td", { class: "figure" }, whisker([row[2] / row[1], row[3], row[4]], [0, 1]), el("span", { class: "quiet" }, range([0, row[3], row[4]]))) },
    { key: "more", label: "more than chance", down: true, value: (row) => row[5], cell: (row) => (row[5] ? el("span", { class: "bad" }, "\u25B2 yes") : "") },
  ];
  fill("classes", classes.length ? table("classes-table", columns, classes, { first: { key: "share" }, again: showClasses }) : "");
}

// What was run

function showRan() {
  const seconds = (value) => (typeof value === "number" ? value.toFixed(2) : "");
  const list = (heading, items) => (items.length ? [el("h3", {}, heading), el("ul", {}, items.map((item) => el("li", {}, item)))] : []);
  const code = (text) => text.split("`").map((part, i) => (i % 2 ? el("code", {}, part) : part));
  const failures = content.unreadable.map((one) => `${one.name} (${one.set}, ${one.classifier}): ${one.reason}`);
  const cost = Object.entries(content.cost).map(([name, spent]) => [name, seconds(spent.fit_seconds), seconds(spent.score_seconds)]);
  fill("ran",
    content.command ? [el("h3", {}, "The command"), el("pre", { id: "command" }, content.command)] : [],
    list("To know", content.notes.map(code)),
    el("div", { class: "columns" }, facts("Seconds of each stage", ["Stage", "s"], content.stages.map(([name, value]) => [name, seconds(value)])),
      facts("Seconds of each detector, over all classifiers", ["Detector", "fit", "score"], cost), facts("Versions and machine", ["What", "value"], Object.entries(content.environment))),
    failures.length ? el("details", {}, el("summary", {}, "Pictures that could not be read, and are in no figure"), el("ul", {}, failures.map((one) => el("li", {}, one)))) : null,
    el("details", {}, el("summary", {}, "Hashes of the classifiers and of the data"), facts("", ["Of", "hash"], content.hashes)),
    el("details", {}, el("summary", {}, "BibTeX of the methods used"), el("pre", { id: "bibtex" }, content.bibtex)));
}

// Controls

byId("unit").addEventListener("change", (event) => choose({ unit: Number(event.target.value) }));
byId("detector").addEventListener("change", (event) => choose({ detector: event.target.value }));
byId("column").addEventListener("change", (event) => {
  chosen.column = event.target.value;
  showRanking();
});
for (const radio of document.querySelectorAll("input[name=measure]")) {
  radio.addEventListener("change", () => {
    chosen.measure = radio.value;
    showRanking();
    showEvery();
  });
}
byId("rate").max = content.slider - 1;
byId("rate").addEventListener("input", (event) => {
  chosen.rate = Number(event.target.value);
  showThreshold();
});

const suites = [...new Set(content.units.map((one) => one.suite))].join(", ");
if (suites) document.title = `${suites} \u2013 Farfield report`;
fill("of-suites", suites);
fill("headline", content.headline.map((text) => el("p", {}, text)));
if (content.units.length) choose({});
else for (const id of ["from-scores", "families-box"]) byId(id).hidden = true;
showRan();
document.documentElement.dataset.ready = "yes";
