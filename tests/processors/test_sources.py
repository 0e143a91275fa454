"""Where media come from, and what they are taken for."""

import base64
import contextlib
import gzip
import io
import os
import socket
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from processors import Access, Deadline, InputError, Limits, Sources, load_image
from processors.io import policy
from processors.io.sources import describe, open_source, read_source

DATA = b"twelve bytes"
RESOLVE = socket.getaddrinfo
# The tests' server is on this machine, which media may not name unless they are allowed to.
LOCAL = Access(sources=Sources(private=True))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", self.path.split("to=", 1)[1])
            self.end_headers()
            return
        if self.path == "/nowhere":
            self.send_response(302)
            self.end_headers()
            return
        if self.path.startswith("/drip"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(1000):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            return
        if self.path.startswith(("/gzip", "/deflate", "/br")):
            encoding, _, form = self.path[1:].partition("?")
            body = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)(DATA)
            # Without zlib's header of 2 bytes and its checksum of 4, as some servers send it.
            body = body[2:-4] if form == "raw" else body
            self.send_response(200)
            self.send_header("Content-Encoding", encoding)
            self.end_headers()
            self.wfile.write(body)
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA) + (5 if self.path == "/short" else 0)))
        self.end_headers()
        self.wfile.write(DATA)

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def refused(source, access=LOCAL):
    with pytest.raises(InputError) as refusal:
        read_source(source, access)
    assert len(str(refusal.value)) <= 500 and " at 0x" not in str(refusal.value)
    return refusal.value


def test_every_way_to_name_bytes(tmp_path, server):
    path = tmp_path / "a file"
    path.write_bytes(DATA)
    encoded = base64.b64encode(DATA).decode()
    forms = [path, str(path), DATA, bytearray(DATA), memoryview(DATA), f"{server}/file", f"{server}/moved?to=/file"]
    forms += [f"data:image/png;base64,{encoded}", f"DATA:;base64,{encoded[:7]}\n{encoded[7:]}", "data:,twelve%20bytes"]
    for source in forms:
        assert read_source(source, LOCAL) == DATA
        with open_source(source, LOCAL) as stream:
            assert stream.read(3) == DATA[:3] and stream.seek(0) == 0 and stream.read() == DATA


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("no such file", "source_not_found"),
        ("no such folder/file", "source_not_found"),
        ("a\0b", "source_unreadable"),
        ("x" * 5000, "source_unreadable"),
        (os.devnull, "source_not_a_file"),
        (os.curdir, "source_not_a_file"),
        ("file:///etc/passwd", "source_scheme"),
        ("FTP://127.0.0.1/x", "source_scheme"),
        ("concat://a", "source_scheme"),
        (b"", "source_empty"),
        ("data:image/png;base64,", "source_empty"),
        ("data:image/png;base64,####", "source_bad_data_uri"),
        ("data:image/png;base64,QUJDR", "source_bad_data_uri"),
        ("data:image/png", "source_bad_data_uri"),
        ("http://127.0.0.1:9/nothing", "source_download"),
        ("http://[broken", "source_url"),
        ("http://user:secret@127.0.0.1/x", "source_url"),
        ("http:///x", "source_url"),
        ("http://host name/x", "source_url"),
        ("iVBORw0KGgoAAAANSUhEUgAAACgAAAAoCAIAAAADnC86AAAS80lEQVR4nAHoEhftAV+CwnpNKTbU", "source_unreadable"),
    ],
)
def test_what_cannot_be_read_is_refused(source, code):
    assert refused(source).code == code


@pytest.mark.parametrize("path", ["/missing", "/short", "/br", "/nowhere", "/moved?to=/moved?to=/moved?to=/moved"])
def test_downloads_that_fail_are_refused(path, server):
    assert refused(server + path).code == "source_download"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_no_redirect_can_leave_the_web(url, server):
    assert refused(f"{server}/moved?to={url}").code == "source_scheme"


@pytest.mark.parametrize(
    "path", ["/图片.png", "/a b.png", "/a%20b.png", "/café.png?q=ü", " /spaced", "/gzip", "/deflate", "/deflate?raw"]
)
def test_addresses_as_people_copy_them(path, server):
    assert read_source(f" {server}{path.strip()} ", LOCAL) == DATA


PRIVATE = """127.0.0.1 127.1 2130706433 0x7f.1 017700000001 0 0.0.0.0 localhost 10.0.0.1 10.255.255.255 172.16.0.1
172.31.255.254 192.168.1.1 169.254.169.254 169.254.0.1 100.64.0.1 100.127.255.255 192.0.0.1 192.0.2.1 198.18.0.1
198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 [::1] [::] [::ffff:127.0.0.1]
[::ffff:10.0.0.1] [::ffff:a9fe:a9fe] [::127.0.0.1] [64:ff9b::7f00:1] [64:ff9b::a00:1] [2002:7f00:1::]
[2002:a00:1::1] [fe80::1] [fec0::1] [fc00::1] [fd00:ec2::254] [ff02::1] [2001:db8::1]""".split()


