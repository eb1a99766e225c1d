// The verdict on top: a sentence, a row a cell with its interval, what a reader must know.

function drawVerdict() {
  const verdict = study.verdict ?? plainFigures();
  $("verdict").hidden = false;
  if (!study.verdict) $("verdict-title").textContent = "In short";
  if (verdict) {
    $("verdict-body").append(
      element("p", { class: "headline", id: "headline" }, verdict.headline),
      verdict.rows.length ? element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Figures of the cells" }, verdictTable(verdict)) : "",
      verdict.caption ? element("p", { class: "hint" }, verdict.caption) : "",
    );
    for (const line of verdict.details ?? []) $("verdict-body").append(element("p", { class: "hint" }, line));
  } else {
    $("verdict-body").append(element("p", { class: "headline", id: "headline" }, "No held-out evaluations, so no verdict: the texts below are the sample prompts of each run."));
  }
  if (study.verdict) $("verdict-body").append(verdictExports(study.verdict));
  drawNotes();
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
  return {
    headline: `${study.cells[top.cell].label} ends highest by ${whose}: ${signed(top.middle)}${ends ? ` (${ends})` : ""} standard deviations from the start.`,
    judge: judge.name,
    columns: [`${judge.name} at the end`, "KL, nats per text", "tokens"],
    rows,
    unit: `change of ${judge.name}, start’s standard deviations`,
    caption: "Means with 95% intervals over seeds and prompts. This says how each cell changed, not that one is better than another.",
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
          element("th", { scope: "row" }, element("span", { class: "dot", style: { background: colourOf(row.cell) }, "aria-hidden": "true" }), study.cells[row.cell].label),
          element("td", { class: "number" }, element("b", {}, signed(row.middle)), " ", element("span", { class: "soft" }, interval(row.low, row.high))),
          element("td", { class: "interval" }, forest(row, range)),
          row.values.map((value, k) => element("td", { class: "number value", "data-name": verdict.columns[k] }, value)),
        ),
      ),
    ),
  );
}

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
  if (study.notes.length) $("notes").append(element("div", { class: "note" }, element("b", {}, "To know"), list(study.notes)));
}
