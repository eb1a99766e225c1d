"""Where a chat endpoint is, and its key: from the environment, and shown to nobody."""

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from textgym.errors import InputError

URL_VARIABLE, KEY_VARIABLE = "OPENAI_BASE_URL", "OPENAI_API_KEY"


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible endpoint.

    :param url: its base, such as "http://127.0.0.1:8000/v1"; without user, password and query.
    :param key: the secret, or "" where the server wants none. No error, log or copy shows it.
    """

    url: str
    key: str = field(default="", repr=False)

    @classmethod
    def from_environment(
        cls, url_variable: str = URL_VARIABLE, key_variable: str = KEY_VARIABLE
    ) -> "Endpoint":
        """What the two variables say.

        :raises InputError: naming the variable, never its value where that may hold a secret.
        """
        url = os.environ.get(url_variable, "").strip().rstrip("/")
        key = os.environ.get(key_variable, "").strip()
        if not url:
            raise InputError(
                f"a chat judge needs the endpoint in the environment: expected {url_variable}, "
                "such as http://127.0.0.1:8000/v1 (and the key, if it has one, in "
                f"{key_variable})"
            )
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise InputError(f"{url_variable} is no URL with a valid host and port") from None
        if parts.username or parts.password or parts.query or parts.fragment or "@" in url:
            raise InputError(
                f"{url_variable} must hold no user, password, query or fragment: the secret "
                f"belongs in {key_variable}"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii():
            raise InputError(
                f"{url_variable} must be an http or https URL such as http://127.0.0.1:8000/v1, "
                f"got {url!r:.80}"
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise InputError(
                f"{key_variable} holds spaces, line ends or letters that no key has: set it anew"
            )
        return cls(url, key)

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine, where no proxy leads."""
        return urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")

    @property
    def headers(self) -> dict[str, str]:
        """What a request carries."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def without_key(self, text: str) -> str:
        """A text of the server's with the key, if it repeats it, struck out."""
        return text.replace(self.key, "***") if self.key else text
