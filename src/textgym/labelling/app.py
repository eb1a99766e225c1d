"""The label server's application: routes for raters, for the owner and for training processes.

A 2xx reply to an answer means that it is on the disk. Every error is `{"error": "one line"}`: 401,
403, 408, 413, 415 and 421 by the guard, 400 for what is no JSON, 403 for what is the owner's, 409
where something else is stored already, 422 for a body that does not fit, 507 if nothing can be
written (keep the answer and send it again with the same key).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from textgym.errors import InputError, StorageError
from textgym.labelling import schemas
from textgym.labelling.access import Access, Session
from textgym.labelling.guard import ENTRANCE, LOOPBACK, Guard
from textgym.labelling.pages import add_pages
from textgym.labelling.sessions import Anyone, Owner, Rater
from textgym.labelling.summary_schemas import SummaryReply
from textgym.reward_models.people.store import ConflictError, LabelStore
from textgym.reward_models.people.summary import summarize

HERE = Path(__file__).parent
Since = Annotated[int, Query(ge=0)]
Limit = Annotated[int, Query(ge=1, le=10_000)]


def make_app(store: LabelStore, access: Access, *, hosts: Iterable[str] = LOOPBACK) -> Guard:
    """The guarded application over an open store.

    :param access: knows the token and the tickets.
    :param hosts: names that the server is reached by, without the port.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    _add_errors(app)
    add_pages(app, store, access)
    _add_rater_routes(app, store)
    _add_owner_routes(app, store, access)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    return Guard(app, access, hosts)


def _add_errors(app: FastAPI) -> None:
    def reply(status: int, error: str) -> JSONResponse:
        return JSONResponse({"error": error}, status)

    @app.exception_handler(StarletteHTTPException)
    def refused(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return reply(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        return reply(422, f"{place}: {first['msg']}" if place else str(first["msg"]))

    @app.exception_handler(ConflictError)
    def conflict(request: Request, error: ConflictError) -> JSONResponse:
        return reply(409, str(error))

    @app.exception_handler(InputError)
    def wrong(request: Request, error: InputError) -> JSONResponse:
        return reply(422, str(error))

    @app.exception_handler(StorageError)
    def unwritten(request: Request, error: StorageError) -> JSONResponse:
        return reply(507, str(error))


def _add_rater_routes(app: FastAPI, store: LabelStore) -> None:
    def progress(rater: str) -> schemas.ProgressView:
        return schemas.progress_view(store.progress(rater))

    @app.get("/api/session")
    def session(session: Anyone) -> schemas.SessionReply:
        return schemas.session_view(session, store)

    @app.post("/api/next")
    def next_showings(body: schemas.NextRequest, rater: Rater) -> schemas.NextReply:
        showings = store.next(rater, body.count, held=body.held, kinds=body.kinds)
        return schemas.NextReply(
            showings=[schemas.showing_view(showing) for showing in showings],
            progress=progress(rater),
        )

    @app.post("/api/answer")
    def answer(body: schemas.AnswerRequest, rater: Rater) -> schemas.AnswerReply:
        event = store.answer(rater, body.reply())
        return schemas.AnswerReply(answer=event.id, progress=progress(rater))

    @app.post("/api/undo")
    def undo(body: schemas.UndoRequest, rater: Rater) -> schemas.UndoReply:
        undone = store.undo(rater, body.key, body.answer)
        showing = None if undone is None else schemas.showing_view(undone[1])
        return schemas.UndoReply(showing=showing, progress=progress(rater))

    @app.get("/api/history")
    def history(
        rater: Rater, limit: Annotated[int, Query(ge=1, le=500)] = 50
    ) -> schemas.HistoryReply:
        what = ("choice", "strength", "score", "rewrite", "reason", "facts")
        names = (*what, "note", "answered_at")
        return schemas.HistoryReply(
            answers=[
                schemas.PastAnswer(
                    answer=event.id,
                    showing=schemas.showing_view(showing),
                    **{name: getattr(event, name) for name in names},
                )
                for event, showing in store.history(rater, limit)
            ]
        )

    @app.get("/api/progress")
    def rater_progress(rater: Rater) -> schemas.ProgressView:
        return progress(rater)


def _add_owner_routes(app: FastAPI, store: LabelStore, access: Access) -> None:
    @app.post("/api/owner/invitations")
    def invite(body: schemas.InvitationRequest, owner: Owner) -> schemas.InvitationReply:
        store.join(body.rater)
        ticket = access.ticket(Session(body.rater, is_owner=False))
        return schemas.InvitationReply(path=f"{ENTRANCE}?ticket={ticket}")

    @app.get("/api/owner/summary")
    def summary(owner: Owner) -> SummaryReply:
        found = summarize(store.items(), store.events(), store.settings, np.random.default_rng(0))
        return SummaryReply.of(found, store.settings.raters)

    @app.get("/api/settings")
    def settings(owner: Owner) -> schemas.SettingsReply:
        return schemas.SettingsReply(**vars(store.settings))

    @app.post("/api/items")
    def add_items(body: schemas.ItemsRequest, owner: Owner) -> schemas.IdsReply:
        return schemas.IdsReply(ids=store.add_items([item.item() for item in body.items]))

    @app.post("/api/items/close")
    def close_items(body: schemas.IdsRequest, owner: Owner) -> schemas.IdsReply:
        store.close_items(body.ids)
        return schemas.IdsReply(ids=body.ids)

    @app.get("/api/items")
    def items(owner: Owner, since: Since = 0, limit: Limit = 1000) -> schemas.ItemsReply:
        found = store.items(since, limit)
        return schemas.ItemsReply(items=[schemas.StoredItem.of(item) for item in found])

    @app.get("/api/events")
    def events(owner: Owner, since: Since = 0, limit: Limit = 1000) -> schemas.EventsReply:
        found = store.events(since, limit)
        return schemas.EventsReply(events=[schemas.EventBody.of(event) for event in found])

    @app.post("/api/refits")
    def add_refit(body: schemas.RefitRequest, owner: Owner) -> schemas.RefitReply:
        number = store.add_refit(body.run, body.step, body.answers, body.details)
        return schemas.RefitReply(id=number)

    @app.get("/api/refits")
    def refits(owner: Owner, run: str | None = None) -> schemas.RefitsReply:
        return schemas.RefitsReply(
            refits=[schemas.RefitBody.of(refit) for refit in store.refits(run)]
        )
