"""What goes over the wire: the JSON bodies of the label server's routes.

What a rater gets says nothing of who wrote a text, whether the item is gold or asked again, or what
others said.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from textgym.labelling.access import Session
from textgym.reward_models.people.records import (
    SKIP_REASONS,
    Event,
    Item,
    NewItem,
    Progress,
    Refit,
    Reply,
    Showing,
    Text,
)
from textgym.reward_models.people.store import LabelStore


class Body(BaseModel):
    """A body: unknown fields and numbers that are not finite are refused, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


# Lowest and highest. OpenAPI 3.1's own word for a pair is one that validators do not all know.
Scale = Annotated[
    tuple[int, int],
    WithJsonSchema({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}),
]


class NextRequest(Body):
    """POST /api/next: ask for showings.

    :param count: how many, so that the next is there before this one is answered.
    :param held: showings that the page has already.
    """

    count: int = Field(1, ge=1, le=20)
    held: list[int] = Field([], max_length=1000)
    kinds: list[Literal["pair", "rating", "edit"]] = Field(["pair", "rating", "edit"], min_length=1)


class Side(Body):
    """A text on the screen."""

    text: str
    is_cut: bool


class ShowingView(Body):
    """A showing as a rater may see it; `b` is None but for pairs."""

    showing: int
    kind: Literal["pair", "rating", "edit"]
    prompt: str
    a: Side
    b: Side | None
    lang: str
    expires_at: float


class ProgressView(Body):
    """How far the rater is: answered in all, still left, answered in the last 24 hours."""

    answered: int
    left: int
    today: int


class NextReply(Body):
    """Showings, none if there is nothing left, and the progress."""

    showings: list[ShowingView]
    progress: ProgressView


class AnswerRequest(Body):
    """POST /api/answer: see `people.records.Reply` for the fields."""

    showing: int
    key: str = Field(min_length=8, max_length=100)
    choice: Literal["a", "b", "tie", "both_bad", "skip", "rate", "edit"]
    strength: Literal[1, 2] | None = None
    score: float | None = None
    rewrite: str | None = None
    reason: Literal["cannot_judge", "wrong_language", "offensive", "broken", "other"] | None = None
    facts: Literal["a", "b", "both", "neither", "unsure", "right", "wrong"] | None = None
    note: str = ""
    shown_at: float = 0.0
    answered_at: float = 0.0

    def reply(self) -> Reply:
        """As the store takes it."""
        return Reply(**self.model_dump())


class AnswerReply(Body):
    """The answer is on the disk: its id, and the progress."""

    answer: int
    progress: ProgressView


class UndoRequest(Body):
    """POST /api/undo: take back one answer, or the latest one."""

    key: str = Field(min_length=8, max_length=100)
    answer: int | None = None


class UndoReply(Body):
    """The showing that is open again, and what was said; None if there was nothing to undo."""

    showing: ShowingView | None
    progress: ProgressView


class PastAnswer(Body):
    """A standing answer in the rater's own history."""

    answer: int
    showing: ShowingView
    choice: str
    strength: int | None
    score: float | None
    rewrite: str | None
    reason: str | None
    facts: str | None
    note: str
    answered_at: float


class HistoryReply(Body):
    """GET /api/history: the rater's standing answers, newest first."""

    answers: list[PastAnswer]


class SessionReply(Body):
    """GET /api/session: who asks, and what holds for the store.

    :param store: its id, for what a browser keeps.
    """

    rater: str
    is_owner: bool
    store: str
    guidelines: str
    scale: Scale
    asks: list[str]
    skip_reasons: list[str]
    lease: float


class InvitationRequest(Body):
    """POST /api/owner/invitations: an address that opens the page once, for a rater."""

    rater: str = Field(min_length=1, max_length=100)


class InvitationReply(Body):
    """The path with the ticket, to be put behind the server's address."""

    path: str


class TextBody(Body):
    """A text and who wrote it."""

    text: str
    source: dict[str, Any] = {}
    is_cut: bool = False


