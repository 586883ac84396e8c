"""All rules by name, in the order in which they are asked."""

from millrace.caches.guards.rule import Rule
from millrace.caches.guards.text_rules import TEXT_RULES
from millrace.caches.guards.word_rules import WORD_RULES

RULES: dict[str, Rule] = {rule.name: rule for rule in (*TEXT_RULES, *WORD_RULES)}
