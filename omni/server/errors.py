"""Refusals in OpenAI's shape: our codes, and a status for each."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from omni.errors import InputError

# All others are 400: something is wrong with the request.
_STATUS = {
    "invalid_api_key": 401,
    "host_not_allowed": 403,
    "not_found": 404,
    "model_not_found": 404,
    "not_a_recogniser": 404,
    "not_a_reranker": 404,
    "method_not_allowed": 405,
    "body_too_slow": 408,
    "body_too_large": 413,
    "not_json": 415,
    "queue_full": 429,
    "internal_error": 500,
    "not_finite": 500,
    "deadline": 503,
    "cancelled": 503,
    "engine_closed": 503,
    "not_ready": 503,
    "draining": 503,
}
# Fields whose values the library refuses by a code of their own, `bad_` before their name.
_FIELDS = frozenset(
    """messages temperature top_p top_k min_p repetition_penalty presence_penalty frequency_penalty logit_bias stop seed
    logprobs tools tool_choice response_format documents instruction top_n""".split()
)
# Seconds after which it is worth another try.
_RETRY_AFTER = {"queue_full": 1, "deadline": 5, "not_ready": 5, "draining": 5, "engine_closed": 5, "cancelled": 5}


class Refusal(InputError):
    """A request that is not answered.

    Args:
        code: a stable name, which decides the status.
        message: one sentence.
        param: the field that is meant.
    """

    def __init__(self, code: str, message: str, param: str | None = None):
        super().__init__(code, message)
        self.param = param


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


def as_refusal(error: BaseException) -> InputError:
    """An error as a client is told of it; of what is not foreseen, only that it happened."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            return Refusal("method_not_allowed", "this address does not take that method")
        if error.status_code == 404:
            return Refusal("not_found", "there is nothing at this address")
        return Refusal("bad_body", "the form of the request cannot be read")
    return Refusal("internal_error", "something went wrong here; the log has it under the request's id")


def status_of(error: InputError) -> int:
    """The status that an error is answered with."""
    return _STATUS.get(error.code, 400)


def error_body(error: InputError) -> dict[str, Any]:
    """OpenAI's shape of an error."""
    status, param = status_of(error), getattr(error, "param", None)
    if param is None and error.code.removeprefix("bad_") in _FIELDS:
        param = error.code.removeprefix("bad_")
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": str(error), "type": kind, "param": param, "code": error.code}}


def error_response(error: InputError) -> JSONResponse:
    """The whole answer."""
    headers = {}
    if error.code in _RETRY_AFTER:
        headers["Retry-After"] = str(_RETRY_AFTER[error.code])
    if error.code == "invalid_api_key":
        headers["WWW-Authenticate"] = "Bearer"
    if error.code in ("body_too_large", "body_too_slow"):
        headers["Connection"] = "close"  # the rest of the body is not read
    return JSONResponse(error_body(error), status_of(error), headers)
