"""`python server`, with breakers that stay closed: the clients ask for faults on purpose, one after the other."""

from millrace.__main__ import main
from millrace.funnel import breaker

breaker.FAILURES, breaker.RATE = 10**9, 2.0
main()
