// The page: what is chosen, and the sections that show it.

const content = JSON.parse(byId("content").textContent);
const MEASURES = { auroc: "AUROC", fpr: "FPR" };
const chosen = { unit: 0, detector: null, measure: "auroc", column: null, rate: 0 };

const unit = () => content.units[chosen.unit];
const line = () => unit().detectors.find((one) => one.name === chosen.detector) || unit().detectors[0];
const called = (key) => ({ near: "near-OOD, mean", far: "far-OOD, mean" })[key] || key;
const kind = (group) => ({ near: "near-OOD", far: "far-OOD", shifted: "the ID classes in another look", "unit-test": "unit test" })[group] || group;
const nameOf = (index) => (index < 0 ? "" : unit().classNames[index] !== undefined ? unit().classNames[index] : `class ${index}`);
const several = () => new Set(content.units.map((one) => one.suite)).size > 1;
const unitName = (one) => (several() ? `${one.name} on ${one.suite}` : one.name);
const unwanted = (one, column) => one.sets.some((set) => set.name === column && set.group === "shifted");

function options(id, pairs, current) {
  fill(id, pairs.map(([value, label]) => el("option", { value, selected: String(value) === String(current) }, label)));
}

function choose(changes) {
  Object.assign(chosen, changes);
  if (!unit().detectors.some((one) => one.name === chosen.detector)) chosen.detector = unit().detectors[0] ? unit().detectors[0].name : null;
  options("unit", content.units.map((one, i) => [i, unitName(one)]), chosen.unit);
  options("detector", unit().detectors.map((one) => [one.name, one.name]), chosen.detector);
  for (const place of document.querySelectorAll(".of-unit")) place.textContent = unitName(unit());
  for (const place of document.querySelectorAll(".of-both")) place.textContent = `${chosen.detector} on ${unitName(unit())}`;
  showRanking();
  showEvery();
  showFamilies();
  const told = unit().told && unit().detectors.length > 0;
  byId("from-scores").hidden = !told;
  byId("no-scores").hidden = told;
  forgetPlots();
  if (!told) return;
  showPlots();
  showThreshold();
  showPictures();
  showClasses();
}

// Ranking

function showRanking() {
  const columns = [...new Set(content.units.flatMap((one) => one.columns))];
  if (!columns.includes(chosen.column)) chosen.column = columns[0];
  options("column", columns.map((key) => [key, called(key)]), chosen.column);
  const { measure, column } = chosen;
  const units = content.units.filter((one) => one.columns.includes(column));
  const figures = units.flatMap((one) => one.detectors.filter((each) => each.cells[column]).map((each) => each.cells[column][measure]));
  const ends = domain(figures);
  fill("ranking", units.map((one) => el("div", { class: "card" }, el("div", { class: "wide" }, rankingOf(one, ends)))));
  const ranked = units.some((one) => one.detectors.some((each) => each.cells[column] && each.cells[column].rank[measure]));
  const shifted = units.some((one) => unwanted(one, column)) ? " This set shows ID classes in another look: telling it from ID is not wanted, so a low AUROC is good." : "";
  byId("ties").textContent = (ranked
    ? "Rank: 1 + the number of detectors that are significantly better (paired test, 5 %). Detectors under one bracket, and marked =, share a rank."
    : "There are no ranks here: they are for near-OOD and far-OOD sets.") + shifted;
}

function rankingOf(one, ends) {
  const { measure, column } = chosen;
  const rows = one.detectors.filter((each) => each.cells[column]);
  const figure = (each) => each.cells[column][measure];
  const rank = (each) => each.cells[column].rank[measure];
  const down = (measure === "auroc") !== unwanted(one, column);
  const axis = el("span", { class: "ends" }, el("span", {}, percent(ends[0])), el("span", {}, percent(ends[1])));
  const columns = [
    { key: "rank", label: "#", value: rank(rows[0] || one.detectors[0]) && rank, cell: (each, sorted, i, order) => rankCell(sorted.map(rank), i, order.key === "figure" || order.key === "rank") },
    { key: "detector", label: "Detector", value: (each) => each.name, name: true, cell: (each) => chooser(one, each) },
    { key: "figure", label: `${MEASURES[measure]}, %`, value: (each) => figure(each)[0], down, number: true, cell: (each) => [el("strong", {}, percent(figure(each)[0])), el("br"), el("small", { class: "quiet" }, range(figure(each)))] },
    { key: "interval", label: axis, cell: (each) => el("td", { class: "line" }, whisker(figure(each), ends)) },
  ];
  const caption = [unitName(one), el("small", {}, one.accuracy === null ? "ID accuracy not known" : `ID accuracy ${percent(one.accuracy)} %`), el("small", {}, called(column))];
  const id = `ranking-${content.units.indexOf(one)}`;
  const first = { key: "figure", down };
  if (orders[id] && orders[id].key === "figure" && orders[id].of !== `${measure} ${column}`) delete orders[id];
  first.of = `${measure} ${column}`;
  return table(id, columns, rows, { caption, first, again: showRanking, attributes: (each) => ({ class: one === unit() && each === line() && "chosen" }) });
}

