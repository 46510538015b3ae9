// Plots: Vega-Lite specifications, drawn when they come into sight.

const STYLE = {
  background: null,
  aria: false, // a plot says itself what it is; and descriptions are expressions, which not every title can be put into
  font: "system-ui, sans-serif",
  view: { stroke: null },
  axis: {
    labelColor: "currentColor", titleColor: "currentColor", domainColor: "currentColor", tickColor: "currentColor", gridColor: "currentColor",
    gridOpacity: 0.15, titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 11, tickCount: 5,
  },
};
const HEIGHT = 150;
const CUT = { // the threshold of the slider
  data: { values: [{}] },
  transform: [{ calculate: "cut", as: "cut" }, { filter: "isValid(datum.cut)" }],
  mark: { type: "rule", stroke: "currentColor", strokeDash: [4, 3], clip: true },
  encoding: { x: { field: "cut", type: "quantitative" } },
};
const at = (mark) => ({ transform: [{ filter: "datum.i === at" }], ...mark });

// The marks of series: a colour and a shape, a pair of their own for the first 64.
const SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"];
const COLOURS = 8; // in the style, as --s1 to --s8
const OUTLINES = { circle: "M6,1.5a4.5,4.5 0 1,0 .01,0Z", square: "M2,2h8v8h-8Z", "triangle-up": "M6,1L11,10.5H1Z", diamond: "M6,.5L11,6L6,11.5L1,6Z", cross: "M4.3,1h3.4v3.3H11v3.4H7.7V11H4.3V7.7H1V4.3h3.3Z", "triangle-down": "M1,1.5H11L6,11Z", "triangle-right": "M1.5,1L11,6L1.5,11Z", "triangle-left": "M10.5,1L1,6L10.5,11Z" };
const dress = (i) => ({ colour: `var(--s${1 + (i % COLOURS)})`, shape: SHAPES[(i + 3 * Math.floor(i / COLOURS)) % SHAPES.length] });

function swatchOf({ colour, shape }) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = made.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  made.setAttribute("viewBox", "0 0 12 12");
  made.setAttribute("aria-hidden", "true");
  path.setAttribute("d", OUTLINES[shape]);
  path.style.fill = colour;
  return made;
}

function histogram(bins, [from, to]) {
  const x = { type: "quantitative", scale: { domain: [from, to], nice: false, zero: false }, title: "score" };
  const y = { type: "quantitative", title: "% of the set", axis: { format: ".3~r" } };
  return {
    data: { values: bins },
    layer: [
      { mark: { type: "rect", fill: "var(--id)", fillOpacity: 0.45 }, encoding: { x: { ...x, field: "from" }, x2: { field: "to" }, y: { ...y, field: "id" }, y2: { datum: 0 } } },
      { mark: { type: "line", interpolate: "step-after", stroke: "var(--ood)", strokeWidth: 2 }, encoding: { x: { ...x, field: "from" }, y: { ...y, field: "ood" } } },
      at({ mark: { type: "rule", stroke: "currentColor" }, encoding: { x: { ...x, field: "middle" } } }),
      CUT,
    ],
  };
}

function roc(curve, band, others) {
  const x = { type: "quantitative", scale: { domain: [0, 100] }, title: "% of ID flagged" };
  const y = { type: "quantitative", scale: { domain: [0, 100] }, title: "% of OOD caught" };
  return {
    data: { values: curve },
    layer: [
      { data: { values: band }, mark: { type: "area", fill: "var(--ood)", fillOpacity: 0.25 }, encoding: { x: { ...x, field: "x" }, y: { ...y, field: "low" }, y2: { field: "high" } } },
      { data: { values: others }, mark: { type: "line", stroke: "currentColor", strokeOpacity: 0.3, strokeWidth: 1 }, encoding: { x: { ...x, field: "x" }, y: { ...y, field: "y" }, detail: { field: "d" }, order: { field: "i" } } },
      { mark: { type: "line", stroke: "var(--ood)", strokeWidth: 2 }, encoding: { x: { ...x, field: "x" }, y: { ...y, field: "y" }, order: { field: "i" } } },
      at({ mark: { type: "point", filled: true, size: 60, fill: "currentColor" }, encoding: { x: { ...x, field: "x" }, y: { ...y, field: "y" } } }),
      CUT,
    ],
  };
}

const waiting = new Map(); // frame to what draws it
let drawn = []; // the views there are

