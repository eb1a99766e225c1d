// A text on the page: as it is, or with what cannot be seen written out.

// Controls but tab and line end, soft hyphen, joiners and spaces of other widths, marks of
// direction, variation selectors, tags, the object replacement and the byte order mark.
const INVISIBLE =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffc]|[\u{e0000}-\u{e01ef}]/gu
const NAMES = {
  0x0d: "CR", 0xa0: "NBSP", 0xad: "SHY", 0x200b: "ZWSP", 0x200c: "ZWNJ", 0x200d: "ZWJ", 0x200e: "LRM", 0x200f: "RLM",
  0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO", 0x2060: "WJ",
  0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xfeff: "BOM",
}

/** Puts a text into an element; with `isMarked`, its invisible characters are named where they stand. */
export function showText(element, text, lang, isMarked) {
  element.dir = "auto"
  if (lang) element.lang = lang
  else element.removeAttribute("lang")
  if (!isMarked) {
    element.textContent = text
    return
  }
  element.replaceChildren()
  let from = 0
  for (const match of text.matchAll(INVISIBLE)) {
    const code = match[0].codePointAt(0)
    const mark = document.createElement("span")
    mark.className = "invisible"
    const number = "U+" + code.toString(16).toUpperCase().padStart(4, "0")
    mark.textContent = NAMES[code] ?? number
    mark.title = number
    // The character itself is left out: a mark of direction must not turn around what is shown.
    element.append(text.slice(from, match.index), mark)
    from = match.index + match[0].length
  }
  element.append(text.slice(from))
}
