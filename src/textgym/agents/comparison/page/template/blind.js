// Blind reading: the columns without names, in a new order at every prompt; then the tally.

const blind = { rounds: [], at: 0, columns: [], figures: null, same: 0 };

function startBlind(figures, seed = (Date.now() ^ (performance.now() * 1000)) | 0) {
  const columns = [figures.base, ...figures.columns].slice(0, 9);
  const random = randomFrom(seed);
  const rows = shuffled(chosenRows(state, figures), random);
  const differ = rows.filter((row) => new Set(columns.map((values) => values.texts[row])).size > 1);
  Object.assign(blind, { columns, figures, at: 0, same: rows.length - differ.length });
  blind.rounds = differ.map((row) => ({ row, texts: shuffled(textsOf(row), random), choice: null }));
  $("blind-dialog").showModal();
  blind.rounds.length ? drawRound() : drawTally();
}

// The different texts of a prompt, each with the columns that wrote it: a choice counts for all.
function textsOf(row) {
  const texts = new Map();
  blind.columns.forEach((values, k) => texts.set(values.texts[row], [...(texts.get(values.texts[row]) ?? []), k]));
  return [...texts].map(([text, columns]) => ({ text, columns }));
}

const letterOf = (place) => String.fromCharCode(65 + place);

function drawRound() {
  const round = blind.rounds[blind.at];
  const cards = round.texts.map(({ text }, place) =>
    element(
      "article",
      { class: "choice" },
      element("div", {}, element("h3", {}, letterOf(place)), element("bdi", { dir: "auto", class: "text" }, text || "(nothing)")),
      element("button", { type: "button", "data-place": place, onclick: () => choose(place) }, `Prefer ${letterOf(place)} `, element("kbd", {}, String(place + 1))),
    ),
  );
  $("blind-dialog").replaceChildren(
    element("h2", { id: "blind-title", tabindex: -1 }, "Which text is better?"),
    element("progress", { max: blind.rounds.length, value: blind.at, "aria-label": "Prompts read" }),
    element("p", { class: "hint" }, `Prompt ${blind.at + 1} of ${blind.rounds.length}. The order is drawn anew every time; who wrote what is shown at the end.`),
    element("p", { class: "prompt" }, bdi(study.prompts[round.row])),
    element("div", { class: "choices" }, cards),
    element(
      "div",
      { class: "dialog-foot" },
      element("div", { class: "actions" }, element("button", { type: "button", onclick: () => choose(-1) }, "No preference ", element("kbd", {}, "0")), element("button", { type: "button", disabled: !blind.at, onclick: back }, "Back ", element("kbd", {}, "←"))),
      element("button", { type: "button", onclick: drawTally }, "End and see the tally"),
    ),
  );
  $("blind-title").focus();
}

function choose(place) {
  const round = blind.rounds[blind.at];
  if (place >= round.texts.length) return;
  round.choice = place;
  blind.at += 1;
  blind.at < blind.rounds.length ? drawRound() : drawTally();
}

function back() {
  if (!blind.at) return;
  blind.at -= 1;
  drawRound();
}

function blindKey(event) {
  if (!$("blind-dialog").open || $("tally") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^[0-9]$/.test(event.key)) choose(Number(event.key) - 1);
  else if (["ArrowLeft", "Backspace"].includes(event.key)) back();
  else return;
  event.preventDefault();
}

// The reader's choices by column, and how often each judge would have chosen the same.
function tallyOf(rounds, columns) {
  const answered = rounds.filter((round) => round.choice !== null);
  const decided = answered.filter((round) => round.choice >= 0);
  const share = (wins, n) => ({ wins, n, share: n ? wins / n : NaN, ends: wilson(wins, n) });
  const judges = study.judges.map(({ name }) => {
    const sides = decided.map((round) => {
      const scores = columns.map((values) => values.score(name, round.row));
      if (scores.includes(null)) return null;
      const best = Math.max(...scores);
      const chosen = round.texts.filter((one) => one.columns.some((k) => scores[k] === best));
      return chosen.length > 1 ? null : chosen[0] === round.texts[round.choice];
    });
    const known = sides.filter((side) => side !== null);
    return { name, ...share(known.filter(Boolean).length, known.length) };
  });
  return {
    answered: answered.length,
    none: answered.length - decided.length,
    chance: decided.reduce((sum, round) => sum + 1 / round.texts.length, 0) / decided.length,
    columns: columns.map((values, k) => ({
      name: nameOf(values.column),
      ...share(decided.filter((round) => round.texts[round.choice].columns.includes(k)).length, decided.length),
    })),
    judges,
  };
}

function drawTally() {
  const tally = tallyOf(blind.rounds, blind.columns);
  const table = (head, lines) =>
    element(
      "table",
      { class: "figures" },
      element("thead", {}, element("tr", {}, head.map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, lines.map((line) => element("tr", {}, element("th", { scope: "row" }, line.name), element("td", {}, `${line.wins} of ${line.n}`), element("td", {}, element("b", {}, percent(line.share))), element("td", {}, line.n ? `${percent(line.ends[0])} to ${percent(line.ends[1])}` : "–")))),
    );
  const byShare = [...tally.columns].sort((a, b) => b.wins - a.wins);
  const { chance } = tally;
  const top = byShare[0];
  let says = "Nothing was preferred, so there is nothing to count.";
  if (!blind.rounds.length) says = "On every prompt here the columns wrote the same: choose other columns, or a later evaluation.";
  else if (top.n && top.ends[0] > chance) says = `You preferred ${top.name}: ${percent(top.share)} of ${top.n}, more than chance (${percent(chance)}) would give.`;
  else if (top.n) says = `No clear preference yet: the interval of ${top.name} still holds chance (${percent(chance)}).`;
  const other = (n, word) => (n ? ` ${plural(n, "prompt")} ${word}.` : "");
  $("blind-dialog").replaceChildren(
    element("h2", { id: "blind-title", tabindex: -1 }, "Your preference"),
    element("p", { class: "headline", id: "tally" }, says),
    element("p", { class: "hint" }, `${plural(tally.answered, "prompt")} read.${other(tally.none, "without a preference")}${other(blind.same, "passed over, all columns being the same")} A text that several columns wrote counts for each of them. 95% intervals (Wilson).`),
    element("div", { class: "scroll", id: "tally-columns" }, table(["column", "preferred", "share", "95%"], byShare)),
    tally.judges.length ? element("h3", {}, "How often each judge chooses as you did") : "",
    tally.judges.length ? element("div", { class: "scroll", id: "tally-judges" }, table(["judge", "agrees", "share", "95%"], tally.judges)) : "",
    element("div", { class: "dialog-foot" }, element("span"), element("button", { type: "button", class: "primary", onclick: () => $("blind-dialog").close() }, "Close")),
  );
  $("blind-title").focus();
}
