"""The configuration: its sections, and how a file and the environment become them."""

from millrace.settings.faults import Fault, SettingsError
from millrace.settings.reading import ENV_PREFIX, build, data_dir_of, load, section_of
from millrace.settings.sections import (
    IN_MEMORY,
    BatchSettings,
    CacheSettings,
    DeploymentSettings,
    EmbedderSettings,
    EmbeddingsSettings,
    EvidenceSettings,
    LedgerSettings,
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
    "BatchSettings",
    "CacheSettings",
    "DeploymentSettings",
    "EmbedderSettings",
    "EmbeddingsSettings",
    "EvidenceSettings",
    "Fault",
    "LedgerSettings",
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
    "data_dir_of",
    "load",
    "section_of",
]
