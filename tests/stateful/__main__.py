"""`python -m tests.stateful --sequences 20000`: far more sequences than the tests run. Prints as it goes."""

import argparse
import asyncio
import time

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from millrace import log
from tests.stateful import sockets
from tests.stateful.machine import Machine

BATCH = 500


def main() -> None:
    """Run them in batches, each under its own seed; a batch that fails is shrunk and shown."""
    parser = argparse.ArgumentParser(prog="python -m tests.stateful")
    parser.add_argument("--sequences", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1, help="of the first batch")
    parser.add_argument("--sockets", type=int, default=0, help="sequences over real sockets")
    options = parser.parse_args()
    log.configure(level="critical")
    began = time.monotonic()
    for at in range(0, options.sequences, BATCH):
        number = options.seed + at // BATCH
        count = min(BATCH, options.sequences - at)
        run(number, count, options.steps)
        print(f"{at + count} sequences hold, seed {number}, {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201
    happened = Machine.happened
    if options.sockets:
        happened += asyncio.run(sockets.walks(options.sockets, options.seed))
        print(f"{options.sockets} sequences over sockets hold, {time.monotonic() - began:.0f} s")  # noqa: T201
    for what, times in sorted(happened.items()):
        print(f"{times:9} {what}")  # noqa: T201


def run(number: int, count: int, steps: int) -> None:
    """Run one batch."""
    run_state_machine_as_test(
        seed(number)(Machine),
        settings=settings(
            max_examples=count,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.normal,
            print_blob=False,
        ),
    )


if __name__ == "__main__":
    main()
