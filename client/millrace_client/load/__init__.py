"""The load test: what Millrace does under many requests, as its clients see it.

prompts   what is asked: a file of rows, or the built-in mix
arrivals  when: at a rate (open loop), or as soon as a lane is free (closed loop)
sample    one request, from its intended start to its terminal
run       connections, lanes, the end of it all
figures   what the samples add up to
report    the table, the warnings, the JSON
command   `millrace load`, `python client load`
"""
