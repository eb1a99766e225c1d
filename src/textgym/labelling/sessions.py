"""Whose request a route answers, as an argument of its function: `rater: Rater`, `owner: Owner`."""

from typing import Annotated

from fastapi import Depends, HTTPException, Request

from textgym.labelling.access import Session


def session_of(request: Request) -> Session:
    """The session that the guard has set."""
    return request.state.session  # type: ignore[no-any-return]


Anyone = Annotated[Session, Depends(session_of)]


def rater_of(session: Anyone) -> str:
    """The rater's name; 403 for a training process."""
    if not session.rater:
        raise HTTPException(403, "for raters: open the page with an address of your own")
    return session.rater


def owner_of(session: Anyone) -> Session:
    """The owner's session; 403 for another's."""
    if not session.is_owner:
        raise HTTPException(403, "for the owner of the store")
    return session


Rater = Annotated[str, Depends(rater_of)]
Owner = Annotated[Session, Depends(owner_of)]
