"""Faults, hostile input and time, on a real server: commands with a seed, of which each test is a short run."""
