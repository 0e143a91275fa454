"""Texts that models write, in both forms of calls, with what they hold: text, and calls with their arguments.

The expected parses are those of the parsers that serve these checkpoints (vLLM's `hermes` and Qwen's own of
Qwen3-Coder), worked out by hand; where they lose text, or make a call of half a call, the text stays text here.
"""

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tells the weather.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where."},
                    "days": {"type": "integer"},
                    "share": {"type": "number"},
                    "exact": {"type": "boolean"},
                    "at": {"type": ["string", "null"]},
                    "range": {"type": "array", "items": {"type": "integer"}},
                    "unit": {"enum": ["C", "F"]},
                    "options": {"type": "object"},
                    "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
                    "anything": {},
                },
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "Tells the time."}},
    {"type": "function", "function": {"name": "write", "parameters": {"properties": {"code": {"type": "string"}}}}},
]


def hermes(*bodies: str) -> str:
    return "\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies)


def function(name: str, **parameters: str) -> str:
    inner = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in parameters.items())
    return f"<function={name}>\n{inner}</function>"


def coder(*functions: str) -> str:
    return "\n".join(f"<tool_call>\n{one}\n</tool_call>" for one in functions)


NOW = '{"name": "now", "arguments": {}}'
PARIS = '{"name": "weather", "arguments": {"city": "Paris", "days": 3}}'
PARIS_CALL = ("weather", {"city": "Paris", "days": 3})
NOW_CALL = ("now", {})

# Name -> text, what remains of it, and the calls.
JSON = {
    "no call": ("It is sunny.", "It is sunny.", []),
    "nothing": ("", "", []),
    "white space alone": (" \n ", " \n ", []),
    "one call": (hermes(PARIS), "", [PARIS_CALL]),
    "no arguments": (hermes(NOW), "", [NOW_CALL]),
    "two calls": (hermes(PARIS, NOW), "", [PARIS_CALL, NOW_CALL]),
    "the same call twice": (hermes(NOW, NOW), "", [NOW_CALL, NOW_CALL]),
    "text before": ("Let me look.\n" + hermes(PARIS), "Let me look.", [PARIS_CALL]),
    "text after": (hermes(NOW) + "\nThat is all.", "That is all.", [NOW_CALL]),
    "text around": ("First.\n" + hermes(NOW) + "\nThen.", "First.\nThen.", [NOW_CALL]),
    "text between": (hermes(NOW) + "\nand\n" + hermes(PARIS), "and", [NOW_CALL, PARIS_CALL]),
    "on one line": (f"<tool_call>{PARIS}</tool_call>", "", [PARIS_CALL]),
    "next to text": (f"Now:<tool_call>{NOW}</tool_call>so.", "Now:so.", [NOW_CALL]),
    "next to each other": (f"<tool_call>{NOW}</tool_call><tool_call>{NOW}</tool_call>", "", [NOW_CALL, NOW_CALL]),
    "lines within": (hermes('{\n  "name": "now",\n  "arguments": {\n  }\n}'), "", [NOW_CALL]),
    "arguments before the name": (hermes('{"arguments": {"a": 1}, "name": "now"}'), "", [("now", {"a": 1})]),
    "arguments as JSON text": (hermes('{"name": "now", "arguments": "{\\"a\\": [1]}"}'), "", [("now", {"a": [1]})]),
    "nested arguments": (
        hermes('{"name": "now", "arguments": {"a": {"b": [1, {"c": null}], "d": true}}}'),
        "",
        [("now", {"a": {"b": [1, {"c": None}], "d": True}})],
    ),
    "braces and quotes in strings": (
        hermes('{"name": "write", "arguments": {"code": "if (a) { s = \\"}\\"; }\\n"}}'),
        "",
        [("write", {"code": 'if (a) { s = "}"; }\n'})],
    ),
    "tags of other kinds in strings": (
        hermes('{"name": "write", "arguments": {"code": "<b>1 < 2</b> <tool_call> <function=x>"}}'),
        "",
        [("write", {"code": "<b>1 < 2</b> <tool_call> <function=x>"})],
    ),
    "letters of many scripts": (
        hermes('{"name": "weather", "arguments": {"city": "São Paulo 北京 \\u0416 🌧"}}'),
        "",
        [("weather", {"city": "São Paulo 北京 Ж 🌧"})],
    ),
    "numbers": (
        hermes('{"name": "now", "arguments": {"a": -1.5e3, "b": 0, "c": 12345678901234567890}}'),
        "",
        [("now", {"a": -1500.0, "b": 0, "c": 12345678901234567890})],
    ),
    "an unknown function": (hermes('{"name": "other", "arguments": {}}'), "", [("other", {})]),
    "the end tag is left out": (f"<tool_call>\n{PARIS}\n", "", [PARIS_CALL]),
    "cut within the arguments": (
        'Hm.\n<tool_call>\n{"name": "now", "argu',
        'Hm.\n<tool_call>\n{"name": "now", "argu',
        [],
    ),
    "cut within the tag": ("Hm. <tool_", "Hm. <tool_", []),
    "no JSON": (hermes("now()"), hermes("now()"), []),
    "single quotes": (hermes("{'name': 'now'}"), hermes("{'name': 'now'}"), []),
    "a comma too many": (hermes('{"name": "now", "arguments": {},}'), hermes('{"name": "now", "arguments": {},}'), []),
    "no name": (hermes('{"arguments": {}}'), hermes('{"arguments": {}}'), []),
    "no arguments at all": (hermes('{"name": "now"}'), hermes('{"name": "now"}'), []),
    "arguments that are a list": (
        hermes('{"name": "now", "arguments": [1]}'),
        hermes('{"name": "now", "arguments": [1]}'),
        [],
    ),
    "NaN": (hermes('{"name": "a", "arguments": {"b": NaN}}'), hermes('{"name": "a", "arguments": {"b": NaN}}'), []),
    "a damaged call beside a whole one": (hermes("{", NOW), hermes("{"), [NOW_CALL]),
    "a stray end": ("</tool_call> ok", "</tool_call> ok", []),
    "tags of text": ("if a <b and c> d: <tool> </tool>", "if a <b and c> d: <tool> </tool>", []),
}

