"""Millrace leads each LLM request to the cheapest answer that is good enough.

ARCHITECTURE.md in the repository is the map. In one line, from the top: `cli` and `app` start what `assembly` builds;
`web` has the connections, `access` decides who may come in, `runs` knows every response, `dialects` show it,
`funnel` answers it, `wire` reads and writes it, and `caches`, `stores` and `upstreams` are the world outside.
"""

__version__ = "0.1.0"