@pytest.mark.parametrize("host", PRIVATE)
def test_no_address_of_a_private_network_is_connected_to(host, monkeypatch):
    connected = []
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, lambda self, address: connected.append(address))
    # The tests' own guard stands in front of the resolver; numbers need none.
    monkeypatch.setattr(socket, "getaddrinfo", RESOLVE)
    assert refused(f"http://{host}/x", Access(sources=Sources(private=False))).code == "source_address"
    assert connected == []


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_allowed(address):
    assert policy.is_public(address)


def test_a_name_that_resolves_to_a_private_address_is_refused_at_every_hop(server, monkeypatch):
    port = int(server.rsplit(":", 1)[1])
    public, private = "http://public.example", "http://private.example"
    looked_up = []

    def resolve(host, *_, **__):
        looked_up.append(host)
        # The first name passes for a public one, though this machine's server answers for it.
        address = "127.0.0.1" if host == "public.example" else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(policy, "is_public", lambda address: address == "127.0.0.1")
    access = Access(sources=Sources(private=False))
    assert read_source(f"{public}/x", access) == DATA
    assert refused(f"{public}/moved?to={private}/x", access).code == "source_address"
    # Each name is looked up once a hop: what was checked is what is connected to.
    assert looked_up == ["public.example", "public.example", "private.example"]


def test_hosts_may_be_listed(server):
    listed = Access(sources=Sources(hosts=["*.example.org", "EXAMPLE.net."], private=True))
    assert refused(server, listed).code == "source_not_allowed"
    for host in ("a.example.org", "example.net"):
        listed.sources.check_host(host, "it")
    for host in ("example.org", "example.org.evil.net", "badexample.org"):
        with pytest.raises(InputError):
            listed.sources.check_host(host, "it")
    assert read_source(server, Access(sources=Sources(hosts="127.0.0.1", private=True))) == DATA


def test_folders_may_be_listed(tmp_path):
    inside, outside = tmp_path / "in" / "a file", tmp_path / "b"
    inside.parent.mkdir()
    inside.write_bytes(DATA)
    outside.write_bytes(DATA)
    (tmp_path / "in" / "link").symlink_to(outside)
    access = Access(sources=Sources(folders=[tmp_path / "in"]))
    for source in (inside, str(inside), inside.as_uri(), f"file://localhost{inside.as_uri()[7:]}"):
        assert read_source(source, access) == DATA
    link, up = tmp_path / "in" / "link", f"{tmp_path}/in/../b"
    for source in (outside, str(outside), outside.as_uri(), link, str(link), up):
        assert refused(source, access).code == "source_not_allowed"
    assert refused(inside, Access(sources=Sources.remote())).code == "source_not_allowed"
    assert refused(inside.as_uri()).code == "source_scheme"
    assert refused(f"file://elsewhere{inside.as_uri()[7:]}", access).code == "source_url"


def test_schemes_may_be_listed(server):
    access = Access(sources=Sources(schemes=["https"], private=True))
    for source in (f"{server}/x", "data:,x"):
        assert refused(source, access).code == "source_scheme"


@pytest.mark.parametrize("form", ["{}", "{}/", "{host}"])
def test_the_environments_proxy_fetches(form, server, monkeypatch):
    """It gets the whole address, knows names that nobody here does, and may itself be on a private network."""
    asked = []
    monkeypatch.setattr(Handler, "log_request", lambda self, *_: asked.append(self.requestline))
    monkeypatch.setenv("http_proxy", form.format(server, host=server.removeprefix("http://")))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert read_source("http://known.example/x?y", Access(sources=Sources(private=False))) == DATA
    assert asked == ["GET http://known.example/x?y HTTP/1.1"]
    monkeypatch.setenv("no_proxy", "known.example")
    assert refused("http://known.example/x?y").code == "source_download"
    monkeypatch.setenv("no_proxy", "")
    assert refused("http://127.0.0.1/x", Access(sources=Sources(private=False))).code == "source_address"
    assert len(asked) == 1


@pytest.mark.parametrize("path", ["/drip", "/moved?to=/drip"])
def test_a_drip_does_not_outlive_the_deadline(path, server):
    began = time.monotonic()
    limited = Access(Limits(fetch_seconds=0.3), Sources(private=True))
    assert refused(server + path, limited).code == "source_download"
    assert refused(server + path, Access(sources=Sources(private=True), deadline=Deadline(0.3))).code == "deadline"
    assert time.monotonic() - began < 40  # the whole body takes fifty seconds


