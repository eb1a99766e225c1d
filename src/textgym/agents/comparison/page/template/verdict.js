// The verdict on top: a sentence, a row a cell with its interval, what a reader must know.

function drawVerdict() {
  const verdict = study.verdict ?? plainFigures();
  $("verdict").hidden = false;
  if (!study.verdict) $("verdict-title").textContent = "In short";
  const none = "No held-out evaluations, so no verdict: the texts below are the sample prompts of each run.";
  const body = $("verdict-body");
  body.append(element("p", { class: "headline", id: "headline" }, verdict?.headline ?? none));
  const judges = verdict?.judges.length ? verdict.judges : (plainFigures()?.judges ?? []);
  judges.forEach((judged, k) => body.append(judgedBlock(judged, judges.length > 1, k)));
  drawNotes();
  body.append($("notes"));
  if (study.verdict?.costs.rows.length) body.append(costsBlock(study.verdict.costs));
  if (study.verdict) body.append(verdictExports(study.verdict));
}

// What one judge says: a row a cell, and every pair of cells on demand.
function judgedBlock(judged, isNamed, k) {
  const scroll = (name, table) => element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name }, table);
  const pairs = judged.pairs?.length
    ? element(
        "details",
        {},
        element("summary", {}, `Every pair of cells (${judged.pairs.length})`),
        scroll("Differences of every pair of cells", verdictTable({ ...judged, rows: judged.pairs, unit: judged.pairUnit, columns: judged.pairColumns })),
        element("p", { class: "hint" }, judged.pairCaption),
      )
    : "";
  return element(
    "div",
    { class: "judged", "data-judge": k },
    isNamed ? element("h3", {}, judged.title) : "",
    scroll(`Figures of the cells by ${judged.judge}`, verdictTable(judged)),
    judged.caption ? element("p", { class: "hint" }, judged.caption) : "",
    pairs,
  );
}

function costsBlock(costs) {
  const cells = study.cells.map((cell) => cell.label);
  const head = costs.headers.map((name, k) => element("th", { scope: "col", class: k ? "number" : "" }, name));
  const rows = costs.rows.map(([name, ...values]) =>
    element("tr", {}, element("th", { scope: "row" }, dot(cells.indexOf(name)), name), values.map((value) => element("td", { class: "number" }, value.replace("-", "−")))),
  );
  const table = element("table", { class: "figures", id: "costs" }, element("thead", {}, element("tr", {}, head)), element("tbody", {}, rows));
  const scroll = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": costs.title }, table);
  return element("div", { class: "judged" }, element("h3", {}, costs.title), scroll, element("p", { class: "hint" }, costs.note));
}

// Without a verdict: the end − the start by the first gold judge, as the curves have it.
function plainFigures() {
  const judge = study.judges.find((one) => one.role === "gold") ?? study.judges[0];
  const curves = judge ? study.curves[judge.name] : [];
  if (!curves?.length) return null;
  const column = study.matrix.judges.indexOf(judge.name);
  const rows = study.matrix.cells.map((cell, k) => {
    const curve = curves.find((one) => one.cell === cell);
    return {
      cell,
      middle: study.matrix.mean[k][column],
      low: study.matrix.low[k][column],
      high: study.matrix.high[k][column],
      values: [number(curve.mean.at(-1)), number(curve.distance.at(-1) ** 2, 1), grouped(curve.tokens.at(-1))],
    };
  });
  rows.sort((a, b) => (b.middle ?? -Infinity) - (a.middle ?? -Infinity));
  const top = rows[0];
  const ends = interval(top.low, top.high);
  const whose = judge.role === "gold" ? `the independent judge ${judge.name}` : judge.name;
  const label = study.cells[top.cell].label;
  const moved = `${signed(top.middle)}${ends ? ` (${ends})` : ""} standard deviations from the start`;
  return {
    headline: rows.length > 1 ? `By ${whose} ${label} ends highest: ${moved}.` : `By ${whose} ${label} moved ${moved}.`,
    judges: [
      {
        judge: judge.name,
        title: whose,
        columns: [`${judge.name} at the end`, "KL, nats per text", "tokens"],
        rows,
        unit: `change of ${judge.name}, start’s standard deviations`,
        caption: "Means with 95% intervals over seeds and prompts. This says how each cell changed, not that one is better than another.",
      },
    ],
  };
}

