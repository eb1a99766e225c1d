// The owner's page, brought up to date: the server renders it, this puts the new <main> in the old one's place.

import "./language.js"
import "./settings.js"

const EVERY = 5000 // ms

async function refresh() {
  const response = await fetch("/owner", { credentials: "same-origin", cache: "no-store" }).catch(() => null)
  if (!response?.ok) return
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("owner")
  const old = document.getElementById("owner")
  for (const { id } of old.querySelectorAll("details[open]")) fresh.querySelector(`#${id}`)?.setAttribute("open", "")
  if (fresh.innerHTML !== old.innerHTML && !old.contains(document.activeElement)) old.replaceWith(fresh)
}

setInterval(() => document.visibilityState === "visible" && refresh(), EVERY)
