"""Tests of what background judging finds."""
