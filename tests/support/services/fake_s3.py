"""A folder served as an S3 bucket on the loopback: as much of the protocol as listing and reading takes (for tests)."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bucket"


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Yield the URI of a bucket that holds what is in ``folder``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Silent."""

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            address = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(address.query).items()}
            key = unquote(address.path).removeprefix(f"/{BUCKET}").strip("/")
            if "list-type" in query:
                self._send(200, listing(folder, query.get("prefix", "")), "application/xml", body=body)
            elif (folder / key).is_file():
                self._send_file((folder / key).read_bytes(), body=body)
            else:
                self._send(200 if not key else 404, b"", "application/xml", body=body)

        def _send_file(self, content: bytes, *, body: bool) -> None:
            asked = self.headers.get("Range")
            if asked is None or not body:
                self._send(200, content, "application/octet-stream", body=body)
                return
            first, last = (int(word) for word in asked.removeprefix("bytes=").split("-"))
            part = content[first : last + 1]
            place = {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(content)}"}
            self._send(206, part, "application/octet-stream", body=True, more=place)

        def _send(
            self, code: int, content: bytes, kind: str, *, body: bool, more: dict[str, str] | None = None
        ) -> None:
            self.send_response(code)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(more or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = quote(f"127.0.0.1:{server.server_port}", safe="")
    try:
        yield f"s3://user:secret@{BUCKET}?scheme=http&endpoint_override={address}&region=nowhere"
    finally:
        server.shutdown()
        server.server_close()


def listing(folder: Path, prefix: str) -> bytes:
    """Return S3's listing of the files right below ``prefix``."""
    files = sorted(file for file in (folder / prefix).glob("*") if file.is_file()) if (folder / prefix).is_dir() else []
    entries = "".join(
        f"<Contents><Key>{escape(str(file.relative_to(folder)))}</Key><Size>{file.stat().st_size}</Size>"
        "<LastModified>2020-01-01T00:00:00.000Z</LastModified></Contents>"
        for file in files
    )
    counts = f"<IsTruncated>false</IsTruncated><KeyCount>{len(files)}</KeyCount>"
    start = '<?xml version="1.0" encoding="UTF-8"?>'
    return f"{start}<ListBucketResult>{counts}{entries}</ListBucketResult>".encode()