function rankCell(ranks, i, bracketed) {
  const mine = ranks[i];
  if (!mine) return el("td", { class: "rank" }, "");
  const before = ranks[i - 1] === mine;
  const after = ranks[i + 1] === mine;
  const bracket = !bracketed ? "" : before && after ? "tie-middle" : before ? "tie-last" : after ? "tie-first" : "";
  const shared = ranks.filter((rank) => rank === mine).length > 1;
  return el("td", { class: `rank ${bracket}` }, shared ? `${mine}=` : String(mine), shared && el("span", { class: "hidden" }, " tied"));
}

function chooser(one, each) {
  const press = () => {
    choose({ unit: content.units.indexOf(one), detector: each.name });
    const again = [...byId(`ranking-${content.units.indexOf(one)}`).querySelectorAll(".choose")].find((button) => button.textContent === each.name);
    if (again) again.focus();
  };
  return el("button", { type: "button", class: "choose", title: "Show this detector below", onclick: press }, each.name);
}

function showEvery() {
  const one = unit();
  const { measure } = chosen;
  const columns = [
    { key: "detector", label: "Detector", value: (each) => each.name, name: true, cell: (each) => each.name },
    ...one.columns.map((column) => {
      const ends = domain(one.detectors.filter((each) => each.cells[column]).map((each) => each.cells[column][measure]));
      const down = (measure === "auroc") !== unwanted(one, column);
      return {
        key: `set ${column}`, label: called(column), number: true, down,
        value: (each) => (each.cells[column] ? each.cells[column][measure][0] : -1),
        cell: (each) => (each.cells[column] ? cellOf(each.cells[column][measure], ends) : "n/a"),
      };
    }),
  ];
  if (one.detectors.some((each) => each.failed)) columns.push({ key: "failed", label: "noise failed", number: true, value: (each) => parseInt(each.failed, 10), cell: (each) => each.failed });
  const caption = `${MEASURES[measure]}, %, with 95 % intervals`;
  fill("every", table("every-table", columns, one.detectors, { caption, first: columns[1] ? { key: columns[1].key, down: columns[1].down } : { key: "detector" }, again: showEvery, attributes: (each) => ({ class: each === line() && "chosen" }) }));
}

function cellOf(figure, ends) {
  return el("td", { class: "number", title: `${percent(figure[0])} (${range(figure)})` }, percent(figure[0]), el("span", { class: "hidden" }, ` (${range(figure)})`), whisker(figure, ends));
}

function showFamilies() {
  const one = unit();
  const names = [...new Set(one.detectors.flatMap((each) => each.families.map((family) => family[0])))];
  byId("families-box").hidden = names.length === 0;
  const of = (each, name) => each.families.find((family) => family[0] === name);
  const columns = [
    { key: "family", label: "Family", value: (name) => name, name: true, cell: (name) => name },
    ...one.detectors.map((each) => ({
      key: `detector ${each.name}`, label: each.name, number: true, down: true,
      value: (name) => (of(each, name) ? of(each, name)[1] : -1),
      cell: (name) => {
        const found = of(each, name);
        if (!found) return "n/a";
        const failed = found[1] > content.failedAbove;
        return el("td", { class: `number ${failed ? "bad" : ""}`, title: range(found.slice(1)) }, `${failed ? "\u2717 " : ""}${percent(found[1])}`);
      },
    })),
  ];
  fill("families", table("families-table", columns, names, { first: { key: "family" }, again: showFamilies }));
}

// Scores

