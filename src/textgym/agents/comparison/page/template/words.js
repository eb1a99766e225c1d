// Texts as the table shows them: plain, as a difference, or with coloured tokens.

// Words, single Chinese and Japanese characters, spaces, single signs.
const PIECES = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]|[\p{L}\p{N}\p{M}_]+(?:['’][\p{L}\p{N}\p{M}_]+)*|\s+|[\s\S]/gu;
const MOST_PIECES = 1500; // of both texts; longer ones are shown whole

const piecesOf = (text) => text.match(PIECES) ?? [];

// What became of a text: [["same" | "gone" | "new", text], ...], a longest common subsequence.
function differenceOf(before, after) {
  const a = piecesOf(before);
  const b = piecesOf(after);
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  const parts = [["same", a.slice(0, head).join("")]];
  const left = a.slice(head, a.length - tail);
  const right = b.slice(head, b.length - tail);
  if (left.length + right.length > MOST_PIECES) parts.push(["gone", left.join("")], ["new", right.join("")]);
  else parts.push(...middle(left, right));
  parts.push(["same", a.slice(a.length - tail).join("")]);
  return joined(parts);
}

function middle(a, b) {
  const width = b.length + 1;
  const longest = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      longest[i * width + j] =
        a[i] === b[j]
          ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const parts = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      parts.push(["same", a[i]]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && longest[(i + 1) * width + j] >= longest[i * width + j + 1])) {
      parts.push(["gone", a[i++]]);
    } else parts.push(["new", b[j++]]);
  }
  return parts;
}

// Neighbours of one kind become one; a lone space between two changes belongs to them; what is
// gone stands before what is new.
function joined(parts) {
  const runs = [];
  let gone = "";
  let fresh = "";
  const flush = () => {
    if (gone) runs.push(["gone", gone]);
    if (fresh) runs.push(["new", fresh]);
    gone = fresh = "";
  };
  parts.forEach(([kind, text], k) => {
    if (kind === "gone") gone += text;
    else if (kind === "new") fresh += text;
    else if (text) {
      const between = /^\s+$/.test(text) && (gone || fresh) && k + 1 < parts.length && parts[k + 1][0] !== "same";
      if (between) {
        gone += text;
        fresh += text;
        return;
      }
      flush();
      if (runs.at(-1)?.[0] === "same") runs.at(-1)[1] += text;
      else runs.push(["same", text]);
    }
  });
  flush();
  return runs;
}

function differenceNodes(before, after) {
  const names = { gone: "del", new: "ins" };
  return differenceOf(before, after).map(([kind, text]) => (kind === "same" ? text : element(names[kind], {}, text)));
}

// Lengths of the tokens in characters, as `letters_of_ends` writes them.
function tokenSizes(letters) {
  const sizes = [];
  let before = 0;
  for (const letter of letters) {
    if (letter === "x") before += 80;
    else {
      sizes.push(before + letter.charCodeAt(0) - 40);
      before = 0;
    }
  }
  return sizes;
}

// Tokens coloured by a level from -8 to 8; null where nothing is known of them.
function tokenNodes(text, ends, levels, scale) {
  if (!ends || !levels) return null;
  const letters = /[\ud800-\udfff]/.test(text) ? [...text] : text;
  const cut = (from, to) => (typeof letters === "string" ? letters.slice(from, to) : letters.slice(from, to).join(""));
  const nodes = [];
  let start = 0;
  tokenSizes(ends).forEach((size, k) => {
    const level = levels[k] === "." || !levels[k] ? null : levels.charCodeAt(k) - 73;
    const piece = cut(start, start + size);
    start += size;
    if (!piece) return;
    if (!level) return void nodes.push(piece);
    const colour = `rgba(var(--${level > 0 ? "high" : "low"}), ${(Math.abs(level) / 8) * 0.55})`;
    const title = signed((level / 8) * scale) + (Math.abs(level) === 8 ? " or beyond" : "");
    nodes.push(element("span", { class: "token", title, style: { background: colour } }, piece));
  });
  nodes.push(cut(start, letters.length));
  return nodes;
}

// Marks what was searched for, where the browser can, without touching the text.
function markFound(root, query) {
  if (!globalThis.Highlight) return;
  CSS.highlights.delete("found");
  const wanted = query.trim().toLocaleLowerCase();
  if (!wanted) return;
  const ranges = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const text = node.data.toLocaleLowerCase();
    if (text.length !== node.data.length) continue;
    for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
      const range = new Range();
      range.setStart(node, at);
      range.setEnd(node, at + wanted.length);
      ranges.push(range);
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}
