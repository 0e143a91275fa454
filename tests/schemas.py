"""JSON schemas whose values are all of a bounded size, for hypothesis."""

from typing import Any

from hypothesis import strategies as st

_NAMES = st.text('abcdé_ "\\北', min_size=1, max_size=6)


@st.composite
def _strings(draw) -> dict[str, Any]:
    least = draw(st.integers(0, 3))
    return {"type": "string", "minLength": least, "maxLength": least + draw(st.integers(0, 5))}


@st.composite
def _numbers(draw) -> dict[str, Any]:
    kind = draw(st.sampled_from(["integer", "number"]))
    least = draw(st.integers(-1000, 1000))
    return {"type": kind, "minimum": least, "maximum": least + draw(st.integers(0, 1000))}


_CONSTANTS = st.none() | st.booleans() | st.integers(-99, 99) | _NAMES
_LEAVES = st.one_of(
    _strings(),
    _numbers(),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.lists(_CONSTANTS, min_size=1, max_size=4, unique_by=repr).map(lambda values: {"enum": values}),
    _CONSTANTS.map(lambda value: {"const": value}),
    st.sampled_from(["[a-c]{1,4}", "(ja|nein)", "\\d{2}:\\d{2}"]).map(
        lambda p: {"type": "string", "pattern": f"^{p}$"}
    ),
    st.sampled_from(["date", "time", "uuid", "ipv4"]).map(lambda name: {"type": "string", "format": name}),
)


@st.composite
def _arrays(draw, inner) -> dict[str, Any]:
    least = draw(st.integers(0, 2))
    return {"type": "array", "items": draw(inner), "minItems": least, "maxItems": least + draw(st.integers(0, 2))}


@st.composite
def _objects(draw, inner) -> dict[str, Any]:
    properties = draw(st.dictionaries(_NAMES, inner, max_size=3))
    required = [name for name in properties if draw(st.booleans())]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def bounded_schemas(max_leaves: int = 5) -> st.SearchStrategy[dict[str, Any]]:
    """Schemas with an object or an array at the top."""
    inner = st.recursive(
        _LEAVES,
        lambda inner: (
            _arrays(inner) | _objects(inner) | st.lists(inner, min_size=1, max_size=2).map(lambda s: {"anyOf": s})
        ),
        max_leaves=max_leaves,
    )
    return _objects(inner) | _arrays(inner)
