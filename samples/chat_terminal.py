"""A chat in the terminal, answers streamed. `/add FILE` puts a picture, recording or clip before the next message.

python samples/chat_terminal.py [CHECKPOINT]
"""

import sys

import omni


def main(checkpoint: str = "demo") -> None:
    chat = omni.load(checkpoint).chat(max_new_tokens=64)
    media: list[str] = []
    for line in map(str.strip, sys.stdin):
        if line.startswith("/add "):
            media.append(line.removeprefix("/add "))
        elif line:
            try:
                for piece in chat.stream(line, *media):
                    print(piece, end="", flush=True)
                print(f"\n[{chat.reply.finish_reason} after {chat.reply.usage.completion_tokens} tokens]")
            except omni.InputError as error:
                print(f"{error} ({error.code})", file=sys.stderr)
            media = []


if __name__ == "__main__":
    main(*sys.argv[1:])
