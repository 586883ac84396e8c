"""OpenAI's Responses API over SSE: the request's body, and the answer in its events."""
