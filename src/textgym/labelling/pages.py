"""The pages: where a ticket becomes a session, the question, and the owner's overview."""

from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from textgym.labelling import schemas
from textgym.labelling.access import Access
from textgym.labelling.guard import ENTRANCE
from textgym.labelling.sessions import Owner, Rater, session_of
from textgym.labelling.summary_schemas import SummaryReply
from textgym.labelling.words import catalogue, language_for, languages
from textgym.reward_models.people.store import LabelStore
from textgym.reward_models.people.summary import summarize

TEMPLATES = Path(__file__).parent / "templates"
LANGUAGE_COOKIE = "textgym_language"


def add_pages(app: FastAPI, store: LabelStore, access: Access) -> None:
    """Add the routes of the pages."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    templates = Jinja2Templates(env=environment)
    names = [(tag, catalogue(tag)["language"]) for tag in languages()]

    def page(request: Request, name: str, **values: Any) -> HTMLResponse:
        cookie, accepted = request.cookies.get(LANGUAGE_COOKIE), request.headers
        language = language_for(cookie, accepted.get("accept-language"))
        values |= {"language": language, "languages": names, "words": catalogue(language)}
        guidelines = store.settings.guidelines
        return templates.TemplateResponse(request, name, values | {"guidelines": guidelines})

    @app.get(ENTRANCE)
    def enter(request: Request, ticket: str = "") -> HTMLResponse:
        session = access.redeem(ticket)
        if session is None:
            raise HTTPException(401, "this address was used already, or is none: ask for a new one")
        store.join(session.rater)
        # A page that goes on, not a redirect: after a click elsewhere a redirect would arrive
        # without the cookie, which is for requests from our own pages only.
        response = page(request, "entered.html", rater=session.rater)
        response.set_cookie(
            access.cookie_name,
            access.cookie(session),
            max_age=30 * 86_400,
            httponly=True,
            samesite="strict",
        )
        return response

    @app.get("/")
    def label(request: Request, rater: Rater) -> HTMLResponse:
        view = schemas.session_view(session_of(request), store)
        return page(request, "label.html", options=view.model_dump())

    @app.get("/owner")
    def owner(request: Request, session: Owner) -> HTMLResponse:
        rng = np.random.default_rng(0)
        summary = summarize(store.items(), store.events(), store.settings, rng)
        report = SummaryReply.of(summary, store.settings.raters)
        return page(request, "owner.html", report=report)
