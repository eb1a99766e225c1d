// The labelling page: puts together the feed, the desk, the answers, the outbox and the history.

import { drawAnswers, drawFacts, drawMinor, answerKeys, inWords } from "./answers.js"
import { clock, draw, isTooSoon, markSide, startClock } from "./desk.js"
import { dropDraft, inField, keepDraft, readDraft } from "./drafts.js"
import { Feed } from "./feed.js"
import { History } from "./history.js"
import { actionOf, isForeign, isUndo, keyOf, USUAL } from "./keys.js"
import { setUpSettings } from "./keys_dialog.js"
import { newKey, Outbox } from "./outbox.js"
import { countAnswer, isBreakDue, showProgress } from "./progress.js"
import { changeSettings, readSettings } from "./settings.js"
import { word } from "./words.js"

const element = (id) => document.getElementById(id)
const options = JSON.parse(element("options").textContent)
for (const ask of options.asks) options[ask] = true
const history = new History()
// What the store does not ask for has no key.
const UNASKED = [...(options.strength ? [] : ["much_a", "much_b"]), ...(options.facts ? [] : ["facts"])]
const ACTIONS = Object.keys(USUAL).filter((action) => !UNASKED.includes(action))
const CHOICES = ["a", "b", "tie", "both_bad", "much_a", "much_b"]

let again = null // {entry} of an answer that is being changed, {undone} of one that was taken back
let stage = "choosing" // or "rewriting", with `side`
let side = null
let strength = null // of the choice whose text is being rewritten
let possible = []

const outbox = new Outbox(`${options.store}.${options.rater}`, showSaved, onStored, onRefused)
const unsent = () => new Set(outbox.waiting().filter(([, { route }]) => route === "/api/answer").map(([, { body }]) => body.showing))
const feed = new Feed(unsent, show, (progress) => showProgress(progress, unsent().size))

/** The showing on the screen. */
const current = () => again?.entry?.view ?? feed.current

// What is on the screen

function show() {
  const view = current()
  stage = "choosing"
  draw(view, feed.state)
  drawAgain()
  if (!view) return
  const draft = readDraft(view.showing)
  const before = again?.entry?.reply ?? again?.undone?.reply
  element("note").value = draft.note ?? before?.note ?? ""
  element("note-field").hidden = !element("note").value
  element("editor").value = draft.rewrite ?? before?.rewrite ?? view.a.text
  element("editor").lang = element("note").lang = view.lang
  element("rewrite-too").hidden = !(options.rewrite && view.kind === "pair")
  element("facts").hidden = !options.facts
  if (options.facts) drawFacts(view.kind === "pair")
  showStage(view)
  drawMinor()
  startClock()
}

function showStage(view) {
  const isEditing = view.kind === "edit" || stage === "rewriting"
  element("editor-field").hidden = !isEditing
  element("editor-title").textContent = stage === "rewriting" ? word("editor_of", { side: word(side) }) : word("editor")
  markSide(stage === "rewriting" ? side : again?.entry?.reply.choice)
  drawChoices(view)
  element("extra").hidden = element("facts").hidden && element("rewrite-too").hidden && element("note-field").hidden
}

function drawChoices(view) {
  const isUnchanged = element("editor").value === inField(view[side ?? "a"].text)
  possible = drawAnswers(view.kind, stage, options, isUnchanged)
}

function drawAgain() {
  const entry = again?.entry ?? again?.undone
  element("again").hidden = !entry
  if (!entry) return
  const [said, leave] = element("again").children
  said.textContent = word(again.entry ? "revising" : "undone", { answer: inWords(entry.reply) })
  leave.hidden = !again.entry
  leave.textContent = word("leave_as_is")
}

function say(text) {
  element("said").textContent = text
}

function showSaved(state, n, why) {
  const sign = element("saved")
  sign.dataset.state = state === "signed_out" ? "offline" : state
  sign.textContent = word(state, { n, why })
}

// Answers

