"""Chat messages as the tokens that a model was taught to answer, by its tokenizer's template.

A chat template is a program in Jinja that comes with a checkpoint. It runs in a sandbox, which
reaches no file and no module, for a limited number of steps and with a limited memory.
"""

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self

from textgym.errors import InputError
from textgym.extras import import_extra
from textgym.tokenizer import Tokenizer
from textgym.tokenizer_context import clean_unicode, cut_names
from textgym.tokenizer_files import TOKENIZER_CONFIG

_MOST_CHARACTERS = 2_000_000
_CUT = "\ue000"  # of the Private Use Area: stands inside a special token's name that a user wrote
_ANSWER = "\ue001"  # stands for what a model says
_FILE = "<chat template>"
_JINJA, _JSON = "chat_template.jinja", "chat_template.json"
_ROLES = ("bos_token", "eos_token", "pad_token")
_FURTHER_ROLES = ("unk_token", "sep_token", "cls_token", "mask_token")
# What a template that writes the date gets: a model is asked as it learned, and a seed means the
# same tomorrow. It is the date that Llama 3's own templates fall back to.
EVERY_DAY = datetime(2024, 7, 26)


def chat_template(tokenizer: Tokenizer) -> str | None:
    """The template of a tokenizer's directory, its default one where it has several; or None."""
    return _template_and_file(tokenizer)[0]


def _template_and_file(tokenizer: Tokenizer) -> tuple[str | None, str]:
    """The template, and the name of the file that holds it."""
    files, name = tokenizer.files, TOKENIZER_CONFIG
    found: Any = files.settings.get("chat_template")
    if _JINJA in files.templates:
        name, found = _JINJA, files.templates[_JINJA]
    elif found is None and _JSON in files.templates:
        name = _JSON
        try:
            found = json.loads(files.templates[_JSON])["chat_template"]
        except (ValueError, LookupError, TypeError):
            raise InputError(f"{_JSON}: expected a table with a chat_template") from None
    if isinstance(found, list):
        named = {item.get("name"): item.get("template") for item in found if isinstance(item, dict)}
        found = named.get("default")
    return (found if isinstance(found, str) else None), name


