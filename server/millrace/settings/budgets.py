"""Faults of limits and budgets that have the right type and still cannot work."""

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

from millrace.settings.faults import Fault, at
from millrace.types import EVIDENCE_TENANT
from millrace.types.budget import Step

_EXAMPLE = 'write at = { 0.8 = "warn", 0.9 = "small", 1.0 = "cache" }'


def invalid_budgets(tree: dict[str, Any], environ: Mapping[str, str]) -> Iterator[Fault]:
    """Yield faults of [limits] and [budgets]."""
    for key in ("tenants", "tags"):
        yield from _invalid_names(at(tree, "limits", key), f"limits.{key}")
    shares = at(tree, "budgets", "at")
    if isinstance(shares, dict):
        yield from _invalid_steps(shares)
    webhook, variable = at(tree, "budgets", "webhook"), at(tree, "budgets", "webhook_key_env")
    if isinstance(webhook, str) and not _is_url(webhook):  # it is not repeated, since it may hold a secret
        yield Fault("budgets.webhook", "it is no URL; write https://HOST/PATH, and the key in webhook_key_env")
    if isinstance(variable, str):
        key_text = environ.get(variable, "")
        if not key_text:
            yield Fault("budgets.webhook_key_env", f"the variable {variable} is not set; run: export {variable}=...")
        elif not (key_text.isascii() and key_text.isprintable()) or key_text != key_text.strip():
            message = f"the variable {variable} holds white space, or characters that no key has"
            yield Fault("budgets.webhook_key_env", message)
        elif not webhook:
            yield Fault(
                "budgets.webhook_key_env", "there is no webhook that it would be sent to; write budgets.webhook"
            )


def whole_shares(tree: dict[str, Any]) -> None:
    """Put shares together that TOML takes apart: without quotes, 0.8 = "warn" is the key 8 of a table 0."""
    shares = at(tree, "budgets", "at")
    if isinstance(shares, dict):
        for whole, parts in tuple(shares.items()):
            if isinstance(parts, dict):
                del shares[whole]
                shares |= {f"{whole}.{part}": step for part, step in parts.items()}


def _invalid_names(sections: Any, path: str) -> Iterator[Fault]:
    seen: set[str] = set()
    for number, section in enumerate(sections if isinstance(sections, list) else ()):
        name = at(section, "name")
        if not isinstance(name, str):
            continue
        if name in seen:
            yield Fault(f"{path}[{number}].name", f"{name!r} has limits already; write one section for each name")
        if name == EVIDENCE_TENANT and path == "limits.tenants":
            advice = "its limit is evidence.dollars_per_day"
            yield Fault(f"{path}[{number}].name", f"{name!r} is what evidence is booked under; {advice}")
        seen.add(name)


def _invalid_steps(shares: dict[str, Any]) -> Iterator[Fault]:
    """Yield faults of the steps: shares from 0 to 1, in the order in which they are reached, each step once."""
    reached: list[tuple[Decimal, str]] = []
    for text, step in shares.items():
        share = _share(text)
        if share is None:
            yield Fault(f"budgets.at.{text}", f"{text!r} is no share of a budget from 0 to 1; {_EXAMPLE}")
        elif step in [*Step]:
            reached.append((share, step))
    in_order = [step for _, step in sorted(reached, key=lambda each: each[0])]
    known = [step.value for step in Step if step in in_order]
    if in_order != known or len({share for share, _ in reached}) < len(reached):
        yield Fault("budgets.at", f"warn comes before small, and small before cache, each once; {_EXAMPLE}")


def _share(text: str) -> Decimal | None:
    try:
        share = Decimal(text)
    except InvalidOperation:
        return None
    return share if share.is_finite() and 0 < share <= 1 else None


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        )
    except ValueError:
        return False
