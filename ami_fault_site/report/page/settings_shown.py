"""Say how a run was set, and where each setting came from as far as its profile tells."""

from __future__ import annotations

from dataclasses import dataclass

from ami_fault_site import profiles
from ami_fault_site.settings import TABLE, Settings, SettingsError, as_text


@dataclass(frozen=True)
class Shown:
    """One setting that differs from its default: its value, where it came from, and what it means."""

    name: str
    value: str
    source: str
    meaning: str


def settings_shown(settings: Settings) -> list[Shown]:
    """Return the settings of a run that differ from their defaults, in the order of their table."""
    texts, meanings = as_text(settings), {row.name: row.meaning for row in TABLE}
    try:
        profile = profiles.load(settings.profile).values if settings.profile else {}
    except SettingsError:
        profile = {}  # it was a file, and has gone since
    return [
        Shown(
            name,
            text,
            f"profile {settings.profile}" if _same(profile.get(name), text) else "set for this run",
            meanings[name],
        )
        for name, text in texts.items()
    ]


def _same(written: str | None, text: str) -> bool:
    if written is None:
        return False
    try:
        return float(written) == float(text)
    except ValueError:
        return written.strip() == text
