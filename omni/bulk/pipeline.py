"""The loop of a bulk job: items are read and decoded ahead, in processes apart, while others are encoded."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from threading import BoundedSemaphore

from omni.bulk.contents import Contents, fetched
from omni.bulk.items import Item
from omni.bulk.manifest import Part
from omni.bulk.results import Result, Sink
from omni.bulk.vectors import Content, VectorEncoder
from omni.errors import InputError
from omni.media.encoder import MediaEncoder
from processors.decode.pool import keep_decoders
from processors.features import Processors, isolated_features
from processors.io.access import Access
from processors.io.sources import describe, held

Encoded = Generator[tuple[Part, list[Result]], None, None]
"""The results of batches, in their order, each with its part."""
# Threads beside those that wait for a decoder: they wait for servers.
_FETCHERS = 8


class Reader:
    """Reads and decodes items, so many at a time, each in a process apart.

    Args:
        processors: what is read, and how.
        access: limits and source policy.
        workers: most processes that decode at a time.
    """

    def __init__(self, processors: Processors, access: Access, workers: int):
        self._processors = processors
        self._access = replace(access, deadline=access.deadline.child(), isolate=False)
        keep_decoders(workers)
        self.workers, self._slots = workers, BoundedSemaphore(workers)
        self._contents = Contents()
        self._pool = ThreadPoolExecutor(workers + _FETCHERS, "read")

    def submit(self, item: Item) -> "Future[Content]":
        """Begin to read an item; what tables and archives hold is read at once, in their order."""
        try:
            content = self._contents.of(item)
        except Exception as error:
            failed: Future[Content] = Future()
            failed.set_result(_refusal(error, item))
            return failed
        return self.submit_content(item, content)

    def submit_content(self, item: Item, content: str | bytes) -> "Future[Content]":
        """Begin to read what an item holds: a text, a medium's bytes, or where they lie."""
        return self._pool.submit(self._read, item, content)

    def close(self) -> None:
        """End whatever is being read."""
        self._access.deadline.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, item: Item, content: str | bytes) -> Content:
        if item.kind == "text":
            return str(content)
        try:
            source = held(fetched(content, item, self._access), self._access)
            with self._slots:
                return isolated_features(source, describe(source), self._processors, self._access)
        except Exception as error:
            return _refusal(error, item)


def _refusal(error: Exception, item: Item) -> InputError:
    """The error of one item, whatever a library raised on it."""
    if isinstance(error, InputError):
        return error
    return InputError("media_failed", f"{describe(item.id)} could not be read: {type(error).__name__}")


def processors_of(media: MediaEncoder) -> Processors:
    """Return the settings by which a model's media are read, of the towers that were loaded."""
    return Processors(
        image=media.image.config if media.vision is not None else None,
        video=media.video.config if media.vision is not None else None,
        audio=media.audio.config if media.audio_tower is not None else None,
        absent="no_media",
    )


def encode_parts(parts: Iterable[Part], reader: Reader, encoder: VectorEncoder, batch_size: int) -> Encoded:
    """Encode parts batch by batch, and yield the results of each batch with the part that it is cut from.

    A batch never reaches from one part into another, so that a part comes out the same whatever was done before it.
    Memory stays flat: beside the batch that is encoded, two batches are read ahead at the most, or one and two items
    for each process where those are more.
    """
    ahead = deque[tuple[Part, Sequence[Item], list[Future[Content]]]]()
    batches = batches_of(parts, batch_size)
    most, reading = batch_size + max(batch_size, 2 * reader.workers), 0

    def read_on() -> None:
        nonlocal reading
        while reading == 0 or reading + batch_size <= most:
            batch = next(batches, None)
            if batch is None:
                return
            ahead.append((*batch, [reader.submit(item) for item in batch[1]]))
            reading += len(batch[1])

    try:
        read_on()
        while ahead:
            part, items, futures = ahead.popleft()
            contents = [future.result() for future in futures]
            reading -= len(items)
            del futures
            read_on()
            yield part, encoder.encode(items, contents)
    finally:
        reader.close()


def write_parts(encoded: Encoded, sink: Sink) -> Generator[list[Result], None, None]:
    """Write what was encoded, and yield the results of each batch once they are written."""
    written = 0
    try:
        for part, results in encoded:
            if not written:
                sink.begin(part)
            results = sink.write(results)
            written += len(results)
            if written == len(part.items):
                sink.commit()
                written = 0
            yield results
    finally:
        encoded.close()
        sink.close()


def batches_of(parts: Iterable[Part], batch_size: int) -> Iterator[tuple[Part, Sequence[Item]]]:
    """Cut parts into what is encoded together."""
    for part in parts:
        for start in range(0, len(part.items), batch_size):
            yield part, part.items[start : start + batch_size]
