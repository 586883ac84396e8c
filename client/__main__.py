"""`python client "question"` is `millrace ask "question"`, from a checkout, installed or not."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "server"))

from millrace_client.__main__ import main

main()
