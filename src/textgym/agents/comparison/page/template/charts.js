// Curves of a judge's score: over tokens, and over the distance from the start.

const DASHES = ["", "7 4", "2 4", "10 3 2 3"];
let WIDTH = 560; // narrower where the window is, so that its letters stay as large
const HEIGHT = 300;
const EDGE = { left: 52, right: 14, top: 12, bottom: 42 };

function drawCharts() {
  if (!Object.values(study.curves).some((curves) => curves.length)) return;
  $("charts").hidden = false;
  const names = study.judges.map((judge) => [judge.name, `${judge.name} (${ROLES[judge.role]})`]);
  options($("chart-judge"), names, state.chart);
  $("chart-judge").addEventListener("change", (event) => change({ chart: event.target.value, page: state.page }));
  listeners.push((what) => "chart" in what || "hidden" in what ? plotAll() : null);
  matchMedia("(max-width: 640px)").addEventListener("change", plotAll);
  plotAll();
}

const ROLES = { gold: "independent judge", reward: "trained on", shadow: "looking on" };

function plotAll() {
  WIDTH = innerWidth < 640 ? 380 : 560;
  $("chart-judge").value = state.chart;
  const curves = study.curves[state.chart] ?? [];
  const seeds = Math.max(...curves.map((curve) => curve.seeds.length));
  const role = study.judges.find((judge) => judge.name === state.chart).role;
  const trained = study.cells.filter((cell) => cell.reward === state.chart).map((cell) => cell.label);
  $("chart-hint").textContent =
    (seeds > 1 ? "Thick: mean over the seeds, with its 95% band. Thin: each seed. " : "One seed, so no band. ") +
    (role === "gold" ? "No cell trains on this judge." : `Trained on by ${trained.join(", ") || "no cell"}: a rise there is what was paid for.`);
  const shown = curves.filter((curve) => !state.hidden.includes(String(curve.cell)));
  $("chart-plots").replaceChildren(
    chart(`${state.chart} over training`, "completion tokens", shown, (curve) => curve.tokens, compact),
    chart(`${state.chart} over distance from the start`, "√KL to the start, √nats per text", shown, (curve) => curve.distance, (value, digits = 2) => number(value, digits)),
  );
  $("legend").replaceChildren(...curves.map(legendOf));
}

const compact = (value) => (value >= 1e6 ? `${tidy(value / 1e6)}M` : value >= 1e3 ? `${tidy(value / 1e3)}k` : String(tidy(value)));

function legendOf(curve) {
  const cell = String(curve.cell);
  const pressed = !state.hidden.includes(cell);
  const hidden = pressed ? [...state.hidden, cell] : state.hidden.filter((one) => one !== cell);
  const line = svg("svg", { width: 26, height: 10, "aria-hidden": "true" }, svg("line", { x1: 1, x2: 25, y1: 5, y2: 5, ...strokeOf(curve.cell) }));
  const keep = () => change({ hidden, page: state.page }).then(() => $("legend").querySelector(`[data-cell="${cell}"]`).focus());
  return element("button", { type: "button", "aria-pressed": String(pressed), "data-cell": cell, onclick: keep }, line, study.cells[curve.cell].label);
}

const strokeOf = (cell, width = 2.5) => ({ stroke: colourOf(cell), "stroke-width": width, "stroke-dasharray": DASHES[Math.floor(cell / 8) % 4], fill: "none" });

