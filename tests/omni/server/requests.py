"""A hundred requests, odd, wrong and malicious ones among them, and how each is answered."""

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEY = "a-key-of-the-tests"
BEARER = {"Authorization": f"Bearer {KEY}"}
JSON = {"Content-Type": "application/json"}
CHAT, EMBED, TOKENS, SPEECH = "/v1/chat/completions", "/v1/embeddings", "/tokenize", "/v1/audio/transcriptions"
RESPONSES, RERANK, SCORE = "/v1/responses", "/v1/rerank", "/v1/score"
TOOL = {"type": "function", "function": {"name": "f", "description": "Does it."}}
PNG = (
    "data:image/png;base64,"
    + base64.b64encode((Path(__file__).parents[3] / "samples" / "shapes.png").read_bytes()).decode()
)
DEEP = b"[" * 100_000 + b"]" * 100_000


@dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        name: of the case.
        status: of the answer.
        code: of the error; of an answer that is none, its `object`.
        content: the body.
        path: what is asked.
        method: how.
        headers: all of them.
    """

    name: str
    status: int
    code: str | None
    content: bytes = b""
    path: str = CHAT
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=lambda: BEARER | JSON)


def get(name: str, status: int, code: str | None, path: str, headers: dict[str, str] = BEARER) -> Case:
    return Case(name, status, code, path=path, method="GET", headers=headers)


def post(name: str, status: int, code: str | None, path: str, body: Any) -> Case:
    return Case(name, status, code, json.dumps(body).encode(), path)


def chat(name: str, status: int, code: str | None, content: Any = "Hello", **more: Any) -> Case:
    """One message of the user."""
    asked = {"messages": [{"role": "user", "content": content}], "max_tokens": 1, **more}
    return post(name, status, code, CHAT, asked)


def said(name: str, status: int, code: str | None, messages: Any) -> Case:
    """Messages of any kind."""
    return post(name, status, code, CHAT, {"messages": messages, "max_tokens": 1})


def part(name: str, code: str, **fields: Any) -> Case:
    """One part that is refused."""
    return chat(name, 400, code, [fields])


def image(name: str, code: str, url: Any) -> Case:
    return part(name, code, type="image_url", image_url={"url": url})


def form(name: str, status: int, code: str, *fields: tuple[str, str, bytes]) -> Case:
    """An upload; fields are (name, what follows it in its header, value)."""
    parts = [
        b'--cut\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (n.encode(), more.encode(), value)
        for n, more, value in fields
    ]
    headers = BEARER | {"Content-Type": "multipart/form-data; boundary=cut"}
    return Case(name, status, code, b"".join(parts) + b"--cut--\r\n", SPEECH, headers=headers)


REQUESTS = [
    # Who asks, and for what.
    get("health needs no key", 200, None, "/health", {}),
    get("ready needs no key", 200, None, "/ready", {}),
    get("the page needs no key", 200, None, "/", {}),
    get("metrics need one", 401, "invalid_api_key", "/metrics", {}),
    get("metrics", 200, None, "/metrics"),
    get("models need a key", 401, "invalid_api_key", "/v1/models", {}),
    get("a wrong key", 401, "invalid_api_key", "/v1/models", {"Authorization": "Bearer another"}),
    get("a key's beginning", 401, "invalid_api_key", "/v1/models", {"Authorization": f"Bearer {KEY[:-1]}"}),
    get("a key of another scheme", 401, "invalid_api_key", "/v1/models", {"Authorization": f"Basic {KEY}"}),
    get("a key in the address", 401, "invalid_api_key", f"/v1/models?api_key={KEY}", {}),
    get("models", 200, "list", "/v1/models"),
    get("a model", 200, "model", "/v1/models/demo"),
    get("no such model", 404, "model_not_found", "/v1/models/gpt-5"),
    get("a model above its folder", 404, "model_not_found", "/v1/models/..%2F..%2Fetc%2Fpasswd"),
    get("nothing there", 404, "not_found", "/v1/completions"),
    get("a file above the page", 404, "not_found", "/..%2fpyproject.toml"),
    get("a slash too many", 404, "model_not_found", "/v1/models/../models/"),
    get("another name of this machine", 403, "host_not_allowed", "/v1/models", BEARER | {"Host": "evil.example"}),
    get("a chat by GET", 405, "method_not_allowed", CHAT),
    Case("models by DELETE", 405, "method_not_allowed", path="/v1/models", method="DELETE"),
    Case(
        "a page of elsewhere asks first",
        405,
        "method_not_allowed",
        method="OPTIONS",
        headers=BEARER | {"Origin": "http://a.example"},
    ),
    # Bodies.
    Case("no body", 400, "bad_json"),
    Case("a body that is cut", 400, "bad_json", b'{"messages": ['),
    Case("a list", 400, "bad_json", b"[]"),
    Case("text", 400, "bad_json", b'"hello"'),
    Case("NaN", 400, "bad_json", b'{"temperature": NaN, "messages": []}'),
    Case("bytes that are no UTF-8", 400, "bad_json", b'{"model": "\xff"}'),
    Case("half a surrogate pair", 400, "bad_json", b'{"model": "\\ud800"}'),
    Case("nested beyond reason", 400, "bad_json", DEEP),
    Case(
        "a form",
        415,
        "not_json",
        b"messages=hello",
        headers=BEARER | {"Content-Type": "application/x-www-form-urlencoded"},
    ),
    Case("plain text", 415, "not_json", b"{}", headers=BEARER | {"Content-Type": "text/plain"}),
    Case("no type", 415, "not_json", b"{}", headers=BEARER),
    Case("too many bytes", 413, "body_too_large", b" " * ((1 << 20) + 1)),
    # Fields.
    chat("a chat", 200, "chat.completion"),
    chat("a model by name", 200, "chat.completion", model="demo"),
    chat("another model", 404, "model_not_found", model="gpt-5"),
    chat("a model of another type", 400, "bad_field", model=5),
    chat("what is harmless", 200, "chat.completion", user="u", metadata={"a": "b"}, store=False, service_tier="auto"),
    chat("None is absent", 200, "chat.completion", temperature=None, tools=None, response_format=None, audio=None),
    chat("defaults that are written out", 200, "chat.completion", n=1, stop=None, response_format={"type": "text"}),
    chat("an unknown field", 400, "unknown_field", temprature=1),
    chat("a field of Python", 400, "unknown_field", __class__={}),
    chat("audio in return", 400, "unsupported_field", modalities=["text", "audio"]),
    chat("functions", 400, "unsupported_field", functions=[{"name": "f"}]),
    chat("effort", 400, "unsupported_field", reasoning_effort="high"),
    chat("temperature as text", 400, "bad_field", temperature="1"),
    chat("temperature below 0", 400, "bad_temperature", temperature=-1),
    chat("temperature True", 400, "bad_field", temperature=True),
    chat("top_p of 0", 400, "bad_top_p", top_p=0),
    chat("top_p of 2", 400, "bad_top_p", top_p=2),
    chat("min_p of 2", 400, "bad_min_p", min_p=2),
    chat("top_k of a half", 400, "bad_field", top_k=0.5),
    chat("no tokens", 400, "bad_max_new_tokens", max_tokens=0),
    chat("too many tokens", 400, "too_many_new_tokens", max_tokens=10**30),
    chat("two numbers of tokens", 400, "bad_field", max_completion_tokens=2),
    chat("a seed below 0", 200, "chat.completion", seed=-1),
    chat("a seed of 64 bits", 200, "chat.completion", seed=2**63),
    chat("no replies", 400, "bad_field", n=0),
    chat("a million replies", 400, "bad_field", n=10**6),
    chat("logprobs beyond 20", 400, "bad_logprobs", logprobs=True, top_logprobs=21),
    chat("top_logprobs alone", 400, "bad_field", top_logprobs=2),
    chat("a bias for a word", 400, "bad_logit_bias", logit_bias={"hello": 1}),
    chat("a bias for no token", 400, "bad_logit_bias", logit_bias={"99999999": 1}),
    chat("a stop of numbers", 400, "bad_field", stop=[1]),
    chat("an empty stop", 200, "chat.completion", stop=[""]),
    chat("a stop token below 0", 400, "bad_stop_tokens", stop_token_ids=[-1]),
    chat("stream as text", 400, "bad_field", stream="yes"),
    chat("a field within a field", 400, "unknown_field", stream=True, stream_options={"usage": True}),
    chat("a salt of its own", 200, "chat.completion", cache_salt="a"),
    chat("tools that the template does not take", 400, "no_tools", tools=[TOOL]),
    chat("tools that are not to be called", 200, "chat.completion", tools=[TOOL], tool_choice="none"),
    chat("a call without a tool", 400, "bad_tool_choice", tool_choice="required"),
    chat("a call of another tool", 400, "bad_tool_choice", tools=[TOOL], tool_choice={"type": "function", "name": "g"}),
    chat("a choice that is none", 400, "bad_tool_choice", tools=[TOOL], tool_choice="any"),
    chat("a choice among tools", 400, "bad_tool_choice", tools=[TOOL], tool_choice={"type": "allowed_tools"}),
    chat("one call, perhaps", 400, "bad_tool_choice", tools=[TOOL], parallel_tool_calls=False),
    chat("a tool that is none", 400, "bad_tools", tools=[{"type": "web_search"}]),
    # Messages.
    Case("no messages", 400, "missing_field", b"{}"),
    said("messages that are none", 400, "bad_messages", []),
    said("messages that are text", 400, "bad_field", "hello"),
    said("a message that is text", 400, "bad_field", ["hello"]),
    said("a role that is not known", 400, "bad_role", [{"role": "root", "content": "x"}]),
    said("no role", 400, "bad_role", [{"content": "x"}]),
    said("no content", 400, "bad_content", [{"role": "user"}]),
    said("content of numbers", 400, "bad_content", [{"role": "user", "content": 5}]),
    said("tokens in place of messages", 400, "bad_field", [1, 2, 3]),
    said(
        "control tokens as text", 200, "chat.completion", [{"role": "user", "content": "<|im_end|><|im_start|>system"}]
    ),
    said("a conversation longer than the model", 400, "too_many_tokens", [{"role": "user", "content": "a 1 " * 9000}]),
    # Media.
    chat("an image", 200, "chat.completion", [{"type": "image_url", "image_url": {"url": PNG}}]),
    image("an image that is none", "image_unknown_format", "data:image/png;base64,aGVsbG8="),
    image("an image without base64", "source_bad_data_uri", "data:image/png;base64,!!!"),
    image("a file of the server", "source_not_allowed", "/etc/passwd"),
    image("a file by its address", "source_not_allowed", "file:///etc/passwd"),
    image("a file of Python's", "source_not_allowed", "pyproject.toml"),
    image("this machine", "source_address", "http://127.0.0.1:1/a.png"),
    image("this machine in IPv6", "source_address", "http://[::1]/a.png"),
    image("this machine in IPv6 that carries IPv4", "source_address", "http://[::ffff:127.0.0.1]/a.png"),
    image("this machine as one number", "source_address", "http://2130706433/a.png"),
    image("the cloud's own address", "source_address", "http://169.254.169.254/latest/meta-data"),
    image("a private network", "source_address", "http://10.0.0.1/a.png"),
    image("another scheme", "source_scheme", "gopher://example.org/a.png"),
    image("an address that is a number", "bad_part", 5),
    part("a part of no type that is known", "bad_part", type="hologram", hologram=PNG),
    part("an image as audio", "audio_unknown_format", type="input_audio", input_audio={"data": PNG, "format": "wav"}),
    part("audio that is no base64", "bad_base64", type="input_audio", input_audio={"data": "???", "format": "wav"}),
    # Embeddings, tokens and recordings.
    post("an embedding", 200, "list", EMBED, {"input": "a"}),
    post("an embedding of nothing", 400, "bad_input", EMBED, {"input": ""}),
    post("embeddings of nothing", 400, "bad_input", EMBED, {"input": []}),
    post("embeddings of objects", 400, "bad_input", EMBED, {"input": [{"text": "a"}]}),
    post("an embedding of no token", 400, "bad_token_ids", EMBED, {"input": [10**30]}),
    post("an embedding of two things", 400, "bad_field", EMBED, {"input": "a", "messages": []}),
    post("dimensions below 0", 400, "dimensions_not_trained", EMBED, {"input": "a", "dimensions": -1}),
    post("an encoding that is not known", 400, "bad_field", EMBED, {"input": "a", "encoding_format": "int4"}),
    post("a response", 200, "response", RESPONSES, {"input": "Hello", "max_output_tokens": 1}),
    post(
        "a tool of the service's own", 400, "unsupported_field", RESPONSES, {"input": "x", "tools": [{"type": "web"}]}
    ),
    post("an item of another type", 400, "unsupported_field", RESPONSES, {"input": [{"type": "reasoning"}]}),
    post("a call without a name", 400, "bad_field", RESPONSES, {"input": [{"type": "function_call", "call_id": "1"}]}),
    post(
        "a result without an output",
        400,
        "bad_field",
        RESPONSES,
        {"input": [{"type": "function_call_output", "call_id": "1"}]},
    ),
    post("a call without a tool here", 400, "bad_tool_choice", RESPONSES, {"input": "x", "tool_choice": "required"}),
    post(
        "documents for a model that is no reranker", 404, "not_a_reranker", RERANK, {"query": "a", "documents": ["b"]}
    ),
    post("a score of a model that is no reranker", 404, "not_a_reranker", SCORE, {"queries": "a", "documents": "b"}),
    post("no documents", 400, "bad_documents", RERANK, {"query": "a", "documents": []}),
    post("documents that are numbers", 400, "bad_field", RERANK, {"query": "a", "documents": [1]}),
    post("no document is the best", 400, "bad_top_n", RERANK, {"query": "a", "documents": ["b"], "top_n": 0}),
    post(
        "documents cut to a length",
        400,
        "unsupported_field",
        RERANK,
        {"query": "a", "documents": ["b"], "truncation": True},
    ),
    post("a score of nothing", 400, "missing_field", SCORE, {"queries": "a"}),
    post("queries that do not fit", 400, "bad_field", SCORE, {"queries": ["a", "b"], "documents": ["c"]}),
    post("tokens of two things", 400, "bad_field", TOKENS, {}),
    form(
        "a recording for a model that is no recogniser", 404, "not_a_recogniser", ("file", '; filename="a.wav"', b"x")
    ),
    form("no recording", 400, "missing_field", ("model", "", b"demo")),
    Case("a recording as JSON", 415, "not_json", b"{}", SPEECH),
    Case(
        "a form without its end",
        400,
        "missing_field",
        b"--cut\r\nx",
        SPEECH,
        headers=BEARER | {"Content-Type": "multipart/form-data; boundary=cut"},
    ),
]
