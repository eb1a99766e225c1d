// What a rater chose for this browser: kept in localStorage, which may be full or forbidden.

const NAME = "textgym.settings"

export function readSettings() {
  try { return JSON.parse(localStorage.getItem(NAME)) ?? {} } catch { return {} }
}

export function changeSettings(changes) {
  const settings = { ...readSettings(), ...changes }
  try { localStorage.setItem(NAME, JSON.stringify(settings)) } catch { /* for this visit only */ }
  applyTheme(settings.theme)
  return settings
}

export function applyTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme
  else delete document.documentElement.dataset.theme
}

applyTheme(readSettings().theme)
