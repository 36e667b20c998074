"""The seam at PIL.Image.open: damaged bytes for the real PIL, so that the error is its own."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

from ami_fault_site.faults import SUBTLE_DAMAGE_KINDS, Call, Draw, Seam, Site
from ami_fault_site.hooks.patch import install as patch
from ami_fault_site.injector import Injector
from ami_fault_site.witness import about_image

_HEAD_BYTES = 1024
_HEADER_BYTES = 12  # too few for any format's header, enough for its magic
_HTML = b"<!DOCTYPE html>\n<html><head><title>Error</title></head><body>The requested file is not here.</body></html>\n"


class _Here(threading.local):
    depth = 0  # PIL calls Image.open itself: outermost only


def install(module: ModuleType, injector: Injector, _first_call: Callable[[], None]) -> Callable[[], None]:
    """Hook Image.open for the images of tasks and for paths that are named permanent."""
    here = _Here()

    def open_image(
        wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> object:
        call = None if here.depth else injector.sheltered(lambda: _name(injector, _subject(args, kwargs)), None)
        if call is None:
            return wrapped(*args, **kwargs)
        here.depth += 1
        try:
            return _pass_on(injector, call, wrapped, args, kwargs)
        finally:
            here.depth -= 1

    injector.seams[Seam.IMAGE] = "PIL.Image.open"
    return patch(module, "open", open_image)


def _subject(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
    return args[0] if args else kwargs.get("fp")


def _name(injector: Injector, subject: object) -> Call | None:
    """Name the image: the one that this thread downloaded last, else a path that the user may have named."""
    path = os.fsdecode(subject) if _is_path(subject) else ""
    by_path: tuple[str, ...] = (os.path.basename(path), path) if path else ()
    lease, injector.here.image = injector.here.image, None
    if lease is not None:
        return about_image(lease, Site.OPEN, injector, more=by_path)
    if any(name in injector.settings.permanent_error_images for name in by_path):
        return Call(Site.OPEN, (Draw(by_path[0], ""),), None, by_path)
    return None


def _pass_on(
    injector: Injector, call: Call, wrapped: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> object:
    decision = injector.decide(call)
    struck = injector.grant(call, decision)
    try:
        image = open_damaged(wrapped, decision.kind, args, kwargs) if struck else wrapped(*args, **kwargs)
    except BaseException as error:
        if struck and decision.effect is not None:
            injector.injected.struck(decision.effect, error)
        _book(injector, call, type(error).__name__, struck, decision.draw, [e.value for e in decision.eligible])
        raise
    if struck and decision.effect is not None:
        injector.injected.struck(decision.effect)  # damage that only loading shows
    else:
        injector.injected.passed()
    _book(injector, call, "", struck, decision.draw, [e.value for e in decision.eligible])
    return image


def _book(injector: Injector, call: Call, error: str, struck: bool, draw: float | None, eligible: list[str]) -> None:
    injector.book("open", image=call.names[0], error=error, struck=struck, draw=draw, eligible=eligible)


def open_damaged(wrapped: Callable[..., Any], kind: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
    """Open the image with its bytes damaged, and leave the caller's file object where PIL would have left it."""
    subject = _subject(args, kwargs)
    content = _content(subject, None if kind in SUBTLE_DAMAGE_KINDS else _HEAD_BYTES)
    damaged = _Damaged(_shown(subject), _smaller(wrapped, content) if kind == "wrong-size" else damage(content, kind))
    rest = args[1:] if args else ()
    others = {name: value for name, value in kwargs.items() if name != "fp"}
    try:
        image = wrapped(damaged, *rest, **others)
    finally:
        _leave(subject, damaged)
    if _is_path(subject):
        image.filename = _named(subject)
    return image


class _Damaged(io.BytesIO):
    """Damaged bytes that PIL's error shows as what the caller had opened."""

    def __init__(self, shown: str, content: bytes) -> None:
        super().__init__(content)
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown


def damage(content: bytes, kind: str) -> bytes:
    """Return what is left of an image; only what is truncated can be opened (no WebP), with half of it missing."""
    if kind == "empty":
        return b""
    if kind == "html":
        return _HTML
    if kind == "bad-magic":
        return bytes(len(content))
    if kind == "truncated":
        return content[: max(len(content) // 2, min(len(content) - 1, _HEAD_BYTES))]
    return content[:_HEADER_BYTES]


def _smaller(open_image: Callable[..., Any], content: bytes) -> bytes:
    """Return the picture at half its width and height, which is not what was asked for; as it is, if PIL cannot."""
    try:
        image = open_image(io.BytesIO(content))
        changed = image.resize([max(1, pixels // 2) for pixels in image.size])
        stream = io.BytesIO()
        changed.save(stream, image.format)
    except (OSError, ValueError, KeyError):
        return content
    return stream.getvalue()


def _content(subject: object, most: int | None) -> bytes:
    """Read what was to be opened, up to so many bytes, from where PIL would read it."""
    if _is_path(subject):
        with open(subject, "rb") as stream:
            return stream.read(most)
    try:
        subject.seek(0)  # type: ignore[attr-defined]
        return bytes(subject.read() if most is None else subject.read(most))  # type: ignore[attr-defined]
    except (AttributeError, io.UnsupportedOperation):
        return bytes(subject.read())[:most]  # type: ignore[attr-defined]  # as PIL does: read to the end


def _leave(subject: object, damaged: io.BytesIO) -> None:
    if _is_path(subject) or damaged.closed:
        return
    try:
        subject.seek(damaged.tell())  # type: ignore[attr-defined]
    except (AttributeError, io.UnsupportedOperation):
        return


def _is_path(subject: object) -> TypeGuard[str | bytes | os.PathLike[Any]]:
    return isinstance(subject, (str, bytes, os.PathLike))


def _shown(subject: object) -> str:
    """Return how PIL shows this in "cannot identify image file ...": a path as its name, all else by its repr."""
    return repr(_named(subject) if _is_path(subject) else subject)


def _named(path: str | bytes | os.PathLike[Any]) -> str | bytes:
    """Return how PIL calls a file: by its real path, from 10.1 to 11.1 any, before that a Path."""
    from PIL import __version__

    version = tuple(int(part) for part in __version__.split(".")[:2])
    real = version < (11, 2) and (version >= (10, 1) or isinstance(path, Path))
    return os.path.realpath(path) if real else os.fspath(path)
