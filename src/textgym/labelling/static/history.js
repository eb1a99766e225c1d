// What this rater has said so far: undone from the end, changed anywhere. The log keeps every line.

import { get } from "./api.js"
import { inWords } from "./answers.js"
import { word } from "./words.js"

const SHOWN = 50

/** Entries `{view, reply, answer}`, oldest first; `answer` is the server's id, null until it has it. */
export class History {
  #past = []

  async load() {
    const got = await get(`/api/history?limit=${SHOWN}`)
    if (!got.ok) return
    const known = new Set(this.#past.map(({ view }) => view.showing))
    const stored = got.data.answers.filter(({ showing }) => !known.has(showing.showing))
    this.#past = [...stored.reverse().map(({ answer, showing, ...reply }) => ({ view: showing, reply, answer })), ...this.#past]
  }

  add(view, reply) {
    this.#past.push({ view, reply, answer: null })
  }

  /** Notes the id that the server gave to the answer with a key. */
  stored(key, answer) {
    const found = this.#past.find(({ reply }) => reply.key === key)
    if (found) found.answer = answer
  }

  remove(showing) {
    this.#past = this.#past.filter(({ view }) => view.showing !== showing)
  }

  last() {
    return this.#past.at(-1) ?? null
  }

  /** Fills a list; `onChange(entry)` when one is to be changed, `onForget(name)` one that was refused. */
  draw(list, refused, onChange, onForget) {
    const kept = refused.map(([name, { view, refused: why }]) => {
      const row = line(view, word("refused", { n: 1, why }), word("forget"), () => onForget(name))
      row.querySelector(".what").classList.add("bad")
      return row
    })
    const rows = this.#past.slice(-SHOWN).reverse().map((entry) => {
      const { note } = entry.reply
      return line(entry.view, inWords(entry.reply) + (note ? ` · ${note}` : ""), word("revise"), () => onChange(entry))
    })
    list.replaceChildren(...kept, ...rows)
    if (!list.children.length) list.append(Object.assign(document.createElement("li"), { textContent: word("past_empty") }))
  }
}

function line(view, what, button, onClick) {
  const row = document.createElement("li")
  const start = Object.assign(document.createElement("span"), { className: "start", dir: "auto" })
  start.textContent = `${view?.prompt ?? ""} ${view?.a.text ?? ""}`.trim().slice(0, 160)
  if (view?.lang) start.lang = view.lang
  const said = Object.assign(document.createElement("span"), { className: "what", textContent: what, dir: "auto" })
  const change = Object.assign(document.createElement("button"), { type: "button", textContent: button })
  change.addEventListener("click", onClick)
  row.append(start, said, change)
  return row
}
