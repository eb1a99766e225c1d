"""A task: everything that defines a text game, in one frozen object."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from textgym.async_rewards import is_async
from textgym.chat_templates import ChatTemplate, check_chat
from textgym.checks import check_numbers
from textgym.constraints import AnyConstraint, as_constraint
from textgym.envs.replies import (
    DIALOGUE_COLUMNS,
    REPLY_ARGUMENTS,
    ReplyFunction,
    check_reply_arguments,
)
from textgym.envs.texts.prompts import Prompts, PromptSource, check_rows, check_source
from textgym.errors import InputError, unknown_name
from textgym.reward_answers import LARGEST_SCORE
from textgym.rewards import Reward, asked_rewards, check_arguments, check_reward
from textgym.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What one registers: prompts, reward, budget and the rules of the end.

    :param id: the environment's id, for errors and logs.
    :param prompts: see `PromptSource`.
    :param heldout_prompts: prompts that no training draws, in the same forms: what held-out
        evaluations continue (`textgym.train(evaluations=...)`).
    :param reward: the reward model, an object (see `textgym.rewards`).
    :param tokenizer: text to ids and back; default: one token a byte.
    :param max_new_tokens: the budget: tokens that the player writes in an episode, the stop token
        counted. Meeting it ends the episode as a text that is scored as it stands.
    :param stop: strings that end the text like the stop token; the completion is cut before them.
        One that names a special token of the tokenizer ends it as that token.
    :param constraint: which completions are allowed (`textgym.constraints`), in a dialogue which
        turns: policies then choose among the tokens that it leaves, and the text ends where it
        matches. The environment itself takes any token. A text may still meet the budget before it
        matches: `finish_reason` "length", and `unfinished_score` if given.
    :param unfinished_score: the reward of a text that meets the budget; the reward model is not
        asked about it.
    :param max_prompt_tokens: the longest prompt; fixes the width of the observation.
    :param truncate_prompt: cut over-long prompts at their start instead of refusing them.
    :param chat: each prompt is a user's message, which the player answers: it sees the prompt as
        the chat template of `tokenizer` writes it, and the text ends with the template's end of a
        turn too. The reward model and reports get the prompt as it is. In a dialogue so with the
        replies.
    :param system: with `chat`: the system message in front of each prompt.
    :param reply: for dialogues. After each stop, `reply(prompt, turns)` gives the environment's
        next words, a `Reply` (words, pay for the turn, whether the game is over), or None to end;
        `turns` are the texts so far, the player's first. What else it may ask for, and how it is
        asked for many rows at once: `textgym.envs.replies`. Needs `max_context`.
    :param max_context: the width of the observation in tokens. A full one truncates the episode.
    :param reward_timeout: seconds that the reward model may take for a batch.
    :param reward_retries: how often it is asked again about a batch after it raised or hung. Scores
        that the contract forbids are an error at once.
    :param reward_workers: calls of the reward model at a time, in threads, while the rollout goes
        on; 0: one call when it is over. None: 16 for an `async def` one, 0 for others.
    :raises InputError: for a field that makes no sense.
    """

    id: str
    prompts: Prompts
    reward: Reward
    tokenizer: Tokenizer = field(default_factory=Tokenizer.byte)
    max_new_tokens: int = 64
    stop: str | Sequence[str] | None = None
    constraint: AnyConstraint | None = None
    unfinished_score: float | None = None
    max_prompt_tokens: int | None = None
    truncate_prompt: bool = False
    reply: ReplyFunction | None = None
    max_context: int | None = None
    reward_timeout: float | None = None
    reward_retries: int = 0
    reward_workers: int | None = None
    heldout_prompts: Prompts | None = None
    chat: bool = False
    system: str | None = None

    def __post_init__(self) -> None:
        check_source(self.prompts)
        if self.heldout_prompts is not None:
            check_source(self.heldout_prompts, "heldout_prompts")
        if isinstance(self.heldout_prompts, list | tuple):  # others are read where they are played
            check_rows(self.heldout_prompts, "heldout_prompts")
        object.__setattr__(self, "reward", check_reward(self.reward))
        if not isinstance(self.tokenizer, Tokenizer):
            raise InputError(
                f"tokenizer must be a textgym.Tokenizer, got {type(self.tokenizer).__name__}: "
                "Tokenizer.load opens the one of a checkpoint directory"
            )
        object.__setattr__(self, "constraint", as_constraint(self.constraint))
        if self.reply is not None and self.constraint is not None and not self.constraint.after:
            raise InputError(
                "in a dialogue a constraint holds for each turn of the player, so it must be seen "
                "where one begins: give the constraint after='the text that ends the prompts and "
                "all replies'"
            )
        check_numbers(vars(self))
        if self.max_new_tokens is None:
            raise InputError("max_new_tokens must be a whole number, at least 1, got None")
        if not isinstance(self.truncate_prompt, bool):
            raise InputError(f"truncate_prompt must be true or false, got {self.truncate_prompt!r}")
        check_chat(self.chat, self.system)
        if self.reply is not None and not callable(self.reply):
            raise InputError(f"reply must be a function, got {self.reply!r:.60}")
        if is_async(self.reply):
            raise InputError(
                f"reply must be an ordinary function, got the async def {self.reply!r:.60}: write "
                "def, and asyncio.run(...) inside; one that names prompts is asked for many rows "
                "at once"
            )
        for text in self.stop_strings:
            if not isinstance(text, str) or not text:
                raise InputError(f"stop must be a text or a list of texts, got {self.stop!r:.60}")
        score = self.unfinished_score
        is_score = isinstance(score, int | float) and not isinstance(score, bool)
        if score is not None and not (is_score and abs(score) <= LARGEST_SCORE):
            raise InputError(
                f"unfinished_score must be a number up to ±{LARGEST_SCORE:g} or None, got {score!r}"
            )
        if self.reply is not None and self.tokenizer.ends_prompts:
            raise InputError(
                "a task with reply is a dialogue, and the policy is an encoder with a decoder, "
                "which reads one prompt, once: take a causal language model"
            )
        if self.reply is not None and self.max_context is None:
            raise InputError(
                "a task with reply needs max_context: the width of the observation must be known"
            )

    @property
    def calls_beside(self) -> int:
        """`reward_workers` as a number."""
        if self.reward_workers is None:
            return 16 if getattr(self.reward, "is_async", False) else 0
        return self.reward_workers

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """`stop` as a tuple."""
        if self.stop is None:
            return ()
        return tuple(self.stop) if isinstance(self.stop, list | tuple) else (self.stop,)  # type: ignore[return-value]

    def chat_template(self) -> ChatTemplate | None:
        """What writes the prompts for the player; None where they stand as they are.

        :raises InputError: see `ChatTemplate` and its `checked`.
        """
        if not self.chat:
            return None
        return ChatTemplate(self.tokenizer, system=self.system).checked()

    def prompt_source(self) -> PromptSource:
        """The prompts, read, encoded and checked.

        :raises InputError: see `PromptSource`; also if the context has no room for a prompt.
        """
        limit = self.max_prompt_tokens
        if self.max_context is not None:
            limit = min(self.max_context - 1, limit or self.max_context)
        return PromptSource(
            self.prompts,
            self.tokenizer,
            max_prompt_tokens=limit,
            truncate_prompt=self.truncate_prompt,
            chat=self.chat_template(),
            reserved=() if self.reply is None else REPLY_ARGUMENTS,
        )

    def check_arguments(self, source: PromptSource) -> None:
        """Raises unless the reward model and the reply function get all that they ask for.

        :param source: the task's prompts; the columns of a function's are known only when drawn.
        :raises InputError: naming who asks for what.
        """
        if not len(source):
            return
        columns = list(source.all()[0].columns)
        if self.reply is not None:
            check_reply_arguments(self.id, self.reply, columns)
            columns += DIALOGUE_COLUMNS
        for reward in asked_rewards(self.reward):
            check_arguments(reward, columns)

    def width(self, source: PromptSource) -> int:
        """Columns of an observation: the longest prompt and the budget, or `max_context`."""
        return self.max_context or source.max_tokens + self.max_new_tokens

    def __deepcopy__(self, memo: dict[int, Any]) -> "Task":
        """Itself: a task never changes, and a copied environment asks the same reward model."""
        return self


def check_fields(names: Sequence[str]) -> None:
    """Whether all names are fields of a task.

    :raises UnknownNameError: for the first that is not; it proposes the nearest one.
    """
    known = [f.name for f in fields(Task) if f.name != "id"]
    for name in names:
        if name not in known:
            raise unknown_name("field of a task", name, known)