function answer(choice, more = {}) {
  const view = current()
  const reply = { showing: view.showing, key: newKey(), choice, ...more, note: element("note").value, ...clock() }
  const facts = document.querySelector("#facts input:checked")?.value
  if (options.facts && facts && choice !== "skip") reply.facts = facts
  if (again?.entry) takeBack(again.entry)
  outbox.add({ route: "/api/answer", body: reply, view })
  history.add(view, reply)
  dropDraft(view.showing)
  countAnswer(1)
  say(isBreakDue() ? word("break") : "")
  const wasAgain = again?.entry
  again = null
  side = null
  if (wasAgain) show()
  else feed.drop(view.showing)
}

/** Sends the undoing of an answer, by its id or, while it has none, by its key. */
function takeBack({ view, reply, answer: id }) {
  outbox.add({ route: "/api/undo", body: { key: newKey(), answer: id }, of: id === null ? reply.key : null })
  history.remove(view.showing)
  countAnswer(-1)
}

function undo() {
  if (stage === "rewriting" || again?.entry) return leave()
  const entry = history.last()
  if (!entry) return say(word("nothing_to_undo"))
  takeBack(entry)
  again = { undone: entry }
  feed.push(entry.view)
  say("")
}

/** Leaves a rewrite or a change as it was. */
function leave() {
  if (stage !== "rewriting") again = null
  side = null
  show()
}

function choose(choice, event) {
  if (isTooSoon(event)) return say(word("too_soon"))
  const view = current()
  strength = choice.startsWith("much_") ? 2 : options.strength ? 1 : null
  const of = choice.replace("much_", "")
  const isSide = of === "a" || of === "b"
  if (isSide && options.rewrite && element("rewrite-too").querySelector("input").checked) {
    stage = "rewriting"
    side = of
    element("editor").value = readDraft(view.showing).rewrite ?? view[of].text
    showStage(view)
    element("editor").focus()
    return
  }
  answer(of, isSide && strength ? { strength } : {})
}

function save(event) {
  if (isTooSoon(event)) return say(word("too_soon"))
  const view = current()
  const { text } = view[side ?? "a"]
  const written = element("editor").value
  const rewrite = written === inField(text) ? text : written
  if (view.kind === "edit") answer("edit", { rewrite })
  else answer(side, { ...(strength && { strength }), ...(rewrite !== text && { rewrite }) })
}

function act(action, event) {
  if (action.startsWith("rate:")) {
    if (isTooSoon(event)) return say(word("too_soon"))
    return answer("rate", { score: Number(action.slice(5)) })
  }
  const others = {
    save: () => save(event),
    back: leave,
    skip: () => isTooSoon(event) ? say(word("too_soon")) : openSkip(),
    undo,
    note: toggleNote,
    facts: () => element("facts").querySelector("input")?.focus(),
    invisible: toggleInvisible,
    guidelines: toggleGuidelines,
    history: openHistory,
    settings: openSettings,
  }
  if (others[action]) others[action]()
  else choose(action, event)
}

// What lies beside

function openSkip() {
  element("skip-dialog").showModal()
}

function skipFor(reason) {
  element("skip-dialog").close()
  answer("skip", { reason })
}

function toggleNote() {
  const field = element("note-field")
  field.hidden = !field.hidden && !element("note").value
  showStage(current())
  drawMinor()
  if (!field.hidden) element("note").focus()
}

function toggleInvisible() {
  changeSettings({ invisible: !readSettings().invisible })
  redraw()
}

/** Draws the texts again, the clock and what was typed stay. */
function redraw() {
  const view = current()
  if (!view) return
  draw(view, feed.state)
  showStage(view)
  drawMinor()
}

function toggleGuidelines() {
  const isOpen = element("guidelines").hidden && Boolean(options.guidelines)
  element("guidelines").hidden = !isOpen
  element("desk").classList.toggle("with-guidelines", isOpen)
  document.querySelector("[data-action=guidelines]").setAttribute("aria-expanded", String(isOpen))
  changeSettings({ readGuidelines: options.store, guidelinesOpen: isOpen })
}

function openHistory() {
  const dialog = element("history-dialog")
  const change = (entry) => {
    dialog.close()
    again = { entry }
    show()
  }
  const forget = (name) => {
    outbox.forget(name)
    outbox.flush()
    openHistory()
  }
  history.draw(dialog.querySelector("ol"), outbox.refused(), change, forget)
  if (!dialog.open) dialog.showModal()
}