const sight = new IntersectionObserver((entries) => entries.forEach((entry) => entry.isIntersecting && drawNow(entry.target)), { rootMargin: "400px" });
const widths = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const view = target.view;
    const room = view && wide(target);
    if (view && Math.abs(room - view.width()) > 4) view.width(room).resize().run();
  }
});

// A place for a plot that is drawn when it comes into sight. `xs` are where its points are, `says(i)` is the text for point i and, for -1,
// for none; `cut()` is where the threshold is. With `ys` the point nearest to the pointer is meant, without the nearest along x.
function plot(label, spec, xs, says, cut, ys) {
  const readout = el("p", { class: "readout" }, says(-1));
  const frame = el("div", { class: "frame", tabindex: "0", role: "group", "aria-roledescription": "plot", "aria-label": `${label}. Arrow keys move along it.` });
  let point = -1;
  const go = (i) => {
    if (i === point || !frame.view) return;
    point = i;
    frame.view.signal("at", i).run();
    readout.textContent = says(i);
  };
  frame.addEventListener("pointermove", (event) => {
    if (!frame.view) return;
    const box = frame.querySelector("svg").getBoundingClientRect();
    const [scale, there] = [frame.view.scale("x"), event.clientX - box.left - frame.view.origin()[0]];
    const aside = (i) => (ys ? frame.view.scale("y")(ys[i]) - (event.clientY - box.top - frame.view.origin()[1]) : 0);
    const far = xs.map((x, i) => Math.hypot(scale(x) + (scale.bandwidth ? scale.bandwidth() / 2 : 0) - there, aside(i)));
    go(far.indexOf(Math.min(...far)));
  });
  frame.addEventListener("pointerleave", () => go(-1));
  frame.addEventListener("focus", () => readout.setAttribute("aria-live", "polite"));
  frame.addEventListener("blur", () => {
    readout.removeAttribute("aria-live");
    go(-1);
  });
  frame.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    go(Math.max(0, Math.min(xs.length - 1, point + step)));
  });
  frame.moveCut = () => {
    frame.view.signal("cut", cut()).run();
    if (point < 0) readout.textContent = says(-1);
  };
  waiting.set(frame, spec);
  sight.observe(frame);
  return el("div", { class: "plot" }, frame, readout);
}

const wide = (frame) => Math.max(120, frame.clientWidth - 52);

async function drawNow(frame) {
  const spec = waiting.get(frame);
  if (!spec) return;
  waiting.delete(frame);
  sight.unobserve(frame);
  const full = { height: HEIGHT, ...spec, width: wide(frame), padding: 2, autosize: { type: "pad" }, config: STYLE, params: [{ name: "at", value: -1 }, { name: "cut", value: null }] };
  const { view } = await window.vegaEmbed(frame.appendChild(el("div", { "aria-hidden": "true" })), full, { mode: "vega-lite", renderer: "svg", actions: false, tooltip: false, defaultStyle: false, hover: false, logLevel: 1 });
  if (!frame.isConnected) return view.finalize(); // another detector was chosen meanwhile
  frame.view = view;
  drawn.push(frame);
  frame.moveCut();
  widths.observe(frame);
}

// All that is not in sight yet, one after the other while nothing else is to do: a page that is printed has them too.
async function drawRest() {
  for (const frame of [...waiting.keys()]) {
    await new Promise((resume) => (window.requestIdleCallback || window.setTimeout)(resume));
    await drawNow(frame);
  }
}

function forgetPlots() {
  for (const frame of drawn) {
    widths.unobserve(frame);
    frame.view.finalize();
  }
  for (const frame of waiting.keys()) sight.unobserve(frame);
  drawn = [];
  waiting.clear();
}

const moveCuts = () => drawn.forEach((frame) => frame.moveCut());

// Of every page: its colours, and all of it in print.

byId("theme").addEventListener("click", () => {
  const themes = ["auto", "dark", "light"];
  const now = document.documentElement.dataset.theme || "auto";
  const next = themes[(themes.indexOf(now) + 1) % themes.length];
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  byId("theme").textContent = `Colours: ${next}`;
});
window.addEventListener("beforeprint", () => {
  for (const box of document.querySelectorAll("details:not([open])")) {
    box.open = true;
    box.dataset.printed = "yes";
  }
  for (const frame of [...waiting.keys()]) drawNow(frame);
});
window.addEventListener("afterprint", () => {
  for (const box of document.querySelectorAll("details[data-printed]")) {
    box.open = false;
    delete box.dataset.printed;
  }
});