const OTHERS = 5; // lines of other detectors in a plot, the best

const flaggedAt = (each, i) => each.curves.flagged[i][0] / unit().nId;

function rocOf(each, set) {
  const points = content.rates.map((_, i) => ({ i, x: 100 * flaggedAt(each, i), y: 100 * each.curves.caught[set][i][0] }));
  return [...points, { i: points.length, x: 100, y: 100 }];
}

function bandOf(each, set) {
  const points = content.bandRates.map((rate, i) => ({ x: rate / 10, low: 100 * each.curves.band[set][i][0], high: 100 * each.curves.band[set][i][1] }));
  return [...points, { x: 100, low: 100, high: 100 }];
}

function bandAt(band, x) {
  const after = Math.max(1, band.findIndex((point) => point.x >= x));
  const [a, b] = [band[after - 1], band[after]];
  const part = (x - a.x) / (b.x - a.x);
  return [a.low + part * (b.low - a.low), a.high + part * (b.high - a.high)];
}

function showPlots() {
  fill("plots", unit().sets.map(plotsOf));
  drawRest();
}

function plotsOf({ name: set, group, n, sources }) {
  const each = line();
  const { edges: [from, to], histograms } = each.curves;
  const step = (to - from) / histograms.test.length;
  const bins = histograms.test.map((share, i) => ({ i, from: from + i * step, to: from + (i + 1) * step, middle: from + (i + 0.5) * step, id: 100 * share, ood: 100 * histograms[set][i] }));
  const binSaid = (i) => i < 0 ? "" : `Score ${i === 0 ? "below" : `${bins[i].from.toPrecision(4)} to`} ${i === bins.length - 1 ? "and above" : bins[i].to.toPrecision(4)}: ${bins[i].id.toFixed(1)} % of ID, ${bins[i].ood.toFixed(1)} % of ${set}.`;
  const cut = () => each.curves.thresholds[chosen.rate];
  const closed = [...bins, { ...bins[bins.length - 1], i: -2, from: to }]; // so that the line's last step is drawn
  const first = plot(`Histogram of the scores of ${each.name}: ID, and ${set}`, histogram(closed, [from, to]), bins.length, (i) => bins[i].middle, binSaid, () => (cut() === null || cut() < from || cut() > to ? null : cut()));
  const curve = rocOf(each, set);
  const band = bandOf(each, set);
  const best = unit().detectors.filter((other) => other !== each && other.cells[set]).sort((a, b) => b.cells[set].auroc[0] - a.cells[set].auroc[0]).slice(0, OTHERS);
  const others = best.flatMap((other) => rocOf(other, set).map((point) => ({ ...point, d: other.name })));
  const rocSaid = (i) => i < 0 ? "" : `Of 100 ID flagged ${curve[i].x.toFixed(1)}, of 100 OOD caught ${curve[i].y.toFixed(1)} (${bandAt(band, curve[i].x).map((end) => end.toFixed(1)).join(" to ")}).`;
  const second = plot(`ROC curve of ${each.name} on ${set}: AUROC ${percent(each.cells[set].auroc[0])} %`, roc(curve, band, others), curve.length, (i) => curve[i].x, rocSaid, () => 100 * flaggedAt(each, chosen.rate));
  const about = `${kind(group)}, ${counted(n)} image${n === 1 ? "" : "s"}${sources ? ` from ${sources} sources, which the intervals resample` : ""}; AUROC ${percent(each.cells[set].auroc[0])} (${range(each.cells[set].auroc)})`;
  return el("div", { class: "card" }, el("h3", {}, set, " ", el("small", { class: "quiet" }, about)), el("div", { class: "pair" }, first, second));
}

// Threshold

