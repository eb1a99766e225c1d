// The question on the screen: prompt and texts, both sides alike, and when they were painted.

import { readSettings } from "./settings.js"
import { showText } from "./text.js"
import { word } from "./words.js"

const SOON = 300 // ms after the paint within which nobody has read anything
const element = (id) => document.getElementById(id)

let paintedAt = Infinity
let shownAt = 0

/** Draws a showing, or what is there instead of one. */
export function draw(showing, state) {
  const hasTexts = showing !== null
  for (const id of ["prompt-card", "pair", "answers", "extra"]) element(id).hidden = !hasTexts
  element("done").hidden = hasTexts || state === "loading"
  if (!hasTexts) {
    const kind = state === "lost" ? "lost" : "done"
    element("done").querySelector("h2").textContent = word(`${kind}_title`)
    element("done").querySelector("p").textContent = word(`${kind}_text`)
    return
  }
  const isMarked = Boolean(readSettings().invisible)
  const isPair = showing.b !== null
  showText(element("prompt"), showing.prompt, showing.lang, isMarked)
  for (const side of ["a", "b"]) {
    const text = showing[side]
    element(`card-${side}`).hidden = !text
    element(`card-${side}`).classList.remove("chosen")
    if (!text) continue
    showText(element(`text-${side}`), text.text, showing.lang, isMarked)
    // Where one side was cut off, both say how they end.
    element(`mark-${side}`).hidden = !(showing.a.is_cut || showing.b?.is_cut)
    element(`mark-${side}`).textContent = word(text.is_cut ? "cut" : "not_cut")
  }
  element("side-a").textContent = isPair ? word("a") : word("text")
  element("pair").classList.toggle("single", !isPair)
}

/** Marks the side that was chosen before, or that is being rewritten. */
export function markSide(side) {
  for (const each of ["a", "b"]) element(`card-${each}`).classList.toggle("chosen", each === side)
}

/** Starts the clock of a showing: it runs from the moment when it has been painted. */
export function startClock() {
  paintedAt = Infinity
  delete document.documentElement.dataset.painted
  scrollTo(0, 0)
  requestAnimationFrame(() => setTimeout(() => {
    paintedAt = performance.now()
    shownAt = Date.now() / 1000
    document.documentElement.dataset.painted = String(Math.round(paintedAt))
  }))
}

/** Whether an event came before anybody can have read the texts: a double click, a key held over. */
export function isTooSoon(event) {
  return event.timeStamp < paintedAt + SOON
}

export function clock() {
  return { shown_at: shownAt, answered_at: Date.now() / 1000 }
}
