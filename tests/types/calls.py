"""Calls as an editor sees them: what is ignored here has to be wrong, and everything else right. Never run.

`make types` reads this file; a comment that ignores nothing is an error.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true
from typing import assert_type

import numpy as np

import omni

model = omni.load("demo", parts=("vision", "text"), dtype="bfloat16", quantize="int8")
omni.load("demo", dtype="int4")  # pyright: ignore[reportArgumentType]
omni.load("demo", parts=("sight",))  # pyright: ignore[reportArgumentType]
omni.load("demo", quantize="int3")  # pyright: ignore[reportArgumentType]
omni.load("demo", dytpe="float32")  # pyright: ignore[reportCallIssue]

messages = [{"role": "user", "content": "Hi"}]
assert_type(model.generate(messages, temperature=0.5, max_new_tokens=8), omni.Reply)
model.generate(messages, temprature=0.5)  # pyright: ignore[reportCallIssue]
model.stream(messages, max_tokens=8)  # pyright: ignore[reportCallIssue]
model.prepare(messages, tool=[])  # pyright: ignore[reportCallIssue]

chat = model.chat("Be brief.", temperature=0)
assert_type(chat.send("Hi", "cat.jpg", seed=1), omni.Reply)
model.chat("Be brief.", temprature=0)  # pyright: ignore[reportCallIssue]
chat.send("Hi", sede=1)  # pyright: ignore[reportCallIssue]
chat.stream("Hi", continue_final_message=True)  # pyright: ignore[reportCallIssue]

with model.serve(max_batch=2) as engine:
    engine.submit(messages, max_new_tokens=8)
    engine.submit(messages, max_new_token=8)  # pyright: ignore[reportCallIssue]

assert_type(model.encode("cat.jpg"), omni.Embedding)
model.encode("cat.jpg", limit=omni.Limits())  # pyright: ignore[reportCallIssue]
omni.encode_files("photos", "out", format="parquet", pooling="mean", dtype="float16")
omni.encode_files("photos", "out", format="csv")  # pyright: ignore[reportArgumentType]
omni.encode_files("photos", "out", pooling="max")  # pyright: ignore[reportArgumentType]
assert_type(omni.similarity(np.ones((2, 3)), measure="cosine").measure, str)
omni.similarity(np.ones((2, 3)), measure="euclid")  # pyright: ignore[reportArgumentType]