CODE = "def f(a):\n    if a < 1:\n        return '<p>'\n    return a"
XML = {
    "no call": ("It is sunny.", "It is sunny.", []),
    "one call": (coder(function("weather", city="Paris", days="3")), "", [PARIS_CALL]),
    "no parameters": (coder(function("now")), "", [NOW_CALL]),
    "two calls": (coder(function("now"), function("weather", city="Paris", days="3")), "", [NOW_CALL, PARIS_CALL]),
    "two functions in one block": (coder(function("now") + "\n" + function("now")), "", [NOW_CALL, NOW_CALL]),
    "text around": ("Look:\n" + coder(function("now")) + "\nDone.", "Look:\nDone.", [NOW_CALL]),
    "on one line": (
        "<tool_call><function=weather><parameter=city>Paris</parameter><parameter=days>3</parameter></function></tool_call>",
        "",
        [PARIS_CALL],
    ),
    "lines of code": (coder(function("write", code=CODE)), "", [("write", {"code": CODE})]),
    "white space of code stays": (
        coder(function("write", code="\n    a\n\n    b\n")),
        "",
        [("write", {"code": "\n    a\n\n    b\n"})],
    ),
    "a number where text is wanted": (coder(function("weather", city="75001")), "", [("weather", {"city": "75001"})]),
    "a whole number with a fraction of 0": (coder(function("weather", share="3.0")), "", [("weather", {"share": 3})]),
    "a fraction": (coder(function("weather", share=" -0.25 ")), "", [("weather", {"share": -0.25})]),
    "a word where a number is wanted": (coder(function("weather", days="many")), "", [("weather", {"days": "many"})]),
    "true and false": (coder(function("weather", exact="True")), "", [("weather", {"exact": True})]),
    "1 for true": (coder(function("weather", exact="1")), "", [("weather", {"exact": True})]),
    "null where it may be": (coder(function("weather", at="null")), "", [("weather", {"at": None})]),
    "null where text is wanted": (coder(function("weather", city="null")), "", [("weather", {"city": "null"})]),
    "a list": (coder(function("weather", range="[1, 2]")), "", [("weather", {"range": [1, 2]})]),
    "an object": (
        coder(function("weather", options='{"a": {"b": [true]}}')),
        "",
        [("weather", {"options": {"a": {"b": [True]}}})],
    ),
    "a damaged list": (coder(function("weather", range="[1, 2")), "", [("weather", {"range": "[1, 2"})]),
    "one of some words": (coder(function("weather", unit="C")), "", [("weather", {"unit": "C"})]),
    "either a number or text": (
        coder(function("weather", either="7") + "\n" + function("weather", either="seven")),
        "",
        [("weather", {"either": 7}), ("weather", {"either": "seven"})],
    ),
    "a parameter without a type": (coder(function("weather", anything="7")), "", [("weather", {"anything": "7"})]),
    "a parameter that is not declared": (coder(function("weather", wind="7")), "", [("weather", {"wind": "7"})]),
    "a function that is not declared": (coder(function("other", days="7")), "", [("other", {"days": "7"})]),
    "an empty value": (coder(function("write", code="")), "", [("write", {"code": ""})]),
    "letters of many scripts": (coder(function("weather", city="北京 🌧 Ж")), "", [("weather", {"city": "北京 🌧 Ж"})]),
    "tags in a value": (
        coder(function("write", code="<a href=''>x</a>")),
        "",
        [("write", {"code": "<a href=''>x</a>"})],
    ),
    "the first tag is left out": ("Hm.\n" + function("now") + "\n</tool_call>", "Hm.", [NOW_CALL]),
    "both tags are left out": (function("now") + " Done.", "Done.", [NOW_CALL]),
    "the last tag is left out": ("<tool_call>\n" + function("now") + "\n", "", [NOW_CALL]),
    "the end of the function is left out": (
        "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n</tool_call>",
        "",
        [("weather", {"city": "Paris"})],
    ),
    "the end of a parameter is left out": (
        "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
        "",
        [PARIS_CALL],
    ),
    "cut within a value": ("<tool_call>\n<function=weather>\n<parameter=city>\nPar",) * 2 + ([],),
    "cut within a name": ("So <function=wea", "So <function=wea", []),
    "a parameter without an end of its name": (
        coder("<function=weather>\n<parameter=city\nParis\n</parameter>\n</function>"),
        coder("<function=weather>\n<parameter=city\nParis\n</parameter>\n</function>"),
        [],
    ),
    "no function": (coder("now"), coder("now"), []),
    "the other form": (hermes(NOW), hermes(NOW), []),
}
