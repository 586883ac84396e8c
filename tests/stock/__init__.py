"""Stock clients against a real server: `python -m tests.stock`. Only their base URL is changed."""
