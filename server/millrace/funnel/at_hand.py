"""The small model's answer that is at hand while the large one is asked: what is given if the deadline comes first.

It failed a check, so it is given only in place of a failure: as long as nobody has seen a word of the large model's.
"""

from typing import Self

from msgspec import Struct

from millrace.funnel.checks.check import Kind
from millrace.funnel.checks.table import CHECKS
from millrace.funnel.contender import Contender
from millrace.funnel.facts import Revised, Routed
from millrace.funnel.open_charge import OpenCharge
from millrace.funnel.response_log import ResponseLog
from millrace.types import Delivery, Finish, Model, Verdict

MARGIN_S = 0.1  # before the deadline, at which the request would be halted; a busy loop may wake so much later
DEADLINE = "deadline"  # the reason of the revise


class AtHand(Struct, frozen=True, kw_only=True):
    """A whole small answer that failed a check, but neither is useless nor breaks what was declared."""

    charge: OpenCharge
    finish: Finish
    verdict: Verdict

    @classmethod
    def of(cls, response: ResponseLog, charge: OpenCharge, finish: Finish | None, verdict: Verdict) -> Self | None:
        """Return an answer that may be given at the deadline; None if there is no deadline, or it must not be."""
        request = response.request
        declared = request.prompt.format is not None or request.check_schema is not None or request.prompt.tools
        check = CHECKS.get(verdict.check or "")
        if response.deadline_at is None or finish is None or declared or check is None or check.kind is Kind.HARD:
            return None
        return cls(charge=charge, finish=finish, verdict=verdict)

    def give(self, response: ResponseLog, large: Model) -> None:
        """Take back what the large model may have sent, of which nothing was seen, and append this answer."""
        small = self.charge.model
        response.revise(Revised(from_model=large.id, to_model=small.id, reason=DEADLINE))
        why = f"the deadline came before {large.id} had answered; {small.id}'s answer failed {self.verdict.check!r}"
        response.route(
            Routed(
                strategy=response.request.strategy,
                model=small.id,
                tier=small.tier,
                reason=why,
                trimmed_tokens=response.request.trimmed_tokens,
                max_output_tokens=self.charge.call.capped_by_operator,
            )
        )
        for aside in self.charge.attempt.asides:
            response.say(aside)
        response.write(list(self.charge.attempt.parts))
        response.commit()


async def in_time(response: ResponseLog, large: Contender) -> bool:
    """Wait until the large model begins; its text is committed then. False if the deadline comes first.

    Where everybody is shown the whole answer at once, it must have ended by then. The deadline is that of the last one
    who waits; somebody without a deadline may have joined in the meantime, or may join until it comes.
    """
    while (deadline_at := response.deadline_at) is not None:
        left_s = deadline_at - MARGIN_S - response.clock()
        if left_s <= 0:
            return False
        if all(log.request.delivery is Delivery.FINAL for log in response.waiting):
            if await large.ends(left_s):
                break
        elif await large.lead(left_s, response.commit):
            break
    return True
