"""Turns a request into the cheapest answer that is good enough, stage by stage. Start reading at funnel.py."""
