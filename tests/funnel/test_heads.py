"""Two heads: what they say before any label, how they learn, and how they are kept."""

import numpy as np
import pytest

from millrace.funnel.routing.features import WIDTH, Features, features_of
from millrace.funnel.routing.fitting import fit
from millrace.funnel.routing.heads import Heads
from millrace.types import Message, Prompt

EASY = ("capital of peru", "hello and good morning", "spell the word cat", "what colour is grass")
HARD = ("prove the lemma", "derive the tensor", "prove the tensor bound", "derive a lemma")
BYTES = 1_000_000


def seen(text: str) -> Features:
    return features_of(Prompt(messages=(Message(role="user", parts=(text,)),)))


def taught(count: int) -> Heads:
    """Return heads that were told that only the large model does the hard ones."""
    heads = Heads()
    for at in range(count):
        heads.learn(seen(EASY[at % len(EASY)]), 1.0, 1.0)
        heads.learn(seen(HARD[at % len(HARD)]), 0.0, 1.0)
    return heads


def test_before_any_label_the_length_alone_ranks() -> None:
    heads = Heads()
    gains = [heads.gain(seen(text)) for text in ("prove it", "a much longer question about cats", "x" * 500)]
    assert gains == sorted(gains)
    assert heads.gain(seen("abcd efgh")) == pytest.approx(heads.gain(seen("stuv wxyz")))


def test_words_overrule_the_length_after_some_labels() -> None:
    heads = taught(50)
    assert heads.gain(seen("prove a bound")) > 0.3 > heads.gain(seen("what is the capital of peru and of chile"))


def test_a_prompt_that_neither_model_answers_has_no_gain() -> None:
    heads = Heads()
    for text in HARD * 20:
        heads.learn(seen(text), 0.0, 0.0)
    small, large = heads.scores(seen(HARD[0]))
    assert max(small, large) < 0.1
    assert heads.gain(seen(HARD[0])) == pytest.approx(large - small)


def test_one_unknown_answer_still_teaches_the_other() -> None:
    heads = Heads()
    before = heads.scores(seen(HARD[0]))[0]
    for _ in range(20):
        heads.learn(seen(HARD[0]), 0.0, None)
    assert heads.scores(seen(HARD[0]))[0] < before / 2
    assert heads.labels == 20


def test_a_label_of_neither_model_or_of_no_weight_is_none() -> None:
    heads = Heads()
    heads.learn(seen(HARD[0]), None, None)
    heads.learn(seen(HARD[0]), 0.0, 1.0, weight=0.0)
    assert heads.labels == 0
    assert heads.dumped() == Heads().dumped()


@pytest.mark.parametrize("weight", [1.0, 50.0, 1e6])
def test_no_label_is_overshot_however_much_it_weighs(weight: float) -> None:
    heads = Heads()
    heads.learn(seen(HARD[0]), 0.3, 0.6, weight)
    small, _ = heads.scores(seen(HARD[0]))
    assert 0.3 <= small < Heads().scores(seen(HARD[0]))[0]


def test_the_level_follows_a_model_that_gets_worse_while_the_words_keep_their_order() -> None:
    heads = taught(2_000)
    order = heads.gain(seen(HARD[0])) - heads.gain(seen(EASY[0]))
    fresh = seen("nothing of this was ever seen")
    before = heads.scores(fresh)[0]
    for at in range(300):
        heads.learn(seen(EASY[at % 4]), float(at % 3 == 0), 1.0)
        heads.learn(seen(HARD[at % 4]), 0.0, 1.0)
    assert heads.scores(fresh)[0] < before - 0.1
    assert heads.gain(seen(HARD[0])) - heads.gain(seen(EASY[0])) > order / 4


def test_verdicts_that_are_often_wrong_still_teach_the_order() -> None:
    rng = np.random.default_rng(5)
    heads = Heads()
    for at in range(2_000):
        hard = at % 2 == 0
        text = (HARD if hard else EASY)[rng.integers(4)]
        heads.learn(seen(text), float(rng.random() > (0.7 if hard else 0.2)), None, weight=0.7)
    assert heads.scores(seen(HARD[1]))[0] == pytest.approx(0.3, abs=0.12)
    assert heads.scores(seen(EASY[1]))[0] == pytest.approx(0.8, abs=0.12)


def test_reasons_are_words_that_move_the_gain() -> None:
    heads = taught(50)
    reasons = heads.reasons(seen("please prove the bound"), 4)
    assert [abs(share) for _, share in reasons] == sorted((abs(share) for _, share in reasons), reverse=True)
    assert dict(reasons)["prove"] > 0
    packed = Features.unpacked(seen("prove").packed())
    assert packed is not None
    assert heads.reasons(packed) == []


def test_many_labels_at_once_teach_what_they_teach_one_at_a_time() -> None:
    texts = [*EASY, *HARD] * 12
    features = [seen(text) for text in texts]
    small = np.array([text in EASY for text in texts], np.float32)
    large = np.ones(len(texts), np.float32)
    fitted, online = fit(features, small, large), taught(48)
    for text in (*EASY, *HARD):
        assert fitted.gain(seen(text)) == pytest.approx(online.gain(seen(text)), abs=0.1)
    assert fitted.labels == len(texts)


def test_a_fit_heeds_weights_and_what_is_not_known() -> None:
    features = [seen("prove it"), seen("prove it"), seen("name it")]
    nan = float("nan")
    small, large = np.array([0, 1, nan], np.float32), np.array([1, nan, 1], np.float32)
    low = fit(features, small, large, np.array([9, 1, 1], np.float32)).scores(features[0])[0]
    high = fit(features, small, large, np.array([1, 9, 1], np.float32)).scores(features[0])[0]
    assert low < high - 0.2
    assert fit(features, small, np.full(3, nan, np.float32)).labels == 2


def test_heads_that_were_fitted_go_on_learning() -> None:
    features = [seen(text) for text in HARD]
    heads = fit(features, np.ones(4, np.float32), np.ones(4, np.float32))
    for _ in range(30):
        heads.learn(features[0], 0.0, 1.0)
    assert heads.gain(features[0]) > 0.3


def test_what_was_learned_comes_back() -> None:
    heads = taught(30)
    again = Heads.loaded(heads.dumped())
    assert again is not None
    assert again.labels == heads.labels
    for text in (*EASY, *HARD, "another thing"):
        assert again.gain(seen(text)) == pytest.approx(heads.gain(seen(text)), abs=2e-3)
    again.learn(seen(HARD[0]), 0.0, 1.0)
    assert len(heads.dumped()) < 3_000


def test_one_tenants_heads_stay_small() -> None:
    heads = Heads()
    rng = np.random.default_rng(1)
    for _ in range(300):
        heads.learn(seen(" ".join(f"w{each}x" for each in rng.integers(0, 10**6, 300))), 0.0, 1.0)
    assert len(heads.dumped()) < BYTES
    assert (heads._weights.nbytes + heads._curvature.nbytes) < BYTES
    assert heads._curvature.shape == (WIDTH,)


def test_a_damaged_dump_is_not_loaded() -> None:
    dumped = taught(3).dumped()
    damaged = [b"", dumped[:10], dumped[:-1], b"\xff" + dumped[1:], dumped[:1] + b"\xff" + dumped[2:]]
    damaged += [dumped[:10] + b"\xff" + dumped[11:], dumped[:20] + bytes([dumped[20] ^ 0x55]) + dumped[21:]]
    assert [Heads.loaded(each) for each in damaged] == [None] * len(damaged)
