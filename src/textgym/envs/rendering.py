"""Render modes: the text so far as a string ("ansi"), or printed while it is written ("human")."""

from typing import Any

from textgym.errors import RenderModeError, unknown_name
from textgym.terminal import for_output

METADATA: dict[str, Any] = {"render_modes": ["ansi", "human"], "render_fps": 4}


def check_render_mode(render_mode: str | None) -> None:
    """Raises unless the render mode is one of `METADATA["render_modes"]`, or None.

    :raises RenderModeError: naming the nearest one. It is also a `TypeError`, the only error after
        which Stable-Baselines3's helpers, which ask for "rgb_array", make the environment without.
    """
    if render_mode is not None and render_mode not in METADATA["render_modes"]:
        known = METADATA["render_modes"]
        raise RenderModeError(str(unknown_name("render mode", str(render_mode), known)))


class TextPrinter:
    """Prints one text as it grows, on standard output."""

    def __init__(self) -> None:
        self._shown = ""
        self._is_open = False

    def begin(self, text: str) -> None:
        """A new text; one that was not finished stays as it stands on its line."""
        if self._is_open:
            print()
        self._shown, self._is_open = "", True
        self.grow(text)

    def grow(self, text: str, *, is_over: bool = False) -> None:
        """Print what is new in the text.

        :param text: all of it so far. A character whose last bytes are still to come waits for
            them, unless the text is over.
        """
        ready = text if is_over else text.rstrip("\N{REPLACEMENT CHARACTER}")
        if ready.startswith(self._shown):
            new = ready[len(self._shown) :]
        else:  # cut at a stop string, or its bytes came out as other characters
            new = "" if self._shown.startswith(ready) else "\n" + ready
        print(for_output(new), end="\n" if is_over else "", flush=True)
        self._shown, self._is_open = ready, not is_over
