"""Whether anything connects to an address that is not on the public internet."""

import os
import socket
import threading
from contextlib import contextmanager
from typing import Any

from tests.reliability.corpus.sources import PRIVATE
from tests.reliability.corpus.table import demo, user


@contextmanager
def watched() -> Any:
    """Notes every address that this process wants to connect or send to; nothing leaves it."""
    wanted: list[Any] = []

    def refuse(self: Any, *given: Any) -> Any:
        wanted.append(given[-1])
        raise OSError("nothing leaves this process")

    names = ("connect", "connect_ex", "sendto", "bind")
    kept = {name: getattr(socket.socket, name) for name in names}
    for name in names:
        setattr(socket.socket, name, refuse)
    try:
        yield wanted
    finally:
        for name in names:
            setattr(socket.socket, name, kept[name])


def sockets() -> int:
    """Sockets of the internet's kinds that this process holds, those of its libraries too."""
    known: set[str] = set()
    for name in ("tcp", "tcp6", "udp", "udp6", "raw"):
        try:
            with open(f"/proc/self/net/{name}") as table:
                known |= {line.split()[9] for line in table.readlines()[1:]}
        except OSError:
            continue
    count = 0
    for entry in os.listdir("/proc/self/fd"):
        try:
            place = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        count += place.startswith("socket:[") and place[8:-1] in known
    return count


@contextmanager
def listening() -> Any:
    """A server on this machine that counts who connects to it."""
    arrived: list[Any] = []
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)
    ended = threading.Event()

    def accept() -> None:
        while not ended.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            arrived.append(connection)
            connection.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], arrived
    finally:
        ended.set()
        thread.join()
        server.close()


def _refused(call: Any) -> None:
    from omni import CheckpointError, InputError

    try:
        call()
    except (InputError, CheckpointError):
        pass


def forbidden() -> tuple[int, list[str]]:
    """Tries every address in every place where one may stand; returns how many, and those that were connected to."""
    from processors import Access, Sources, load_audio, load_image, load_video, sniff

    strict = Access(sources=Sources(private=False))
    readers = [
        lambda url: load_image(url, access=strict),
        lambda url: load_audio(url, access=strict),
        lambda url: load_video(url, access=strict),
        lambda url: sniff(url, access=strict),
    ]
    faults, tried = [], 0
    for number, host in enumerate(PRIVATE):
        url = f"http{'s' * (number % 2)}://{host}:8123/x.png"
        with watched() as wanted:
            _refused(lambda url=url, read=readers[number % 4]: read(url))
            part = {"type": "image_url", "image_url": {"url": url}}
            _refused(lambda part=part: demo().prepare(user(part, "What?")))
        tried += 1
        faults += [f"{host}: {address}" for address in wanted]
    return tried, faults


def playlists() -> tuple[int, list[str]]:
    """Tries lists and descriptions that name an address of this machine: nothing may arrive, no socket may open."""
    from processors import load_audio, load_video

    forms = (
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n# é\n#EXTINF:9,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\n# é\nfile http://127.0.0.1:{port}/a.mp4\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=é\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        '<?xml version="1.0"?><!-- é --><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT9S"><Period><BaseURL>http://127.0.0.1:{port}/</BaseURL><AdaptationSet '
        'mimeType="video/mp4"><Representation id="1" bandwidth="9"><BaseURL>a.mp4</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>",
        "RTSPtextrtsp://127.0.0.1:{port}/é\n",
    )
    faults = []
    with listening() as (port, arrived):
        for form in forms:
            data = form.replace("{port}", str(port)).encode()
            for read in (load_video, load_audio):
                before, most, ended = sockets(), [0], threading.Event()

                def count(most=most, ended=ended) -> None:
                    while not ended.wait(0.01):
                        most[0] = max(most[0], sockets())

                watcher = threading.Thread(target=count)
                watcher.start()
                _refused(lambda read=read, data=data: read(data))
                ended.set()
                watcher.join()
                if arrived or most[0] > before:
                    faults.append(f"{form[:20]!r}: {len(arrived)} connections, {most[0] - before} sockets opened")
                    arrived.clear()
    return 2 * len(forms), faults
