"""`python server`, with breakers that stay closed: the clients ask for faults on purpose, one after the other."""

from unittest import mock

from millrace.__main__ import main
from millrace.funnel.breaker import Breaker

with mock.patch.object(Breaker, "open", return_value=None):
    main()
