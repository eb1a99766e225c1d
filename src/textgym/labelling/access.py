"""Who may speak to the label server: a secret token, one-time tickets, and signed cookies.

The token is the owner's, and that of training processes (`Authorization: Bearer TOKEN`). A browser
gets a ticket in the address that opens the page; it works once and is exchanged for a cookie, which
is signed with the token, so that it outlives a restart and a new token ends it.
"""

import base64
import hmac
import secrets
from dataclasses import dataclass


@dataclass(frozen=True)
class Session:
    """Whose request it is.

    :param rater: the name that answers are stored under; empty for a training process.
    """

    rater: str
    is_owner: bool


class Access:
    """The token of a store and what is derived from it.

    :param token: 256 bits as text.
    :param store_id: tells the cookies of several stores on one machine apart.
    """

    def __init__(self, token: str, store_id: str) -> None:
        self._token, self._store_id = token, store_id
        self._tickets: dict[str, Session] = {}

    @property
    def cookie_name(self) -> str:
        """Of this store's cookie: the browser keeps one per name, whatever the port."""
        return f"textgym_label_{self._store_id}"

    def ticket(self, session: Session) -> str:
        """A new ticket, which opens the page once."""
        ticket = secrets.token_urlsafe(32)
        self._tickets[ticket] = session
        return ticket

    def redeem(self, ticket: str) -> Session | None:
        """Whose ticket it was; it is worth nothing from now on."""
        return self._tickets.pop(ticket, None)

    def cookie(self, session: Session) -> str:
        """The signed value of a session's cookie."""
        name = base64.urlsafe_b64encode(session.rater.encode()).decode().rstrip("=")
        role = "owner" if session.is_owner else "rater"
        return f"{role}.{name}.{self._signature(role, name)}"

    def session_of(self, authorization: str, cookie: str) -> Session | None:
        """Whose request it is by its headers; None for nobody's.

        :param authorization: the header, or "".
        :param cookie: the value of this store's cookie, or "".
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and _equal(token.strip(), self._token):
            return Session("", True)
        role, _, rest = cookie.partition(".")
        name, _, signature = rest.partition(".")
        if not name or not _equal(signature, self._signature(role, name)):
            return None
        rater = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
        return Session(rater, role == "owner")

    def _signature(self, role: str, name: str) -> str:
        message = f"{self._store_id}.{role}.{name}".encode()
        return hmac.new(self._token.encode(), message, "sha256").hexdigest()


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
