"""Whether a model that answers many requests of every kind goes on growing."""

import argparse
import gc
import json
import sys

import numpy as np

MIXED = 2_000
SETTLED = 500
MOST_BYTES = 32 << 20
GIVEN_BACK = 8 << 20  # what an allocator may hold back after one request that failed


def requests(model) -> list:
    """One of each kind: media of several kinds and sizes, answers, vectors, refusals."""
    import omni
    from tests.reliability import media
    from tests.reliability.corpus.table import user

    pictures = [np.full((40 + 8 * n, 64, 3), 30 * n, np.uint8) for n in range(4)]
    encoded, recording, clip = media.image_bytes(), media.tone(1), media.clip(4)

    def refused(call):
        def tried():
            try:
                call()
            except (omni.InputError, omni.CheckpointError):
                return
            raise AssertionError("accepted")

        return tried

    def chat():
        talk = model.chat(temperature=0, max_new_tokens=2)
        talk.send("Hello.")
        talk.send("What is this?", pictures[0])

    greedy = {"max_new_tokens": 3, "temperature": 0}
    return [
        lambda: model.encode(pictures[0]),
        lambda: model.encode(encoded),
        lambda: model.encode(omni.Audio(recording, 16_000)),
        lambda: model.encode(clip),
        lambda: model.encode([pictures[1], pictures[2]]),
        lambda: model.generate(user("Hello."), **greedy),
        lambda: model.generate(user({"type": "image", "image": pictures[3]}, "What is this?"), **greedy),
        chat,
        lambda: model.embed("Hello."),
        lambda: list(model.stream(user("Hi."), **greedy)),
        refused(lambda: model.encode(encoded[:60])),
        refused(lambda: model.encode(b"words, not media")),
        refused(lambda: model.generate([{"role": "user"}], **greedy)),
        refused(lambda: model.encode(omni.Audio(recording, float("nan")))),
        refused(lambda: omni.load("no/such folder")),
    ]


def main() -> None:
    """Prints a JSON object: how many requests, and by how many bytes memory grew after the first quarter."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=MIXED)
    count = options.parse_args().requests
    from tests.reliability import memory
    from tests.reliability.workers import quiet_environment

    quiet_environment()
    import omni

    calls = requests(omni.load("demo", dtype="float32"))
    order = np.random.default_rng(0).integers(0, len(calls), count)
    settled = 0
    for number, which in enumerate(order):
        if number == min(SETTLED, count // 2):
            gc.collect()
            settled = memory.held()
        calls[which]()
    gc.collect()
    json.dump({"requests": count, "growth": memory.held() - settled}, sys.stdout)


if __name__ == "__main__":
    main()
