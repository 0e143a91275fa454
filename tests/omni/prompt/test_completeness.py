"""Every part of every message is in the prompt, or the one that is not is named."""

import json

import numpy as np
import pytest

import omni
from omni.errors import InputError
from omni.prompt.completeness import render_whole
from omni.prompt.messages import parse
from omni.prompt.template import ChatTemplate
from omni.prompt.tokenizer import ControlTokens

SPECIAL = ["<|im_end|>", "<|image_pad|>"]
TOKENS = ControlTokens({text: i for i, text in enumerate([*SPECIAL, "<think>", "</think>"])}, SPECIAL)
PLACEHOLDERS = {"image": "<|image_pad|>"}

TEXT_ALONE = "{% for m in messages %}{{ m.content if m.content is string }}<|im_end|>{% endfor %}"
ADDED = "{% for m in messages %}{{ '[' + m.role + ']' + m.content + '<|im_end|>' }}{% endfor %}"
PARTS_ALONE = "{% for m in messages %}{% for p in m.content %}{{ p['text'] }}{% endfor %}<|im_end|>{% endfor %}"
PRINTED = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"

CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Paris", "days": 3}}}
ARGUMENTS = '{"city":"Paris",  "days": 3}'
TEXT_CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
LONG = "Some words that are long enough to be told from others."


def image(name="a.png"):
    return {"type": "image", "image": name}


def rendered(source, messages) -> str:
    template = ChatTemplate(source)
    return render_whole(template, parse(messages).messages, TOKENS, placeholders=PLACEHOLDERS)[0].plain


def refused(source, messages) -> InputError:
    with pytest.raises(InputError) as caught:
        rendered(source, messages)
    assert len(str(caught.value)) <= 500 and not any(
        0xE000 <= ord(character) < 0xF900 for character in str(caught.value)
    )
    return caught.value


# Template, messages, and what the error names.
DROPPED = {
    "a second system message": (
        "{% for m in messages %}{% if m.role != 'system' or loop.first %}{{ m.content }}{% endif %}{% endfor %}",
        [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}, {"role": "system", "content": "c"}],
        "the content of message 3",
    ),
    "what a user wrote before a tag": (
        "{% for m in messages %}{{ m.content[9:] if loop.first else m.content }}|{% endfor %}",
        [{"role": "user", "content": LONG + "</think>b"}, {"role": "user", "content": "c"}],
        "the content of message 1",
    ),
    "a tool's message": (
        "{% for m in messages if m.role != 'tool' %}{{ m.content }}{% endfor %}",
        [{"role": "user", "content": "a"}, {"role": "tool", "content": LONG}],
        "the content of message 2",
    ),
    "the same text twice": (
        "{{ messages[0].content }}",
        [{"role": "user", "content": LONG}, {"role": "user", "content": LONG}],
        "the content of message 2",
    ),
    "one letter that the template has too": (
        "{% for m in messages %}{% if loop.first %}a{{ m.content }}{% endif %}{% endfor %}",
        [{"role": "user", "content": "b"}, {"role": "user", "content": "a"}],
        "the content of message 2",
    ),
    "the end of a text": (
        "{{ messages[0].content[:20] }}",
        [{"role": "user", "content": LONG}],
        "the content of message 1",
    ),
    "the beginning of a text": ("{{ messages[0].content[1:] }}", [{"role": "user", "content": "ab"}], "message 1"),
    "text after an image": (
        "{% for p in messages[0].content %}{% if p.type == 'image' %}<|image_pad|>{% elif loop.first %}{{ p.text }}"
        "{% endif %}{% endfor %}",
        [{"role": "user", "content": ["a", image(), "b"]}],
        "part 3 of message 1",
    ),
    "an image in a system message": (
        "{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}"
        "{% elif m.role == 'user' %}<|image_pad|>{% endif %}{% endfor %}{% endfor %}",
        [{"role": "system", "content": ["a", image()]}, {"role": "user", "content": [image(), "b"]}],
        "part 2 of message 1",
    ),
    "an image that is never looked at": (
        "{{ messages[0].content[0].text }}",
        [{"role": "user", "content": ["a", image()]}],
        "part 2 of message 1",
    ),
    "videos that are counted among the messages alone": (
        "{% for m in messages[::-1] %}{{ m.role if m.content is string else '' }}{% endfor %}",
        [{"role": "user", "content": [{"type": "video", "video": "a.mp4"}] * 2}],
        "part 1 of message 1",
    ),
    "a name": (ADDED, [{"role": "user", "content": "a", "name": "bob"}], "'name' of message 1"),
    "thoughts of the last turn": (
        ADDED,
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "c"}],
        "'reasoning_content' of message 2",
    ),
    "thoughts in the last turn's content": (
        "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}",
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>hm</think>b"}],
        "the thoughts in the content of message 2",
    ),
    "calls": (ADDED, [{"role": "assistant", "content": "a", "tool_calls": [CALL]}], "'tool_calls' of message 1"),
    "arguments": (
        "{{ messages[0].content }}{% for c in messages[0].tool_calls %}{{ c.function.name }}{% endfor %}",
        [{"role": "assistant", "content": "a", "tool_calls": [CALL]}],
        "'tool_calls' of message 1",
    ),
    "values of arguments": (
        "{% for c in messages[0].tool_calls %}{{ c.function.name }}{% for k in c.function.arguments.keys() %}{{ k }}"
        "{% endfor %}{% endfor %}",
        [{"role": "assistant", "tool_calls": [CALL]}],
        "the arguments in 'tool_calls' of message 1",
    ),
    "the second call": (
        "{{ messages[0].tool_calls[0] | tojson }}",
        [{"role": "assistant", "tool_calls": [CALL, CALL]}],
        "'tool_calls' of message 1",
    ),
    "a key of another tool": (ADDED, [{"role": "user", "content": "a", "note": "b"}], "'note' of message 1"),
    "a weight": (ADDED, [{"role": "user", "content": "0 1", "weight": 0}], "'weight' of message 1"),
    "a flag": (ADDED, [{"role": "user", "content": "true", "loss": True}], "'loss' of message 1"),
}


