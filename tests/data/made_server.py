"""A server on this machine that serves files as well, and as badly, as it is told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep


@dataclass
class Manner:
    """How a server answers; `requests` are those it had, (path, its Range or "")."""

    content: bytes = b""
    breaks_after: int | None = None  # bytes of one answer, after which it closes the connection
    announces: int | None = None  # a length that is not that of what it sends
    ranges: bool = True  # it can go on where a client says
    redirects_to: str = ""
    code: int = 200
    pause: float = 0.0  # seconds before every `chunk` bytes
    chunk: int = 1 << 16
    endless: bool = False
    requests: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def serving(manner: Manner) -> Iterator[str]:
    """Serve until the block ends; its address, without a slash at the end."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            manner.requests.append((self.path, asked))
            first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and manner.ranges else 0
            self.close_connection = True
            if manner.redirects_to or manner.code != 200:
                self.send_response(302 if manner.redirects_to else manner.code)
                self.send_header("Location", manner.redirects_to)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if first and first >= len(manner.content):
                self.send_error(416)
                return
            sent = manner.content[first:]
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(manner.content) - 1}/{len(manner.content)}")
            if not manner.endless:
                announced = manner.announces if manner.announces is not None else len(sent)
                self.send_header("Content-Length", str(announced))
            self.end_headers()
            try:
                while manner.endless:
                    self.wfile.write(bytes(manner.chunk))
                for at in range(0, min(len(sent), manner.breaks_after or len(sent)), manner.chunk):
                    sleep(manner.pause)
                    self.wfile.write(sent[at : min(at + manner.chunk, manner.breaks_after or len(sent))])
                    self.wfile.flush()
            except OSError:
                pass  # the client has had enough

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