function verdictTable(verdict) {
  const ends = verdict.rows.flatMap((row) => [row.low, row.middle, row.high]).filter((value) => value !== null && value !== undefined);
  const range = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const head = ["cell", verdict.unit, "95% interval", ...verdict.columns];
  return element(
    "table",
    { class: "figures verdict" },
    element("thead", {}, element("tr", {}, head.map((name, k) => element("th", { scope: "col", class: k === 1 || k > 2 ? "number" : "" }, name)))),
    element(
      "tbody",
      {},
      verdict.rows.map((row) =>
        element(
          "tr",
          {},
          element("th", { scope: "row" }, dot(row.cell), study.cells[row.cell].label, row.other === undefined ? "" : [" over ", dot(row.other), study.cells[row.other].label]),
          element("td", { class: "number" }, element("b", {}, signed(row.middle)), " ", element("span", { class: "soft" }, interval(row.low, row.high))),
          element("td", { class: "interval" }, forest(row, range)),
          row.values.map((value, k) => element("td", { class: "number value", "data-name": verdict.columns[k] }, valueNodes(value))),
        ),
      ),
    ),
  );
}

// "0.31 [0.20, 0.42]": the figure, then its interval in a softer ink.
function valueNodes(value) {
  const [, figure, low, high] = /^(\S+) \[(\S+), (\S+)\]$/.exec(value) ?? [];
  if (figure === undefined) return value.replace("-", "−");
  const minus = (text) => text.replace("-", "−");
  return [minus(figure), " ", element("span", { class: "soft" }, `${minus(low)} to ${minus(high)}`)];
}

const dot = (cell) => element("span", { class: "dot", style: { background: colourOf(cell) }, "aria-hidden": "true" });

// A point and its interval on a line that all rows share.
function forest(row, [low, high]) {
  const width = 300;
  const x = (value) => 8 + ((value - low) / (high - low || 1)) * (width - 16);
  const colour = colourOf(row.cell);
  const known = row.low !== null && row.low !== undefined;
  return svg(
    "svg",
    { viewBox: `0 0 ${width} 24`, width: "100%", height: 24, preserveAspectRatio: "none", role: "img", "aria-label": `${signed(row.middle)}, ${interval(row.low, row.high) || "no interval"}` },
    svg("line", { x1: x(0), x2: x(0), y1: 0, y2: 24, class: "zero", "vector-effect": "non-scaling-stroke" }),
    known ? svg("line", { x1: x(row.low), x2: x(row.high), y1: 12, y2: 12, stroke: colour, "stroke-width": 3, "stroke-linecap": "round", "vector-effect": "non-scaling-stroke" }) : "",
    row.middle === null ? "" : svg("line", { x1: x(row.middle), x2: x(row.middle), y1: 12, y2: 12, stroke: colour, "stroke-width": 12, "stroke-linecap": "round", "vector-effect": "non-scaling-stroke" }),
  );
}

function verdictExports(verdict) {
  const button = (name, act) => element("button", { type: "button", onclick: (event) => act(event.currentTarget) }, name);
  return element(
    "div",
    { class: "exports" },
    button("Copy as Markdown", (b) => copy(verdict.markdown, b)),
    button("Copy as LaTeX", (b) => copy(verdict.latex, b)),
    button("Markdown file", () => download("verdict.md", "text/markdown", verdict.markdown)),
    button("LaTeX file", () => download("verdict.tex", "application/x-tex", verdict.latex)),
  );
}

function drawNotes() {
  const list = (lines) => element("ul", {}, lines.map((line) => element("li", {}, line)));
  if (study.failures.length) {
    const lines = study.failures.map((one) => `${one.cell}, seed ${one.seed} (${one.name}): ${one.reason}`);
    $("notes").append(element("div", { class: "note bad" }, element("b", {}, `${plural(study.failures.length, "run")} without an end`), list(lines)));
  }
  const cautions = study.verdict?.cautions ?? [];
  if (cautions.length) $("notes").append(element("div", { class: "note", id: "cautions" }, element("b", {}, "Read it with care"), list(cautions)));
  if (study.notes.length) $("notes").append(element("div", { class: "note" }, element("b", {}, "To know"), list(study.notes)));
}
