// The page that a ticket opens: consent, guidelines, the language of the interface.

import "./language.js"
import "./settings.js"

// The ticket works once: a reload of this page is the next one, and no history keeps it.
history.replaceState(null, "", "/")
