"""The one error for media and messages that cannot be used."""


class InputError(ValueError):
    """A refused input: what was wrong with it, in one sentence, and a stable code.

    Args:
        code: a short stable name of the rule that was broken, such as `aspect_ratio`.
        message: one sentence that names the value and the rule; cut at 500 characters.
    """

    def __init__(self, code: str, message: str):
        self.code: str = code
        super().__init__(message if len(message) <= 500 else message[:497] + "...")

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str]]:
        # A worker process sends its errors pickled, and an exception's own way remembers the message alone.
        return type(self), (self.code, str(self))
