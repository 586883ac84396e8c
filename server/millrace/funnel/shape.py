"""The shape of a request: what it looked like, without a word of its text. Taken once, when the request has ended."""

from millrace.types import Media, Request, Shape
from millrace.types.story import MOST_MESSAGES


def shape_of(request: Request) -> Shape:
    """Return the shape of a request. What it costs does not grow with the request: sizes are known by then."""
    prompt = request.prompt
    messages = prompt.messages[-MOST_MESSAGES:]
    sizes = tuple((message.role, message.size) for message in messages)
    earlier = len(prompt.messages) - len(messages)
    tools = prompt.tools
    return Shape(
        model=request.model,
        delivery=request.delivery,
        cache=request.cache,
        messages=sizes,
        earlier=earlier,
        earlier_size=prompt.size - prompt.tools_size - sum(size for _, size in sizes) if earlier else 0,
        media=sum(isinstance(part, Media) for message in messages for part in message.parts),
        context=len(prompt.context) + sum(map(len, request.context)),
        tools=tuple(tool.size for tool in tools) if tools else (),
        tool_choice=prompt.tool_choice.mode if prompt.tool_choice else "",
        format=prompt.format.kind if prompt.format else "",
        format_size=prompt.format.size if prompt.format else 0,
        max_output_tokens=prompt.max_output_tokens,
        temperature=prompt.temperature,
        top_p=prompt.top_p,
        reasoning_effort=prompt.reasoning_effort or "",
        verbosity=prompt.verbosity or "",
        parallel_tool_calls=prompt.parallel_tool_calls,
        service_tier=prompt.service_tier,
        store=request.store,
        concise=request.concise,
        context_budget=request.context_budget,
        max_cost="" if request.max_cost is None else str(request.max_cost),
        checks=request.checks,
        cut=tuple(
            name for name, digest in (("history", request.cut_history), ("context", request.cut_context)) if digest
        ),
    )
