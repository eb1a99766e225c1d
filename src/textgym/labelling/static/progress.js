// How far a rater is: x of N, today, seconds an answer, time left, and when a break is due.

import { word } from "./words.js"

const LATEST = 20
const IDLE = 300_000 // ms: a longer pause is no time an answer took, and is a break
const BREAK = 1_800_000

const element = (id) => document.getElementById(id)
const times = []
let known = { answered: 0, left: 0, today: 0 }
let lastAt = null
let sinceBreak = null

/** What the server counts, and `unsent`: what it does not know of yet. */
export function showProgress(progress, unsent = 0) {
  if (progress) {
    known = { answered: progress.answered + unsent, left: Math.max(0, progress.left - unsent), today: progress.today + unsent }
  }
  draw()
}

/** Counts an answer (`by` 1) or one taken back (−1) at once. */
export function countAnswer(by) {
  known = { answered: known.answered + by, left: Math.max(0, known.left - by), today: known.today + by }
  const now = performance.now()
  if (by > 0) {
    if (lastAt !== null && now - lastAt < IDLE) times.push((now - lastAt) / 1000)
    if (lastAt === null || now - lastAt > IDLE) sinceBreak = now
    lastAt = now
    if (times.length > LATEST) times.shift()
  }
  draw()
}

/** Whether half an hour has gone by without a pause; says so once. */
export function isBreakDue() {
  const now = performance.now()
  if (sinceBreak === null || now - sinceBreak < BREAK) return false
  sinceBreak = now
  return true
}

function draw() {
  const total = known.answered + known.left
  const bar = element("progress")
  bar.max = Math.max(1, total)
  bar.value = known.answered
  const parts = [word("progress", { done: known.answered, total }), word("today", { n: known.today })]
  if (times.length >= 3) {
    const pace = [...times].sort((one, other) => one - other)[times.length >> 1]
    parts.push(word("pace", { n: pace < 10 ? pace.toFixed(1) : Math.round(pace) }))
    const minutes = (pace * known.left) / 60
    const time = minutes < 90 ? word("minutes", { n: Math.ceil(minutes) }) : word("hours", { n: (minutes / 60).toFixed(1) })
    if (known.left) parts.push(word("left", { time }))
  }
  element("progress-text").textContent = parts.join(" · ")
}
