"""What was encoded before: embeddings by the content of their pixels and mel frames."""

import threading
from collections import OrderedDict
from hashlib import blake2b
from typing import Any

import numpy as np

from omni.media.embedding import Embedding


class MediaCache:
    """Embeddings of media that were encoded for prompts, the least recently used forgotten first. Safe in threads.

    Args:
        budget: most bytes that embeddings may take.
    """

    def __init__(self, budget: int = 128 << 20):
        self.budget = budget
        self._lock = threading.Lock()
        self._held: OrderedDict[bytes, Embedding] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes) -> Embedding | None:
        """The embedding of a content, if it is held."""
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
            return found

    def salted(self, salt: str) -> "SaltedCache":
        """The part of the cache that callers with the same salt share; without a salt, that of all who have none."""
        return SaltedCache(self, salt)

    def put(self, key: bytes, embedding: Embedding) -> None:
        """Hold an embedding as long as there is memory."""
        size = _size(embedding)
        with self._lock:
            if key in self._held or size > self.budget:
                return
            self._held[key] = embedding
            self._bytes += size
            while self._bytes > self.budget:
                _, oldest = self._held.popitem(last=False)
                self._bytes -= _size(oldest)

    def clear(self) -> None:
        """Forget everything, as after weights have changed."""
        with self._lock:
            self._held.clear()
            self._bytes = 0


class SaltedCache:
    """What some callers share of a cache, so that no other learns by the time an answer takes what they sent.

    Args:
        cache: whose memory it takes.
        salt: of those who share.
    """

    def __init__(self, cache: MediaCache, salt: str):
        self._cache = cache
        self._salt = blake2b(salt.encode(), digest_size=16).digest() if salt else b""

    def get(self, key: bytes) -> Embedding | None:
        """The embedding of a content, if it is held."""
        return self._cache.get(self._salt + key)

    def put(self, key: bytes, embedding: Embedding) -> None:
        """Hold an embedding as long as there is memory."""
        self._cache.put(self._salt + key, embedding)


def content(features: Any) -> bytes:
    """A digest of all that a tower sees of a medium, and of what its embedding tells beside."""
    digest = blake2b(type(features).__name__.encode(), digest_size=32)
    for name, value in vars(features).items():
        digest.update(name.encode())
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).view(np.uint8).data)
        else:
            digest.update(repr(value).encode())
    return digest.digest()


def _size(embedding: Embedding) -> int:
    parts = [embedding] if embedding.audio is None else [embedding, embedding.audio]
    return sum(part.tokens.nbytes + (0 if part.deepstack is None else part.deepstack.nbytes) for part in parts)
