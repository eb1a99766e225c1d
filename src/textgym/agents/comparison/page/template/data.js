// The data in the file: opened where they are needed, a run at a time.

let study; // the overview
const blocks = new Map(); // texts and scores by index of the run
const opening = new Map();

async function unpack(id) {
  const stream = new Blob([bytesOf($(id).textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  return bytes;
}

async function open(runs) {
  await Promise.all(
    runs
      .filter((run) => !blocks.has(run))
      .map((run) => {
        if (!opening.has(run)) opening.set(run, unpack(`run-${run}`).then((block) => blocks.set(run, block)));
        return opening.get(run);
      }),
  );
}

// ---- columns: a start ("s0"), or a cell and seed ("1.0": cell 1, seed 0) ----

function columnOf(key) {
  if (key.startsWith("s")) {
    const start = study.starts[Number(key.slice(1))];
    if (!start || start.held === null) return null;
    return { key, run: start.held, isStart: true, cell: null, name: startName(Number(key.slice(1))) };
  }
  const [cell, seed] = key.split(".").map(Number);
  const run = study.runs.findIndex((one) => one.held && one.cell === cell && one.seed === seed);
  if (run < 0) return null;
  return { key, run, isStart: false, cell, name: study.cells[cell].label, seed };
}

const keyOf = (run) => `${study.runs[run].cell}.${study.runs[run].seed}`;

function startName(index) {
  if (study.starts.length === 1) return "start";
  const runs = study.starts.map((start) => study.runs[start.run]);
  const run = runs[index];
  if (new Set(runs.map((one) => one.seed)).size === runs.length) return `start, seed ${run.seed}`;
  return `start of ${study.cells[run.cell].label}, seed ${run.seed}`;
}

const nameOf = (column) => (column.isStart ? column.name : `${column.name}, seed ${column.seed}`);
const colourOf = (cell) => (cell === null ? "var(--soft)" : `var(--s${cell % 8})`);
const positions = () => Math.max(1, ...study.runs.filter((run) => run.held).map((run) => run.steps.length));

// Runs may have been evaluated differently often: the slider's places are shares of the way.
function evaluationOf(column, at) {
  if (column.isStart) return 0;
  const n = study.runs[column.run].steps.length;
  return Math.round((at * (n - 1)) / Math.max(1, positions() - 1));
}

const stepOf = (column, at) => study.runs[column.run].steps[evaluationOf(column, at)];

// A column at a place of the slider: what it wrote on every prompt.
function valuesAt(column, at) {
  const block = blocks.get(column.run);
  const k = evaluationOf(column, at);
  return {
    column,
    step: stepOf(column, at),
    texts: block.texts[k],
    length: block.length ? block.length[k] : block.texts[k].map((text) => [...text].length),
    kl: block.kl?.[k],
    finish: block.finish?.[k],
    ends: block.ends?.[k],
    score: (judge, row) => block.scores?.[judge]?.[k][row] ?? null,
    levels: (kind, row) => block.tokens?.[kind]?.[k][row] ?? "",
  };
}
