// The showings that wait in the page: the first is on the screen, the others are there before they are wanted.

import { post } from "./api.js"

const DEPTH = 4
const POLL = 4000 // ms between looks for new items when there is none
const RENEW = 240_000 // ms; a showing is reserved for ten minutes

export class Feed {
  #asking = false
  #timer = null
  waiting = []
  state = "loading" // or "ready", "done", "lost"

  /**
   * @param {() => Set<number>} answered showings whose answers may not have reached the server yet
   * @param {() => void} onChange the first showing changed, or the state
   * @param {(progress: object) => void} onProgress
   */
  constructor(answered, onChange, onProgress) {
    this.answered = answered
    this.onChange = onChange
    this.onProgress = onProgress
    setInterval(() => document.visibilityState === "visible" && this.renew(), RENEW)
  }

  get current() {
    return this.waiting[0] ?? null
  }

  /** Takes a showing away; what comes next is on the screen at once, and one more is asked for. */
  drop(id) {
    const was = this.current?.showing
    this.waiting = this.waiting.filter(({ showing }) => showing !== id)
    if (this.current?.showing !== was) this.onChange()
    this.refill()
  }

  /** Puts a showing on the screen before the others. */
  push(view) {
    this.waiting = [view, ...this.waiting.filter(({ showing }) => showing !== view.showing)]
    this.state = "ready"
    this.onChange()
  }

  async refill() {
    clearTimeout(this.#timer)
    if (this.#asking || this.waiting.length >= DEPTH) return
    this.#asking = true
    const held = [...this.#held()]
    const answer = await post("/api/next", { count: DEPTH - this.waiting.length, held: held.slice(-1000) })
    this.#asking = false
    const before = this.current?.showing
    const state = this.state
    if (answer.ok) {
      const known = this.#held() // what was answered while this was on its way
      this.waiting.push(...answer.data.showings.filter(({ showing }) => !known.has(showing)))
      this.onProgress(answer.data.progress)
    }
    this.state = this.current ? "ready" : answer.ok ? "done" : "lost"
    if (this.current?.showing !== before || this.state !== state) this.onChange()
    if (!answer.ok || this.waiting.length < DEPTH) this.#timer = setTimeout(() => this.refill(), POLL)
  }

  /** Reserves what is held once more. */
  renew() {
    if (this.waiting.length) post("/api/next", { count: this.waiting.length })
  }

  #held() {
    return new Set([...this.answered(), ...this.waiting.map(({ showing }) => showing)])
  }
}
