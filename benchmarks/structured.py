"""Replies to random JSON schemas: how many stop, how many of those validate, and what a masked token costs.

python benchmarks/structured.py --schemas 500 --model demo
"""

import argparse
import json
import time
import warnings

import jsonschema
import llguidance
from hypothesis import HealthCheck, Phase, given, seed, settings

import omni
from tests.schemas import bounded_schemas

ASK = [{"role": "user", "content": "Describe it."}]


def draw(count: int) -> list[dict]:
    """Random schemas, the same each time."""
    drawn: list[dict] = []

    @seed(0)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(bounded_schemas())
    def take(schema: dict) -> None:
        drawn.append(schema)

    while len(drawn) < count:
        take()
    return drawn[:count]


class Bytes:
    """Tokens of one byte, so that what a grammar begins with is told without the model's own."""

    tokens = (*(bytes([i]) for i in range(256)), b"<end>")
    special_token_ids = (256,)
    bos_token_id, eos_token_id = None, 256

    def __call__(self, text: bytes) -> list[int]:
        """The ids of a text."""
        return list(text)


def begins(schema: dict, text: str) -> bool:
    """Whether a text is the beginning of what fits."""
    table = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Bytes()), n_vocab=257, eos_token=256)
    matcher = llguidance.LLMatcher(table, llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema)))
    return matcher.try_consume_tokens(list(text.encode())) == len(text.encode())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="demo")
    parser.add_argument("--schemas", type=int, default=500)
    parser.add_argument("--max-new-tokens", type=int, default=400)
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    model = omni.load(given.model, parts="text")
    options = omni.GenerationOptions(max_new_tokens=given.max_new_tokens, temperature=1.0, seed=0)
    stopped = valid = cut = refused = 0
    with model.serve(max_batch=given.batch) as engine:
        tickets = []
        for i, schema in enumerate(draw(given.schemas)):
            wanted = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
            try:
                tickets.append((schema, engine.submit(ASK, options, response_format=wanted, seed=i)))
            except omni.InputError as error:
                refused += 1
                print(error.code, error)
        for schema, ticket in tickets:
            reply = ticket.result()
            if reply.finish_reason == "stop":
                stopped += 1
                try:
                    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(
                        json.loads(reply.text)
                    )
                    valid += 1
                except (ValueError, jsonschema.ValidationError) as error:
                    print("not valid:", json.dumps(schema), reply.text, error)
            elif begins(schema, reply.text):
                cut += 1
            else:
                print("no beginning:", json.dumps(schema), reply.text)
        print(f"{given.schemas} schemas: {refused} refused, {stopped} replies stopped, {valid} of them valid; "
              f"{len(tickets) - stopped} cut by length, {cut} of them a valid beginning")  # fmt: skip
        times = []
        wide = {"type": "regex", "regex": "(.|\\n)*"}
        for form in (None, wide) * 3:
            begun = time.perf_counter()
            reply = engine.submit(ASK, max_new_tokens=200, stop_tokens=(), temperature=0, response_format=form).result()
            times.append((time.perf_counter() - begun) / max(len(reply.token_ids), 1))
        print(f"seconds a token, one row: {min(times[::2]):.5f} free, {min(times[1::2]):.5f} masked")


if __name__ == "__main__":
    main()
