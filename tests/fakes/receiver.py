"""A webhook receiver on loopback, in a thread of its own."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
from standardwebhooks import Webhook
from typing_extensions import override


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """One POST; `verified` says whether the tenant's secret signed these bytes."""

    path: str
    headers: dict[str, str]
    body: bytes
    verified: bool

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self):
        return json.loads(self.body)


class Receiver:
    """What has come so far."""

    def __init__(self, port: int, secret: str) -> None:
        self.port = port
        self.webhooks: list[Received] = []
        self._verifier = Webhook(secret)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def note(self, path: str, headers: dict[str, str], body: bytes) -> None:
        try:
            self._verifier.verify(body, headers)
            verified = True
        except Exception:  # noqa: BLE001 (whatever it raises, it did not verify)
            verified = False
        self.webhooks.append(Received(path=path, headers=headers, body=body, verified=verified))


@contextmanager
def running_receiver(secret: str) -> Iterator[Receiver]:
    """Yield a receiver that answers 204; `secret` is what it verifies signatures with."""
    receiver: Receiver

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.note(self.path, headers, body)
            self.send_response(204)
            self.end_headers()

        @override
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_address[1], secret)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join(10)
