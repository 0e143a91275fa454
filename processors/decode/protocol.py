"""The protocol between a decoding process and its parent: how requests and answers are framed."""

import struct

ANSWER = struct.Struct("!IQ")
"""Before an answer: the bytes of its JSON, and of the raw data behind it."""
REQUEST = struct.Struct("!cI")
"""Before a request: what is asked, and the bytes of its arguments."""
START, NEXT, STOP = b"r", b"n", b"s"
