"""JSON of strangers is read within limits, each to its last value."""

import pytest

from processors.io.bounded_json import JSONError, JSONLimits, parse

LIMITS = JSONLimits(bytes=60, depth=3, values=9, digits=5)


@pytest.mark.parametrize(
    ("inside", "beyond", "why"),
    [
        ("[[[1]]]", "[[[[1]]]]", "deeper than 3"),
        ('{"a": {"b": {}}}', '{"a": {"b": {"c": []}}}', "deeper than 3"),
        ("12345", "123456", "digits"),
        ('"' + "a" * 58 + '"', '"' + "a" * 59 + '"', "bytes"),
    ],
)
def test_a_limit_is_the_last_value_that_is_read(inside, beyond, why):
    parse(inside, LIMITS)
    with pytest.raises(JSONError, match=why):
        parse(beyond, LIMITS)


def test_brackets_within_strings_are_no_structure():
    assert parse('["[[[[", "\\"[[["]', LIMITS) == ["[[[[", '"[[[']