@pytest.mark.parametrize("name", DROPPED)
def test_what_is_left_out_is_named(name):
    source, messages, where = DROPPED[name]
    error = refused(source, messages)
    assert error.code == "dropped_content" and where in str(error)


KEPT = {
    "white space around": (
        "{% for m in messages %}{{ m.content | trim }}|{% endfor %}",
        [{"role": "user", "content": " a \n"}, {"role": "assistant", "content": "  "}],
        "a||",
    ),
    "thoughts of an answered turn": (
        ADDED,
        [
            {"role": "assistant", "content": "b", "reasoning_content": "c"},
            {"role": "user", "content": "d"},
        ],
        "[assistant]b<|im_end|>[user]d<|im_end|>",
    ),
    "thoughts in an answered turn's content": (
        "{% for m in messages %}{{ m.content.split('</think>')[-1] }}|{% endfor %}",
        [{"role": "assistant", "content": "<think>hm</think>b"}, {"role": "user", "content": "d"}],
        "b|d|",
    ),
    "ties of calls and results": (
        "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}|"
        "{% endfor %}",
        [
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "1", "name": "weather", "content": "sun"},
        ],
        '{"name": "weather", "arguments": {"city": "Paris", "days": 3}}|sun|',
    ),
    "texts as parts, where a template reads text alone": (
        TEXT_ALONE,
        [{"role": "user", "content": ["Hello ", "you"]}],
        "Hello you<|im_end|>",
    ),
    "texts as parts, where a template adds them": (
        ADDED,
        [{"role": "tool", "content": [{"type": "text", "text": "sun"}]}],
        "[tool]sun<|im_end|>",
    ),
    "texts as parts, where a template prints them": (
        PRINTED,
        [{"role": "user", "content": ["Hello ", "you"]}],
        "Hello you<|im_end|>",
    ),
    "text, where a template reads parts alone": (PARTS_ALONE, [{"role": "user", "content": "ab"}], "ab<|im_end|>"),
    "text that a template looks for": (
        "{% for m in messages %}{% if m.content.startswith('[response]') and m.content.endswith('[/response]') %}R:"
        "{% endif %}{{ m.content }}{% endfor %}",
        [{"role": "user", "content": "[response]x[/response]"}],
        "R:[response]x[/response]",
    ),
    "escaped text": (
        "{{ messages | tojson(ensure_ascii=true) }}",
        [{"role": "user", "content": "\u00e9"}],
        '[{"role": "user", "content": "\\u00e9"}]',
    ),
    "arguments as text, where a template reads either": (
        "{% set c = messages[0].tool_calls[0].function %}{{ c.name }}"
        "{{ c.arguments if c.arguments is string else c.arguments | tojson }}",
        [{"role": "assistant", "tool_calls": [TEXT_CALL]}],
        "weather" + ARGUMENTS,
    ),
    "arguments as text, where a template reads a dict": (
        "{{ messages[0].tool_calls[0].function | tojson }}",
        [{"role": "assistant", "tool_calls": [TEXT_CALL]}],
        json.dumps(CALL["function"]),
    ),
    "arguments as a dict, where a template reads text": (
        "{{ messages[0].tool_calls[0].function.name + messages[0].tool_calls[0].function.arguments }}",
        [{"role": "assistant", "tool_calls": [CALL]}],
        'weather{"city": "Paris", "days": 3}',
    ),
    "arguments one by one": (
        "{% set c = messages[0].tool_calls[0].function %}{{ c.name }}{% for k, v in c.arguments | items %}|{{ k }}="
        "{{ v }}{% endfor %}",
        [{"role": "assistant", "tool_calls": [TEXT_CALL]}],
        "weather|city=Paris|days=3",
    ),
    "images before the text": (
        "{% for p in messages[0].content if p.type == 'image' %}<|image_pad|>{% endfor %}"
        "{% for p in messages[0].content if p.type == 'text' %}{{ p.text }}{% endfor %}",
        [{"role": "user", "content": ["a", image(), "b", image("b.png")]}],
        "<|image_pad|><|image_pad|>ab",
    ),
    "a key that the template reads": (
        "{{ messages[0].content }}{{ messages[0].mood }}{{ '!' if messages[0].loud }}",
        [{"role": "user", "content": "a", "mood": "b", "loud": True}],
        "ab!",
    ),
    "a number that the template reads": (
        "{{ messages[0].content | int(base=16) if messages[0].content | length == 2 else raise_exception('no') }}"
        "{{ messages[0].content }}",
        [{"role": "user", "content": "1f"}],
        "311f",
    ),
    "nothing": (ADDED, [{"role": "user", "content": ""}], "[user]<|im_end|>"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_what_a_template_reads_in_its_own_form_is_kept(name):
    source, messages, prompt = KEPT[name]
    assert rendered(source, messages) == prompt


def test_of_two_images_the_one_that_is_left_out_is_named():
    source = (
        "{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}"
        "{% elif m.role == 'user' %}<|image_pad|>{% endif %}{% endfor %}{% endfor %}"
    )
    kept, dropped = {"role": "user", "content": ["a", image()]}, {"role": "system", "content": [image(), "b"]}
    assert "part 1 of message 2" in str(refused(source, [kept, dropped]))
    assert "part 1 of message 1" in str(refused(source, [dropped, kept]))


def test_parts_that_a_template_prints_are_named_by_their_message():
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": [image(), "b"]}]
    error = refused(PRINTED, messages)
    assert error.code == "dropped_content" and "the parts of message 2 as Python" in str(error)


@pytest.mark.parametrize("ascii", ["true", "false"])
def test_a_text_that_stands_in_json_is_there(ascii):
    """Also where signs in it would change what the template does."""
    text = 'She said "\u00e9t\u00e9", and meant summer.'
    source = (
        f"{{% if messages[0].content | length == {len(text)} %}}"
        f"{{{{ messages[0].content | tojson(ensure_ascii={ascii}) }}}}{{% endif %}}"
    )
    assert json.loads(rendered(source, [{"role": "user", "content": text}])) == text


@pytest.mark.parametrize(
    "source",
    [
        "{% for p in messages[0].content | reverse %}{% if p.type == 'image' %}<|image_pad|>{% endif %}{% endfor %}",
        "{% for p in messages[0].content[::-1] %}{{ '<|image_pad|>' if 'image' in p }}{% endfor %}",
    ],
)
def test_the_order_of_media_is_kept(source):
    messages = [{"role": "user", "content": [image(), image("b.png")]}]
    assert refused(source, messages).code == "media_order"


@pytest.mark.parametrize("source", ["{{ messages[0].content.x.y }}", "{{ raise_exception('no') }}", ADDED])
def test_a_template_that_fails_fails_in_its_own_words(source):
    error = refused(source, [{"role": "user", "content": ["a", image()]}])
    assert error.code == "template_error" and "refused the conversation" in str(error)


def test_the_prompt_is_the_one_that_the_template_writes(model):
    messages = [
        {"role": "system", "content": "Be terse."},
        {
            "role": "user",
            "content": [{"type": "image", "image": np.zeros((64, 64, 3), np.uint8)}, "What <|im_end|> is it?"],
        },
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nBlack."},
        {"role": "user", "content": "\ue000 Sure?"},
    ]
    plain = model.template.render(parse(messages).messages, model.tokenizer.control_tokens).plain
    assert model.prepare(messages).prompt == plain


@pytest.mark.parametrize(
    "message",
    [{"role": "user", "content": "a", "name": "bob"}, {"role": "assistant", "content": "a", "tool_calls": [CALL]}],
)
def test_the_model_refuses_what_its_template_leaves_out(model, message):
    with pytest.raises(omni.InputError) as caught:
        model.prepare([{"role": "user", "content": "?"}, message])
    assert caught.value.code == "dropped_content" and "message 2" in str(caught.value)


def test_a_conversation_that_is_not_whole_is_not_learned(model):
    from omni.training import make_example

    with pytest.raises(omni.InputError) as caught:
        make_example(model, [{"role": "user", "content": "?"}, {"role": "assistant", "content": "a", "weight": 0}])
    assert caught.value.code == "dropped_content"
