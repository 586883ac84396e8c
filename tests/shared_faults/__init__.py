"""Replicas under load while what they share fails: what clients see, beside what is in the ledgers and what models say.

python -m tests.shared_faults --fault redis-gone --seed 1
"""
