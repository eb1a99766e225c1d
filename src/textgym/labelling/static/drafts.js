// Notes and rewrites that are being written: kept until their answer is given, so a reload loses none.

/** A text as a field holds it: with line ends of one kind. */
export const inField = (text) => text.replace(/\r\n?/g, "\n")

// Several stores may be served from one address in turn, and their showings have the same numbers.
const { store, rater } = JSON.parse(document.getElementById("options").textContent)
const name = (showing) => `textgym.draft.${store}.${rater}.${showing}`

export function readDraft(showing) {
  try { return JSON.parse(localStorage.getItem(name(showing))) ?? {} } catch { return {} }
}

export function keepDraft(showing, draft) {
  const isEmpty = Object.values(draft).every((value) => !value)
  try {
    if (isEmpty) localStorage.removeItem(name(showing))
    else localStorage.setItem(name(showing), JSON.stringify(draft))
  } catch { /* full: it is still on the screen */ }
}

export function dropDraft(showing) {
  localStorage.removeItem(name(showing))
}
