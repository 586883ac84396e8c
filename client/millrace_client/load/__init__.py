"""The load test: latency, cost and errors of many requests, measured by the client.

prompts       the requests to send: a file of rows, or the built-in mix
arrivals      when to send them: at a rate (open loop), or when a lane is free (closed loop)
sample        one request, from its intended start to its terminal
reconnecting  a client that connects again after its connection was lost
run           one load test: connections, lanes, shutdown
figures       totals and percentiles of the samples
report        the tables, the warnings, the JSON
command       `millrace load`, `python client load`
"""
