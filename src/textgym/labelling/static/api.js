// The server's routes. An answer is {ok, data}, or {ok: false, status, why, isRefused}: refused is what
// sending again cannot mend; all else (no network, a server that restarts or is busy) can be tried again.

const REFUSED = new Set([400, 404, 405, 409, 413, 415, 422])

async function ask(route, options = {}) {
  let response
  try {
    response = await fetch(route, { credentials: "same-origin", cache: "no-store", ...options })
  } catch (error) {
    return { ok: false, status: 0, why: String(error.message ?? error), isRefused: false }
  }
  const data = await response.json().catch(() => null)
  if (response.ok && data !== null) return { ok: true, data }
  const why = typeof data?.error === "string" ? data.error : `HTTP ${response.status}`
  return { ok: false, status: response.status, why, isRefused: REFUSED.has(response.status) }
}

export const get = (route) => ask(route)

/** `keepalive`: a page that is left right after an answer still sends it. A browser takes 64 KiB of that. */
export const post = (route, body) =>
  ask(route, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    keepalive: JSON.stringify(body).length < 10_000,
  })
