"""The header that says of a request that another process has passed it on, and which one: so none goes in circles."""

HOP = "millrace-hop"
FROM_REPLICA, FROM_SIBLING = "1", "2"  # a sibling is a worker of the same server
