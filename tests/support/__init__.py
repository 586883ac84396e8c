"""The tools of the tests: servers, clients, models, logs."""