class ItemBody(Body):
    """An item to be added: see `people.records.NewItem`."""

    prompt: str
    texts: list[TextBody] = Field(min_length=1, max_length=2)
    kind: Literal["pair", "rating", "edit"] = "pair"
    key: str | None = None
    priority: float = 0.0
    gold: Literal["first", "second", "tie", "both_bad"] | None = None
    query: str = ""
    lang: str = ""

    def item(self) -> NewItem:
        """As the store takes it."""
        values = {name: getattr(self, name) for name in ItemBody.model_fields}
        texts = tuple(Text(**text.model_dump()) for text in self.texts)
        return NewItem(**(values | {"texts": texts}))


class StoredItem(ItemBody):
    """An item of the store."""

    id: int
    added_at: float
    is_open: bool

    @classmethod
    def of(cls, item: Item) -> "StoredItem":
        """As it goes over the wire."""
        texts = [TextBody(**{**vars(text), "source": dict(text.source)}) for text in item.texts]
        return cls(**(vars(item) | {"texts": texts}))


class ItemsRequest(Body):
    """POST /api/items."""

    items: list[ItemBody] = Field(max_length=10_000)


class IdsReply(Body):
    """Ids of what was added, in order."""

    ids: list[int]


class IdsRequest(Body):
    """POST /api/items/close: nobody is asked about these any more."""

    ids: list[int] = Field(max_length=100_000)


class ItemsReply(Body):
    """GET /api/items?since=ID&limit=N."""

    items: list[StoredItem]


class EventBody(Body):
    """A line of the log: see `people.records.Event`."""

    id: int
    item: int
    showing: int
    rater: str
    key: str
    choice: str | None
    winner: str | None
    strength: int | None
    score: float | None
    rewrite: str | None
    reason: str | None
    facts: str | None
    note: str
    is_swapped: bool
    is_repeat: bool
    shown_at: float
    answered_at: float
    received_at: float
    undoes: int | None

    @classmethod
    def of(cls, event: Event) -> "EventBody":
        """As it goes over the wire."""
        return cls(**vars(event))


class EventsReply(Body):
    """GET /api/events?since=ID&limit=N."""

    events: list[EventBody]


class RefitRequest(Body):
    """POST /api/refits: a reward model was fitted to these answers."""

    run: str = Field(max_length=1000)
    step: int
    answers: list[int]
    details: dict[str, Any] = {}


class RefitReply(Body):
    """The id of the refit."""

    id: int


class RefitBody(RefitRequest):
    """A refit of the store."""

    id: int
    at: float

    @classmethod
    def of(cls, refit: Refit) -> "RefitBody":
        """As it goes over the wire."""
        return cls(
            **(vars(refit) | {"answers": list(refit.answers), "details": dict(refit.details)})
        )


class RefitsReply(Body):
    """GET /api/refits?run=NAME."""

    refits: list[RefitBody]


class SettingsReply(Body):
    """GET /api/settings: what holds for the whole store, seed included."""

    raters: int
    scale: Scale
    guidelines: str
    asks: tuple[str, ...]
    repeats: float
    gold: float
    seed: int
    id: str


def showing_view(showing: Showing) -> ShowingView:
    """A showing without all that a rater must not know."""
    sides = [Side(text=text.text, is_cut=text.is_cut) for text in showing.on_screen]
    return ShowingView(
        showing=showing.id,
        kind=showing.item.kind,
        prompt=showing.item.prompt,
        a=sides[0],
        b=sides[1] if len(sides) > 1 else None,
        lang=showing.item.lang,
        expires_at=showing.expires_at,
    )


def progress_view(progress: Progress) -> ProgressView:
    """As it goes over the wire."""
    return ProgressView(**vars(progress))


def session_view(session: Session, store: LabelStore) -> SessionReply:
    """Who asks, and what the page needs to know of the store."""
    settings = store.settings
    return SessionReply(
        rater=session.rater,
        is_owner=session.is_owner,
        store=settings.id,
        guidelines=settings.guidelines,
        scale=settings.scale,
        asks=list(settings.asks),
        skip_reasons=list(SKIP_REASONS),
        lease=store.lease,
    )
