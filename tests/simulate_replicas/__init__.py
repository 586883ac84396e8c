"""`python -m tests.simulate_replicas`: where the first limit of many replicas lies, from costs that are measured."""