function openSettings() {
  setUpSettings(ACTIONS, redraw)
  element("settings-dialog").showModal()
}

// What happens

function onStored({ route, body }, data) {
  if (route === "/api/answer") history.stored(body.key, data.answer)
  showProgress(data.progress, unsent().size)
}

function onRefused({ route, body }, { status, why }) {
  if (route === "/api/answer") history.remove(body.showing)
  if (status === 409) history.load()
  say(status === 409 ? word("other_window") : why)
}

addEventListener("storage", (event) => {
  const entry = outbox.entryOf(event)
  if (entry?.route !== "/api/answer") return
  // Another window of this browser has answered what stands here too.
  if (feed.waiting.some(({ showing }) => showing === entry.body.showing)) feed.drop(entry.body.showing)
})

addEventListener("keydown", (event) => {
  const isOnButton = event.target.closest?.("button")
  if (event.repeat && isOnButton && (event.key === "Enter" || event.key === " ")) return event.preventDefault()
  if (document.querySelector("dialog[open]")) return keyInDialog(event)
  if (event.key === "Escape" && !event.isComposing) return event.target.blur?.()
  if (isUndo(event)) {
    event.preventDefault()
    return act("undo", event)
  }
  const isEditing = current()?.kind === "edit" || stage === "rewriting"
  if (isEditing && event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat && !event.isComposing) {
    event.preventDefault()
    return act("save", event)
  }
  const answers = possible.filter((action) => action !== "save" && action !== "back")
  const rated = answers.find((action) => action.startsWith("rate:") && !isForeign(event) && answerKeys(action, options).includes(keyOf(event)))
  const beside = current() ? ACTIONS.filter((each) => !CHOICES.includes(each)) : ["history", "settings", "guidelines", "undo"]
  const action = rated ?? actionOf(event, current() ? [...answers, ...beside] : beside)
  if (!action) return
  event.preventDefault()
  act(action, event)
})

function keyInDialog(event) {
  if (!element("skip-dialog").open || isForeign(event)) return
  const reasons = [...element("skip-dialog").querySelectorAll("[value]")]
  const reason = reasons[Number(keyOf(event)) - 1]
  if (reason && !readSettings().noCharacters) skipFor(reason.value)
}

document.addEventListener("click", (event) => {
  const pressed = event.target.closest("button")
  if (!pressed) return
  if (pressed.hasAttribute("data-close")) pressed.closest("dialog").close()
  else if (pressed.dataset.action) act(pressed.dataset.action, event)
  else if (pressed.closest("#choices, #minor")) act(pressed.value, event)
  else if (pressed.closest("#skip-dialog")) skipFor(pressed.value)
  else if (pressed.closest("#again")) leave()
})

for (const id of ["note", "editor"]) {
  element(id).addEventListener("input", () => {
    const view = current()
    const isEditing = !element("editor-field").hidden
    const rewrite = isEditing && element("editor").value !== inField(view[side ?? "a"].text) ? element("editor").value : null
    keepDraft(view.showing, { note: element("note").value, rewrite })
    if (id === "editor") drawChoices(view)
  })
}

element("rewrite-too").querySelector("input").checked = Boolean(readSettings().rewriteToo)
element("rewrite-too").addEventListener("change", ({ target }) => changeSettings({ rewriteToo: target.checked }))
element("skip-dialog").querySelector(".reasons").append(...options.skip_reasons.map((reason, i) => {
  const made = Object.assign(document.createElement("button"), { type: "button", value: reason, textContent: word(`reason_${reason}`) })
  made.autofocus = i === 0
  made.append(Object.assign(document.createElement("kbd"), { textContent: String(i + 1), ariaHidden: "true" }))
  return made
}))
if (options.guidelines && (readSettings().readGuidelines !== options.store || readSettings().guidelinesOpen)) toggleGuidelines()

// What a window before this one left unsent goes first, so that nothing of it is asked again.
await outbox.flush()
await Promise.all([feed.refill(), history.load()])
document.documentElement.dataset.ready = ""
