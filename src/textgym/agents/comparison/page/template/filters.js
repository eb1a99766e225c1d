// Histograms whose bars pick their rows, and the filters in use.

const HISTOGRAMS = ["difference", "score", "length", "disagreement", "kl"];

function drawFilters(figures) {
  if ($("filters-panel").open) drawHistograms(figures);
  const n = Object.keys(state.ranges).length + (state.query.trim() ? 1 : 0);
  $("filters-count").textContent = n ? `${n} in use` : "";
  drawChips();
}

function drawHistograms(figures) {
  const focused = document.activeElement?.dataset?.bar;
  const parts = HISTOGRAMS.filter((name) => figures[name].some((value) => value !== null)).map((name) => histogram(name, figures));
  const about = element("p", { class: "hint" }, `Prompts by what ${nameOf(figures.focus.column)} wrote. A bar picks its prompts.`);
  const lost = study.judges.length ? element("button", { type: "button", "aria-pressed": String(isLost()), onclick: pickLost }, "Only losses to the baseline") : "";
  $("filters").replaceChildren(about, lost, element("div", { class: "histograms" }, parts));
  if (focused) [...$("filters").querySelectorAll("[data-bar]")].find((bar) => bar.dataset.bar === focused)?.focus();
}

const isLost = () => state.ranges.difference?.[0] === -1e9;

function pickLost() {
  const { difference, ...others } = state.ranges;
  change({ ranges: isLost() ? others : { ...others, difference: [-1e9, -1e-9] } });
}

function histogram(name, figures) {
  // The other filters hold for the bars too, the histogram's own does not.
  const rows = chosenRows(state, figures, name);
  const bins = binsOf(figures[name]);
  const counts = bins.map((bin) => rows.filter((row) => figures[name][row] !== null && figures[name][row] >= bin.low && figures[name][row] <= bin.high).length);
  const largest = Math.max(1, ...counts);
  const digits = name === "length" ? 0 : 2;
  const bars = bins.map((bin, k) => {
    const picked = state.ranges[name]?.[0] === bin.low && state.ranges[name]?.[1] === bin.high;
    const label = `${plural(counts[k], "prompt")}, ${titleOf(name)} ${number(bin.low, digits)} to ${number(bin.high, digits)}`;
    const act = () => {
      const { [name]: own, ...others } = state.ranges;
      change({ ranges: picked ? others : { ...others, [name]: [bin.low, bin.high] } });
    };
    return element("button", { type: "button", "data-bar": `${name}/${k}`, "aria-pressed": String(picked), "aria-label": label, title: label, onclick: act }, element("span", { style: { height: `${(100 * counts[k]) / largest}%` } }));
  });
  const ends = bins.length ? element("div", { class: "ends", "aria-hidden": "true" }, element("span", {}, number(bins[0].low, digits)), element("span", {}, number(bins.at(-1).high, digits))) : "";
  return element("div", { role: "group", "aria-label": titleOf(name) }, element("h3", {}, titleOf(name)), element("div", { class: "bars" }, bars), ends);
}

function titleOf(name) {
  if (name === "score") return `score by ${state.judge}`;
  if (name === "difference") return `difference to baseline by ${state.judge}`;
  if (name === "kl") return "KL to the start, nats";
  if (name === "length") return study.judges.length ? "length, tokens" : "length, characters";
  return SORTS[name];
}

function drawChips() {
  const chips = Object.entries(state.ranges).map(([name, [low, high]]) => {
    const digits = name === "length" ? 0 : 2;
    const ends = low === high ? number(low, digits) : interval(low, high, digits);
    const what = name === "difference" && low === -1e9 ? "losses to the baseline" : `${titleOf(name)}: ${ends}`;
    const { [name]: own, ...others } = state.ranges;
    return chip(what, () => change({ ranges: others }));
  });
  if (state.query.trim()) chips.push(chip(`“${state.query.trim()}”`, () => change({ query: "" })));
  if (chips.length > 1) chips.push(chip("all filters", () => change({ ranges: {}, query: "" })));
  $("chips").replaceChildren(...chips);
}

const chip = (what, act) => element("button", { type: "button", "aria-label": `Remove filter: ${what}`, onclick: act }, bdi(what), " ×");
