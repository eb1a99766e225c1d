// The buttons under a question, by its kind, and what each of them does.

import { ariaKeys, keyMarks, keysOf } from "./keys.js"
import { readSettings } from "./settings.js"
import { word } from "./words.js"

const element = (id) => document.getElementById(id)
const button = (action, text, side = "") =>
  Object.assign(document.createElement("button"), { type: "button", textContent: text, className: side, value: action })

/** `[action, text, class]` of the answers to a kind of question. */
function answersTo(kind, stage, options, isUnchanged) {
  if (stage === "rewriting" || kind === "edit") {
    const save = ["save", word(isUnchanged ? "keep_text" : "save_rewrite"), "primary"]
    return kind === "edit" ? [save] : [save, ["back", word("back"), ""]]
  }
  if (kind === "rating") {
    const [low, high] = options.scale
    return Array.from({ length: high - low + 1 }, (_, i) => [`rate:${low + i}`, String(low + i), "rate"])
  }
  const middle = [["tie", word("tie"), "tie"], ["both_bad", word("both_bad"), "both"]]
  if (!options.strength) return [["a", word("choose_a"), "a"], ...middle, ["b", word("choose_b"), "b"]]
  return [
    ["much_a", word("much_a"), "a much"], ["a", word("slightly_a"), "a"], ...middle,
    ["b", word("slightly_b"), "b"], ["much_b", word("much_b"), "b much"],
  ]
}

/** The keys of an action: those of the scale are its own digits. */
export function answerKeys(action, options) {
  if (action === "save") return ["Ctrl+Enter"]
  if (!action.startsWith("rate:")) return keysOf(action)
  const score = action.slice(5)
  return score.length === 1 && !readSettings().noCharacters ? [score] : []
}

/** Puts the answers into the bar; the actions that are possible. */
export function drawAnswers(kind, stage, options, isUnchanged) {
  const answers = answersTo(kind, stage, options, isUnchanged)
  const name = JSON.stringify([answers, answers.map(([action]) => answerKeys(action, options))])
  const choices = element("choices")
  if (choices.dataset.name !== name) {
    choices.dataset.name = name
    choices.replaceChildren(...answers.map(([action, text, side]) => {
      const made = button(action, text, side)
      const keys = answerKeys(action, options)
      if (action.startsWith("rate:")) made.setAttribute("aria-label", word("rate", { n: text }))
      // A digit that stands on the button already is not written beside itself.
      if (keys.length && !(keys.length === 1 && keys[0] === text)) made.append(keyMarks(action, keys))
      if (keys.length) made.setAttribute("aria-keyshortcuts", ariaKeys(keys))
      return made
    }))
    const isScale = kind === "rating" && stage !== "rewriting"
    choices.className = "choices"
    choices.classList.toggle("scale", isScale)
    choices.classList.toggle("single", answers.length === 1)
    choices.classList.toggle("strong", answers.length === 6)
    choices.style.setProperty("--steps", String(Math.min(answers.length, 10)))
    element("ends").hidden = !isScale
    const [low, high] = element("ends").children
    low.textContent = word("low_end")
    high.textContent = word("high_end")
  }
  return answers.map(([action]) => action)
}

/** The smaller buttons: skip, undo, note. */
export function drawMinor() {
  const actions = ["skip", "undo", "note"]
  element("minor").replaceChildren(...actions.map((action) => {
    const made = button(action, word(action), "plain")
    made.append(keyMarks(action))
    made.setAttribute("aria-keyshortcuts", ariaKeys(keysOf(action)))
    if (action === "note") {
      made.setAttribute("aria-expanded", String(!element("note-field").hidden))
      made.setAttribute("aria-controls", "note-field")
    }
    return made
  }))
}

/** The question on facts, asked apart from liking; `names` are the values that it takes. */
export function drawFacts(isPair) {
  const names = isPair ? ["a", "b", "both", "neither", "unsure"] : ["right", "wrong", "unsure"]
  element("facts").querySelector("legend").textContent = word(isPair ? "facts" : "facts_one")
  element("facts").querySelector(".options").replaceChildren(...names.map((name) => {
    const option = Object.assign(document.createElement("label"), { className: "option" })
    option.append(Object.assign(document.createElement("input"), { type: "radio", name: "facts", value: name }), word(`facts_${name}`))
    return option
  }))
}

/** An answer in words. */
export function inWords(reply) {
  const side = { a: 1, b: 1 }[reply.choice] && reply.strength === 2 ? "much_" : "answer_"
  return word(`${side}${reply.choice}`, { n: reply.score })
}
