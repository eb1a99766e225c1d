// The cross-score matrix: a row for what was trained on, a column for who scores.

function drawMatrix() {
  const matrix = study.matrix;
  if (!matrix) return;
  $("matrix").hidden = false;
  $("matrix-hint").textContent =
    "How far each judge’s mean score moved from the start to the end of training, in standard deviations of its scores over the start’s texts, " +
    "with 95% intervals over seeds and prompts (of a single seed: over the prompts alone). Outlined: the cell’s own reward. A cell that rises there and falls elsewhere games its reward; such cells come first. " +
    "Click a number to read that cell’s texts, the largest losses by that judge first.";
  const largest = Math.max(1e-9, ...matrix.mean.flat().map((value) => Math.abs(value ?? 0)));
  const role = (name) => study.judges.find((judge) => judge.name === name).role;
  const head = matrix.judges.map((name) => element("th", { scope: "col" }, name, element("br"), element("small", {}, ROLES[role(name)])));
  const body = matrix.cells.map((cell, row) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, element("span", { class: "dot", style: { background: colourOf(cell) }, "aria-hidden": "true" }), study.cells[cell].label),
      matrix.judges.map((judge, k) => matrixCell(matrix, row, k, largest)),
    ),
  );
  $("matrix-body").append(
    element("table", { class: "matrix" }, element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "trained as"), head)), element("tbody", {}, body)),
  );
}

function matrixCell(matrix, row, k, largest) {
  const [cell, judge] = [matrix.cells[row], matrix.judges[k]];
  const [mean, low, high] = [matrix.mean[row][k], matrix.low[row][k], matrix.high[row][k]];
  const own = study.cells[cell].reward === judge;
  const shade = !mean ? "none" : `rgba(var(--${mean > 0 ? "high" : "low"}), ${(0.08 + 0.5 * Math.abs(mean) / largest).toFixed(3)})`;
  const run = study.runs.findIndex((one) => one.held && one.cell === cell);
  const name = `${study.cells[cell].label}, scored by ${judge}: ${signed(mean)}${low === null ? "" : `, ${interval(low, high)}`}`;
  return element(
    "td",
    { class: own ? "own" : "" },
    element(
      "button",
      { type: "button", "aria-label": name, title: own ? "its own reward" : undefined, style: { background: shade }, disabled: run < 0, onclick: () => readCell(run, judge) },
      element("b", {}, signed(mean)),
      element("small", {}, interval(low, high) || "no interval"),
    ),
  );
}

async function readCell(run, judge) {
  const key = keyOf(run);
  await change({ columns: [key], base: `s${study.runs[run].start}`, focus: key, judge, sort: "difference", down: false, at: positions() - 1, ranges: {}, query: "" });
  $("texts").scrollIntoView();
  $("texts").focus({ preventScroll: true });
}
