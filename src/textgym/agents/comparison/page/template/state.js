// What the reader looks at, and the link that says it.

const state = {};
const listeners = [];

function defaults() {
  const firsts = study.cells.map((_, cell) => study.runs.findIndex((run) => run.held && run.cell === cell));
  const gold = study.judges.find((judge) => judge.role === "gold") ?? study.judges[0];
  const columns = firsts.filter((run) => run >= 0).slice(0, 3).map(keyOf);
  const start = columns.length ? study.runs[columnOf(columns[0]).run].start : 0;
  return {
    at: positions() - 1,
    base: `s${start}`,
    columns,
    judge: gold?.name ?? "",
    chart: gold?.name ?? "",
    focus: columns[0] ?? "",
    sort: "prompt",
    down: false,
    mode: "difference",
    all: false,
    query: "",
    ranges: {},
    page: 0,
    rows: 10,
    hidden: [],
  };
}

// Changes the view and draws it anew; a page of the table stays only where nothing else changes.
function change(what) {
  if (!("page" in what)) what.page = 0;
  Object.assign(state, what);
  if (!state.columns.includes(state.focus)) state.focus = state.columns[0] ?? state.base;
  remember();
  return Promise.all(listeners.map((listener) => listener(what)));
}

function hashOf(view) {
  const usual = defaults();
  const words = new URLSearchParams();
  for (const key of Object.keys(usual)) {
    if (key === "ranges") {
      for (const [name, ends] of Object.entries(view.ranges)) words.set(`range.${name}`, ends.join(","));
    } else if (String(view[key]) !== String(usual[key])) words.set(key, String(view[key]));
  }
  return words.toString();
}

function viewOf(hash) {
  const view = defaults();
  for (const [key, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (key.startsWith("range.")) {
      const ends = text.split(",").map(Number);
      if (HISTOGRAMS.includes(key.slice(6)) && ends.length === 2 && ends.every(Number.isFinite)) view.ranges[key.slice(6)] = ends;
    } else if (["at", "page", "rows"].includes(key)) view[key] = Math.max(0, Math.round(Number(text)) || 0);
    else if (["down", "all"].includes(key)) view[key] = text === "true";
    else if (["columns", "hidden"].includes(key)) view[key] = text ? text.split(",") : [];
    else if (key in view) view[key] = text;
  }
  const usual = defaults();
  view.at = Math.min(view.at, positions() - 1);
  view.columns = [...new Set(view.columns)].filter((key) => !key.startsWith("s") && columnOf(key));
  if (!columnOf(view.base)) view.base = usual.base;
  for (const key of ["judge", "chart"]) if (!study.judges.some((judge) => judge.name === view[key])) view[key] = usual[key];
  if (!view.columns.includes(view.focus)) view.focus = view.columns[0] ?? view.base;
  if (!(view.sort in SORTS)) view.sort = usual.sort;
  if (!ROWS.includes(view.rows)) view.rows = usual.rows;
  return view;
}

function remember() {
  const hash = hashOf(state);
  try {
    history.replaceState(null, "", hash ? `#${hash}` : "#");
  } catch {
    // A browser that allows no history for a file: the link then stays as it was.
  }
}

const ROWS = [10, 25, 50, 100];
