"""The whole server under faults: of models at every place of their answers, and of clients and their networks."""
