"""`/v1/rerank` and `/v1/score`, in the forms of those who ask them: Jina, Cohere and vLLM."""

import base64
import io

import httpx2
import numpy as np
import PIL.Image
import pytest

import omni
from omni.server.openapi import document
from omni.server.settings import ServerSettings
from tests.golden import media, rerankers
from tests.omni.server import servers

QUERY = "Where is the disc?"
TEXTS = ["Gulls over the harbour.", "https://example.org/cat.jpg", "The disc stands on the wall."]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    directory = rerankers.write_checkpoint(tmp_path_factory.mktemp("published") / "Qwen3-VL-Reranker", "vl")
    model = omni.load(directory, sources=ServerSettings().sources)
    with servers.thread(lambda: model, name="vl-reranker", body_bytes=1 << 20) as server:
        yield server, model


def picture(name="small"):
    file = io.BytesIO()
    PIL.Image.fromarray(media.image(name)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def as_texts(texts):
    return [{"type": "text", "text": text} for text in texts]


def test_documents_in_the_order_of_their_scores(served):
    server, model = served
    wanted = model.score(QUERY, as_texts(TEXTS))  # texts are texts, whatever they look like
    answer = server.post("/v1/rerank", {"model": "vl-reranker", "query": QUERY, "documents": TEXTS}).json()
    results = answer["results"]
    assert (answer["model"], answer["object"]) == ("vl-reranker", "list") and answer["id"].startswith("rerank-")
    assert [one["relevance_score"] for one in results] == sorted((r["relevance_score"] for r in results), reverse=True)
    np.testing.assert_allclose(
        [r["relevance_score"] for r in results], wanted[[r["index"] for r in results]], atol=1e-6
    )
    assert [one["document"] for one in results] == [{"text": TEXTS[one["index"]]} for one in results]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
    best = server.post("/v1/rerank", {"query": QUERY, "documents": TEXTS, "top_n": 1, "return_documents": False}).json()
    assert best["results"] == [{k: v for k, v in results[0].items() if k != "document"}]


def test_scores_in_the_order_of_the_documents(served):
    server, model = served
    wanted = model.score(QUERY, as_texts(TEXTS))
    for names in (("queries", "documents"), ("text_1", "text_2"), ("data_1", "data_2")):
        answer = server.post("/v1/score", dict(zip(names, (QUERY, TEXTS), strict=True))).json()
        assert [(one["index"], one["object"]) for one in answer["data"]] == [(i, "score") for i in range(3)]
        np.testing.assert_allclose([one["score"] for one in answer["data"]], wanted, atol=1e-6)
    # As many queries: each is asked of its own document.
    paired = server.post("/v1/score", {"queries": [QUERY, "Who flies?"], "documents": TEXTS[:2]}).json()["data"]
    own = model.score("Who flies?", as_texts(TEXTS[1:2]))
    np.testing.assert_allclose([one["score"] for one in paired], [wanted[0], own[0]], atol=1e-5)
    instructed = {"queries": QUERY, "documents": TEXTS[0], "instruction": "Find birds."}
    (one,) = server.post("/v1/score", instructed).json()["data"]
    np.testing.assert_allclose(one["score"], model.score(QUERY, TEXTS[:1], instruction="Find birds.")[0], atol=1e-5)


def test_media_in_every_form(served):
    server, model = served
    (wanted,) = model.score(QUERY, [{"image": media.image("small")}])
    url = picture()
    parts = [{"type": "image_url", "image_url": {"url": url}}]
    forms = [{"image": url}, {"content": parts}, parts[0], {"type": "image", "image": url}]
    for form in forms:
        answer = server.post("/v1/score", {"queries": QUERY, "documents": form}).json()
        np.testing.assert_allclose(answer["data"][0]["score"], wanted, atol=1e-6)
    both = {"queries": {"image": url, "text": QUERY}, "documents": [{"text": "a", "image": picture("tiny")}]}
    (found,) = server.post("/v1/score", both).json()["data"]
    query = {"image": media.image("small"), "text": QUERY}
    np.testing.assert_allclose(
        found["score"], model.score(query, [{"text": "a", "image": media.image("tiny")}])[0], atol=1e-6
    )


def test_what_the_model_does_is_told(served):
    (one,) = httpx2.get(served[0].url + "/v1/models").json()["data"]
    assert one["reranks"] and not one["chat"] and not one["transcribes"]


def test_examples_of_the_document_are_answered(served):
    for path in ("/v1/rerank", "/v1/score"):
        examples = document()["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        for name, example in examples.items():
            assert served[0].post(path, example["value"]).status_code == 200, (path, name)


def test_what_was_read_is_counted(served):
    def tokens():
        text = httpx2.get(served[0].url + "/metrics").text
        return float(next(line for line in text.splitlines() if 'kind="prompt"' in line).split()[-1])

    before = tokens()
    used = served[0].post("/v1/score", {"queries": QUERY, "documents": TEXTS}).json()["usage"]["prompt_tokens"]
    assert tokens() - before == used


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/rerank", {"query": "x"}, "missing_field"),
        ("/v1/rerank", {"query": "x", "documents": []}, "bad_documents"),
        ("/v1/rerank", {"query": "x", "documents": ["y"] * 2049}, "bad_documents"),
        ("/v1/rerank", {"query": "x", "documents": "y"}, "bad_field"),
        ("/v1/rerank", {"query": 5, "documents": ["y"]}, "bad_field"),
        ("/v1/rerank", {"query": "x", "documents": ["y"], "top_n": 0}, "bad_top_n"),
        ("/v1/rerank", {"query": "x", "documents": ["y"], "max_tokens_per_doc": 5}, "unsupported_field"),
        ("/v1/rerank", {"query": "x", "documents": [{"text": "y", "title": "z"}]}, "unknown_key"),
        ("/v1/rerank", {"query": "x", "documents": [{"content": "y", "text": "z"}]}, "bad_field"),
        ("/v1/rerank", {"query": "x", "documents": [{"content": ["y"]}]}, "bad_field"),
        ("/v1/rerank", {"query": "x", "documents": [{"image": "/etc/passwd"}]}, "source_not_allowed"),
        ("/v1/rerank", {"query": "x", "documents": [{"image": "http://127.0.0.1:1/a.png"}]}, "source_address"),
        ("/v1/score", {"queries": "x"}, "missing_field"),
        ("/v1/score", {"documents": ["y"]}, "missing_field"),
        ("/v1/score", {"queries": "x", "text_1": "x", "documents": ["y"]}, "bad_field"),
        ("/v1/score", {"queries": ["a", "b"], "documents": ["y"]}, "bad_field"),
        ("/v1/score", {"queries": [], "documents": []}, "bad_documents"),
        ("/v1/score", {"queries": "x", "documents": ["y"], "use_activation": False}, "unsupported_field"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requests_that_are_refused(served, path, body, code):
    answer = served[0].post(path, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
