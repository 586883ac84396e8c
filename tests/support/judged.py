"""Samples that were judged, as a test needs them."""

from typing import Any

from millrace.types import Judged, Lever, Opinion, Sample, Says


def judged(id_: str, says: str = "same", *, probability: float = 1.0, **fields: Any) -> Judged:
    """Return a sample with what was said of it: the judges' words in their order, each asked in any case.

    `says` is "same different", for example. `probability` is that with which the sample was taken.
    """
    known: dict[str, Any] = {"lever": Lever.SEMANTIC, "tenant": "acme", "request_id": f"resp_{id_}", "taken_at": 0.0}
    opinions = [Opinion(judge=f"judge {at}", says=Says(each)) for at, each in enumerate(says.split(), 1)]
    sample = Sample(id=f"smp_{id_}", probability=probability, **known | fields)
    return Judged(sample=sample, opinions=tuple(opinions))
