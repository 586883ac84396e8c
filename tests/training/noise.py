"""A question as somebody else would type it: with slips of the keys, a greeting, without punctuation, as keywords."""

import random
import re

from millrace.caches.guards.words import listed

_OPENINGS = (
    "please ", "pls ", "Hi, ", "Hello, ", "hey ", "Hi there! ", "Quick question: ", "can you tell me ",
    "Could you please tell me ", "I would like to know ", "I was wondering, ", "I'd like to ask: ", "Good morning. ",
    "sorry to bother you, ", "just wondering, ", "does anyone know ", "Tell me, ", "help me out, ", "ok so ",
    "Question: ",
)  # fmt: skip
_ENDINGS = (" please", " thanks", " Thank you!", " pls", " thx", " Thanks in advance.", " ?", " Any ideas?", " Cheers.")
_KEPT_LOWER = ("I ", "I'")
_GRAMMAR = listed("how do i to the a an is are of in can you what for my it does did me be on with at s")
_SHORTER = (("I am", "I'm"), ("do not", "don't"), ("hat is", "hat's"), ("cannot", "can't"), ("it is", "it's"))
# The keys beside each letter.
_BESIDE = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "w", "r": "et", "s": "ad", "t": "ry", "u": "yi",
    "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip
# Ways to begin that ask for the same.
_FRAMES = (
    (
        "How do I ", "How can I ", "How do you ", "How could I ", "How should I ", "How to ", "how to ", "How would I ",
        "What is the best way to ", "What's the best way to ", "What is the way to ", "What's a good way to ",
        "What do I have to do to ", "What steps do I take to ", "I want to know how to ", "Tell me how to ",
        "Explain how to ", "Show me how to ", "How does one ", "What are some ways to ", "What are the best ways to ",
        "What is a good way to ", "Could you explain how to ", "Best way to ", "How can one ", "Ways to ",
    ),
    ("What is the best ", "What's the best ", "Which is the best ", "Which one is the best ", "Best "),
    ("Can I ", "Is it possible to ", "Am I able to ", "Is there a way to ", "is it possible to "),
    ("Should I ", "Is it a good idea to ", "Would you advise me to ", "Do you recommend that I "),
    ("What are the ", "Which are the ", "List the ", "Tell me the ", "Could you tell me what are the ", "What're the "),
    ("What is ", "What's ", "what is ", "What exactly is ", "Explain what is ", "Tell me what is ", "Whats "),
)  # fmt: skip
_LONG = 5  # letters of a word that a slip leaves recognisable
_FEW, _MANY = 3, 9  # words of a search query
_SHOUTED = 60  # characters, at most


def noisy(text: str, chance: random.Random) -> str:
    """Return another way to type the same question."""
    changed = text
    for _ in range(chance.choice((1, 1, 2, 2, 3))):
        (change,) = chance.choices(_CHANGES, _WEIGHTS)
        changed = change(changed, chance)
    return changed if changed != text else chance.choice(_OPENINGS) + text


def _slipped(text: str, chance: random.Random) -> str:
    words = text.split()
    long = [at for at, word in enumerate(words) if len(word) >= _LONG and word.isalpha() and word.islower()]
    if not long:
        return text
    at = chance.choice(long)
    letters = list(words[at])
    place = chance.randrange(1, len(letters) - 1)
    match chance.choices(("swapped", "missing", "doubled", "beside"), (30, 25, 20, 25))[0]:
        case "swapped":
            letters[place], letters[place - 1] = letters[place - 1], letters[place]
        case "missing":
            del letters[place]
        case "doubled":
            letters.insert(place, letters[place])
        case _:
            letters[place] = chance.choice(_BESIDE.get(letters[place], "e"))
    words[at] = "".join(letters)
    return " ".join(words)


def _opened(text: str, chance: random.Random) -> str:
    keeps = text[:2].isupper() or text.startswith(_KEPT_LOWER)
    return chance.choice(_OPENINGS) + (text if keeps else text[:1].lower() + text[1:])


def _ended(text: str, chance: random.Random) -> str:
    return text.rstrip(" .?!") + chance.choice(_ENDINGS)


def _shortened(text: str, _: random.Random) -> str:
    for long, short in _SHORTER:
        text = text.replace(long, short)
    return text


def _keywords(text: str, _: random.Random) -> str:
    words = [word for word in re.findall(r"[\w'-]+", text.lower()) if word not in _GRAMMAR]
    return " ".join(words) if _FEW <= len(words) < _MANY else text


def _reframed(text: str, chance: random.Random) -> str:
    for frames in _FRAMES:
        for frame in frames:
            if text.startswith(frame):
                return chance.choice(frames) + text.removeprefix(frame)
    return text


def _shouted(text: str, _: random.Random) -> str:
    return text.upper() if len(text) < _SHOUTED else text


_CHANGES = (
    _slipped, _opened, _ended, lambda text, _: text.lower(), lambda text, _: text.rstrip("?.! "), _shortened, _keywords,
    _shouted, _reframed,
)  # fmt: skip
_WEIGHTS = (24, 15, 10, 12, 8, 8, 6, 4, 30)
