"""From a request to the cheapest answer that is good enough, stage by stage; begin with funnel.py."""
