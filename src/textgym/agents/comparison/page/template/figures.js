// Numbers of the rows: what they are sorted, filtered and counted by.

const SORTS = {
  prompt: "prompt",
  score: "score",
  difference: "difference to baseline",
  worst: "largest loss in any column",
  disagreement: "disagreement of the judges",
  length: "length",
  kl: "KL to the start",
};

function figuresOf(view) {
  const base = valuesAt(columnOf(view.base), view.at);
  const columns = view.columns.map(columnOf).map((column) => valuesAt(column, view.at));
  const focus = columns.find((one) => one.column.key === view.focus) ?? base;
  const rows = study.prompts.map((_, row) => row);
  const gap = (values, row) => minus(values.score(view.judge, row), base.score(view.judge, row));
  return {
    base,
    columns,
    focus,
    prompt: rows,
    score: rows.map((row) => focus.score(view.judge, row)),
    difference: rows.map((row) => gap(focus, row)),
    worst: rows.map((row) => lowest(columns.map((values) => gap(values, row)))),
    disagreement: rows.map((row) => disagreement(focus, row)),
    length: rows.map((row) => focus.length[row]),
    kl: rows.map((row) => focus.kl?.[row] ?? null),
  };
}

const tidy = (value) => Number(value.toPrecision(12));
const minus = (a, b) => (a === null || b === null ? null : tidy(a - b));

function lowest(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? Math.min(...known) : null;
}

// Standard deviation over the judges of a text's scores, each in units of its own start.
function disagreement(values, row) {
  const parts = [];
  for (const judge of study.judges) {
    const score = values.score(judge.name, row);
    if (score !== null && judge.mean !== null) parts.push((score - judge.mean) / judge.spread);
  }
  if (parts.length < 2) return null;
  const mean = parts.reduce((a, b) => a + b) / parts.length;
  return tidy(Math.sqrt(parts.reduce((sum, part) => sum + (part - mean) ** 2, 0) / parts.length));
}

// Indices of the rows that pass the filters, in order.
function chosenRows(view, figures, without = null) {
  const words = view.query.trim().toLocaleLowerCase();
  const all = [figures.base, ...figures.columns];
  const found = figures.prompt.filter((row) => {
    for (const [name, [low, high]] of Object.entries(view.ranges)) {
      const value = figures[name]?.[row];
      if (name !== without && figures[name] && !(value !== null && value >= low && value <= high)) return false;
    }
    if (!words) return true;
    const texts = [study.prompts[row], ...all.map((values) => values.texts[row])];
    return texts.some((text) => text.toLocaleLowerCase().includes(words));
  });
  const key = figures[view.sort];
  const sign = view.down ? -1 : 1;
  const rank = (row) => (key[row] === null ? Infinity : sign * key[row]);
  return found.sort((a, b) => rank(a) - rank(b) || a - b);
}

// Bars of equal width, at most `n`: [{low, high, rows}], the last end counted in.
function binsOf(values, n = 16) {
  const known = values.filter((value) => value !== null);
  if (!known.length) return [];
  const low = Math.min(...known);
  const high = Math.max(...known);
  if (low === high) return [{ low, high, rows: known.length }];
  const whole = known.every(Number.isInteger);
  const width = whole ? Math.max(1, Math.ceil((high - low + 1) / n)) : (high - low) / n;
  const count = whole ? Math.ceil((high - low + 1) / width) : n;
  const bins = Array.from({ length: count }, (_, k) => ({
    low: tidy(low + k * width),
    high: k === count - 1 ? high : tidy(low + (k + 1) * width),
    rows: 0,
  }));
  for (const bin of bins.slice(0, -1)) bin.high = whole ? bin.high - 1 : bin.high;
  for (const value of known) bins[bins.findIndex((bin, k) => isIn(value, bin, whole || k === count - 1))].rows += 1;
  if (!whole) for (const bin of bins.slice(0, -1)) bin.high = tidy(bin.high - 1e-9);
  return bins;
}

const isIn = (value, bin, closed) => value >= bin.low && (closed ? value <= bin.high : value < bin.high);

// Wilson's 95% interval of a share.
function wilson(wins, n) {
  if (!n) return [NaN, NaN];
  const z = 1.959964;
  const centre = (wins + (z * z) / 2) / (n + z * z);
  const half = (z * Math.sqrt((wins * (n - wins)) / n + (z * z) / 4)) / (n + z * z);
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

// Pseudo-random numbers in [0, 1) that are the same for the same seed (mulberry32).
function randomFrom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(items, random) {
  const mixed = [...items];
  for (let i = mixed.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [mixed[i], mixed[j]] = [mixed[j], mixed[i]];
  }
  return mixed;
}
