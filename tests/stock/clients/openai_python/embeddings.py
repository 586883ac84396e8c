"""Ask for embeddings."""

from openai import OpenAI

client = OpenAI()
made = client.embeddings.create(model="small-embedding-model", input=["the mill turns", "quite another thing"])

assert [each.index for each in made.data] == [0, 1]
assert all(len(each.embedding) == 256 for each in made.data)
assert made.data[0].embedding != made.data[1].embedding
assert made.usage.prompt_tokens == made.usage.total_tokens > 0
assert "small-embedding-model" in [model.id for model in client.models.list()]
