"""Chat templates of checkpoints: programs of strangers."""

from pathlib import Path
from typing import Any

import omni
from tests.reliability.corpus.table import Either, Refused, Table, Value, user
from tests.reliability.directories import demo_with_template

CASES = Table("template")
LIMITED = Refused("template_*", "checkpoint*", "bad_template", "bad_checkpoint")


def rendered(source: str) -> Any:
    """What a checkpoint with this template makes of a message; only its text part is loaded."""
    model = omni.load(demo_with_template(source), parts="text")
    return model.prepare(user("Hello.")).prompt


def cheap(source: str) -> Any:
    """The same without loading weights."""
    from omni.prompt.template import ChatTemplate

    return ChatTemplate(source).render(user("Hello."), {"<|im_end|>": 1}).plain


HOSTILE = {
    "nested loops": "{% for i in range(300) %}{% for j in range(99999) %}{% endfor %}{% endfor %}x",
    "nested loops of three": "{% for i in range(9999) %}" * 3 + "{% endfor %}" * 3,
    "one long loop": "{% for i in range(99999999999) %}{% endfor %}",
    "a power folded at load": "{{ (10 ** (3 * 10 ** 6)) is number }}",
    "a power of powers": "{{ 9 ** 9 ** 9 ** 9 }}",
    "a long string": "{{ ('a' * 200000000) | length }}",
    "a long string made twice": "{% set a = 'a' * 9999999 %}{{ (a * 9999) | length }}",
    "a long list": "{{ ([0] * 2000000000) | length }}",
    "a string doubled": "{% set n = namespace(s='a') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "long output": "{% for i in range(99999) %}{{ 'abcdefghij' * 999 }}{% endfor %}",
    "a width": "{{ '%999999999d' % 5 }}",
    "a width by format": "{{ '{:>999999999}'.format(5) }}",
    "a width by the filter": "{{ '%0999999999d' | format(5) }}",
    "centred": "{{ 'a' | center(999999999) }}",
    "justified": "{{ 'a'.ljust(999999999) | length }}",
    "indented": "{{ ('a\\n' * 999) | indent(99999999) | length }}",
    "replaced": "{{ ('a' * 99999) | replace('a', 'b' * 99999) | length }}",
    "joined": "{{ range(99999) | join('c' * 99999) | length }}",
    "split": "{{ ('a ' * 99999999).split() | length }}",
    "batches": "{{ range(9) | batch(999999999, 'x') | list | length }}",
    "tojson indented": "{{ [[[[1]]]] | tojson(indent=99999999) | length }}",
    "filler words": "{{ lipsum(n=99999999) }}",
    "parentheses": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "lists in lists": "{{ " + "[" * 3000 + "]" * 3000 + " }}",
    "ifs in ifs": "{% if 1 %}" * 500 + "x" + "{% endif %}" * 500,
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a macro that calls itself twice": (
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}"
    ),
    "a recursive loop": "{% for i in [[[[]]]] recursive %}{{ loop([i, i]) }}{% endfor %}",
    "escaping": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "escaping by a format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "escaping by map": "{{ ['a'] | map(attribute='__class__') | list }}",
    "escaping by attr": "{{ '' | attr('__class__') }}",
    "a module": "{{ self.__init__.__globals__ }}",
    "cycling": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "including": "{% include 'config.json' %}",
    "importing": "{% import 'x' as y %}",
    "extending": "{% extends 'config.json' %}",
    "appending": "{{ messages.append(5) }}",
    "an unknown filter": "{{ 5 | smell }}",
    "an unknown test": "{{ 5 is smelly }}",
    "an unknown tag": "{% smell %}",
    "half a tag": "{% for",
    "half an expression": "{{ 5",
    "an end without a beginning": "{% endfor %}",
    "a refusal of its own": "{{ raise_exception('no tools at 0x7f00deadbeef') }}",
    "an undefined call": "{{ nothing() }}",
    "an attribute of nothing": "{{ nothing.x.y }}",
    "a division by zero": "{{ 1 // 0 }}",
    "a time": "{{ strftime_now('%Y' * 9999999) | length }}",
    "a long refusal": "{{ raise_exception('x' * 99999) }}",
    "a mistake in types": "{{ messages + 5 }}",
    "a nonexistent index": "{{ messages[5].x.y }}",
}
for name, source in HOSTILE.items():
    # What Jinja answers with nothing has told nothing.
    tells_nothing = Value(lambda text: "class" not in text)
    CASES.add(name, source, cheap, Either(tells_nothing, LIMITED) if name.startswith("escaping") else LIMITED)
for name in (
    "nested loops",
    "a power folded at load",
    "parentheses",
    "half a tag",
    "a refusal of its own",
    "long output",
):
    CASES.add(f"{name}, of a checkpoint", HOSTILE[name], rendered, LIMITED)
CASES.add(
    "a template that drops what was said",
    "<|im_start|>user\nfixed<|im_end|>\n",
    rendered,
    Refused("template_*", "lost_*", "dropped_*", "unused_*", "bad_template", "part_not_rendered"),
)
CASES.add(
    "a template that says it twice",
    "{{ messages[0].content }} {{ messages[0].content }}",
    rendered,
    Value(lambda prompt: prompt == "Hello. Hello."),
)
CASES.add(
    "a template that asks for a time",
    "{{ messages[0].content }}{{ strftime_now('%Y') }}",
    rendered,
    Value(lambda prompt: prompt.startswith("Hello.2") and len(prompt) == 10),
)
CASES.add(
    "a template of 300 messages' loops",
    "{% for m in messages %}{% for i in range(999) %}{% endfor %}{{ m.content }}{% endfor %}",
    rendered,
    Value(lambda prompt: prompt == "Hello."),
)
CASES.add("a template that is not UTF-8", lambda: not_text(), lambda path: omni.load(path, parts="text"), LIMITED)
CASES.add(
    "no template's text",
    "",
    rendered,
    Either(Value(), Refused("template_*", "lost_*", "dropped_*", "bad_*", "checkpoint*", "part_not_rendered")),
)


def not_text() -> Path:
    here = demo_with_template("x")
    (here / "chat_template.jinja").write_bytes(b"\xff\xfe\xfd")
    return here
