"""`python server ...` is `millrace ...`, from a checkout, installed or not."""

import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs this may have an older one
    sys.exit("Millrace needs Python 3.11 or newer; after `make demo`: .venv/bin/python server ...")

sys.path.append(str(Path(__file__).parent.parent / "client"))

try:
    from millrace.__main__ import main

    main()  # which imports what the command needs
except ModuleNotFoundError as error:
    if str(error.name).startswith("millrace"):
        raise
    sys.exit(f"This Python has no {error.name}. `make demo` sets up .venv once; then run: .venv/bin/python server ...")
