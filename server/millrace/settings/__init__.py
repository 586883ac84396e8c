"""The configuration: its sections, and how a file and the environment become them."""

from millrace.settings.faults import Fault, SettingsError
from millrace.settings.reading import ENV_PREFIX, build, load, section_of
from millrace.settings.sections import (
    IN_MEMORY,
    BudgetsSettings,
    CacheSettings,
    DeploymentSettings,
    EmbedderSettings,
    EmbeddingsSettings,
    EvidenceSettings,
    LimitSettings,
    LimitsSettings,
    ModelSettings,
    ModelsSettings,
    PriceSettings,
    QuirksSettings,
    RouterSettings,
    ServerSettings,
    Settings,
)

__all__ = [
    "ENV_PREFIX",
    "IN_MEMORY",
    "BudgetsSettings",
    "CacheSettings",
    "DeploymentSettings",
    "EmbedderSettings",
    "EmbeddingsSettings",
    "EvidenceSettings",
    "Fault",
    "LimitSettings",
    "LimitsSettings",
    "ModelSettings",
    "ModelsSettings",
    "PriceSettings",
    "QuirksSettings",
    "RouterSettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "build",
    "load",
    "section_of",
]
