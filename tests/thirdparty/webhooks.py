"""A receiver of the broker's events, which believes what the reference library of Standard Webhooks
(`standardwebhooks`) verifies, and nothing else."""

import base64
import contextlib
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

BODY_BYTES_MAX = 65536


class Receiver:
    """What came, as it came."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/events"
        self.secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        self.received: list[tuple[dict[str, str], bytes]] = []

    def verified(self, place: int, *, but_with: bytes | None = None) -> dict:
        """The event at that place; raises unless its signature holds for these bytes."""
        headers, body = self.received[place]
        return Webhook(self.secret).verify(but_with or body, headers)


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = min(int(self.headers["content-length"]), BODY_BYTES_MAX)
            running.received.append((dict(self.headers), self.rfile.read(length)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running = Receiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