class ChatTemplate:
    """A tokenizer's chat template, compiled once, and what a model answers by it.

    :param system: a system message in front of what a user says; None: the template's own, if any.
    :param today: what a template that writes the date gets.
    :raises InputError: in one line, if there is no template or it cannot be read, and for a model
        with an encoder, which reads one prompt.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, system: str | None = None, today: datetime = EVERY_DAY
    ) -> None:
        if tokenizer.ends_prompts:
            raise InputError(
                "chat is of a causal model, and the policy is an encoder with a decoder, which "
                "reads one prompt as it stands: leave chat out"
            )
        self.tokenizer, self.system, self.today = tokenizer, system, today
        self._special = {t.content for t in tokenizer.backend.get_added_tokens_decoder().values()}
        self._template = self._compiled()

    def __reduce__(self) -> Any:
        """A copy elsewhere compiles the template again."""
        return _again, (self.tokenizer, self.system, self.today)

    def _compiled(self) -> Any:
        source = chat_template(self.tokenizer)
        if source is None:
            raise InputError("the policy's tokenizer has no chat template: leave chat out")
        import_extra("jinja2", extra="transformers", what="a chat template")
        from textgym.template_sandbox import Sandbox

        self._sandbox = environment = Sandbox(tojson=_to_json)
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = self._now
        try:
            code = environment.compile(source, filename=_FILE)
        except Exception as error:
            raise _failure(error) from None
        known = environment.make_globals({})
        return environment.template_class.from_code(environment, code, known)

    def checked(self, *, answers: bool = False) -> Self:
        """The template itself, if what is said makes a difference to what it writes.

        :param answers: what a model answers has to as well, since it is learned.
        :raises InputError: naming the file of the tokenizer that holds it. What it raises itself
            is left to whoever renders messages that are meant.
        """
        if self._is_same(["a"], ["b"]):
            raise InputError(
                f"{self._place()}: the chat template writes the same whatever a user says, so that "
                "the model would see no prompt: let it write each message['content'], which is a "
                "text, or leave chat out"
            )
        if answers and self._is_same(["a", "b"], ["a", "c"]):
            raise InputError(
                f"{self._place()}: the chat template leaves out what a model answers, so that "
                "nothing could be learned: let it write each message['content'], which is a text, "
                "or leave chat out"
            )
        return self

    def _is_same(self, turns: Sequence[str], others: Sequence[str]) -> bool:
        """Whether it writes two conversations alike."""
        is_asked = len(turns) % 2 == 1
        try:
            one, other = (
                self.render(self._messages(said), add_generation_prompt=is_asked)
                for said in (turns, others)
            )
        except InputError:
            return False
        return one == other

    def _place(self) -> str:
        """The file that holds it."""
        source, name = self.tokenizer.files.source, _template_and_file(self.tokenizer)[1]
        if source is None:
            return f"{name} of the policy's tokenizer"
        return f"{source / name if source.is_dir() else source}"

    def _now(self, text: str) -> str:
        return self.today.strftime(text)

    def render(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
        """The text that it makes of messages, as transformers' `apply_chat_template` does.

        :param messages: each with "role" and "content".
        :param add_generation_prompt: end where the model is to answer.
        :raises InputError: in one line, if it raises, asks for what the sandbox forbids, or does
            not end.
        """
        given = {
            "messages": list(messages),
            "tools": None,  # defined, as transformers has it
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **self._tokens(),
        }
        self._sandbox.begin()
        try:
            parts, size = [], 0
            for part in self._template.generate(given):
                parts.append(part)
                size += len(part)
                if size > _MOST_CHARACTERS:
                    raise InputError(f"writes more than {_MOST_CHARACTERS:,} characters")
            return clean_unicode("".join(parts))
        except Exception as error:  # whatever a program may raise
            raise _failure(error) from None

    def _tokens(self) -> dict[str, str]:
        """The special tokens that there are, by their roles; one that is not is undefined."""
        tokenizer = self.tokenizer
        found = {role: tokenizer.files.named(role) for role in _FURTHER_ROLES}
        found |= {role: getattr(tokenizer, role) for role in _ROLES}
        return {role: token for role, token in found.items() if token is not None}

    def encode(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
    ) -> list[int]:
        """Token ids of a conversation, in which the template's special tokens are special.

        Those that somebody writes into a message are characters, as everywhere here.

        :raises InputError: as `render`.
        """
        safe = self._without_names(messages)
        return self._marked(self.render(safe, add_generation_prompt=add_generation_prompt))

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of what a user says, up to where the model is to answer.

        :raises InputError: as `render`; or if the template makes nothing of it.
        """
        ids = self.encode(self._messages([text]))
        if not ids:
            raise InputError("the chat template of the policy's tokenizer writes nothing")
        return ids

    def encode_reply(self, turns: Sequence[str], *, is_stopped: bool) -> list[int]:
        """Token ids from the end of the model's last turn to where it is to answer again.

        :param turns: the user's and the model's in turn, the user's first and last.
        :param is_stopped: a stop token ends the model's turn already.
        :raises InputError: as `render`; or if the template leaves out what a model says.
        """
        messages = self._messages([*turns[:-2], _ANSWER, turns[-1]])
        safe = self._without_names(messages)
        _, answer, behind = self.render(safe, add_generation_prompt=True).rpartition(_ANSWER)
        if not answer:
            raise InputError("the chat template of the policy's tokenizer leaves an answer out")
        ids = self._marked(behind)
        end = next((at for at, i in enumerate(ids) if i in self.stop_ids), None)
        return ids[end + 1 :] if is_stopped and end is not None else ids

    def encode_answer(self, messages: Sequence[Mapping[str, str]]) -> tuple[list[int], int]:
        """Token ids of a conversation up to the end of its last answer, and where that begins.

        Those in front are `encode` of what is answered: what the model sees where it is to answer,
        whatever the two would be as one text. The last one ends the turn: the template's own
        token, or the stop token where it writes none.

        :param messages: the last of which is the answer.
        :raises InputError: as `render`; or if the template writes an answer elsewhere than where it
            asks for one.
        """
        safe = self._without_names(messages)
        asked = self.render(safe[:-1], add_generation_prompt=True)
        whole = self.render(safe, add_generation_prompt=False)
        if not whole.startswith(asked) or whole == asked:
            raise InputError(
                "the chat template of the policy's tokenizer writes an answer otherwise than it "
                "asks for one, so it cannot be learned"
            )
        prompt, ids = self._marked(asked), self._marked(whole)
        is_start = ids[: len(prompt)] == prompt  # no token reaches across
        answer = ids[len(prompt) :] if is_start else self._marked(whole[len(asked) :])
        end = next((at for at, i in enumerate(answer) if i in self.stop_ids), None)
        closed = [*answer, self.tokenizer.eos_token_id] if end is None else answer[: end + 1]
        return [*prompt, *closed], len(prompt)

    def _messages(self, turns: Sequence[str]) -> list[dict[str, str]]:
        """What a user and a model say in turn, the system message in front."""
        front = [] if self.system is None else [{"role": "system", "content": self.system}]
        roles = itertools.cycle(("user", "assistant"))
        return [
            *front,
            *({"role": role, "content": text} for role, text in zip(roles, turns, strict=False)),
        ]

    def _without_names(self, messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """Messages in which each name of a special token is cut, in a role too, and so is none."""

        def cut(value: Any) -> Any:
            return _CUT.join(cut_names(value, self._special)) if isinstance(value, str) else value

        return [{key: cut(value) for key, value in m.items()} for m in messages]

    def _marked(self, text: str) -> list[int]:
        """Token ids of a rendered text."""
        return [i for part in text.split(_CUT) for i in self.tokenizer.encode_marked(part)]

    def fit_prompt(self, text: str, limit: int) -> tuple[str, list[int], int]:
        """The end of what a user says that takes at most `limit` tokens with all that is around it.

        :return: the text, its ids as `encode_prompt`, and how many tokens the text has lost.
        :raises InputError: if nothing of it is left; as `render`.
        """
        own, ids = self.tokenizer.encode(text), self.encode_prompt(text)
        cut = 0
        while len(ids) > limit:
            cut += len(ids) - limit
            text = self.tokenizer.decode(own[cut:])
            if not text:
                raise InputError(
                    f"expected at most {limit} tokens, and the chat template leaves no room for "
                    "the prompt: raise max_prompt_tokens"
                )
            ids = self.encode_prompt(text)
        return text, ids, cut

    @functools.cached_property
    def stop_ids(self) -> list[int]:
        """The special token that it writes behind an answer; empty where it writes none."""
        said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _ANSWER}]
        try:
            text = self.render(said, add_generation_prompt=False)
        except InputError:  # a template of prompts alone
            return []
        _, answer, behind = text.rpartition(_ANSWER)
        ids = self.tokenizer.encode_marked(behind) if answer else []
        special = (i for i in ids if self.tokenizer.backend.id_to_token(i) in self._special)
        return list(itertools.islice(special, 1))


