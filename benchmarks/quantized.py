"""What keeping weights as integers of 8 bits costs: bytes, and how far next-token probabilities move.

    python -m benchmarks.quantized [--records 300]

The demo and the checkpoint of the golden tests, bfloat16 beside int8 over the same activations: bytes of the weights,
and Kullback-Leibler divergence from the scores of bfloat16 to those of int8, a mean over the tokens of conversations.
For the demo also the answers that `omni eval demo` counts. Speed is `python -m benchmarks.beside . --quantize int8`.
"""

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

import omni
from omni.prompt.records import read_records
from omni.tools.evaluate import evaluate, table

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"


def weight_bytes(model: omni.Model) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(model.parts, nnx.Param)))


def divergence(whole: np.ndarray, other: np.ndarray) -> np.ndarray:
    """KL of each token, in nats."""

    def log_softmax(x: np.ndarray) -> np.ndarray:
        x = x.astype(np.float64)
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    p, q = log_softmax(whole), log_softmax(other)
    return (np.exp(p) * (p - q)).sum(-1)


def compare(whole: omni.Model, other: omni.Model, conversations: Iterable[Any]) -> np.ndarray:
    """KL of every token of every conversation."""
    found = []
    for messages in conversations:
        inputs = whole.prepare(messages)
        found.append(divergence(whole.logits(inputs), other.logits(other.prepare(messages))))
    return np.concatenate(found)


def main() -> None:
    """Prints the figures."""
    from tests.golden.cases import CONVERSATIONS
    from tests.golden.load import Golden
    from tests.golden.tiny import write_checkpoint

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--records", type=int, default=10_000, help="most held-out conversations of the demo")
    options = parser.parse_args()
    records = read_records(Path(omni.__file__).parent / "assets" / "demo" / "heldout.zip")[: options.records]
    golden = Golden()
    with tempfile.TemporaryDirectory() as temporary:
        tiny = write_checkpoint(Path(temporary))
        for name, directory, conversations in (
            ("demo", "demo", [record.messages for record in records]),
            ("golden", str(tiny), [golden.case(case).with_media() for case in CONVERSATIONS if "sound" not in case]),
        ):
            whole = omni.load(directory, dtype="bfloat16")
            other = omni.load(directory, dtype="bfloat16", quantize="int8")
            share = weight_bytes(other) / weight_bytes(whole)
            tokens = compare(whole, other, conversations)
            print(
                f"{name}: {share:.3f} of the bytes; KL {tokens.mean():.5f} a token (median {np.median(tokens):.5f}, "
                f"99 % below {np.quantile(tokens, 0.99):.5f}) over {len(tokens)} tokens",
                flush=True,
            )
            if name == "demo":
                for label, model in (("bfloat16", whole), ("int8", other)):
                    score = table(list(evaluate(model, records)))[-1]
                    print(f"{name}, {label}: {score.right} of {score.items} answers right, {score.share:.1%}")


if __name__ == "__main__":
    main()
