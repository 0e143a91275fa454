"""How questions are put: free wordings of what may be asked, and the courtesies and carelessness around them."""

import numpy as np

ASK = {
    "colour": (
        "What colour is the {0}?",
        "Which colour has the {0}?",
        "Tell me the colour of the {0}.",
        "The {0}: what colour?",
        "What color is the {0}?",
        "What is the colour of the {0}?",
        "Which color is the {0}?",
    ),
    "shape": (
        "What is the {0} thing?",
        "Which shape is {0}?",
        "What shape is the {0} one?",
        "The {0} one: which shape is it?",
        "What is {0}?",
        "What {0} shape is there?",
    ),
    "only_colour": ("What colour is it?", "Which colour is this?", "What color is this?", "What colour do you see?"),
    "only_shape": ("What shape is it?", "Which shape is this?", "What shape do you see?", "Name the shape."),
    "count": (
        "How many shapes are there?",
        "How many shapes do you see?",
        "Count the shapes.",
        "How many things are in the picture?",
        "How many objects are there?",
        "How many are there?",
    ),
    "count_colour": (
        "How many {0} shapes are there?",
        "Count the {0} shapes.",
        "How many shapes are {0}?",
        "How many {0} things do you see?",
    ),
    "count_shape": ("How many {0}s are there?", "Count the {0}s.", "How many {0}s do you see?"),
    "where": ("Where is the {0}?", "Where do you see the {0}?", "Tell me where the {0} is.", "Find the {0}."),
    "what_is": ("What is {1} the {0}?", "What do you see {1} the {0}?", "Which shape is {1} the {0}?"),
    "is_it": ("Is the {0} {1} the {2}?", "Do you see the {0} {1} the {2}?", "The {0} is {1} the {2}, is it not?"),
    "is_there": ("Is there {0}?", "Do you see {0}?", "Is {0} in the picture?", "Can you see {0}?"),
    "list": (
        "List the shapes.",
        "Name all the shapes.",
        "What are the shapes, and where are they?",
        "Which shapes are where?",
        "List everything you see.",
    ),
    "describe": (
        "What is in this picture?",
        "What do you see?",
        "Describe the picture.",
        "What is this?",
        "Tell me what you see.",
        "What is in the image?",
        "What does the picture show?",
    ),
    "digit": (
        "Which digit is this?",
        "What number is written here?",
        "Read the digit.",
        "What digit do you see?",
        "Which number is it?",
        "What does it say?",
        "Read this.",
    ),
    "word": (
        "What do you hear?",
        "What is said?",
        "Which word is spoken?",
        "What does the voice say?",
        "What word is this?",
        "What did they say?",
        "Write down what you hear.",
    ),
    "tones": ("How do the tones go?", "Which tones do you hear?", "Describe the tones.", "What do you hear?"),
    "moves": (
        "Where does it move?",
        "Which way does it go?",
        "In which direction does the shape move?",
        "Where does the {0} go?",
        "How does it move?",
        "Which way does the {0} move?",
    ),
    "what_moves": ("What moves?", "What is moving here?", "Which shape is moving?", "What moves in this video?"),
    "clip": ("What happens here?", "Describe the video.", "What do you see?", "What happens in this clip?"),
    "match": (
        "Does the spoken number match the written one?",
        "Do the picture and the voice say the same number?",
        "Is it the same number?",
        "Do they match?",
        "Is the number you hear the one you see?",
    ),
    "knows": ("What do you know?", "What can you do?", "Who are you?", "Help!", "What can I ask you?", "Hello!"),
    "else": (
        "What is the capital of {0}?",
        "Write a poem about {0}.",
        "Who is the king of {0}?",
        "How do I get to {0}?",
        "Tell me a story about {0}.",
        "What is the weather in {0}?",
        "Translate {0} for me.",
        "How old is {0}?",
    ),
}
_ELSEWHERE = ("France", "Peru", "the moon", "my uncle", "a dragon", "London", "seven seas", "the red planet", "winter")
_BEFORE = ("Please: ", "Hey, ", "Tell me: ", "Look: ", "So, ", "And now: ")
_SYSTEM = (
    "You are terse.",
    "You are a helpful assistant.",
    "Answer briefly.",
    "You look at pictures and listen to sounds.",
    "Be kind, and say so when you do not know.",
)


def ask(random: np.random.RandomState, what: str, *names: str) -> str:
    """A question, sometimes with a courtesy before it, sometimes written in haste."""
    wordings = ASK[what]
    question = wordings[random.randint(len(wordings))].format(*names)
    if random.rand() < 0.08:
        before = _BEFORE[random.randint(len(_BEFORE))]
        question = before + question[0].lower() + question[1:]
    if random.rand() < 0.12:
        question = question.lower()
    if random.rand() < 0.12:
        question = question.rstrip("?.!")
    return question


def elsewhere(random: np.random.RandomState) -> str:
    """A question about what no medium shows."""
    return ask(random, "else", _ELSEWHERE[random.randint(len(_ELSEWHERE))])


def system(random: np.random.RandomState) -> list[dict[str, str]]:
    """A system message, now and then."""
    if random.rand() < 0.8:
        return []
    return [{"role": "system", "content": _SYSTEM[random.randint(len(_SYSTEM))]}]
