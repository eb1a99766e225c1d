// The reading table: prompts as rows, the pinned baseline and the chosen columns.

function drawTable(figures) {
  const rows = chosenRows(state, figures);
  const pages = Math.max(1, Math.ceil(rows.length / state.rows));
  state.page = Math.min(state.page, pages - 1);
  const shown = rows.slice(state.page * state.rows, (state.page + 1) * state.rows);
  const table = $("table");
  table.style.setProperty("--columns", figures.columns.length + 1);
  table.classList.toggle("many", shown.length * (figures.columns.length + 1) > 60);
  table.tHead.replaceChildren(headOf(figures));
  const body = shown.map((row) => rowOf(row, figures));
  if (!shown.length) {
    const clear = element("button", { type: "button", onclick: () => change({ ranges: {}, query: "" }) }, "Remove the filters");
    body.push(element("tr", { role: "row" }, element("td", { class: "empty", role: "cell", colspan: figures.columns.length + 2 }, element("p", {}, "No prompt passes these filters."), clear)));
  }
  table.tBodies[0].replaceChildren(...body);
  const total = study.prompts.length;
  $("status").textContent =
    `${rows.length === total ? plural(total, "prompt") : `${grouped(rows.length)} of ${plural(total, "prompt")}`}` +
    (state.sort === "prompt" && !state.down ? "" : `, by ${sortName()}, ${state.down ? "highest" : "lowest"} first`);
  drawPager(rows.length, pages);
  markFound(table.tBodies[0], state.query);
}

const sortName = () => {
  const of = ["prompt", "worst"].includes(state.sort) ? "" : ` of ${nameOf(columnOf(state.focus))}`;
  const by = ["score", "difference", "worst"].includes(state.sort) ? ` (${state.judge})` : "";
  return SORTS[state.sort] + of + by;
};

function headOf(figures) {
  const prompt = element("th", { scope: "col", role: "columnheader", class: "first" }, "Prompt");
  return element("tr", { role: "row" }, prompt, [figures.base, ...figures.columns].map((values, k) => headCell(values, k === 0)));
}

function headCell(values, isBase) {
  const { column } = values;
  const focused = state.focus === column.key && !isBase;
  const sorted = focused && ["score", "difference"].includes(state.sort);
  const kind = isBase ? "score" : "difference";
  const tools = [];
  if (!isBase) {
    const arrow = sorted ? (state.down ? " ↓" : " ↑") : "";
    const label = study.judges.length ? `${state.sort === "score" && sorted ? "score" : kind}${arrow}` : `length${arrow}`;
    const sort = study.judges.length ? (sorted ? state.sort : kind) : "length";
    tools.push(
      element("button", { type: "button", "aria-label": `Sort by ${label.replace(/ [↑↓]/, "")} of ${nameOf(column)}`, "data-sort": column.key, onclick: () => sortBy(column.key, sort) }, label),
      element("button", { type: "button", "aria-label": `Remove column ${nameOf(column)}`, onclick: () => change({ columns: state.columns.filter((key) => key !== column.key) }) }, "×"),
    );
  }
  return element(
    "th",
    { scope: "col", role: "columnheader", class: isBase ? "pinned" : "", "aria-sort": sorted ? (state.down ? "descending" : "ascending") : undefined, style: { "--c": colourOf(column.cell) } },
    element("span", { class: "cell-name" }, column.name),
    element("small", {}, [column.isStart ? "" : `seed ${column.seed} · `, `${grouped(values.step)} tokens`, isBase ? " · baseline" : ""]),
    tools.length ? element("div", { class: "tools" }, tools) : "",
  );
}

async function sortBy(key, sort) {
  const again = state.focus === key && state.sort === sort;
  await change({ focus: key, sort, down: again ? !state.down : false });
  [...$("table").querySelectorAll("[data-sort]")].find((button) => button.dataset.sort === key)?.focus();
}

function rowOf(row, figures) {
  const head = element("th", { scope: "row", role: "rowheader", class: "first" }, element("span", { class: "index" }, `${row + 1}`), element("span", { class: "prompt" }, bdi(study.prompts[row])));
  const cells = [figures.base, ...figures.columns].map((values, k) => textCell(row, values, k === 0 ? null : figures.base));
  return element("tr", { role: "row", "data-row": row }, head, cells);
}

// A text with its scores; `base` is what it differs from, null for the baseline itself.
function textCell(row, values, base) {
  const text = values.texts[row];
  const nodes = textNodes(row, values, base);
  const { column } = values;
  return element(
    "td",
    { role: "cell", class: base ? "" : "pinned", "data-column": nameOf(column), style: { "--c": colourOf(column.cell) } },
    scoreLine(row, values, base),
    text ? element("bdi", { dir: "auto", class: "text" }, nodes) : element("span", { class: "text soft" }, "(nothing)"),
    state.all ? allJudges(row, values, base) : "",
  );
}

function textNodes(row, values, base) {
  const text = values.texts[row];
  if (state.mode === "difference" && base) return differenceNodes(base.texts[row], text);
  if (Object.hasOwn(study.scales, state.mode)) return tokenNodes(text, values.ends?.[row], values.levels(state.mode, row), study.scales[state.mode]) ?? text;
  return text;
}

function scoreLine(row, values, base) {
  const parts = [];
  if (study.judges.length) {
    const score = values.score(state.judge, row);
    parts.push(element("b", { title: `score by ${state.judge}` }, number(score)));
    if (base) parts.push(gapOf(minus(score, base.score(state.judge, row))));
  }
  if (values.kl) parts.push(element("span", { title: "KL to the start, nats" }, `KL ${number(values.kl[row], 1)}`));
  parts.push(element("span", {}, `${values.length[row]} ${study.judges.length ? "tokens" : "characters"}`));
  if (values.finish && values.finish[row] !== "stop") parts.push(element("span", {}, `ended by ${values.finish[row]}`));
  return element("div", { class: "scores" }, parts);
}

function gapOf(gap) {
  if (gap === null) return "";
  const kind = gap > 0 ? "up" : gap < 0 ? "down" : "";
  return element("span", { class: kind, title: "difference to the baseline" }, `${gap > 0 ? "▲ " : gap < 0 ? "▼ " : ""}${signed(gap)}`);
}

function allJudges(row, values, base) {
  const judges = study.judges.map(({ name }) => {
    const score = values.score(name, row);
    const gap = base ? minus(score, base.score(name, row)) : null;
    return element("span", {}, `${name} ${number(score)}`, gap === null ? "" : [" ", gapOf(gap)]);
  });
  return element("div", { class: "all-judges" }, judges);
}

function drawPager(n, pages) {
  const to = async (name, page) => {
    await change({ page });
    const again = [...$("pager").querySelectorAll("button")].find((one) => one.textContent === name && !one.disabled);
    (again ?? $("table-scroll")).focus({ preventScroll: true });
    $("table-scroll").scrollIntoView({ block: "start" });
  };
  const button = (name, page) => element("button", { type: "button", disabled: page < 0 || page >= pages, onclick: () => to(name, page) }, name);
  const first = state.page * state.rows;
  const size = element("select", { id: "rows", onchange: (event) => change({ rows: Number(event.target.value) }) });
  options(size, ROWS.map((k) => [k, k]), state.rows);
  $("pager").replaceChildren(
    element("div", {}, button("← Previous", state.page - 1), element("span", { class: "soft" }, n ? `${first + 1} to ${Math.min(n, first + state.rows)} of ${grouped(n)}` : "none"), button("Next →", state.page + 1)),
    element("label", {}, "Rows ", size),
  );
}
