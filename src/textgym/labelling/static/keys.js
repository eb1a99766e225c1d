// Which key does what. Letters and digits can be changed and turned off (WCAG 2.1.4); arrows stay.

import { changeSettings, readSettings } from "./settings.js"

export const USUAL = {
  a: ["ArrowLeft", "1"],
  b: ["ArrowRight", "2"],
  tie: ["ArrowDown", "0"],
  both_bad: ["ArrowUp", "9"],
  much_a: ["Shift+ArrowLeft"],
  much_b: ["Shift+ArrowRight"],
  skip: ["s"],
  undo: ["u"],
  note: ["n"],
  facts: ["f"],
  invisible: ["i"],
  guidelines: ["g"],
  history: ["h"],
  settings: ["?"],
}
const SHOWN = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "␣" }

/** The keys of each action, as this rater has them. */
export function keysOf(action) {
  const { keys = {}, noCharacters = false } = readSettings()
  const own = keys[action] ?? USUAL[action] ?? []
  return noCharacters ? own.filter(isArrow) : own
}

export function isArrow(key) {
  return key.replace("Shift+", "").startsWith("Arrow")
}

export function shownKey(key) {
  const shift = key.startsWith("Shift+")
  const bare = shift ? key.slice(6) : key
  return (shift ? "⇧" : "") + (SHOWN[bare] ?? (bare.length === 1 ? bare.toUpperCase() : bare))
}

/** The name of the key of an event: a digit or Latin letter on every layout, "Shift+ArrowLeft". */
export function keyOf(event) {
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code)
  const letter = /^Key([A-Z])$/.exec(event.code)
  if (event.key.startsWith("Arrow")) return (event.shiftKey ? "Shift+" : "") + event.key
  if (/^[0-9]$/.test(event.key)) return event.key
  if (digit && !event.shiftKey) return digit[1]
  if (letter && !/^[\x21-\x7e]$/.test(event.key)) return letter[1].toLowerCase()
  return event.key.length === 1 ? event.key.toLowerCase() : event.key
}

/** Whether a key press is not meant for us: held, composing, typed, or with Ctrl, Alt, Meta. */
export function isForeign(event) {
  const { target } = event
  if (event.repeat || event.isComposing || event.keyCode === 229 || event.defaultPrevented) return true
  if (event.ctrlKey || event.altKey || event.metaKey) return true
  if (target.closest("textarea, select, [contenteditable], input:not([type=radio], [type=checkbox])")) return true
  return target.matches("input[type=radio]") && event.key.startsWith("Arrow")
}

/** The action of a key press among those that are possible now, or undefined. */
export function actionOf(event, possible) {
  if (isForeign(event)) return undefined
  const key = keyOf(event)
  return possible.find((action) => keysOf(action).includes(key))
}

export function isUndo(event) {
  const isModified = (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey
  return isModified && event.code === "KeyZ" && !event.repeat && !event.target.closest("textarea, input")
}

/** Gives an action one key in place of its letters and digits. The action that has it already, or null. */
export function remap(action, key, actions) {
  const holder = actions.find((other) => other !== action && keysOf(other).includes(key))
  if (holder) return holder
  const { keys = {} } = readSettings()
  const arrows = (USUAL[action] ?? []).filter((usual) => isArrow(usual) && usual !== key)
  changeSettings({ keys: { ...keys, [action]: [...arrows, key] } })
  return null
}

/** `<kbd>` elements of an action's keys. */
export function keyMarks(action, also = keysOf(action)) {
  const marks = document.createElement("span")
  marks.className = "keys"
  marks.setAttribute("aria-hidden", "true")
  for (const key of also) marks.append(Object.assign(document.createElement("kbd"), { textContent: shownKey(key) }))
  return marks
}

/** The value of `aria-keyshortcuts`. */
export function ariaKeys(also) {
  return also.map((key) => (key.length === 1 ? key.toUpperCase() : key)).join(" ")
}
