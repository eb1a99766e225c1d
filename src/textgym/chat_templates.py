"""Chat messages as the tokens that a model was taught to answer, by its tokenizer's template.

A chat template is a program in Jinja that comes with a checkpoint. It runs in Jinja's sandbox,
which reaches no file and no module, and for a limited number of steps.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import FrameType
from typing import Any

from tokenizers import Tokenizer as Backend

from textgym.errors import InputError
from textgym.extras import import_extra
from textgym.tokenizer import Tokenizer
from textgym.tokenizer_context import cut_names

_MOST_STEPS, _MOST_CHARACTERS = 2_000_000, 2_000_000
_CUT = "\ue000"  # of the Private Use Area: stands inside a special token's name that a user wrote
_FILE = "<chat template>"


def chat_template(tokenizer: Tokenizer) -> str | None:
    """The template of a tokenizer's directory, its default one where it has several; or None."""
    files = tokenizer.files
    if "chat_template.jinja" in files.templates:
        return files.templates["chat_template.jinja"]
    found: Any = files.settings.get("chat_template")
    if found is None and "chat_template.json" in files.templates:
        try:
            found = json.loads(files.templates["chat_template.json"])["chat_template"]
        except (ValueError, LookupError, TypeError):
            raise InputError("chat_template.json: expected a table with a chat_template") from None
    if isinstance(found, list):
        named = {item.get("name"): item.get("template") for item in found if isinstance(item, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def render_chat(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool
) -> str:
    """The text that a template makes of messages, as transformers' `apply_chat_template` does.

    :param messages: each with "role" and "content".
    :param add_generation_prompt: end where the model is to answer.
    :raises InputError: in one line, if there is no template, it cannot be read, raises, asks for
        what the sandbox forbids, or does not end.
    """
    source = chat_template(tokenizer)
    if source is None:
        raise InputError("the policy's tokenizer has no chat template: leave chat out")
    names = {role: getattr(tokenizer, role) for role in ("bos_token", "eos_token", "pad_token")}
    sandbox = import_extra("jinja2.sandbox", extra="transformers", what="a chat template")
    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda text: datetime.now().strftime(text)
    given = {"messages": list(messages), "add_generation_prompt": add_generation_prompt, **names}
    try:
        code = environment.compile(source, filename=_FILE)
        known = environment.make_globals({})
        template = environment.template_class.from_code(environment, code, known)
        with _LimitedSteps():
            parts, size = [], 0
            for part in template.generate(given):
                parts.append(part)
                size += len(part)
                if size > _MOST_CHARACTERS:
                    raise _Endless(f"writes more than {_MOST_CHARACTERS:,} characters")
    except Exception as error:  # whatever a program may raise
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise InputError(
            f"the chat template of the policy's tokenizer fails: {reason:.200}"
        ) from None
    return "".join(parts)


def encode_chats(
    tokenizer: Tokenizer,
    chats: Sequence[Sequence[Mapping[str, str]]],
    *,
    add_generation_prompt: bool = True,
) -> list[list[int]]:
    """Token ids of conversations through the template, whose special tokens are special.

    Those that a user writes into a message are characters, as everywhere here.

    :raises InputError: as `render_chat`, and for a model with an encoder, which reads one prompt.
    """
    if tokenizer.ends_prompts:
        raise InputError(
            "chat is of a causal model, and the policy is an encoder with a decoder, which reads "
            "one prompt as it stands: leave chat out"
        )
    special = {t.content for t in tokenizer.backend.get_added_tokens_decoder().values()}
    backend = Backend.from_str(tokenizer.to_json())
    backend.encode_special_tokens = False
    rows = []
    for chat in chats:
        safe = [{**m, "content": _CUT.join(cut_names(m["content"], special))} for m in chat]
        text = render_chat(tokenizer, safe, add_generation_prompt=add_generation_prompt)
        parts = [backend.encode(part, add_special_tokens=False) for part in text.split(_CUT)]
        rows.append([i for part in parts for i in part.ids])
    return rows


class _Endless(Exception):
    """A template that goes on and on."""


class _LimitedSteps:
    """Raises in a template that runs for too many lines: counted, so that it is never chance.

    The thread's trace function is taken for that time, and given back.
    """

    def __enter__(self) -> None:
        self.steps, self.before = 0, sys.gettrace()
        sys.settrace(self._call)

    def __exit__(self, *error: object) -> None:
        sys.settrace(self.before)

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line if frame.f_code.co_filename == _FILE else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise _Endless(f"does not end within {_MOST_STEPS:,} steps")
        return self._line


def _raise(message: str) -> None:
    raise InputError(str(message))


def _to_json(value: Any, indent: int | None = None, **keywords: Any) -> str:
    """As transformers': without HTML's escapes, which Jinja's own filter writes."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
