// What was said and is not yet known to be stored. An entry stays in localStorage until the server
// has answered for it; it carries a key of its own, so sending it again cannot store it twice.

import { post } from "./api.js"

const WAITS = [500, 1000, 2000, 4000, 8000, 15000]

/** A key that no other answer has. (`crypto.randomUUID` is there on secure origins only.) */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")
}

export class Outbox {
  #prefix
  #beside = new Map() // entries that localStorage had no room for
  #sending = false
  #failures = 0
  #timer = null
  #last = 0
  state = "saved"
  why = ""

  /**
   * @param {string} name of store and rater: what another rater left here is not sent in this name
   * @param {(state: string, n: number, why: string) => void} onState
   * @param {(entry: object, answer: object) => void} onStored
   * @param {(entry: object, problem: object) => void} onRefused
   */
  constructor(name, onState, onStored, onRefused) {
    this.#prefix = `textgym.outbox.${name}.`
    this.onState = onState
    this.onStored = onStored
    this.onRefused = onRefused
    addEventListener("online", () => this.flush())
    addEventListener("pageshow", () => this.flush())
  }

  /** Keeps `{route, body, view}` and starts to send it; `of` is the key of the answer that it undoes. */
  add(entry) {
    this.#last = Math.max(Date.now(), this.#last + 1)
    const name = `${this.#prefix}${String(this.#last).padStart(15, "0")}.${entry.body.key}`
    try { localStorage.setItem(name, JSON.stringify(entry)) } catch { this.#beside.set(name, entry) }
    if (this.state === "saved") this.#show("saving") // at once: sending begins when the lock is ours
    this.flush()
  }

  /** The entries that wait, oldest first: `[name, entry]`. */
  waiting() {
    const found = [...this.#beside]
    for (let i = 0; i < localStorage.length; i++) {
      const name = localStorage.key(i)
      if (name.startsWith(this.#prefix)) found.push([name, JSON.parse(localStorage.getItem(name))])
    }
    return found.sort(([one], [other]) => (one < other ? -1 : 1))
  }

  /** Whether another tab's change of localStorage is one of this outbox: its entry, or null. */
  entryOf(event) {
    if (!event.key?.startsWith(this.#prefix) || event.newValue === null) return null
    return JSON.parse(event.newValue)
  }

  /** Sends what waits, in order, one tab at a time. */
  async flush() {
    clearTimeout(this.#timer)
    if (this.#sending) return
    this.#sending = true
    const send = () => this.#sendAll()
    if (navigator.locks) await navigator.locks.request(this.#prefix, send)
    else await send()
    this.#sending = false
    // What came in after the last look; while offline the timer sends it.
    if (this.#open().length && this.state !== "offline" && this.state !== "signed_out") this.flush()
  }

  refused() {
    return this.waiting().filter(([, entry]) => entry.refused)
  }

  #open() {
    return this.waiting().filter(([, entry]) => !entry.refused)
  }

  async #sendAll() {
    for (let open = this.#open(); open.length; open = this.#open()) {
      if (this.state !== "offline" && this.state !== "signed_out") this.#show("saving")
      const [name, entry] = open[0]
      const answer = await post(entry.route, entry.body)
      if (answer.ok) {
        this.#name(entry.body.key, answer.data.answer)
        this.forget(name)
        this.#failures = 0
        this.state = "saving"
        this.onStored(entry, answer.data)
      } else if (answer.status === 409) {
        this.forget(name) // another window was first: what it said stands
        this.onRefused(entry, answer)
      } else if (answer.isRefused) {
        // Kept, not sent again: nobody's answer is thrown away because a server does not take it.
        this.#keep(name, { ...entry, refused: answer.why })
        this.onRefused(entry, answer)
      } else {
        this.#show(answer.status === 401 ? "signed_out" : "offline")
        this.#timer = setTimeout(() => this.flush(), WAITS[Math.min(this.#failures++, WAITS.length - 1)])
        return
      }
    }
    const refused = this.refused()
    this.why = refused[0]?.[1].refused ?? ""
    this.#show(refused.length ? "refused" : "saved")
  }

  /** Tells what waits to undo an answer its id, now that it has one. */
  #name(key, answer) {
    for (const [name, entry] of this.waiting()) {
      if (entry.of === key) this.#keep(name, { ...entry, of: null, body: { ...entry.body, answer } })
    }
  }

  forget(name) {
    this.#beside.delete(name)
    localStorage.removeItem(name)
  }

  #keep(name, entry) {
    try { localStorage.setItem(name, JSON.stringify(entry)) } catch { this.#beside.set(name, entry) }
  }

  #show(state) {
    this.state = state
    const n = (state === "refused" ? this.refused() : this.#open()).length
    this.onState(state, n, this.why)
  }
}
