"""A server of files by ranges, which can be slow, fail and misbehave.

compare_sources.py measures with it, and the tests use it.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """The files of a server, and how it misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)  # path -> content
    latency: float = 0  # seconds before each answer
    failures: list[int] = field(default_factory=list)  # the status of each of the next answers
    cut: int = 0  # how many of the next answers end in the middle
    with_ranges: bool = True
    with_size: bool = True
    version: str = "1"  # sent as ETag; empty: none is sent
    password: str = ""  # that the query must hold
    requests: Counter[str] = field(default_factory=Counter)  # method -> how many came
    at_a_time: int = 0  # how many requests were answered at the same time, at most
    lock: threading.Lock = field(default_factory=threading.Lock)
    being_answered: int = 0
    is_gone: bool = False  # connections that are still open are closed without an answer
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    served: Served
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def _answer(self, *, with_content: bool) -> None:
        served = self.served
        if served.is_gone:
            self.close_connection = True
            return
        with served.lock:
            served.requests[self.command] += 1
            served.being_answered += 1
            served.at_a_time = max(served.at_a_time, served.being_answered)
            status = served.failures.pop(0) if served.failures else 0
        time.sleep(served.latency)
        try:
            self._send(status, with_content=with_content)
        finally:
            with served.lock:
                served.being_answered -= 1

    def _send(self, status: int, *, with_content: bool) -> None:
        served = self.served
        path, _, query = self.path.partition("?")
        if not status and served.password and served.password not in query:
            status = 403
        if not status and path not in served.files:
            status = 404
        if status:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = served.files[path]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and served.with_ranges:
            size = len(content)
            start, stop = int(wanted[1]), min(int(wanted[2] or size) + 1, size)
            content = content[start:stop]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        else:
            self.send_response(200)
        if served.with_size:
            self.send_header("Content-Length", str(len(content)))
        else:
            self.send_header("Connection", "close")
        if served.version:
            self.send_header("ETag", f'"{served.version}"')
        self.end_headers()
        if with_content:
            self._write(content)

    def _write(self, content: bytes) -> None:
        with self.served.lock:
            is_cut = self.served.cut > 0
            self.served.cut -= is_cut
        self.wfile.write(content[: len(content) // 2] if is_cut else content)
        if is_cut:
            self.close_connection = True

    def log_message(self, *_arguments: Any) -> None:
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 64


@contextmanager
def serving() -> Iterator[Served]:
    """Serve files over HTTP."""
    served = Served()
    handler = type("Handler", (_Handler,), {"served": served})
    with _Server(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield served
        finally:
            served.is_gone = True
            server.shutdown()
            thread.join()
