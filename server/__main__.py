"""`python server ...` is `millrace ...`, from a checkout, installed or not."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "client"))

from millrace.__main__ import main

main()
