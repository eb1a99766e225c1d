"""Running the label server: who is let in where, and what is printed."""

import os
import resource
import socket
from collections.abc import Sequence
from typing import Any

from textgym.counts import count_of
from textgym.errors import InputError
from textgym.labelling.access import Access, Session
from textgym.labelling.app import make_app
from textgym.labelling.guard import ENTRANCE, LOOPBACK
from textgym.reward_models.people.client import address_path
from textgym.reward_models.people.store import LabelStore
from textgym.reward_models.people.token_file import token_path
from textgym.storage import write_json_atomically

LOOPBACK_ADDRESSES = ("127.0.0.1", "::1", "localhost")


def serve(
    store: LabelStore,
    token: str,
    *,
    host: str,
    port: int,
    owner: str,
    raters: Sequence[str] = (),
    names: Sequence[str] = (),
) -> None:
    """Serve a store until interrupted, after printing an address for everybody.

    :param host: the address to listen on.
    :param port: 0 takes a free one.
    :param owner: the name that the owner's own answers are stored under.
    :param raters: names of others, each of whom gets an address that works once.
    :param names: further names that this machine is reached by.
    :raises InputError: if it cannot listen there.
    """
    import uvicorn

    access = Access(token, store.settings.id)
    app = make_app(store, access, hosts=[*LOOPBACK, host, *names])
    listener = listen(host, port)
    shown = f"[{host}]" if ":" in host else names[0] if names else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    write_json_atomically(address_path(store.path), {"url": url, "pid": os.getpid()})
    sessions = [Session(owner, True), *(Session(rater, False) for rater in raters)]
    held = f"{count_of(len(store.items()), 'item')}, {count_of(len(store.events()), 'event')}"
    print(f"{store.path}: {held}")
    for session in sessions:
        address = f"{url}{ENTRANCE}?ticket={access.ticket(session)}"
        print(f"  {session.rater}: {address}")
    print("  Each address opens once, in the browser that is to stay signed in; Ctrl-C ends.")
    print(f"  For training elsewhere: {url}, token in {token_path(store.path)}", flush=True)
    _allow_connections()
    try:
        uvicorn.Server(uvicorn_config(app)).run(sockets=[listener])
    except KeyboardInterrupt:  # the way to end it
        print(f"{store.path}: {len(store.events())} events kept", flush=True)
    finally:
        listener.close()
        address_path(store.path).unlink(missing_ok=True)


def uvicorn_config(app: Any, port: int = 0) -> Any:
    """How the server runs: no line of its log holds an address, for addresses hold tickets."""
    import uvicorn

    return uvicorn.Config(
        app,
        port=port,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=5,
    )


def _allow_connections() -> None:
    """More open connections than the usual 1,024: slow ones must not keep others out."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if most == resource.RLIM_INFINITY else min(8192, most)
    if limit != resource.RLIM_INFINITY and limit < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def check_host(host: str, is_public: bool) -> None:
    """Raises unless only this machine listens, or the user knows that others can.

    :raises InputError: for another address without consent.
    """
    if host not in LOOPBACK_ADDRESSES and not is_public:
        raise InputError(
            f"host {host!r:.60} can be reached from other machines, over plain HTTP: better leave "
            "it out and use `ssh -L`; if that network is trusted, add --public"
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    :param port: 0 takes a free one.
    :raises InputError: if it cannot listen there.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (socket.gaierror, UnicodeError, OverflowError):
        raise InputError(f"host must be a name or an address, got {host!r:.60}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen on port {port} of {host!r:.60} ({error.strerror}): take another port "
            "(0: a free one)"
        ) from None
    return listener


def require_extra() -> None:
    """Raises unless what the server needs is installed.

    :raises InputError: naming the extra.
    """
    try:
        import fastapi  # noqa: F401
        import jinja2  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"the label server needs {error.name}: install the extra, pip install 'textgym[label]'"
        ) from None
