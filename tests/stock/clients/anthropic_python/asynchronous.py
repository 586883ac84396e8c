"""The asynchronous client: many at once, and a stream that is left before its end."""

import asyncio

import anthropic


def question(words):
    return {"model": "small", "max_tokens": 4000, "messages": [{"role": "user", "content": words}]}


async def main():
    async with anthropic.AsyncAnthropic(max_retries=0) as client:
        answers = await asyncio.gather(*(client.messages.create(**question(f"What is {n} + {n}?")) for n in range(8)))
        assert all(answer.content[0].text for answer in answers), answers

        words = []
        async with client.messages.stream(**question("Tell me a long story. [tokens=4000] [rate=40]")) as stream:
            async for word in stream.text_stream:
                words.append(word)
                if len(words) == 5:
                    break
        assert len(words) == 5

        after = await client.messages.create(**question("Are you still there?"))
        assert after.stop_reason == "end_turn", after


asyncio.run(main())
