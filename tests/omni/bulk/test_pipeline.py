"""The loop of a job, with a reader and an encoder that only count: what is read ahead, and in which order."""

from concurrent.futures import Future
from typing import Any

import pytest

from omni.bulk.items import Item
from omni.bulk.manifest import Part
from omni.bulk.pipeline import Reader, encode_parts, write_parts
from omni.bulk.results import Result
from omni.bulk.vectors import VectorEncoder


class CountingReader(Reader):
    """Has read everything at once, and counts what nobody has encoded yet."""

    def __init__(self, workers: int):
        self.workers, self.waiting, self.most, self.closed = workers, 0, 0, False

    def submit(self, item: Item) -> Future[Any]:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        future: Future[Any] = Future()
        future.set_result(item.id)
        return future

    def close(self) -> None:
        self.closed = True


class CountingEncoder(VectorEncoder):
    def __init__(self, reader: CountingReader):
        self.reader, self.batches = reader, list[tuple[str, ...]]()

    def encode(self, items: Any, contents: Any) -> list[Result]:
        assert [item.id for item in items] == list(contents)
        self.reader.waiting -= len(items)
        self.batches.append(tuple(contents))
        return [Result(item, "image") for item in items]


class CountingSink:
    def __init__(self) -> None:
        self.done = list[Any]()

    def begin(self, part: Part) -> None:
        self.done.append(("begin", part.number))

    def write(self, results: list[Result]) -> list[Result]:
        self.done.append(len(results))
        return results

    def commit(self) -> None:
        self.done.append("commit")

    def close(self) -> None:
        self.done.append("close")


def parts(*sizes: int) -> list[Part]:
    first = [sum(sizes[:i]) for i in range(len(sizes))]
    names = [[f"{number}.{i}" for i in range(size)] for number, size in enumerate(sizes)]
    items = [tuple(Item(name, "medium", ("path", name)) for name in some) for some in names]
    return [Part(number, some, start) for number, (some, start) in enumerate(zip(items, first, strict=True))]


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 4), (2, 1), (6, 4), (3, 50)])
def test_what_is_read_ahead_does_not_grow_with_the_job(workers, batch_size):
    most = []
    for count in (20, 60):
        reader = CountingReader(workers)
        encoder, listed = CountingEncoder(reader), parts(*[10] * count)
        results = [one for _, some in encode_parts(listed, reader, encoder, batch_size) for one in some]
        assert [one.item for one in results] == [item for part in listed for item in part.items]
        # Never an item of another part beside one.
        assert all(len({name.partition(".")[0] for name in batch}) == 1 for batch in encoder.batches)
        assert reader.closed and reader.waiting == 0
        most.append(reader.most)
    # Those that are encoded, and those that are ahead of them.
    assert most[0] == most[1] <= batch_size + batch_size + max(batch_size, 2 * workers)


def test_a_part_is_committed_when_all_of_it_is_written():
    reader, sink = CountingReader(1), CountingSink()
    written = write_parts(encode_parts(parts(3, 2), reader, CountingEncoder(reader), 2), sink)
    assert next(written) and next(written)
    assert sink.done == [("begin", 0), 2, 1, "commit"]
    assert next(written)
    written.close()  # as a Ctrl-C does
    assert sink.done[4:] == [("begin", 1), 2, "commit", "close"] and reader.closed
