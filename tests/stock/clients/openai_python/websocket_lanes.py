"""Ask on several lanes of one connection at once, with the SDK's managed lanes."""

import asyncio

from openai import AsyncOpenAI
from openai.lib.responses_websocket import AsyncResponsesWebSocketSession, ResponsesWebSocketLimits

LIMITS = ResponsesWebSocketLimits(
    max_lanes=16, max_events_per_lane=4096, max_events=65536, max_bytes_per_lane=2**24, max_bytes=2**26
)
QUESTIONS = {
    "capital": ("What is the capital of France?", "Paris"),
    "author": ("Who wrote Hamlet?", "Shakespeare"),
    "sum": ("What is 2 + 2?", "4"),
    "proof": ("Prove that the square root of 2 is irrational.", "even"),
}


async def main() -> None:
    """Every lane gets its own answer."""
    async with (
        AsyncOpenAI() as client,
        client.responses.connect() as connection,
        AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session,
    ):

        async def ask(name: str, question: str) -> str:
            lane = session.lane(name)
            await lane.send({"type": "response.create", "model": "auto", "input": question})
            response = await lane.get_final_response()
            assert response.status == "completed", response
            assert response.usage.cost_usd >= 0
            return response.output_text

        answers = await asyncio.gather(*(ask(name, question) for name, (question, _) in QUESTIONS.items()))
        for answer, (_, word) in zip(answers, QUESTIONS.values(), strict=True):
            assert word in answer, answer


asyncio.run(main())
