// The strings of the page's language, as the server put them into it.

const words = JSON.parse(document.getElementById("words").textContent)

/** A string of the catalogue, with `{name}` replaced by `values.name`. */
export function word(key, values = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole)
}
