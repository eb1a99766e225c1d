// Making elements. Data become text nodes or attributes, never markup.

const $ = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// A text that somebody wrote: its direction stays inside.
const bdi = (text) => element("bdi", { dir: "auto" }, text);

function number(value, digits = 2) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return value.toFixed(digits).replace("-", "−").replace(/^−(0\.?0*)$/, "$1");
}

const signed = (value, digits = 2) => (value > 0 ? "+" : "") + number(value, digits);
const percent = (share) => (Number.isNaN(share) ? "–" : `${Math.round(100 * share)}%`);
const grouped = (value) => Math.round(value).toLocaleString("en-US");
const plural = (n, word) => `${grouped(n)} ${word}${n === 1 ? "" : "s"}`;
const interval = (low, high, digits = 2) =>
  low === null || high === null || low === undefined ? "" : `${number(low, digits)} to ${number(high, digits)}`;

const options = (select, pairs, chosen) =>
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));

// Shows a message for a moment where a button's name stands.
function flash(button, text) {
  const before = button.dataset.name ?? button.textContent;
  button.dataset.name = before;
  button.textContent = text;
  setTimeout(() => (button.textContent = before), 1600);
}