function chart(title, label, curves, xs, format) {
  const figure = element("figure", { class: "chart" }, element("figcaption", {}, title));
  const known = (values) => values.filter((value) => value !== null);
  const yEnds = known(curves.flatMap((curve) => [...curve.mean, ...curve.low, ...curve.high, ...curve.seeds.flat()]));
  if (!yEnds.length) {
    figure.append(element("p", { class: "empty" }, curves.length ? "This judge scored no text." : "Every cell is hidden: choose one below."));
    return figure;
  }
  const xTicks = ticks(Math.min(0, ...curves.flatMap(xs)), Math.max(...curves.flatMap(xs)), 5);
  const yTicks = ticks(Math.min(...yEnds), Math.max(...yEnds), 5);
  const x = scale(xTicks, EDGE.left, WIDTH - EDGE.right);
  const y = scale(yTicks, HEIGHT - EDGE.bottom, EDGE.top);
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}. ${summary(curves)}` });
  for (const tick of yTicks) {
    drawing.append(
      svg("line", { x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(tick), y2: y(tick), class: "grid" }),
      svg("text", { x: EDGE.left - 8, y: y(tick) + 4, "text-anchor": "end" }, number(tick, digitsOf(yTicks))),
    );
  }
  for (const tick of xTicks) drawing.append(svg("text", { x: x(tick), y: HEIGHT - EDGE.bottom + 18, "text-anchor": "middle" }, format(tick, digitsOf(xTicks))));
  drawing.append(svg("text", { x: (EDGE.left + WIDTH - EDGE.right) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, label));
  for (const curve of curves) drawing.append(band(curve, xs(curve), x, y));
  for (const curve of curves) {
    for (const seed of curve.seeds.length > 1 ? curve.seeds : [])
      drawing.append(svg("path", { d: pathOf(xs(curve), seed, x, y), ...strokeOf(curve.cell, 1), opacity: 0.35 }));
  }
  for (const curve of curves) {
    const line = svg("path", { d: pathOf(xs(curve), curve.mean, x, y), ...strokeOf(curve.cell), "stroke-linejoin": "round" });
    line.append(svg("title", {}, study.cells[curve.cell].label));
    drawing.append(line);
    const last = curve.mean.length - 1;
    if (curve.mean[last] !== null) drawing.append(svg("circle", { cx: x(xs(curve)[last]), cy: y(curve.mean[last]), r: 4, fill: colourOf(curve.cell) }));
  }
  figure.append(drawing);
  addTip(figure, drawing, curves, xs, x, y, format);
  return figure;
}

// Says in words what the drawing shows.
const summary = (curves) =>
  curves.map((curve) => `${study.cells[curve.cell].label}: from ${number(curve.mean[0])} to ${number(curve.mean.at(-1))}`).join("; ");

function band(curve, xs, x, y) {
  const inside = xs.map((_, k) => k).filter((k) => curve.low[k] !== null);
  if (inside.length < 2) return "";
  const up = inside.map((k) => `${x(xs[k])},${y(curve.high[k])}`);
  const down = inside.reverse().map((k) => `${x(xs[k])},${y(curve.low[k])}`);
  return svg("polygon", { points: [...up, ...down].join(" "), fill: colourOf(curve.cell), opacity: 0.14, class: "band" });
}

const pathOf = (xs, ys, x, y) =>
  xs.map((value, k) => (ys[k] === null || ys[k] === undefined ? "" : `${k && ys[k - 1] !== null ? "L" : "M"}${x(value).toFixed(1)},${y(ys[k]).toFixed(1)}`)).join("");

// Round numbers that hold both ends.
function ticks(low, high, n) {
  if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
  const raw = (high - low) / n;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((width) => width >= raw);
  const found = [];
  for (let k = Math.floor(low / step + 1e-9); (k - 1) * step < high - 1e-9 * step; k++) found.push(tidy(k * step));
  return found;
}

const digitsOf = (values) => Math.max(...values.map((value) => (String(value).split(".")[1] ?? "").length));

function scale(values, from, to) {
  const [low, high] = [values[0], values.at(-1)];
  return (value) => from + ((value - low) / (high - low)) * (to - from);
}

// Near the pointer: the nearest point of every curve, named.
function addTip(figure, drawing, curves, xs, x, y, format) {
  const tip = element("div", { class: "tip", hidden: true, role: "presentation" });
  const marks = svg("g", {});
  drawing.append(marks);
  figure.append(tip);
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    const near = curves.map((curve) => {
      const places = xs(curve).map((value) => Math.abs(x(value) - at));
      return { curve, k: places.indexOf(Math.min(...places)) };
    });
    tip.hidden = false;
    tip.replaceChildren(
      ...near.map(({ curve, k }) =>
        element("div", {}, element("span", { class: "dot", style: { background: colourOf(curve.cell) } }), `${study.cells[curve.cell].label}: `, element("b", {}, number(curve.mean[k])), ` at ${format(xs(curve)[k])}`),
      ),
    );
    marks.replaceChildren(
      ...near.filter(({ curve, k }) => curve.mean[k] !== null).map(({ curve, k }) => svg("circle", { cx: x(xs(curve)[k]), cy: y(curve.mean[k]), r: 5, fill: "none", stroke: colourOf(curve.cell), "stroke-width": 2 })),
    );
    const left = event.clientX - box.left;
    tip.style.top = `${(EDGE.top / HEIGHT) * box.height + 24}px`;
    tip.style.left = left > box.width / 2 ? "auto" : `${left + 16}px`;
    tip.style.right = left > box.width / 2 ? `${box.width - left + 16}px` : "auto";
  });
  drawing.addEventListener("pointerleave", () => {
    tip.hidden = true;
    marks.replaceChildren();
  });
}
