// Which cells and seeds are columns, and what they are compared with.

function drawPicker() {
  const panel = $("columns");
  const base = element("select", { id: "base", onchange: (event) => change({ base: event.target.value }) });
  const firsts = () => study.cells.map((_, cell) => study.runs.findIndex((run) => run.held && run.cell === cell)).filter((run) => run >= 0).map(keyOf);
  const quick = (name, columns) => element("button", { type: "button", onclick: () => change({ columns: columns() }) }, name);
  const every = () => study.runs.map((run, k) => (run.held ? keyOf(k) : null)).filter(Boolean);
  panel.append(
    element("div", { class: "quick" }, quick("One seed of every cell", firsts), quick("All", every), quick("Start alone", () => []), element("label", {}, "Baseline ", base)),
    element("div", { class: "pick" }, study.cells.map((_, cell) => cellChoices(cell))),
  );
  const absent = study.runs.filter((run) => !run.held);
  if (absent.length) panel.append(element("p", { class: "hint" }, `Not on this page: ${absent.map((run) => `${study.cells[run.cell].label} seed ${run.seed}`).join(", ")}.`));
  listeners.push(showPicked);
  showPicked();
}

function cellChoices(cell) {
  const runs = study.runs.map((run, k) => [run, k]).filter(([run]) => run.cell === cell && run.held);
  runs.sort(([a], [b]) => a.seed - b.seed);
  const boxes = runs.map(([run, k]) =>
    element("label", {}, element("input", { type: "checkbox", value: keyOf(k), "aria-label": `${study.cells[cell].label}, seed ${run.seed}`, onchange: pick }), `seed ${run.seed}`),
  );
  return [
    element("b", {}, element("span", { class: "dot", style: { background: colourOf(cell) }, "aria-hidden": "true" }), study.cells[cell].label),
    element("div", {}, boxes.length ? boxes : element("span", { class: "soft" }, "no texts on this page")),
  ];
}

function pick(event) {
  const key = event.target.value;
  change({ columns: event.target.checked ? [...state.columns, key] : state.columns.filter((one) => one !== key) });
}

function showPicked() {
  for (const box of $("columns").querySelectorAll("input[type=checkbox]")) box.checked = state.columns.includes(box.value);
  const starts = study.starts.map((start, k) => [`s${k}`, startName(k)]).filter(([key]) => columnOf(key));
  const runs = study.runs.map((run, k) => (run.held ? [keyOf(k), nameOf(columnOf(keyOf(k)))] : null)).filter(Boolean);
  options($("base"), [...starts, ...runs], state.base);
  const held = study.runs.filter((run) => run.held).length;
  $("columns-count").textContent = `${state.columns.length} of ${held}`;
}