def test_a_fetch_is_cancelled_from_another_thread(server):
    deadline = Deadline()
    threading.Timer(0.3, deadline.cancel).start()
    began = time.monotonic()
    assert refused(f"{server}/drip", Access(sources=Sources(private=True), deadline=deadline)).code == "cancelled"
    assert time.monotonic() - began < 40


def test_a_silent_server_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert refused(url, Access(Limits(silence_seconds=0.3), Sources(private=True))).code == "source_download"


@pytest.mark.parametrize("form", ["gzip", "deflate"])
def test_a_compressed_body_is_limited_when_it_is_decompressed(form, server):
    assert refused(f"{server}/{form}", Access(Limits(fetch_bytes=11), Sources(private=True))).code == "source_too_large"


class OnceOnly(io.RawIOBase):
    """A stream that cannot go back, such as the body of a request."""

    def __init__(self):
        self._rest = io.BytesIO(DATA)

    def readable(self):
        return True

    def read(self, size=-1):
        return self._rest.read(size)


def test_streams_are_read_from_their_beginning_and_left_alone(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb") as file, io.BytesIO(DATA) as memory:
        once = OnceOnly()
        memory.seek(4)
        file.seek(4)
        for stream in (file, memory, once, once):
            assert read_source(stream) == DATA
        assert file.tell() == memory.tell() == 4
    with path.open() as text, open(os.devnull, "wb") as writer:
        for stream in (file, memory, text, io.StringIO("text"), writer):
            assert refused(stream).code == "source_unreadable"


@pytest.mark.parametrize(
    "form",
    [
        "data:image/png;base64,{padded}",
        "data:image/png;base64,{bare}",
        "data:image/png;base64,{safe}",
        "data:image/png; base64,{padded}",
        " data:image/png;base64,{padded}",
        "data:;base64,{percent}",
        "DATA:;BASE64,{padded}",
    ],
)
def test_base64_in_the_forms_it_comes_in(form):
    data = bytes(range(250, 256)) * 3 + b"x"
    padded = base64.b64encode(data).decode()
    assert "+" in padded and padded.endswith("==")
    forms = {"padded": padded, "bare": padded.rstrip("="), "safe": base64.urlsafe_b64encode(data).decode()}
    assert read_source(form.format(**forms, percent=padded.replace("+", "%2B").replace("=", "%3D"))) == data


@pytest.mark.parametrize("count", range(1, 9))
def test_base64_of_any_length_needs_no_padding(count):
    data = bytes(range(count))
    padded = base64.b64encode(data).decode()
    for text in (padded, padded.rstrip("=")):
        assert read_source(f"data:;base64,{text}") == data
    assert refused(f"data:;base64,{padded.rstrip('=')[: 4 * (count // 3)]}A").code == "source_bad_data_uri"


@pytest.mark.parametrize(
    "fields",
    [
        {"image_pixels": 0},
        {"fetch_seconds": -1},
        {"template_seconds": float("nan")},
        {"media_tokens": True},
        {"redirects": -1},
    ],
)
def test_limits_are_numbers_above_0(fields):
    with pytest.raises(InputError) as refusal:
        Limits(**fields)
    assert refusal.value.code == "bad_limits"


@pytest.mark.parametrize("fields", [{"schemes": ["gopher"]}, {"hosts": [""]}])
def test_policies_are_checked(fields):
    with pytest.raises(InputError) as refusal:
        Sources(**fields)
    assert refusal.value.code == "bad_sources"


def test_empty_files(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    assert refused(path).code == "source_empty"


def test_nothing_larger_than_the_limit_is_held(server, tmp_path):
    access = Access(Limits(source_bytes=8), Sources(private=True))
    for source in (DATA, f"{server}/file", "data:,twelve%20bytes", io.BytesIO(DATA), "data:;base64," + "A" * 60):
        assert refused(source, access).code == "source_too_large"
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with pytest.raises(InputError) as refusal:
        open_source(path, max_bytes=8)
    assert refusal.value.code == "source_too_large"
    with open_source(path) as stream:  # a local file is read piece by piece
        assert stream.read() == DATA


def test_messages_name_what_was_given_and_no_more(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(InputError) as refusal:
        load_image("notes.txt")
    assert "'notes.txt'" in str(refusal.value) and str(tmp_path) not in str(refusal.value)
    assert describe("data:image/png;base64,QUJD") == "the data URI"
    assert "0x" not in describe(object()) + describe(io.BytesIO())
    assert len(describe("y" * 5000)) < 200
