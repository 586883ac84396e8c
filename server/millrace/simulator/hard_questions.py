"""Questions that only the strong model answers well, with the answers of both models."""

from typing import NamedTuple

# Answers of a weak model that fails, in the ways in which real models fail.
UNSURE = "I'm not sure."
UNKNOWN = "I don't know the answer to that."
REFUSED = "I can't help with that."
EMPTY = ""


class Hard(NamedTuple):
    """The two answers to a hard question."""

    weak: str
    strong: str


HARD_ANSWERS = {
    "Prove that the square root of 2 is irrational.": Hard(
        UNSURE,
        "Suppose √2 = a/b with whole numbers a and b that share no factor. Then a² = 2b², so a² is even, and so "
        "is a: a = 2c. It follows that 4c² = 2b², so b² = 2c² and b is even too. But then a and b share the "
        "factor 2, against the assumption. So √2 is irrational.",
    ),
    "Why is the sky dark at night?": Hard(
        "I don't know why the sky is dark at night.",
        "If the universe were endless, unchanging and full of stars, every line of sight would end on a star and "
        "the night would be bright: that is Olbers' paradox. But the universe has a finite age, so light from "
        "beyond a certain distance has not reached us yet. And as space expands, the light of far sources is "
        "stretched beyond what we can see.",
    ),
    "Prove that there are infinitely many primes.": Hard(
        "I don't know how to prove that.",
        "Take any finite list of primes, multiply them all and add 1. The result leaves a remainder of 1 when "
        "divided by any prime on the list, so none of them divides it. Yet it has some prime factor, which is "
        "therefore missing from the list. So no finite list holds all primes.",
    ),
    "How does public-key cryptography work?": Hard(
        EMPTY,
        "Everyone has a pair of keys: a public one to give away and a private one to keep. What is locked with "
        "the public key can only be opened with the private one. This rests on sums that are easy to do and very "
        "hard to undo, such as multiplying two large primes. So two people can talk in secret without ever having "
        "shared a secret.",
    ),
    "Explain the CAP theorem.": Hard(
        UNSURE,
        "When a network fault splits a distributed store in two, it cannot be both consistent and available. "
        "Either it refuses some requests, so that no one reads old data, or it answers all of them and the two "
        "sides may disagree. While the network is whole, no such choice is needed.",
    ),
    "Why is the halting problem undecidable?": Hard(
        REFUSED,
        "Suppose a program H could tell, for any program and input, whether it halts. Build a program D that "
        "takes a program P, asks H whether P halts when given itself, and does the opposite. Now run D on itself: "
        "it halts exactly if it does not. So H cannot exist.",
    ),
    "Why does a mirror swap left and right but not up and down?": Hard(
        UNSURE,
        "It does neither: a mirror swaps front and back. Your right hand stays on the right, and your head stays "
        "at the top. It looks like a swap of left and right because you imagine yourself turned around to stand "
        "where the image is, and a turned person's right hand is on the other side.",
    ),
    "Should I switch doors in the Monty Hall problem?": Hard(
        "I don't know which is better.",
        "Yes: switching wins two times out of three. Your first door has the prize with a chance of 1/3, and that "
        "does not change when the host, who knows where the prize is, opens an empty one. The other 2/3 now "
        "belong to the one door that is left.",
    ),
    "What is the derivative of x to the power of x?": Hard(
        "I'm not sure how to work that out.",
        "For x > 0, write x^x as e^(x ln x). By the chain rule its derivative is e^(x ln x) times the derivative "
        "of x ln x, which is ln x + 1. So the derivative is x^x (ln x + 1).",
    ),
    "How does attention work in a transformer?": Hard(
        EMPTY,
        "Each token gets three vectors: a query, a key and a value. Its query is compared with the keys of the "
        "tokens it may look at, and a softmax turns the scores into weights that add up to 1. What it takes along "
        "is the sum of the values with those weights. Several such heads work side by side, each looking for "
        "something else.",
    ),
    "Why are there two high tides a day?": Hard(
        "I don't know why there are two.",
        "The Moon pulls more on the near side of the Earth than on its centre, and less on the far side. What is "
        "left after the common pull is a stretch along the line to the Moon, so the oceans bulge on both sides. "
        "As the Earth turns, most coasts pass through both bulges in a little over a day.",
    ),
    "Why can nothing go faster than light?": Hard(
        REFUSED,
        "The nearer a thing with mass comes to the speed of light, the more energy each further bit of speed "
        "costs, without limit: to reach it would take infinite energy. And a signal faster than light would, for "
        "some observers, arrive before it was sent, so effects could come before their causes.",
    ),
}
