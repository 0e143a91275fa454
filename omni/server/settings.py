"""How a server is set up."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from omni.errors import InputError
from processors import Limits, Sources

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ServerSettings:
    """What an operator decides.

    Attributes:
        name: what the model is called in requests; the last part of what it was loaded from when None.
        api_keys: requests must bring one of them; none is asked for when empty.
        host: address that is listened on.
        hosts: names that requests may address the server by; loopback names where it listens on such, else any.
        cors_origins: origins whose pages may call; none by default.
        folders: folders that messages may name files of; none by default.
        max_batch: most replies that are written at the same time.
        max_queue: most requests that wait beyond those.
        max_length: tokens of a conversation with its reply that each of `max_batch` has memory for.
        max_new_tokens: most tokens of a reply, and as many where a request names no number.
        request_seconds: seconds that a request may take, its media and its wait included.
        body_bytes: most bytes of a JSON body.
        upload_bytes: most bytes of an upload of audio.
        body_seconds: seconds that a body may take to arrive, and one more for each 64 KiB of it.
        share_cache: let all API keys share what was read before.
        log_prompts: write requests' bodies into the log.
        warm_up: compile every program before `/ready` says yes.
        trained_dimensions: lengths that embeddings may be cut to, where the checkpoint does not say.
    """

    name: str | None = None
    api_keys: Sequence[str] = ()
    host: str = "127.0.0.1"
    hosts: Sequence[str] = ()
    cors_origins: Sequence[str] = ()
    folders: Sequence[str | os.PathLike[str]] = ()
    max_batch: int = 16
    max_queue: int = 64
    max_length: int = 4096
    max_new_tokens: int = 2048
    request_seconds: float = 600.0
    body_bytes: int = 64 << 20
    upload_bytes: int = 1 << 30
    body_seconds: float = 30.0
    share_cache: bool = False
    log_prompts: bool = False
    warm_up: bool = True
    trained_dimensions: Sequence[int] = ()

    def __post_init__(self) -> None:
        if any(not key or key != key.strip() or not key.isascii() for key in self.api_keys):
            raise InputError("bad_api_key", "an API key must be ASCII, without spaces around it, and not empty")

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """Names that requests may address the server by; empty for any.

        A page of another site whose name was made to lead to this machine is refused by it.
        """
        names = tuple(name.lower() for name in self.hosts)
        return names or (LOOPBACK if self.host in LOOPBACK else ())

    @property
    def sources(self) -> Sources:
        """Where media of messages may come from: the public internet, and named folders."""
        return Sources(folders=tuple(self.folders), private=False)

    @property
    def limits(self) -> Limits:
        """How much a medium of a message may take."""
        return Limits(
            source_bytes=self.body_bytes,
            image_bytes=self.body_bytes,
            fetch_bytes=self.body_bytes,
            fetch_seconds=30.0,
            silence_seconds=10.0,
            image_pixels=50_000_000,
            sampled_frames=768,
        )
