"""The API of chat completions: its requests, and its answers as providers really send them."""
