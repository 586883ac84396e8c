"""A field of a request reaches the model, or is told, or is refused by its name: none is dropped in silence."""

import json

import pytest

from tests.end_to_end.test_dialects_over_apis import APIS, behind
from tests.support.any_client import DIALECTS, Question, ask
from tests.support.any_model import Said
from tests.support.asked_fields import ASKED


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_field_is_sent_told_or_refused(dialect: str, api: str) -> None:
    silent: list[str] = []
    async with behind(api, Said(text="It rains.")) as (url, small):
        for name, fields, sent_as in ASKED[dialect]:
            asked, refused = len(small.asked), len(small.refused)
            got = await ask(url, dialect, Question(), **fields)
            sent = json.dumps(small.asked[asked:])
            told = got.notes + "".join(small.refused[refused:])  # a model may refuse it by its name
            last = name.rpartition(".")[2]
            if not any(word in sent for word in (sent_as or f'"{last}"', f'"{last}"')) and last not in told:
                silent.append(f"{name}: {got.end} {got.notes[:200]}")
    assert silent == [], "\n".join(silent)
