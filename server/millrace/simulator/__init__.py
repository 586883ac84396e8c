"""A simulated provider: an OpenAI-compatible HTTP server for demos and tests, at no cost."""

from millrace.simulator.answers import EASY, HARD
from millrace.simulator.book import Book
from millrace.simulator.faults import Kind
from millrace.simulator.profiles import LARGE, PROFILES, SMALL, Profile
from millrace.simulator.server import Received, Simulator
from millrace.simulator.stats import Stats

__all__ = ["EASY", "HARD", "LARGE", "PROFILES", "SMALL", "Book", "Kind", "Profile", "Received", "Simulator", "Stats"]