def check_chat(chat: object, system: object) -> None:
    """Raises unless these two say whether prompts are messages, and of which system message.

    :raises InputError: in one line.
    """
    if not isinstance(chat, bool):
        raise InputError(f"chat must be true or false, got {chat!r:.60}")
    if system is not None and (not isinstance(system, str) or not system):
        raise InputError(f"system must be a text, got {system!r:.60}")
    if system is not None and not chat:
        raise InputError("system is the message in front of a chat: give chat too")
    clean_unicode(system or "")


def with_chat(env_kwargs: Any, chat: bool | None, system: str | None) -> Any:
    """The fields of a task, with those two among them that a verb also takes by themselves.

    :param env_kwargs: a table, or None.
    :param chat, system: None: not given.
    :raises InputError: in one line, for one that is given in both ways, and not as the same.
    """
    given = {k: v for k, v in (("chat", chat), ("system", system)) if v is not None}
    if not given or not isinstance(env_kwargs, dict | None):
        return env_kwargs
    fields = env_kwargs or {}
    for name, value in given.items():
        if fields.get(name, value) != value:
            raise InputError(
                f"{name} is given twice, {value!r:.60} by itself and {fields[name]!r:.60} in "
                "env_kwargs: leave one out"
            )
    return {**fields, **given}


def encode_chats(
    tokenizer: Tokenizer,
    chats: Sequence[Sequence[Mapping[str, str]]],
    *,
    add_generation_prompt: bool = True,
) -> list[list[int]]:
    """Token ids of conversations: `ChatTemplate.encode` of a tokenizer's template.

    :raises InputError: as there.
    """
    template = ChatTemplate(tokenizer)
    return [template.encode(c, add_generation_prompt=add_generation_prompt) for c in chats]


def _again(tokenizer: Tokenizer, system: str | None, today: datetime) -> ChatTemplate:
    return ChatTemplate(tokenizer, system=system, today=today)


def _failure(error: Exception) -> InputError:
    """What a template did wrong, in one line."""
    reason = " ".join(f"{error}".split()) or type(error).__name__
    return InputError(f"the chat template of the policy's tokenizer fails: {reason:.200}")


def _raise(message: str) -> None:
    raise InputError(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """As transformers': without HTML's escapes, which Jinja's own filter writes."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
