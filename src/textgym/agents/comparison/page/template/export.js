// What leaves the page, on the reader's word: CSV, Markdown, LaTeX, a link.

function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without the right to the clipboard: select, and copy as a person would.
    const area = element("textarea", { "aria-hidden": "true" });
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) return flash(button, "Cannot copy here");
  }
  flash(button, "Copied");
}

// RFC 4180: quoted where needed, CRLF, one line for each prompt and column of the view.
function csvOf(view, figures) {
  const judges = study.judges.map((judge) => judge.name);
  const lines = [["prompt_index", "prompt", "column", "seed", "is_baseline", "step", "completion", "length", "kl", "finish_reason", ...judges.map((name) => `score:${name}`)]];
  for (const row of chosenRows(view, figures)) {
    [figures.base, ...figures.columns].forEach((values, k) => {
      const { column } = values;
      const seed = study.runs[column.run].seed;
      const about = [row, study.prompts[row], column.name, seed, k === 0, values.step, values.texts[row], values.length[row], values.kl?.[row], values.finish?.[row]];
      lines.push([...about, ...judges.map((name) => values.score(name, row))]);
    });
  }
  return lines.map((line) => line.map(csvField).join(",") + "\r\n").join("");
}

function csvField(value) {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
