"""Which model a request is bound to: by what its history has and no other can read, or by a tool that it must use."""

from millrace.errors import invalid
from millrace.funnel.catalog import Catalog
from millrace.types import Api, Model, Prompt, Request, Strategy, Tier

COMPACTION = "compaction_trigger"  # an item that asks for nothing but that
_ONLY = {Strategy.SMALL: Tier.SMALL, Strategy.LARGE: Tier.LARGE}


def bound_to(prompt: Prompt, catalog: Catalog) -> tuple[Model, str] | None:
    """Return the only model that may take a prompt, and why; None if both may, or neither is better than the other.

    What a model has signed or encrypted goes back to that model; if it is not known, or not configured, to one with the
    same API. If none has it, the blocks are left out, and the answer's notes say so.
    """
    last = next((one for message in reversed(prompt.messages) for one in reversed(message.sealed)), None)
    if (api := hosted_api(prompt)) is not None:
        able = [model for model in catalog.models if model.api is api]
        why = "it alone has the tool that must be used"
    elif last is not None:
        able = [model for model in catalog.models if model.api is last.api]
        able = [model for model in able if model.id == last.maker] or able
        why = f"the history has {'thoughts' if last.is_thought else last.kind} that it alone can read"
    else:
        return None
    return (able[0], f"{able[0].id}: {why}") if len(able) == 1 else None


def check_able(request: Request, catalog: Catalog) -> None:
    """Raise `invalid_request` if no model of the request's strategy has a tool that must be used, or can compact."""
    only = _ONLY.get(request.strategy)
    models = [model for model in catalog.models if only is None or model.tier is only]
    apis = {model.api for model in models}
    last = [sealed for message in request.prompt.messages[-1:] for sealed in message.sealed]
    if last and last[-1].kind == COMPACTION and last[-1].api not in apis:
        path = request.paths.input
        raise invalid(path, f"{path}: no model here can compact a conversation; ask for a summary in words instead")
    needed = hosted_api(request.prompt)
    if needed is not None and needed not in apis:
        choice = request.prompt.tool_choice
        name = choice.name if choice else ""
        names = " and ".join(model.id for model in models)
        message = f"tool_choice: {names} cannot be made to use {name}; write auto, or send a function of your own"
        raise invalid("tool_choice", message)


def hosted_api(prompt: Prompt) -> Api | None:
    """Return the API that has the hosted tool which must be used; None if none must be."""
    choice = prompt.tool_choice
    if choice is None or choice.mode != "hosted":
        return None
    hosted = {tool.name: tool.hosted.api for tool in reversed(prompt.tools) if tool.hosted is not None}
    return hosted.get(choice.name) or next(iter(hosted.values()), None)  # some have another name in a choice
