"""A chat-completions server with one of our own models behind it, which can be made to fail.

The model's next-token probabilities choose among the answers that are allowed, as servers do that
constrain what a model may write. `faults` is a list of what goes wrong with the next requests.
"""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch


class ChatServer:
    """Listens on a free port of this machine until it is closed.

    :param lm: a `CausalLM`.
    :param choices: one-token answers that it may give.

    `requests` are the bodies and headers that came; `faults` are taken one per request, None for
    none: a status; a pair of status and headers; "stall", "half", "drop", "drip" (never done) or
    "not json"; or ("say", text) for an answer.
    """

    def __init__(self, lm, choices):
        self.lm, self.choices = lm, choices
        self.requests, self.faults = [], []
        self.at_once = self.most_at_once = 0
        self.meeting = None  # a threading.Barrier that requests wait at
        self.ends = threading.Event()
        self._lock, self._count = threading.Lock(), threading.Lock()
        self._start(0)

    def _start(self, port):
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *arguments: None  # clients hang up
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def answer(self, text):
        """The likeliest of the choices after a text."""
        tokens = self.lm.tokenizer.encode(text, add_special_tokens=True)
        ids = [self.lm.tokenizer.encode(choice)[0] for choice in self.choices]
        with torch.no_grad(), self._lock:
            logits = self.lm(torch.tensor([tokens[-self.lm.config.max_position_embeddings :]]))
        return self.choices[int(logits[0, -1, ids].argmax())]

    @contextlib.contextmanager
    def counted(self):
        """Count who is served at the same time."""
        with self._count:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.meeting is not None:
                self.meeting.wait(timeout=60)
            yield
        finally:
            with self._count:
                self.at_once -= 1

    def stop(self):
        """From here on nobody listens there."""
        self.ends.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def start_again(self):
        """Listen at the same port."""
        self.ends.clear()
        self._start(self.port)

    def _handler(self):
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with owner._lock:
                    owner.requests.append(
                        {"path": self.path, "body": body, "headers": self.headers}
                    )
                    fault = owner.faults.pop(0) if owner.faults else None
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.reply(body, fault)

            def reply(self, body, fault):
                said = None
                if isinstance(fault, int):
                    fault = (fault, {})
                if fault in ("stall", "drip"):
                    if fault == "drip":
                        self.begin(200, 1000)
                    while not owner.ends.wait(0.02):
                        if fault == "drip":
                            self.wfile.write(b" ")
                    self.close_connection = True
                    return
                if fault == "drop":
                    self.close_connection = True
                    return
                if isinstance(fault, tuple) and fault[0] == "say":
                    said = fault[1]
                elif isinstance(fault, tuple):
                    status, headers = fault
                    error = {"message": f"no: {self.headers.get('Authorization')}"}
                    content = json.dumps({"error": error}).encode()
                    self.begin(status, len(content), headers)
                    self.wfile.write(content)
                    return
                text = "\n".join(message["content"] for message in body["messages"])
                if said is None:
                    with owner.counted():
                        said = owner.answer(text)
                message = {"role": "assistant", "content": said}
                usage = {"prompt_tokens": len(text.split()), "completion_tokens": 1}
                content = json.dumps({"choices": [{"message": message}], "usage": usage}).encode()
                if fault == "not json":
                    content = b"<html>busy</html>"
                self.begin(200, len(content))
                if fault == "half":
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                    return
                self.wfile.write(content)

            def begin(self, status, length, headers=()):
                self.send_response(status)
                for name, value in dict(headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.flush()

            def log_message(self, *arguments):
                pass

        return Handler


@contextlib.contextmanager
def chat_server(lm, choices):
    """A server that is stopped afterwards."""
    server = ChatServer(lm, choices)
    try:
        yield server
    finally:
        if not server.ends.is_set():
            server.stop()
