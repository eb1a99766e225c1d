// The settings of a rater: colours, language, invisible characters, and what each key does.

import "./language.js"
import { isArrow, keyMarks, keyOf, keysOf, remap, shownKey, USUAL } from "./keys.js"
import { changeSettings, readSettings } from "./settings.js"
import { word } from "./words.js"

const element = (id) => document.getElementById(id)
const NAMES = { a: "choose_a", b: "choose_b", facts: "facts_short", settings: "settings" }
let listening = null

/** Fills the dialog; `onChange` after every change. */
export function setUpSettings(actions, onChange) {
  const settings = readSettings()
  element("theme").value = settings.theme ?? "auto"
  element("show-invisible").checked = Boolean(settings.invisible)
  element("keys-on").checked = !settings.noCharacters
  element("theme").onchange = () => changeSettings({ theme: element("theme").value })
  const changed = (changes) => {
    changeSettings(changes)
    drawRows(actions, onChange)
    onChange()
  }
  element("show-invisible").onchange = () => changed({ invisible: element("show-invisible").checked })
  element("keys-on").onchange = () => changed({ noCharacters: !element("keys-on").checked })
  element("keys-reset").onclick = () => changed({ keys: {}, noCharacters: false })
  element("settings-dialog").onkeydown = (event) => listening && take(event, actions, onChange)
  element("settings-dialog").onclose = () => { listening = null }
  drawRows(actions, onChange)
}

const nameOf = (action) => word(NAMES[action] ?? action)

function drawRows(actions, onChange) {
  listening = null
  element("keys-on").checked = !readSettings().noCharacters
  element("keys-rows").replaceChildren(...actions.map((action) => {
    const row = document.createElement("tr")
    const head = Object.assign(document.createElement("th"), { scope: "row", textContent: nameOf(action) })
    const cell = document.createElement("td")
    const change = Object.assign(document.createElement("button"), { type: "button", value: action })
    change.setAttribute("aria-label", `${nameOf(action)}: ${keysOf(action).map(shownKey).join(", ") || word("keys_none")}`)
    change.append(keysOf(action).length ? keyMarks(action) : word("keys_none"))
    change.onclick = () => {
      listening = action
      change.textContent = word("keys_press")
      element("keys-said").textContent = word("keys_hint")
    }
    cell.append(change)
    row.append(head, cell)
    return row
  }))
}

function take(event, actions, onChange) {
  if (["Shift", "Control", "Alt", "Meta", "Tab"].includes(event.key)) return
  event.preventDefault()
  event.stopPropagation()
  const action = listening
  const key = keyOf(event)
  if (event.repeat) return
  const taken = event.key === "Escape" || event.ctrlKey || event.altKey || event.metaKey ? null : remap(action, key, actions)
  const said = taken ? word("keys_taken", { key: shownKey(key), action: nameOf(taken) }) : word("keys_hint")
  drawRows(actions, onChange)
  element("keys-said").textContent = said
  element("keys-rows").querySelector(`button[value="${action}"]`)?.focus()
  onChange()
}

export { isArrow, USUAL }
