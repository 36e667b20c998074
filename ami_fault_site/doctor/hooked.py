"""Judge what the probe saw: whether the hook is there, who stands before, around and instead of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import ami_fault_site
from ami_fault_site.doctor.probe import Probed
from ami_fault_site.doctor.terms import Examined, Level, bad, note, ok

INSTALL = (
    "pip install ami-fault-site into it; where nothing can be installed, put the folder that `ami-fault bundle DIR` "
    "makes on the worker's PYTHONPATH"
)
_OURS = "ami_fault_site"
_SAMPLE = "ami_fault_site."
# The seams that every test needs, and the library that each stands in.
_NEEDED = {"http": "requests", "image": "PIL.Image"}
_HOOKED = {"requests.Session.send": "http", "PIL.Image.open": "image"}
# It only answers for distutils and setuptools, and puts itself first in most environments.
_HARMLESS = ("_distutils_hack.",)
# Who wraps such functions: the package that the wrapper was written in -> name, and what turns it off.
_WRAPPERS = {
    "ddtrace": ("Datadog", "DD_TRACE_ENABLED=false"),
    "elasticapm": ("Elastic APM", "ELASTIC_APM_ENABLED=false"),
    "newrelic": ("New Relic", "NEW_RELIC_ENABLED=false"),
    "opentelemetry": ("OpenTelemetry", "OTEL_SDK_DISABLED=true"),
    "sentry_sdk": ("Sentry", "SENTRY_DSN= (empty)"),
}


def is_hooked(probed: Probed) -> bool:
    """Whether every seam that a test needs has its hook."""
    return probed.libraries is not None and _NEEDED.keys() <= probed.libraries.seams.keys()


def examine_hook(probed: Probed) -> Examined:
    """Say which seams are hooked, or what keeps the hook out."""
    name, start, libraries = "hook", probed.start, probed.libraries
    if not start.package:
        return bad(name, "ami-fault-site is not installed there", INSTALL)
    if not start.started:
        return bad(name, f"{start.package} is there and was not started: {_why_not_started(probed)}", INSTALL)
    if libraries is None:
        cure = "install what is missing there (pip install ami-fault-site brings it along), or use `ami-fault bundle`"
        return bad(name, f"the probe {probed.ending}", cure)
    if libraries.failed:
        failures = "; ".join(f"{library} cannot be imported: {why}" for library, why in libraries.failed.items())
        return bad(name, failures, "give the worker's own interpreter: --python /path/to/environment/bin/python")
    if not is_hooked(probed):
        missing = ", ".join(sorted(_NEEDED.keys() - libraries.seams.keys()))
        return bad(name, f"not put in place: {missing}", "see who is first in line, and start the worker without it")
    found = ", ".join(f"{seam} ({where})" for seam, where in sorted(libraries.seams.items()))
    return ok(name, f"{found}; from {start.package}")


def _why_not_started(probed: Probed) -> str:
    if "no_site" in probed.start.flags:
        return "this Python starts without `site` (-S)"
    if probed.start.lines:
        return f"{probed.start.lines[0]} failed, see what this Python says when it starts"
    theirs = [path for name, path, ours in probed.start.customizers if name == "sitecustomize" and not ours]
    if theirs and any(ours for _, _, ours in probed.start.customizers):
        return f"{theirs[0]} hides our sitecustomize: ours must come first on PYTHONPATH"
    return "ami_fault_site.pth is in no folder whose .pth files this Python reads"


def examine_line(probed: Probed) -> Iterator[Examined]:
    """Say whether our finder is asked first for a module, and who is asked before."""
    if not probed.start.started:
        return
    name, finders = "first in line", probed.start.finders
    place = next((at for at, finder in enumerate(finders) if finder.startswith(_OURS)), -1)
    if place < 0:
        yield bad(name, "our finder is gone from sys.meta_path", "start the worker without what empties sys.meta_path")
        return
    others = [_with_file(finder, probed.brought) for finder in finders[:place] if not finder.startswith(_HARMLESS)]
    if not others:
        yield ok(name, f"our finder is asked first of {len(finders)}" + (", but for distutils" if place else ""))
    elif is_hooked(probed):
        yield note(name, f"asked before ours: {', '.join(others)}", "nothing: the hook is in place all the same")
    else:
        cure = "start the worker without it, or let it start before us (Python runs .pth files in the order of names)"
        yield bad(name, f"asked before ours: {', '.join(others)}", cure)


def _with_file(name: str, brought: Mapping[str, str]) -> str:
    return f"{name} (from {brought[name]})" if name in brought else name


def examine_start(probed: Probed) -> Examined:
    """Say whether a library was imported while the interpreter started, before us or after, and by whom."""
    name, start = "imported at start", probed.start
    early = [_with_file(one, probed.brought) for one in start.before if start.started]
    late = [_with_file(one, probed.brought) for one in (*start.before, *start.after) if not start.started]
    late += [_with_file(one, probed.brought) for one in start.after if start.started and one != "wrapt"]
    if early:
        cure = (
            "hooked all the same, unless something keeps a function by name from then (from PIL.Image import open); "
            "every process of this Python arms, pip too: leave these imports to the worker if you can"
        )
        return note(name, f"before us: {', '.join(early)}", cure)
    if late:
        cure = "every process of this Python imports them, and so arms, pip too: leave these imports to the worker"
        return note(name, f"{', '.join(late)}", cure)
    return ok(name, "none of requests, urllib3, PIL")


@dataclass(frozen=True)
class _Around:
    """Who else has wrapped one function: modules with their files, as seen from our hook."""

    outside: tuple[tuple[str, str], ...]
    inside: tuple[tuple[str, str], ...]


def examine_wrappers(probed: Probed) -> Iterator[Examined]:
    """Say for each hooked function who else has wrapped it, on which side of us, and whether that does harm."""
    if probed.libraries is None or not is_hooked(probed):
        return
    for function, layers in probed.libraries.layers.items():
        yield _judge_layers(function, [(module, file) for module, file in layers])


def _judge_layers(function: str, layers: Sequence[tuple[str, str]]) -> Examined:
    name = f"wrappers of {function}"
    home = layers[-1][0] if layers and function.startswith(layers[-1][0].partition(".")[0]) else ""
    ours = next((at for at, (module, _) in enumerate(layers) if module.startswith(f"{_OURS}.")), -1)
    if ours < 0:
        theirs = _listed(layers) or "something"
        cure = "start the worker without it: our hook is not to be seen below it, so faults may never strike here"
        return bad(name, f"{theirs} has taken its place", f"{cure}{_switches(layers)}")
    around = _Around(
        tuple(layers[:ours]),
        tuple((module, file) for module, file in layers[ours:] if module != home and not module.startswith(_OURS)),
    )
    if not around.outside and not around.inside:
        return ok(name, "ours alone")
    return note(name, _describe(around), f"harmless: {_meaning(around)}{_switches(layers)}")


def _describe(around: _Around) -> str:
    sides = ((around.outside, "outside us"), (around.inside, "inside us"))
    return "; ".join(f"{side}: {_listed(those)}" for those, side in sides if those)


def _meaning(around: _Around) -> str:
    words = []
    if around.outside:
        words.append("what is outside sees our faults as real failures, and reports them as such")
    if around.inside:
        words.append("what is inside is called by us, and sees what a struck call really did")
    return "; ".join(words)


def _listed(layers: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{_product(module)} ({file})" for module, file in layers if not module.startswith(f"{_OURS}."))


def _product(module: str) -> str:
    known = _WRAPPERS.get(module.partition(".")[0])
    return f"{known[0]}, {module}" if known else module


def _switches(layers: Sequence[tuple[str, str]]) -> str:
    packages = dict.fromkeys(module.partition(".")[0] for module, _ in layers)
    switches = [_WRAPPERS[package][1] for package in packages if package in _WRAPPERS]
    return f"; to keep it out of the test: {', '.join(switches)}" if switches else ""


def examine_customizers(probed: Probed) -> Examined:
    """Say which sitecustomize and usercustomize there are, which of them is run, and whether ours is hidden."""
    name, start = "sitecustomize", probed.start
    firsts: dict[str, tuple[str, bool]] = {}
    words, hidden = [], ""
    for kind, path, ours in start.customizers:
        who = f"{path} (ours)" if ours else path
        first = firsts.setdefault(kind, (path, ours))
        if first == (path, ours):
            is_run = kind == "sitecustomize" or bool(start.user_site)
            words.append(f"{who} is run" if is_run else f"{who} is not run: the user's site is off")
        elif first[1]:
            words.append(f"{who} is run by ours")
            firsts[kind] = (path, ours)
        else:
            words.append(f"{who} is hidden by {first[0]}")
            hidden = hidden or (first[0] if ours else "")
    found = "; ".join(words) or "none but what `site` does itself"
    if hidden and not start.started:
        return bad(name, found, f"put ours first on PYTHONPATH, before the folder of {hidden}")
    return ok(name, found)


def examine_versions(probed: Probed) -> Examined:
    """Say the versions there, and whether ours is the same there and here."""
    versions = {**probed.start.versions, **(probed.libraries.versions if probed.libraries else {})}
    kind = "" if probed.libraries is None else " (compiled)" if probed.libraries.compiled else " (pure Python)"
    shown = [f"{name} {text}{kind if name == 'wrapt' else ''}" for name, text in versions.items()]
    found = ", ".join([f"Python {probed.version}", *shown])
    there, here = probed.start.own_version, ami_fault_site.__version__
    if there and there != here:
        cure = f"install the same version on both sides: ami-fault-site {here} there, or {there} here"
        return bad("versions", f"ami-fault-site {there} there and {here} here; {found}", cure)
    return ok("versions", f"{found}, ami-fault-site {there}" if there else found)


def examine_task_loop(probed: Probed, named: str) -> Examined:
    """Say which loop would be struck; a sandbox needs no other than the sample worker's."""
    found = {module: f"{module}:{function}" for module, function in probed.start.loops.items() if function}
    theirs = [loop for module, loop in found.items() if named or not module.startswith(_SAMPLE)]
    cure = "install ami-fault-site where the worker is, or name the loop: AMI_TEST_TASK_LOOP=module:function"
    if theirs:
        return ok("task loop", ", ".join(theirs))
    if named:
        return bad("task loop", f"AMI_TEST_TASK_LOOP={named!r}: there is no such function", cure)
    if found:
        return Examined("task loop", Level.NOTE, "only the sample worker is here, which is all a sandbox needs", cure)
    return bad("task loop", "no known worker is installed there", cure)
