"""Read profiles, the dotenv files of settings, with errors as path:line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ami_fault_site.nearest import did_you_mean
from ami_fault_site.settings import ENABLED, NAMES, PREFIX, Settings, SettingsError, parse
from ami_fault_site.values import TRUE_WORDS

# Beside the package in a checkout and in an editable install, inside it in a wheel.
_FOLDERS = (Path(__file__).parent / "envs", Path(__file__).parent.parent / "envs")


class Profile(NamedTuple):
    """A profile as read: its path, its values and the line that each came from."""

    path: Path
    values: Mapping[str, str]
    lines: Mapping[str, int]


class Effective(NamedTuple):
    """The settings in force, each with the source that won: command line, environment, path:line or default."""

    settings: Settings
    sources: Mapping[str, str]


def available() -> dict[str, Path]:
    """Return the shipped profiles by name, sorted."""
    folder = next((f for f in _FOLDERS if f.is_dir()), None)
    return {} if folder is None else {path.stem: path for path in sorted(folder.glob("*.env"))}


def load(name: str) -> Profile:
    """Read a profile by name or path; raises SettingsError if it is missing, unreadable or malformed."""
    path = Path(name)
    try:
        path = _locate(name)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise SettingsError([f"AMI_TEST_PROFILE={name!r}: {path} cannot be read: {reason}"]) from error
    values, lines, problems = _bindings(path, text)
    if problems:
        raise SettingsError(problems)
    return Profile(path, values, lines)


def resolve(environ: Mapping[str, str], overrides: Mapping[str, str] | None = None) -> Effective:
    """Join the sources, command line > environment > profile > default; raises SettingsError with every problem."""
    over = {name: text for name, text in (overrides or {}).items() if text != ""}
    given = {name: text for name, text in environ.items() if name.startswith(PREFIX) and text.strip() != ""}
    sources = dict.fromkeys(NAMES, "default")
    problems: list[str] = []
    values: dict[str, str] = {}
    chosen = over.get("AMI_TEST_PROFILE", given.get("AMI_TEST_PROFILE", "")).strip()
    if chosen:
        try:
            profile = load(chosen)
        except SettingsError as error:
            problems += error.problems
        else:
            values.update(profile.values)
            set_here = {name: line for name, line in profile.lines.items() if profile.values[name].strip()}
            sources.update({name: f"{profile.path}:{line}" for name, line in set_here.items()})
    for layer, source in ((given, "environment"), (over, "command line")):
        values.update(layer)
        sources.update(dict.fromkeys(layer, source))
    located = {name: source for name, source in sources.items() if ":" in source}
    try:
        settings = parse(values, located)
    except SettingsError as error:
        raise SettingsError(problems + error.problems) from error
    if problems:
        raise SettingsError(problems)
    return Effective(settings, sources)


def _locate(name: str) -> Path:
    shipped = available()
    if name in shipped:
        return shipped[name]
    path = Path(name)
    if path.is_file():
        return path
    if "/" in name or path.suffix:
        raise SettingsError([f"AMI_TEST_PROFILE={name!r}: there is no such file"])
    hint = did_you_mean(name, shipped)
    raise SettingsError([f"AMI_TEST_PROFILE={name!r}: not a profile{hint}; there are {', '.join(shipped)}, or a path"])


def _bindings(path: Path, text: str) -> tuple[dict[str, str], dict[str, int], list[str]]:
    """Read with python-dotenv's own parser: it flags the lines that its public functions only warn about."""
    import io

    from dotenv.parser import parse_stream

    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    problems: list[str] = []
    for binding in parse_stream(io.StringIO(text)):
        original = binding.original
        # A binding carries the blank and comment lines before it: count them, they are not its own line.
        skipped = len(original.string) - len(original.string.lstrip())
        line = original.line + original.string[:skipped].count("\n")
        if binding.error or (binding.key is not None and binding.value is None):
            problems.append(f"{path}:{line}: not NAME=value: {original.string.strip()!r}")
        elif binding.key is not None:
            problem = _misplaced(binding.key, binding.value or "", lines)
            if problem:
                problems.append(f"{path}:{line}: {problem}")
            values[binding.key], lines[binding.key] = binding.value or "", line
    values.pop(ENABLED, None)
    lines.pop(ENABLED, None)
    return values, lines, problems


def _misplaced(name: str, value: str, lines: Mapping[str, int]) -> str:
    if name in lines:
        return f"{name} is set twice, first in line {lines[name]}"
    if not name.startswith(PREFIX):
        return f"{name} is not a setting of ours; a profile holds {PREFIX}* only"
    if name == ENABLED and value.strip().lower() not in TRUE_WORDS:
        return f"{name} counts only in the environment"
    if name == "AMI_TEST_PROFILE":
        return f"{name} cannot stand in a profile"
    return ""
