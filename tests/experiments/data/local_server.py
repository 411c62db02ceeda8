"""An HTTP server on this machine that answers as well, or as badly, as it is told."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What is served, and how.

    Attributes:
        files: contents by name.
        ranges: whether the Range header is understood.
        cut: bytes after which each of the next answers breaks off, one entry an answer; then whole ones.
        wrong_range: answer every range from its beginning plus one.
        requests: (name, Range header) of every request.
    """

    files: dict[str, bytes]
    ranges: bool = True
    cut: list[int] = field(default_factory=list)
    wrong_range: bool = False
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@contextlib.contextmanager
def served(site: Site) -> Iterator[Site]:
    """The site at 127.0.0.1, on a port of the system's choice."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing on the terminal."""

        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            wanted = self.headers.get("Range")
            site.requests.append((name, wanted))
            if name not in site.files:
                self.send_error(404)
                return
            whole = site.files[name]
            begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and site.ranges else 0
            if begin and begin >= len(whole):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(whole)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if begin:
                begin += site.wrong_range
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{len(whole) - 1}/{len(whole)}")
            else:
                self.send_response(200)
            rest = whole[begin:]
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: site.cut.pop(0)] if site.cut else rest)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
