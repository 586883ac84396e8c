"""Answers given before."""
