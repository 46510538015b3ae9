// The page of a training run.

const content = JSON.parse(byId("content").textContent);
const FEW = 40; // epochs, up to which each has a dot
const short = (value) => String(Number(value.toPrecision(4)));
const MEASURES = [
  { name: "Loss", field: "loss", value: (one) => one.loss, said: (one) => short(one.loss) },
  { name: "Accuracy on training pictures as shown", label: "accuracy, %", field: "accuracy", value: (one) => 100 * one.accuracy, said: (one) => `${percent(one.accuracy)} %` },
  { name: "Learning rate", label: "lr", field: "lr", value: (one) => one.lr, said: (one) => short(one.lr), zero: true },
];

function curve(points, title, zero) {
  const [from, to] = [points[0].epoch, points[points.length - 1].epoch];
  const ticks = points.length < 9 ? { values: points.map((point) => point.epoch) } : {}; // else there may be some between epochs
  const x = { field: "epoch", type: "quantitative", title: "epoch", scale: { domain: from === to ? [from - 0.5, from + 0.5] : [from, to], nice: false, zero: false }, axis: { format: "d", ...ticks } };
  const y = { field: "value", type: "quantitative", title, scale: { zero: Boolean(zero) }, axis: { format: ".4~g" } };
  return {
    data: { values: points },
    encoding: { x, y },
    layer: [
      { mark: { type: "line", stroke: "var(--id)", strokeWidth: 2 } },
      ...(points.length <= FEW ? [{ mark: { type: "point", filled: true, size: 25, fill: "var(--id)", opacity: 1 } }] : []),
      at({ mark: { type: "point", filled: true, size: 60, fill: "currentColor", opacity: 1 } }),
    ],
  };
}

function curveOf({ name, label, value, said, zero }) {
  const { epochs } = content;
  const points = epochs.map((one, i) => ({ i, epoch: one.epoch, value: value(one) }));
  const says = (i) => {
    const one = epochs[i < 0 ? epochs.length - 1 : i];
    return `${name} ${i < 0 ? "in the last epoch" : `in epoch ${one.epoch}`}: ${said(one)}.`;
  };
  const spoken = `${name} over ${counted(epochs.length)} epochs, from ${said(epochs[0])} to ${said(epochs[epochs.length - 1])}`;
  return el("div", { class: "card" }, el("h3", {}, name), plot(spoken, curve(points, label || name.toLowerCase(), zero), points.map((point) => point.epoch), says, () => null));
}

function showEpochs() {
  const columns = [
    { key: "epoch", label: "Epoch", value: (one) => one.epoch, cell: (one) => counted(one.epoch) },
    ...MEASURES.map(({ field, label, name, value, said }) => ({ key: field, label: label || name.toLowerCase(), number: true, value, cell: (one) => said(one).replace(" %", "") })),
    { key: "seconds", label: "seconds", number: true, value: (one) => one.seconds, cell: (one) => one.seconds.toFixed(2) },
  ];
  if (content.epochs.some((one) => one.unreadable)) {
    columns.push({ key: "unreadable", label: "unreadable", number: true, value: (one) => one.unreadable, cell: (one) => counted(one.unreadable) });
  }
  fill("epochs", table("epochs-table", columns, content.epochs, { first: { key: "epoch" }, again: showEpochs }));
}

function showAccuracy() {
  const { accuracy } = content;
  const ends = domain(accuracy.map((one) => one.figure));
  const rows = accuracy.map(({ what, figure, n }) => [what, el("strong", {}, percent(figure[0])), [whisker(figure, ends), el("span", { class: "quiet" }, range(figure))], counted(n)]);
  fill("accuracy", rows.length ? facts("Accuracy on validation pictures", ["", "accuracy, %", "95 % interval", "pictures"], rows) : "", el("span", {}));
  byId("accuracy-note").textContent = rows.length > 1
    ? `The lines go from ${percent(ends[0])} to ${percent(ends[1])} %. Each interval is of one model alone (Clopper and Pearson); both saw the same pictures, so intervals that overlap do not make them equal.`
    : rows.length
      ? `The line goes from ${percent(ends[0])} to ${percent(ends[1])} %; the interval is the exact one (Clopper and Pearson).`
      : "How accurate the model is on pictures it was not trained on is not known here: that is measured when a run ends, if it has validation data (--val).";
}

function showRan() {
  const { settings, rest, reached } = content;
  fill("ran",
    el("h3", {}, "The command that does it again"), el("pre", { id: "command" }, content.command),
    el("div", { class: "columns" }, facts("Settings", ["Setting", "value"], settings),
      reached.length ? facts("What was reached", ["What", "value"], reached) : el("details", {}, el("summary", {}, "The other settings"), facts("", ["Setting", "value"], rest))));
}

document.title = `${content.title} \u2013 Farfield training run`;
fill("title", content.title);
fill("start", content.start);
fill("summary", content.summary);
showAccuracy();
byId("curves-box").hidden = content.epochs.length === 0;
if (content.epochs.length) {
  fill("curves", MEASURES.map(curveOf));
  showEpochs();
  drawRest();
}
showRan();
document.documentElement.dataset.ready = "yes";
