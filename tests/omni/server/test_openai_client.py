"""The official client, unchanged, against a server of the demo that runs as a process of its own."""

import base64
import json
import math
import re
import signal
from pathlib import Path

import httpx2
import numpy as np
import openai
import pytest

from tests.omni.server import servers
from tests.omni.server.requests import KEY, REQUESTS, Case

SAMPLES = servers.ROOT / "samples"
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def server():
    with servers.process("demo", "--max-batch", "4", "--api-key", KEY, "--dimensions", "64", "--body-mib", "1") as one:
        yield one


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0, timeout=300) as one:
        yield one


def data_uri(name: str) -> str:
    kind = {"png": "image/png", "jpg": "image/jpeg", "mp4": "video/mp4"}[Path(name).suffix[1:]]
    return f"data:{kind};base64,{base64.b64encode((SAMPLES / name).read_bytes()).decode()}"


def question(text: str, *parts) -> list:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


IMAGE = {"type": "image_url", "image_url": {"url": data_uri("shapes.png"), "detail": "auto"}}
VIDEO = {"type": "video_url", "video_url": {"url": data_uri("star.mp4")}}
SOUND = {
    "type": "input_audio",
    "input_audio": {"data": base64.b64encode((SAMPLES / "seven.flac").read_bytes()).decode(), "format": "flac"},
}


def test_models_are_listed(client):
    (model,) = client.models.list().data
    assert model.id == "demo" and client.models.retrieve("demo").id == "demo"
    assert model.media == ["image", "audio", "video"]
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("gpt-5")
    assert (refused.value.code, refused.value.type) == ("model_not_found", "invalid_request_error")


def test_a_chat_and_what_it_took(client):
    reply = client.chat.completions.create(model="demo", messages=HELLO, temperature=0)
    (choice,) = reply.choices
    assert choice.message.role == "assistant" and choice.finish_reason == "stop" and "shapes" in choice.message.content
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    again = client.chat.completions.create(model="demo", messages=HELLO, temperature=0)
    assert again.choices[0].message.content == choice.message.content
    # The last token of a prompt is always read.
    assert again.usage.prompt_tokens_details.cached_tokens == again.usage.prompt_tokens - 1


def test_a_stream_is_the_whole_reply_in_pieces(client):
    asked = dict(model="demo", messages=HELLO, temperature=0, logprobs=True, top_logprobs=2)
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    told = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(one.delta.content or "" for one in told) == whole.choices[0].message.content
    assert [one.finish_reason for one in told if one.finish_reason] == ["stop"]
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    streamed = [token for one in told if one.logprobs for token in one.logprobs.content]
    assert streamed == whole.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in streamed).decode() == whole.choices[0].message.content
    for token in streamed:
        best, second = token.top_logprobs
        assert best.logprob >= second.logprob and token.logprob == best.logprob
        assert math.exp(best.logprob) + math.exp(second.logprob) <= 1 + 1e-5


def test_media_are_seen_and_heard(client):
    def answer(text, *parts):
        messages = question(text, *parts)
        return client.chat.completions.create(model="demo", messages=messages, temperature=0).choices[0].message.content

    seen = answer("What is in this picture?", IMAGE)
    assert "circle" in seen or "square" in seen or "triangle" in seen
    assert "seven" in answer("What is said?", SOUND).lower()
    assert "star" in answer("What is in this video?", VIDEO)


def test_replies_of_one_request_have_seeds_of_their_own(client):
    asked = dict(model="demo", messages=HELLO, temperature=50, max_completion_tokens=12)
    texts = [[c.message.content for c in client.chat.completions.create(**asked, seed=7, n=3).choices] for _ in "ab"]
    assert texts[0] == texts[1] and len(set(texts[0])) == 3
    alone = client.chat.completions.create(**asked, seed=8)
    assert alone.choices[0].message.content == texts[0][1]


