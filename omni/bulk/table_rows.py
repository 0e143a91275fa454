"""The rows of tables of embeddings."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from omni.bulk.results import Result
from omni.bulk.storage import extra
from omni.errors import printable

VECTOR_DTYPES = ("float32", "float16")


def schema(width: int, dtype: str, tokens: bool, notes: dict[str, str]) -> Any:
    """Return the schema of a table.

    `id, source, kind, vector: fixed_size_list<dtype>[width], tokens, grid_thw, seconds, error_code, error`, and on
    request `token_embeddings: list<fixed_size_list<dtype>[width]>`. A row has either a vector or an error.

    Args:
        width: of the vectors.
        dtype: of the vectors, float32 or float16.
        tokens: whether to keep the tokens' own embeddings.
        notes: what the table's metadata is to say.
    """
    arrow = extra("pyarrow")
    vector = arrow.list_(getattr(arrow, dtype)(), width)
    fields = [
        arrow.field("id", arrow.string(), nullable=False),
        arrow.field("source", arrow.string(), nullable=False),
        arrow.field("kind", arrow.string()),
        arrow.field("vector", vector),
        arrow.field("tokens", arrow.int32()),
        arrow.field("grid_thw", arrow.list_(arrow.int32(), 3)),
        arrow.field("seconds", arrow.float64()),
        arrow.field("error_code", arrow.string()),
        arrow.field("error", arrow.string()),
    ]
    if tokens:
        fields.append(arrow.field("token_embeddings", arrow.list_(vector)))
    return arrow.schema(fields, metadata=notes)


def record_batch(results: Sequence[Result], schema: Any) -> Any:
    """Return results as rows of a schema."""
    arrow = extra("pyarrow")
    embeddings = [result.embedding for result in results]
    columns: list[Any] = [
        [printable(result.item.id) for result in results],
        [printable(result.item.source) for result in results],
        [result.kind for result in results],
        _vectors([result.vector for result in results], schema.field("vector").type),
        [None if one is None else len(one.tokens) for one in embeddings],
        [None if one is None or one.grid_thw is None else list(one.grid_thw) for one in embeddings],
        [result.seconds for result in results],
        [None if result.error is None else result.error.code for result in results],
        [None if result.error is None else printable(str(result.error)) for result in results],
    ]
    if "token_embeddings" in schema.names:
        columns.append(_token_lists(results, schema.field("token_embeddings").type))
    arrays = [
        one if isinstance(one, arrow.Array) else arrow.array(one, field.type)
        for one, field in zip(columns, schema, strict=True)
    ]
    return arrow.RecordBatch.from_arrays(arrays, schema=schema)


def vectors_of(column: Any) -> np.ndarray:
    """Return a column of vectors as float32 [rows, width]; rows without one are zeros."""
    arrow = extra("pyarrow")
    if isinstance(column, arrow.ChunkedArray):
        column = column.combine_chunks()
    width = column.type.list_size
    # A null among lists of a fixed size has values all the same.
    values = column.values.slice(column.offset * width, len(column) * width).to_numpy(zero_copy_only=False)
    vectors = values.astype(np.float32).reshape(len(column), width)
    vectors[np.asarray(column.is_null())] = 0
    return vectors


def _numpy_dtype(kind: Any) -> np.dtype:
    """That of a floating type of pyarrow, whose own answer needs pandas in older versions."""
    return np.dtype(f"f{kind.bit_width // 8}")


def _vectors(vectors: Sequence[np.ndarray | None], kind: Any) -> Any:
    arrow = extra("pyarrow")
    dtype, width = _numpy_dtype(kind.value_type), kind.list_size
    flat = np.zeros((len(vectors), width), dtype)
    for row, vector in zip(flat, vectors, strict=True):
        if vector is not None:
            row[:] = vector
    missing = arrow.array([vector is None for vector in vectors])
    return arrow.FixedSizeListArray.from_arrays(arrow.array(flat.reshape(-1)), type=kind, mask=missing)


def _token_lists(results: Sequence[Result], kind: Any) -> Any:
    arrow = extra("pyarrow")
    inner = kind.value_type
    dtype, width = _numpy_dtype(inner.value_type), inner.list_size
    tokens = [None if one.embedding is None or one.error else one.embedding.tokens for one in results]
    there = [one.astype(dtype) for one in tokens if one is not None]
    flat = np.concatenate(there) if there else np.zeros((0, width), dtype)
    offsets = np.cumsum([0, *(0 if one is None else len(one) for one in tokens)]).astype(np.int32)
    lists = arrow.FixedSizeListArray.from_arrays(arrow.array(flat.reshape(-1)), type=inner)
    missing = arrow.array([one is None for one in tokens])
    return arrow.ListArray.from_arrays(arrow.array(offsets), lists, type=kind, mask=missing)
