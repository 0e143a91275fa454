"""Names of media: addresses, data URIs, paths, streams."""

import base64
import gzip
import http.server
import io
import os
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from processors import Access, Deadline, Limits, Sources, load_image
from tests.reliability import media
from tests.reliability.corpus.table import Either, Refused, Table, Value, demo

CASES = Table("source")
LOCAL = Access(sources=Sources(private=True))
STRICT = Access(sources=Sources(private=False))
READ = Value(lambda pixels: pixels.shape == (48, 64, 3))
PRIVATE = """
127.0.0.1 127.1 127.0.0.1. 2130706433 0x7f.1 0x7f000001 017700000001 0 0.0.0.0 localhost LOCALHOST localhost. 10.0.0.1
10.255.255.255 172.16.0.1 172.31.255.254 192.168.1.1 169.254.169.254 169.254.0.1 100.64.0.1 100.127.255.255 192.0.0.1
192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 [::1] [::]
[::ffff:127.0.0.1] [::ffff:10.0.0.1] [::ffff:a9fe:a9fe] [::127.0.0.1] [64:ff9b::7f00:1] [64:ff9b::a00:1]
[2002:7f00:1::] [2002:a00:1::1] [fe80::1] [fec0::1] [fc00::1] [fd00:ec2::254] [ff02::1] [2001:db8::1]
[0:0:0:0:0:ffff:7f00:1] 127%2E0%2E0%2E1 ①27.0.0.1
""".split()


class Handler(http.server.BaseHTTPRequestHandler):
    """A server with odd ways."""

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        body, path = media.image_bytes(), self.path
        if path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", path.partition("?to=")[2])
            self.end_headers()
            return
        if path.startswith("/status"):
            self.send_error(int(path[7:10]))
            return
        headers = {}
        if path.startswith("/gzip"):
            body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
        if path.startswith("/notgzip"):
            headers = {"Content-Encoding": "gzip"}
        if path.startswith("/bomb"):
            body, headers = gzip.compress(bytes(1 << 24)), {"Content-Encoding": "gzip"}
        length = len(body) + (500 if path.startswith("/short") else 0)
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        if not path.startswith("/nolength"):
            self.send_header("Content-Length", "x" if path.startswith("/badlength") else str(length))
        self.end_headers()
        self.wfile.write(b"" if path.startswith("/nothing") else body)


@cache
def server() -> str:
    """The address of a server on this machine."""
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{running.server_port}"


def local(source: Any) -> Any:
    return load_image(source, access=LOCAL)


for host in PRIVATE:
    CASES.add(
        f"address {host}",
        lambda h=host: f"http://{h}:9/x.png",
        lambda url: load_image(url, access=STRICT),
        Refused("source_address", "source_url", "source_download"),
    )
for path in (
    "/a.png",
    "/图片.png",
    "/a b.png",
    "/a%20b.png",
    "/café.png?q=ü",
    "/gzip",
    "/nolength",
    "/a.png#part",
    "/moved?to=/a.png",
):
    CASES.add(f"GET {path}", lambda p=path: server() + p, local, READ)
for path in ("/notgzip", "/short", "/status404", "/status500", "/status204", "/nothing"):
    CASES.add(f"GET {path}", lambda p=path: server() + p, local, Refused("source_download", "source_empty"))
CASES.add(
    "a redirect to itself",
    lambda: server() + "/moved?to=/moved?to=/moved?to=/moved?to=/moved?to=/moved?to=/moved?to=/m",
    local,
    Refused("source_download"),
)
for target in ("file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://127.0.0.1/"):
    CASES.add(f"a redirect to {target}", lambda t=target: f"{server()}/moved?to={t}", local, Refused("source_scheme"))
CASES.add(
    "a compressed body over the limit",
    lambda: server() + "/bomb",
    lambda url: load_image(url, access=Access(Limits(fetch_bytes=1 << 20), Sources(private=True))),
    Refused("source_too_large"),
)
for url in (
    "http://",
    "http:///x",
    "http://[broken",
    "http://user:secret@127.0.0.1/x",
    "http://host name/",
    "http://a:99999/",
    "http://a:port/",
    "http://\0/",
    "http://..",
    "https://-/",
    "http://" + "a" * 300 + ".example/",
):
    CASES.add(f"address {url[:40]!r}", lambda u=url: u, local, Refused("source_url", "source_download"))
for url in (
    "ftp://127.0.0.1/x",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "gopher://a/",
    "rtsp://a/",
    "concat://a",
    "pipe://0",
):
    CASES.add(f"scheme of {url}", lambda u=url: u, local, Refused("source_scheme"))


def padded() -> bytes:
    """A picture whose base64 ends with two signs, and holds both special letters."""
    data = media.image_bytes(media.picture(seed=2))
    return data + b"\xfb\xff" * 3 + bytes((1 - len(data) - 6) % 3)


TEXT = base64.b64encode(padded()).decode()
for name, uri in {
    "as it should be": "data:image/png;base64," + TEXT,
    "without padding": "data:image/png;base64," + TEXT.rstrip("="),
    "URL-safe": "data:image/png;base64," + base64.urlsafe_b64encode(padded()).decode(),
    "spaced": " data:image/png; base64," + TEXT,
    "in capitals": "DATA:IMAGE/PNG;BASE64," + TEXT,
    "in lines": "data:image/png;base64," + "\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76)),
    "percent-encoded": "data:image/png;base64," + TEXT.replace("+", "%2B").replace("=", "%3D"),
    "without a type": "data:;base64," + TEXT,
    "with a charset": "data:image/png;charset=utf-8;base64," + TEXT,
    "of another type": "data:text/html;base64," + TEXT,
}.items():
    CASES.add(f"data URI {name}", lambda u=uri: u, load_image, READ)
