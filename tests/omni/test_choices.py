"""Several replies to one conversation, options of the template, and replies that go on with a message."""

import json

import pytest

import omni
from omni.prompt.template import ChatTemplate
from tests.omni.prompt.tool_templates import HERMES

ASK = [{"role": "user", "content": "Hi"}]
BEGUN = [*ASK, {"role": "assistant", "content": "I only"}]
SAMPLED = {"max_new_tokens": 8, "temperature": 1.0, "seed": 3}


@pytest.fixture(scope="module")
def demo():
    return omni.load("demo", parts="text")


def refused(call, *arguments, **options):
    with pytest.raises(omni.InputError) as error:
        call(*arguments, **options)
    assert len(str(error.value)) <= 500
    return error.value.code


# --- n replies --------------------------------------------------------------------------------------------------------


def test_each_of_n_replies_is_that_of_its_seed(model):
    replies = model.generate(ASK, n=3, **SAMPLED)
    alone = [model.generate(ASK, **SAMPLED | {"seed": 3 + i}) for i in range(3)]
    assert replies == alone and len({reply.text for reply in replies}) > 1
    talks = [ASK, [{"role": "user", "content": "What is it?"}]]
    many = model.generate(talks, omni.GenerationOptions(n=2, **SAMPLED), batch_size=3)
    assert many == [[model.generate(talk, **SAMPLED | {"seed": 3 + i}) for i in range(2)] for talk in talks]
    assert model.generate(talks, omni.GenerationOptions(n=2, **SAMPLED), n=1) == [first for first, _ in many]
    assert model.generate(ASK, n=2, **SAMPLED | {"seed": 2**32 - 1})[1] == model.generate(ASK, **SAMPLED | {"seed": 0})


def test_n_replies_read_their_prompt_once(demo):
    long = [{"role": "user", "content": "One two three four five six seven. " * 20}]
    demo.engine.memory.reset()
    first, *others = demo.generate(long, n=4, **SAMPLED)
    assert first.usage.cached_tokens == 0
    assert all(reply.usage.cached_tokens >= 0.9 * reply.usage.prompt_tokens for reply in others)


@pytest.mark.parametrize("n", [0, -1, 129, True])
def test_n_is_a_small_whole_number(n):
    assert refused(omni.GenerationOptions, n=n) == "bad_n"


def test_what_is_one_reply_refuses_more(demo):
    assert refused(demo.stream, ASK, omni.GenerationOptions(n=2)) == "bad_n"
    assert refused(demo.chat(n=2).send, "Hi") == "bad_n"


# --- options of the template ------------------------------------------------------------------------------------------


def test_options_reach_the_template(demo):
    silent = demo.prepare(ASK, template_options={"enable_thinking": False})
    assert silent.prompt == demo.prepare(ASK).prompt + "<think>\n\n</think>\n\n"
    assert demo.prepare(ASK, template_options={"enable_thinking": True}).prompt == demo.prepare(ASK).prompt
    reply = demo.generate(ASK, template_options={"enable_thinking": False}, **SAMPLED)
    assert reply.usage.prompt_tokens == len(silent.token_ids)
    chat = demo.chat(template_options={"enable_thinking": False}, **SAMPLED)
    assert chat.send("Hi") == reply


def test_options_hold_no_control_token(demo, monkeypatch):
    monkeypatch.setattr(demo, "template", ChatTemplate("{{ note }}{% for m in messages %}{{ m.content }}{% endfor %}"))
    inputs = demo.prepare(ASK, template_options={"note": "<|im_end|>"})
    assert inputs.prompt == "<|im_end|>Hi"
    assert demo.tokenizer.control_tokens["<|im_end|>"] not in inputs.token_ids


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"enable_thoughts": False}, "unknown_template_option"),
        ({"last": 1}, "unknown_template_option"),
        ({"raise_exception": 1}, "unknown_template_option"),
        ({"messages": []}, "bad_template_options"),
        ({"tools": []}, "bad_template_options"),
        ({"add_generation_prompt": False}, "bad_template_options"),
        ({"enable_thinking": object()}, "bad_template_options"),
        ({1: 2}, "bad_template_options"),
        ("enable_thinking", "bad_template_options"),
    ],
)
def test_options_that_do_nothing_are_refused(demo, options, code):
    assert refused(demo.prepare, ASK, template_options=options) == code


# --- replies that go on -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", ["I only know col", "", "Yes \n", ["I only", " know"], "<|im_end|>", "a</tool_call>"]
)
def test_a_prompt_ends_where_the_message_does(demo, content):
    message = {"role": "assistant", "content": content}
    inputs = demo.prepare([*ASK, message], continue_final_message=True)
    written = content if isinstance(content, str) else "".join(content)
    assert inputs.prompt == demo.prepare(ASK).prompt + written
    end = demo.tokenizer.control_tokens["<|im_end|>"]
    assert (inputs.token_ids == end).sum() == 1


def test_a_reply_goes_on_with_a_message(demo):
    whole = demo.generate(ASK, temperature=0)
    reply = demo.generate(BEGUN, temperature=0, continue_final_message=True)
    assert BEGUN[-1]["content"] + reply.text == whole.text
    assert "".join(demo.stream(BEGUN, temperature=0, continue_final_message=True)) == reply.text


def test_a_thought_goes_on(demo):
    begun = [*ASK, {"role": "assistant", "content": "<think>\nHm"}]
    reply = demo.generate(begun, continue_final_message=True, **SAMPLED)
    assert reply.reasoning == reply.raw_text.strip("\n") and reply.text == ""


@pytest.mark.parametrize(
    "messages",
    [
        ASK,
        [*ASK, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}],
        [*ASK, {"role": "assistant", "content": [{"type": "image", "image": "a.png"}]}],
    ],
)
def test_only_an_assistants_text_goes_on(demo, messages, monkeypatch):
    monkeypatch.setattr(demo, "template", ChatTemplate(HERMES))
    assert refused(demo.generate, messages, continue_final_message=True) in ("bad_continuation", "no_media")
    assert refused(demo.generate, BEGUN, continue_final_message="yes") == "bad_continuation"


def test_a_template_that_writes_the_message_twice_cannot_go_on(demo, monkeypatch):
    twice = "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}"
    monkeypatch.setattr(demo, "template", ChatTemplate(twice))
    assert refused(demo.generate, BEGUN, continue_final_message=True) == "bad_continuation"


def test_a_chat_begins_each_turn_anew(demo):
    with pytest.raises(TypeError):
        demo.chat(continue_final_message=True)
    assert json.dumps(demo.chat(n=1, **SAMPLED).send("Hi").message)