function showThreshold() {
  const { curves } = line();
  const i = chosen.rate;
  const rate = content.rates[i];
  const n = unit().nId;
  const [flags, low, high] = curves.flagged[i];
  byId("rate").value = i;
  byId("rate").setAttribute("aria-valuetext", `${rate} of 1,000`);
  byId("rate-said").textContent = `${rate} of 1,000`;
  const thousand = (share) => (1000 * share).toFixed(1);
  const limit = curves.thresholds[i] === null ? "an infinite score" : curves.thresholds[i].toPrecision(5);
  fill("threshold-said", "Flag scores below ", el("strong", { id: "limit" }, limit), ": ", el("strong", { id: "flagged" }, thousand(flags / n)),
    " false alarms per 1,000 ID images", el("span", { id: "flagged-interval" }, ` (${thousand(low)} to ${thousand(high)})`), `; ${counted(flags)} of the ${counted(n)} here.`);
  const ends = [0, 1];
  const columns = [
    { key: "set", label: "OOD set", value: (set) => set.name, name: true, cell: (set) => set.name },
    { key: "group", label: "what it is", value: (set) => kind(set.group), cell: (set) => `${kind(set.group)}${set.group === "shifted" ? "; should pass" : ""}` },
    { key: "caught", label: "caught, %", down: true, number: true, value: (set) => curves.caught[set.name][i][0], cell: (set) => el("td", { class: "number", "data-set": set.name }, percent(curves.caught[set.name][i][0])) },
    { key: "interval", label: "95 % interval", cell: (set) => el("td", { class: "figure" }, whisker(curves.caught[set.name][i], ends, "ood"), el("span", { class: "quiet" }, range(curves.caught[set.name][i]))) },
  ];
  fill("caught", table("caught-table", columns, unit().sets, { first: { key: "group" }, again: showThreshold }));
  byId("threshold-note").textContent = `The threshold is set on the ${counted(n)} ID test images, and the interval of its false alarms is what so many allow (Clopper and Pearson): with more of your own it is narrower. ` +
    "The intervals of what is caught are at this very threshold. Images that score the same as the threshold pass.";
  moveCuts();
}

// Pictures

function pictureOf(set, row) {
  const [name, number, taken, label] = unit().shown[set][row];
  const score = line().scores[set][Object.keys(unit().shown[set]).indexOf(String(row))];
  const verdict = taken < 0 ? null : label < 0 || set !== "test" ? `taken for ${nameOf(taken)}` : label === taken ? `${nameOf(label)}, taken for it` : `${nameOf(label)}, taken for ${nameOf(taken)}`;
  const source = number < 0 ? "" : content.pictures[number];
  const said = `${name}; ${verdict || "class not known"}; score ${score}`;
  const grow = (event) => event.target.classList.toggle("small", event.target.naturalWidth <= 48);
  return el("li", {}, el("figure", { title: said },
    source ? el("img", { src: source, alt: said, loading: "lazy", onload: grow }) : el("span", { class: "blank" }, "no picture"),
    el("figcaption", {}, el("strong", {}, score), verdict && [el("br"), verdict], el("span", { class: "called" }, name))));
}

function strip(heading, about, set, rows, none) {
  return [el("h3", {}, heading, " ", el("small", { class: "quiet" }, about)), rows.length ? el("ul", { class: "strip" }, rows.map((row) => pictureOf(set, row))) : el("p", { class: "quiet" }, none)];
}

function showPictures() {
  const { wrong } = line();
  const sets = unit().sets;
  const drawnOf = [{ name: "test", group: "ID" }, ...sets].map((set) => strip(set.name === "test" ? "ID test images" : set.name, set.name === "test" ? "" : kind(set.group), set.name, unit().drawn[set.name], ""));
  fill("pictures",
    strip("ID flagged", "false alarms: the lowest scores of ID test images", "test", wrong.test, "No ID image is flagged."),
    ...sets.filter((set) => set.group !== "shifted").map((set) => strip(`${set.name} accepted`, "the highest scores", set.name, wrong[set.name], "No image of this set is accepted.")),
    el("details", {}, el("summary", {}, "What each set looks like: some of its images, drawn at random"), drawnOf));
}

// Classes