for name, uri, code in (
    ("of nothing", "data:image/png;base64,", "source_empty"),
    ("of signs", "data:image/png;base64,####", "source_bad_data_uri"),
    ("without a comma", "data:image/png;base64", "source_bad_data_uri"),
    ("of one letter", "data:;base64,A", "source_bad_data_uri"),
    ("alone", "data:", "source_bad_data_uri"),
    ("of text", "data:,hello", "image_unknown_format"),
    ("of letters that are not ASCII", "data:image/png;base64,äöü", "source_bad_data_uri"),
    ("of text and half a surrogate pair", "data:image/png,%89\udce8", "source_bad_data_uri"),
    ("of half a surrogate pair", "data:image/png;base64,\ud800", "source_bad_data_uri"),
):
    CASES.add(f"data URI {name}", lambda u=uri: u, load_image, Refused(code, "source_bad_data_uri"))
CASES.add(
    "bare base64",
    TEXT,
    load_image,
    Either(READ, Refused("source_unreadable", "source_not_found", "source_bare_base64")),
)
for name, source in (
    ("nowhere", "no such file.png"),
    ("in no folder", "no/such/folder.png"),
    ("with a zero", "a\0b"),
    ("of 5,000 letters", "x" * 5000),
    ("of nothing", ""),
    ("a folder", "."),
    ("a device", os.devnull),
    ("zeros without end", "/dev/zero"),
    ("half a surrogate pair", "\ud800.png"),
    ("bytes in a path", b"a.png".decode()),
    ("a home", "~/nothing.png"),
):
    CASES.add(
        f"path: {name}",
        lambda s=source: s,
        load_image,
        Refused("source_not_found", "source_unreadable", "source_not_a_file", "source_empty"),
    )


def pipe() -> str:
    os.mkfifo("pipe.png")
    return "pipe.png"


def looped() -> str:
    os.symlink("loop.png", "loop.png")
    return "loop.png"


def odd_name() -> Path:
    path = Path(os.fsdecode(b"odd-\xff-name.png"))
    path.write_bytes(media.image_bytes())
    return path


def unreadable() -> io.RawIOBase:
    class Stream(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            raise RuntimeError("a private thing at 0x7f0000000000")

    return Stream()


def text_stream() -> io.StringIO:
    return io.StringIO("words")


def closed_stream() -> io.BytesIO:
    stream = io.BytesIO(media.image_bytes())
    stream.close()
    return stream


def endless() -> io.RawIOBase:
    class Stream(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return bytes(max(size, 1 << 16))

    return Stream()


def opened() -> Any:
    file = tempfile.TemporaryFile()
    file.write(media.image_bytes())
    file.seek(7)
    return file


REFUSED = Refused("source_*")
CASES.add("a pipe", pipe, load_image, REFUSED)
CASES.add("a link to itself", looped, load_image, REFUSED)
CASES.add("a name that is not UTF-8", odd_name, load_image, READ)
CASES.add("a path that is missing, as bytes of a name", lambda: Path(os.fsdecode(b"\xff\xfe")), load_image, REFUSED)
CASES.add("an open file, not at its start", opened, load_image, READ)
CASES.add("a stream in memory", lambda: io.BytesIO(media.image_bytes()), load_image, READ)
CASES.add("a stream that raises", unreadable, load_image, REFUSED)
CASES.add("a stream of text", text_stream, load_image, REFUSED)
CASES.add("a closed stream", closed_stream, load_image, REFUSED)
CASES.add(
    "a stream without an end",
    endless,
    lambda stream: load_image(stream, access=Access(Limits(source_bytes=1 << 20))),
    Refused("source_too_large"),
)
CASES.add("no bytes", b"", load_image, Refused("source_empty"))
CASES.add("a bytearray", lambda: bytearray(media.image_bytes()), load_image, READ)
CASES.add("a memoryview", lambda: memoryview(media.image_bytes()), load_image, READ)
CASES.add(
    "a memoryview with steps",
    lambda: memoryview(bytes(b for b in media.image_bytes() for _ in "12"))[::2],
    load_image,
    Either(READ, REFUSED),
)
CASES.add(
    "a file over the limit",
    lambda: media.image_bytes(),
    lambda data: load_image(data, access=Access(Limits(source_bytes=50))),
    Refused("source_too_large"),
)
CASES.add(
    "a message's address on this machine",
    lambda: [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x"}}]}],
    lambda messages: demo().prepare(messages),
    Refused("source_address", "source_download"),
)
CASES.add(
    "a file outside the folders",
    lambda: "/etc/hostname",
    lambda path: load_image(path, access=Access(sources=Sources.remote())),
    Refused("source_not_allowed"),
)
CASES.add(
    "a deadline that has passed",
    lambda: server() + "/a.png",
    lambda url: load_image(url, access=Access(sources=Sources(private=True), deadline=Deadline(1e-9))),
    Refused("deadline"),
)
for fields in (
    {"image_pixels": 0},
    {"fetch_seconds": -1},
    {"media_tokens": "5"},
    {"redirects": None},
    {"audio_seconds": np.nan},
):
    CASES.add(f"limits of {fields}", lambda f=fields: f, lambda f: Limits(**f), Refused("bad_limits"))
for fields in ({"schemes": ["gopher"]}, {"hosts": 5}, {"folders": 5}, {"hosts": [""]}, {"schemes": None}):
    CASES.add(f"policy of {fields}", lambda f=fields: f, lambda f: Sources(**f), Refused("bad_sources"))
for seconds in (0, -1, float("nan")):
    CASES.add(f"deadline of {seconds} s", lambda s=seconds: s, Deadline, Refused("bad_deadline"))
