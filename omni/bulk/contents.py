"""What an item holds: a text, the bytes of a medium, or where they lie."""

import json
from typing import Any

from omni.bulk.items import Item
from omni.bulk.storage import beside, file_system, is_address, open_binary, protocol
from omni.bulk.tables import Tables
from omni.errors import InputError
from processors.io.access import Access
from processors.io.sources import NamedBytes, describe


class Contents:
    """Reads items in the order of their job; tables stay open from one to the next."""

    def __init__(self) -> None:
        self._tables = Tables()

    def of(self, item: Item) -> str | bytes:
        """Return a text, a medium's bytes, or a path, URL or address that `fetched` turns into them.

        Raises:
            InputError: `table_row`, its cell holds no such thing; or the codes of `open_table`.
        """
        form, name, *rest = item.where
        if form in ("path", "remote"):
            return name
        if form == "member":
            data = _piece(name, rest[0], rest[1], item)
            if item.kind == "text":
                return data.decode("utf-8", "replace")
        elif form == "line":
            return cell_content(_line(name, rest[0]).get(rest[1]), item, name)
        else:
            return cell_content(self._tables.value(name, rest[0], rest[1]), item, name)
        named = NamedBytes(data)
        named.name = describe(item.id)
        return named


def cell_content(value: Any, item: Item, table: str = "") -> str | bytes:
    """Return what the cell of an item holds: a text, a medium's bytes, or where they lie.

    Args:
        value: of the cell.
        item: whose it is.
        table: beside which relative paths lie; empty for the current folder.

    Raises:
        InputError: `table_row`, it holds no such thing.
    """
    if isinstance(value, dict):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if item.kind == "text" and isinstance(value, str):
        return value
    if item.kind == "medium" and isinstance(value, bytes) and value:
        named = NamedBytes(value)
        named.name = describe(item.id)
        return named
    if item.kind == "medium" and isinstance(value, str) and value:
        return beside(table, value)
    wanted = "no text" if item.kind == "text" else "no path, URL or bytes"
    raise InputError("table_row", f"{describe(item.id)} holds {wanted}")


def fetched(content: str | bytes, item: Item, access: Access) -> str | bytes:
    """Return the bytes of an address that only fsspec reads, where the job itself names one; all else as it is.

    A row may name addresses of the protocol that its table lies under, and no other.

    Raises:
        InputError: `source_unreadable`, `source_not_found`, `source_too_large`.
    """
    if not isinstance(content, str) or not is_address(content) or protocol(content) in ("http", "https", "data"):
        return content
    if item.where[0] == "path" or protocol(content) != protocol(str(item.where[1])):
        return content  # which the policy of sources refuses by name
    access.check()
    try:
        system, path = file_system(content)
        size, most = system.size(path), access.limits.source_bytes
        if size is not None and size > most:
            raise InputError("source_too_large", f"{describe(content)}: {size:,} bytes, the limit is {most:,}")
        data = NamedBytes(system.cat_file(path))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError("source_not_found", f"no file at {describe(content)}") from None
    except Exception as error:  # each file system has errors of its own
        raise InputError("source_unreadable", f"{describe(content)}: {type(error).__name__}") from error
    data.name = describe(content)
    return data


def _line(path: str, offset: int) -> dict[str, Any]:
    with open_binary(path) as file:
        file.seek(offset)
        try:
            record = json.loads(file.readline())
        except (ValueError, RecursionError):
            record = None
    if not isinstance(record, dict):
        raise InputError("table_row", f"{describe(path)}: the line at byte {offset:,} is no JSON object")
    return record


def _piece(path: str, offset: int, size: int, item: Item) -> bytes:
    with open_binary(path) as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise InputError("source_unreadable", f"{describe(item.id)}: its archive ends before it does")
    return data