function showClasses() {
  const rows = line().classes;
  const n = unit().nId;
  const kept = content.rates.indexOf(Math.round(1000 * (1 - content.kept)));
  const flags = line().curves.flagged[kept][0];
  const some = rows.length < line().classCount ? ` These are the ${counted(rows.length)} of ${counted(line().classCount)} classes with the most.` : "";
  byId("classes-note").textContent = rows.length === 0 ? "The classes of the ID test images are not known." :
    `${chosen.detector} on ${unitName(unit())}, where 95 % of ID is kept: ${counted(flags)} of ${counted(n)} ID test images are flagged. By ${unit().classesAre}; \u25B2 marks classes with more than chance makes (binomial, Holm, 5 %).${some}`;
  const columns = [
    { key: "class", label: "Class", value: (row) => nameOf(row[0]), name: true, cell: (row) => nameOf(row[0]) },
    { key: "n", label: "images", number: true, down: true, value: (row) => row[1], cell: (row) => counted(row[1]) },
    { key: "flagged", label: "flagged", number: true, down: true, value: (row) => row[2], cell: (row) => counted(row[2]) },
    { key: "share", label: "flagged, %", number: true, down: true, value: (row) => row[2] / row[1] + row[3] / 1e6, cell: (row) => percent(row[2] / row[1]) },
    { key: "interval", label: "95 % interval", cell: (row) => el("td", { class: "figure" }, whisker([row[2] / row[1], row[3], row[4]], [0, 1]), el("span", { class: "quiet" }, range([0, row[3], row[4]]))) },
    { key: "more", label: "more than chance", down: true, value: (row) => row[5], cell: (row) => (row[5] ? el("span", { class: "bad" }, "\u25B2 yes") : "") },
  ];
  fill("classes", rows.length ? table("classes-table", columns, rows, { first: { key: "share", down: true }, again: showClasses }) : "");
}

// What was run

const facts = (caption, pairs, heads) => el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, heads.map((head, i) => el("th", { scope: "col", class: i && heads.length > 2 && "number" }, head)))),
  el("tbody", {}, pairs.map((pair) => el("tr", {}, pair.map((cell, i) => el("td", { class: i && heads.length > 2 && "number" }, cell))))));

function showRan() {
  const seconds = (value) => (typeof value === "number" ? value.toFixed(2) : "");
  const cost = Object.entries(content.cost).map(([name, spent]) => [name, seconds(spent.fit_seconds), seconds(spent.score_seconds)]);
  const lists = (heading, items) => (items.length ? [el("h3", {}, heading), el("ul", {}, items.map((item) => el("li", {}, item)))] : []);
  fill("ran",
    content.command ? [el("h3", {}, "The command"), el("pre", { id: "command" }, content.command)] : [],
    lists("To know", content.notes.map((note) => note.split("`").map((part, i) => (i % 2 ? el("code", {}, part) : part)))),
    lists("Pictures that could not be read, and are in no figure", content.unreadable.map((one) => `${one.name} (${one.set}, ${one.classifier}): ${one.reason}`)),
    el("div", { class: "columns" }, facts("Seconds of each stage", content.stages.map(([name, value]) => [name, value.toFixed(2)]), ["Stage", "s"]), facts("Seconds of each detector, over all classifiers", cost, ["Detector", "fit", "score"]), facts("Versions and machine", Object.entries(content.environment), ["What", "value"])),
    el("details", {}, el("summary", {}, "Hashes of the classifiers and of the data"), facts("", content.hashes, ["Of", "hash"])),
    el("details", {}, el("summary", {}, "BibTeX of the methods used"), el("pre", { id: "bibtex" }, content.bibtex)));
}

// Controls

byId("unit").addEventListener("change", (event) => choose({ unit: Number(event.target.value) }));
byId("detector").addEventListener("change", (event) => choose({ detector: event.target.value }));
byId("column").addEventListener("change", (event) => { chosen.column = event.target.value; showRanking(); });
for (const radio of document.querySelectorAll("input[name=measure]")) radio.addEventListener("change", () => { chosen.measure = radio.value; showRanking(); delete orders["every-table"]; showEvery(); });
byId("rate").addEventListener("input", (event) => { chosen.rate = Number(event.target.value); showThreshold(); });
byId("theme").addEventListener("click", () => {
  const themes = ["auto", "dark", "light"];
  const now = document.documentElement.dataset.theme || "auto";
  const next = themes[(themes.indexOf(now) + 1) % themes.length];
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  byId("theme").textContent = `Colours: ${next}`;
});
window.addEventListener("beforeprint", () => {
  for (const box of document.querySelectorAll("details")) box.open = true;
  for (const frame of [...waiting.keys()]) drawNow(frame);
});

const slides = content.rates.filter((rate) => rate <= 500);
byId("rate").max = slides.length - 1;
chosen.rate = slides.indexOf(50);
fill("headline", content.headline.map((text) => el("p", {}, text)));
if (content.units.length) choose({});
else for (const id of ["from-scores", "families-box"]) byId(id).hidden = true;
showRan();
document.documentElement.dataset.ready = "yes";
