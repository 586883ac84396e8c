"""What of a prompt only another API understands. It is left out of what is sent, and the answer's notes name it."""

from collections.abc import Iterator

from millrace.types import CACHE_CONTROL, Api, Media, Message, Native, Prompt, Sealed

# What Millrace does itself, whichever API the answer came from.
_DONE_HERE = {"reasoning.summary", "reasoning.generate_summary"}
_DONE_HERE |= {"include.reasoning.encrypted_content", "include.message.output_text.logprobs"}
_SIGNED = ("thinking", "redacted_thinking")


def left_out(prompt: Prompt, api: Api) -> list[str]:
    """Return the names of what a request in this API does not have; each once, in their order."""
    names: list[str] = []
    for message in prompt.messages:
        names += _of_message(message, api)
    for tool in prompt.tools:
        names += [tool.name] if _is_foreign(tool.hosted, api) else []
        names += [str(path[-1]) for path, _ in tool.unread if tool.unread_api is not api]
    if prompt.tool_choice is not None and prompt.tool_choice.mode == "hosted":
        chosen = (tool.hosted for tool in prompt.tools if tool.name == prompt.tool_choice.name)
        names += ["tool_choice"] if any(_is_foreign(hosted, api) for hosted in chosen) else []
    if prompt.native is not None and prompt.native.api is not api:
        names += _of_native(prompt.native)
    return names and [name for name in dict.fromkeys(names) if name != CACHE_CONTROL]


def told(sealed: Sealed) -> str:
    """Return what a block is, in words."""
    kind = str(sealed.fields.get("type", "block"))
    return "signed thinking" if kind in _SIGNED else "encrypted reasoning" if kind == "reasoning" else kind


def _of_message(message: Message, api: Api) -> list[str]:
    """Return the names of one message's blocks and fields. A block that has a text is sent as that."""
    blocks = [part.sealed for part in message.parts if isinstance(part, Media) and not part.text]
    names = [told(sealed) for sealed in (*blocks, *message.sealed) if sealed is not None and sealed.api is not api]
    if message.unread and message.unread_api is not api:
        names += [str(path[-1]) for path, _ in message.unread]
    return names


def _of_native(native: Native) -> Iterator[str]:
    """Yield the names of fields, those of `reasoning` and the values of `include` one by one."""
    for name, value in native.fields.items():
        if native.api is Api.RESPONSES and name in ("reasoning", "include"):
            yield from (whole for one in value if (whole := f"{name}.{one}") not in _DONE_HERE)
        else:
            yield name


def _is_foreign(sealed: Sealed | None, api: Api) -> bool:
    return sealed is not None and sealed.api is not api
