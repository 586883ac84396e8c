"""The load test: latency, goodput, cost and errors of many requests, measured by the client.

prompts     the requests to send: a file of rows, or the built-in mix
arrivals    when to send them: at a rate (open loop), or when a lane is free (closed loop)
sample      one request, from its intended start to its end; the port that servers under load are behind
websocket   Millrace under load: lanes, each frame timed as it is read
bare, http  an OpenAI-compatible server under the same load, over HTTP
run         one load test: connections, lanes, shutdown
histogram   percentiles in bounded memory; series: what happened when
figures     totals and percentiles of the samples
slo, thresholds   what requests and runs are held to
report, page, plots, progress   tables, warnings and JSON; HTML; its SVG; the line on the terminal
command     `millrace load`, `python client load`
"""
