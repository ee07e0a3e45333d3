"""A web server on this machine with the faults that downloads meet."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server has, how it behaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    """Whether it answers Range."""
    tag: str | None = '"one"'
    """ETag."""
    tells_length: bool = True
    """Else the body ends with the connection."""
    cuts: list[int] = field(default_factory=list)
    """After so many bytes the connection is cut, one entry for each answer."""
    statuses: list[int] = field(default_factory=list)
    """Answers with these first."""
    asked: list[str | None] = field(default_factory=list)
    """The Range of every request."""
    url: str = ""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve it on a free port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            site.asked.append(self.headers.get("Range"))
            data = site.files.get(self.path.lstrip("/"))
            if site.statuses:
                self.send_error(site.statuses.pop(0))
                return
            if data is None:
                self.send_error(404)
                return
            found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            same = self.headers.get("If-Range") in (None, site.tag)
            start = int(found[1]) if found and site.ranges and same else 0
            if start >= len(data) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            if site.tells_length:
                self.send_header("Content-Length", str(len(data) - start))
            if site.tag:
                self.send_header("ETag", site.tag)
            self.end_headers()
            body = data[start:]
            self.wfile.write(body[: site.cuts.pop(0)] if site.cuts else body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
