// Puts the page together: header, controls, and one drawing for every change of the view.

const THEMES = { system: "Colours: system", light: "Colours: light", dark: "Colours: dark" };

function applyTheme(theme) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = theme === "system" ? (dark ? "dark" : "light") : theme;
  $("theme").textContent = THEMES[theme];
  $("theme").setAttribute("aria-label", THEMES[theme]);
  $("theme").dataset.theme = theme;
}

function stored(theme) {
  try {
    if (theme) localStorage.setItem("textgym-theme", theme);
    return localStorage.getItem("textgym-theme");
  } catch {
    return null; // no storage for files: the choice lasts as long as the page
  }
}

function drawHeader() {
  const seeds = new Set(study.runs.map((run) => run.seed)).size;
  const parts = [plural(study.cells.length, "cell"), plural(seeds, "seed"), plural(study.prompts.length, study.judges.length ? "held-out prompt" : "sample prompt"), plural(positions(), "evaluation")];
  if (study.judges.length) parts.push(plural(study.judges.length, "judge"));
  $("kind").textContent = `textgym report · ${study.env}`;
  $("lead").textContent = parts.join(" · ");
  $("footer").textContent = `Made by textgym ${study.version}. Everything is in this file: it asks for nothing from anywhere.`;
}

function drawConfigurations() {
  if (!study.configurations.length) return;
  $("configurations").hidden = false;
  const head = element("tr", {}, element("th", { scope: "col" }, "setting"), study.cells.map((cell) => element("th", { scope: "col" }, cell.label)));
  const rows = study.configurations.map((one) => element("tr", {}, element("th", { scope: "row" }, one.key), one.values.map((value) => element("td", {}, value === null ? "–" : bdi(value)))));
  $("configurations-body").append(element("table", { class: "figures" }, element("thead", {}, head), element("tbody", {}, rows)));
}

function modes() {
  const found = [["difference", "differences to baseline"], ["plain", "plain texts"]];
  for (const kind of study.judges.length ? Object.keys(study.scales) : []) {
    found.push([kind, kind === "ratio" ? "log-ratio of each token" : `reward of each token: ${kind.slice(7)}`]);
  }
  return found;
}

const MODE_HINTS = {
  difference: "Green, underlined: what the baseline does not have. Struck through: what it has and this text has not. By word; Chinese and Japanese by character.",
  plain: "",
  ratio: "Blue: tokens that the policy writes more readily than the start; orange: less readily (log π − log π of the start, nats).",
};

function drawControls() {
  options($("judge"), study.judges.map((judge) => [judge.name, `${judge.name} (${ROLES[judge.role]})`]), state.judge);
  options($("mode"), modes(), state.mode);
  const sorts = Object.entries(SORTS).filter(([key]) => study.judges.length || ["prompt", "length"].includes(key));
  options($("sort"), sorts, state.sort);
  $("judge-field").hidden = !study.judges.length;
  const all = element("label", {}, element("input", { type: "checkbox", id: "all", onchange: (event) => change({ all: event.target.checked, page: state.page }) }), "All judges");
  if (study.judges.length > 1) $("panels-end").before(all);
  $("slider").max = positions() - 1;
  $("slider").addEventListener("input", (event) => change({ at: Number(event.target.value), page: state.page }));
  $("slider-label").hidden = positions() < 2;
  for (const key of ["judge", "mode", "sort"]) $(key).addEventListener("change", (event) => change({ [key]: event.target.value }));
  $("direction").addEventListener("click", () => change({ down: !state.down }));
  $("search").addEventListener("input", (event) => change({ query: event.target.value }));
  $("filters-panel").addEventListener("toggle", () => drawAll());
  $("blind").addEventListener("click", () => startBlind(figuresOf(state)));
  $("csv").addEventListener("click", () => download("texts.csv", "text/csv", csvOf(state, figuresOf(state))));
  $("copy-link").addEventListener("click", (event) => copy(location.href, event.currentTarget));
  $("print").addEventListener("click", () => print());
  document.addEventListener("keydown", blindKey);
}

// Controls say what the view is, also after a link or a click elsewhere.
function syncControls() {
  for (const key of ["judge", "mode", "sort"]) $(key).value = state[key];
  $("slider").value = state.at;
  if ($("search").value !== state.query) $("search").value = state.query;
  if ($("all")) $("all").checked = state.all;
  $("direction").textContent = state.down ? "↓ highest first" : "↑ lowest first";
  $("direction").setAttribute("aria-label", state.down ? "Order: highest first" : "Order: lowest first");
  const steps = state.columns.map((key) => stepOf(columnOf(key), state.at));
  const step = steps.length ? Math.max(...steps) : 0;
  const says = `Evaluation ${state.at + 1} of ${positions()} · ${grouped(step)} tokens`;
  $("slider-text").textContent = says;
  $("slider").setAttribute("aria-valuetext", says);
  $("mode-hint").textContent = MODE_HINTS[state.mode] ?? `Blue: tokens that ${state.mode.slice(7)} pays for; orange: tokens that cost.`;
}

let drawing = 0;

async function drawAll() {
  const turn = ++drawing;
  const columns = [state.base, ...state.columns].map(columnOf);
  await open(columns.map((column) => column.run));
  if (turn !== drawing) return;
  syncControls();
  const figures = figuresOf(state);
  drawFilters(figures);
  drawTable(figures);
}

async function begin() {
  applyTheme(stored() ?? "system");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => applyTheme($("theme").dataset.theme));
  $("theme").addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf($("theme").dataset.theme) + 1) % names.length];
    stored(next);
    applyTheme(next);
  });
  study = await unpack("overview");
  Object.assign(state, viewOf(location.hash));
  drawHeader();
  drawVerdict();
  drawCharts();
  drawMatrix();
  drawConfigurations();
  if (!study.runs.some((run) => run.held)) {
    $("bar").hidden = true;
    document.querySelector(".panels").hidden = true;
    $("status").textContent = "No run has texts to read: none has a held-out evaluation or samples yet.";
    return;
  }
  drawControls();
  drawPicker();
  listeners.push((what) => ("chart" in what || "hidden" in what ? null : drawAll()));
  // The link that skips to the texts names a place and no view.
  addEventListener("hashchange", () => (location.hash === "#texts" ? remember() : change(viewOf(location.hash))));
  await drawAll();
}

begin()
  .catch((error) => {
    $("status").textContent = `This page cannot show its data: ${error.message}`;
    throw error;
  })
  .finally(() => {
    performance.mark("ready");
    document.documentElement.dataset.ready = "true";
  });
