"""Training of what decides in the semantic cache. It needs torch, which neither the service nor its tests need.

    python -m tests.training.verifier DATA        the network that reads two questions together
    python -m tests.training.mix DATA             what weighs its word and the features of a pair

DATA is a folder of labelled pairs, as in `pairs.py`. Nothing of it goes into the package but the weights.
"""