def test_replies_end_where_they_are_told_to(client):
    def reply(**options):
        return client.chat.completions.create(model="demo", messages=HELLO, temperature=0, **options)

    whole = reply().choices[0].message.content
    cut = reply(stop=["digits"])
    assert cut.choices[0].message.content == whole[: whole.index("digits")] and cut.choices[0].finish_reason == "stop"
    short = reply(max_tokens=3)
    assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 3
    first = reply(logprobs=True, max_tokens=1).choices[0].logprobs.content[0].token
    (token,) = httpx2.post(
        str(client.base_url).removesuffix("v1/") + "tokenize",
        json={"prompt": first},
        headers={"Authorization": f"Bearer {KEY}"},
    ).json()["tokens"]
    assert not reply(logit_bias={str(token): -100}).choices[0].message.content.startswith(first)
    assert reply(frequency_penalty=40.0, presence_penalty=40.0, max_tokens=20).choices[0].message.content != whole


def test_responses_are_what_chats_are(client):
    chat = client.chat.completions.create(model="demo", messages=HELLO, temperature=0).choices[0].message.content
    asked = dict(model="demo", input="Hello", temperature=0)
    whole = client.responses.create(**asked)
    assert (whole.output_text, whole.status, whole.store) == (chat, "completed", False)
    events = list(client.responses.create(**asked, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == chat
    last = events[-1]
    assert last.type == "response.completed" and last.response.output_text == chat
    assert last.response.usage.output_tokens == whole.usage.output_tokens
    short = client.responses.create(**asked, max_output_tokens=2)
    assert (short.status, short.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_responses_read_media_and_what_was_answered_before(client):
    image = {"type": "input_image", "image_url": data_uri("shapes.png"), "detail": "auto"}
    text = {"type": "input_text", "text": "What is in this picture?"}
    first = client.responses.create(model="demo", input=[{"role": "user", "content": [image, text]}], temperature=0)
    seen = client.chat.completions.create(model="demo", messages=question(text["text"], IMAGE), temperature=0)
    assert first.output_text == seen.choices[0].message.content
    again = [{"role": "user", "content": [image, text]}, first.output[0].to_dict(), *HELLO]
    follow = client.responses.create(model="demo", input=again, temperature=0)
    assert follow.usage.input_tokens > first.usage.total_tokens
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="demo", input="Hello", previous_response_id="resp_1")
    assert refused.value.code == "unsupported_field"


def test_what_the_model_sees_is_drawn(server):
    for part in (IMAGE, SOUND):
        answer = server.post("/omni/inspect", {"messages": [{"role": "user", "content": [part]}]}, KEY)
        pictures = answer.json()["pictures"]
        assert len(pictures) == 2 and all(one["image"].startswith("data:image/png;base64,") for one in pictures)
    answer = server.post("/omni/inspect", {"messages": HELLO}, KEY)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "bad_field"


def test_embeddings_are_of_length_one_in_either_encoding(client, server):
    texts = ["a red circle", "/etc/passwd", "https://example.org/a.png"]
    packed = client.embeddings.create(model="demo", input=texts)
    plain = client.embeddings.create(model="demo", input=texts, encoding_format="float")
    vectors = np.array([one.embedding for one in packed.data])
    np.testing.assert_array_equal(vectors.astype(np.float32), np.array([o.embedding for o in plain.data], np.float32))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    # A text is embedded as the message it stands for, whatever it looks like.
    messages = [
        {"role": "system", "content": "Represent the user's input."},
        {"role": "user", "content": "/etc/passwd"},
    ]
    tokens = server.post("/tokenize", {"messages": messages}, KEY).json()["tokens"]
    same = client.embeddings.create(model="demo", input=[tokens])
    alone = client.embeddings.create(model="demo", input=texts[1])
    assert same.data[0].embedding == alone.data[0].embedding
    assert same.usage.prompt_tokens == len(tokens)


def test_embeddings_cut_to_dimensions_are_of_length_one_again(client):
    whole = np.array(client.embeddings.create(model="demo", input="blue").data[0].embedding)
    cut = np.array(client.embeddings.create(model="demo", input="blue", dimensions=64).data[0].embedding)
    np.testing.assert_allclose(cut, whole[:64] / np.linalg.norm(whole[:64]), atol=1e-6)
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="demo", input="blue", dimensions=65)
    assert (refused.value.code, refused.value.param) == ("dimensions_not_trained", "dimensions")


def test_embeddings_of_messages_with_media(client):
    def vector(*parts):
        body = {"messages": question("", *parts) if not parts else [{"role": "user", "content": list(parts)}]}
        found = client.post("/embeddings", cast_to=object, body={"model": "demo", **body})
        return np.array(found["data"][0]["embedding"])

    image, video, sound = vector(IMAGE), vector(VIDEO), vector(SOUND)
    np.testing.assert_allclose(vector(IMAGE), image, atol=1e-6)
    assert max(image @ video, image @ sound, video @ sound) < 1 - 1e-3


def test_tokens_become_their_text_again(server):
    text = "Three círcles 圆, <|im_end|>"
    tokens = server.post("/tokenize", {"prompt": text}, KEY).json()
    assert tokens["count"] == len(tokens["tokens"])
    assert server.post("/detokenize", {"tokens": tokens["tokens"]}, KEY).json() == {"prompt": text}


def test_the_guide_s_example_runs(server, monkeypatch, capsys):
    monkeypatch.chdir(servers.ROOT)
    guide = (servers.ROOT / "docs" / "serving.md").read_text("utf-8")
    (code,) = re.findall("```python\n(.*?)```", guide, re.DOTALL)
    names: dict = {}
    exec(code.replace("http://localhost:8000", server.url).replace('api_key="none"', f'api_key="{KEY}"'), names)
    names["client"].close()
    assert capsys.readouterr().out == "A red circle left of a blue square."
    assert [len(vector) for vector in names["vectors"]] == [128, 128]
    assert len(names["answer"]["data"][0]["embedding"]) == 128


def test_examples_of_the_document_are_answered(server):
    document = httpx2.get(server.url + "/openapi.json").json()
    posts = {path: one["post"]["requestBody"]["content"] for path, one in document["paths"].items() if "post" in one}
    assert set(posts) | {"/v1/models", "/health", "/ready", "/metrics"} == set(document["paths"])
    for path in ("/v1/rerank", "/v1/score"):  # asked of a reranker in test_rerank.py
        del posts[path]
    for path, content in posts.items():
        for name, example in content.get("application/json", {}).get("examples", {}).items():
            assert server.post(path, example["value"], KEY).status_code == 200, (path, name)


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
def test_requests_are_answered_as_recorded(server, case: Case):
    answer = httpx2.request(
        case.method, server.url + case.path, content=case.content, headers=case.headers, timeout=300
    )
    assert (answer.status_code, answer.headers.get("x-request-id") is not None) == (case.status, True)
    if case.status >= 400:
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and error["code"] == case.code
        assert 0 < len(error["message"]) <= 500 and str(servers.ROOT) not in error["message"]
    elif case.code is not None:
        assert answer.json()["object"] == case.code


def test_the_log_has_requests_and_nothing_that_was_sent(server):
    secret = "a sentence that is nobody's business"
    server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": secret}], "max_tokens": 1}, KEY)
    text = json.dumps(server.log)
    assert '"endpoint": "/v1/chat/completions"' in text and '"completion_tokens": 1' in text
    assert secret not in text and KEY not in text and "failure" not in text


def test_a_server_that_is_told_to_end_finishes_what_it_answers(server):
    body = {"messages": HELLO, "stream": True, "temperature": 0}
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx2.stream("POST", server.url + "/v1/chat/completions", json=body, headers=headers, timeout=300) as answer:
        lines = answer.iter_lines()
        first = next(lines)
        server.process.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
    assert first.startswith("data: ") and rest[-1] == "data: [DONE]"
    assert any('"finish_reason":"stop"' in line for line in rest)
    server.process.wait(60)
    assert "draining" in [line["event"] for line in server.log]
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(server.url + "/health")
