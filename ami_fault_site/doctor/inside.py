"""The program that runs inside the examined interpreter and prints what it sees there.

It is copied into a folder of its own and started by that interpreter, which need not know this package: only the
standard library comes in here. Each answer is one line of JSON between marks, since a library may print as well.
"""

from __future__ import annotations

import ast
import json
import os
import site
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import CellType, FunctionType

BEGIN, END = "<ami-fault-doctor>", "</ami-fault-doctor>"
_LIBRARIES = ("requests", "urllib3", "PIL", "wrapt")
_DISTRIBUTIONS = {
    "requests": "requests", "urllib3": "urllib3", "pillow": "PIL", "wrapt": "wrapt", "python-dotenv": "dotenv",
}  # fmt: skip
_OURS = "ami_fault_site.hooks"
_FLAGS = ("no_site", "isolated", "ignore_environment", "no_user_site")
# What may be wrapped: what it is called -> the module, the class in it if any, the name, and the module it comes from.
_WRAPPABLE = {
    "requests.Session.send": ("requests", "Session", "send", "requests.sessions"),
    "PIL.Image.open": ("PIL.Image", "", "open", "PIL.Image"),
}
_DEEPEST = 50


def main(arguments: list[str]) -> None:
    """Print how the start went and what the libraries became, or (`order`) who brought what during the start."""
    if arguments == ["order"]:
        _tell(order())
        return
    _tell(at_start(json.loads(arguments[0])))
    _tell(with_libraries())


def _tell(seen: object) -> None:
    os.write(1, f"\n{BEGIN}{json.dumps(seen)}{END}\n".encode())


def at_start(loops: dict[str, list[str]]) -> dict[str, object]:
    """Tell what is there before the worker has imported anything."""
    order_of_modules = list(sys.modules)
    until = order_of_modules.index(_OURS) if _OURS in sys.modules else len(order_of_modules)
    package, own_version = _own_package()
    return {
        "flags": [name for name in _FLAGS if getattr(sys.flags, name, 0)],
        "finders": [_name_of(finder) for finder in sys.meta_path],
        "started": _OURS in sys.modules,
        "package": package,
        "own_version": own_version,
        "before": [name for name in order_of_modules[:until] if name in _LIBRARIES],
        "after": [name for name in order_of_modules[until:] if name in _LIBRARIES],
        "customizers": list(_customizers()),
        "user_site": site.getusersitepackages() if site.ENABLE_USER_SITE else "",
        "lines": [path for path in _start_up_lines() if os.path.isfile(path)],
        "loops": {module: _first_function(module, names) for module, names in loops.items()},
        "versions": dict(_recorded_versions()),
    }


def _own_package() -> tuple[str, str]:
    try:
        package = import_module("ami_fault_site")
    except ImportError:
        return "", ""
    return os.path.dirname(package.__file__ or ""), str(getattr(package, "__version__", ""))


def _name_of(thing: object) -> str:
    kind = thing if isinstance(thing, type) else type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"


def _customizers() -> Iterator[tuple[str, str, bool]]:
    """Yield every sitecustomize and usercustomize on the path and whether it is ours; the first of a name is run."""
    for name in ("sitecustomize", "usercustomize"):
        for folder in dict.fromkeys(os.path.abspath(path) for path in sys.path if os.path.isdir(path)):
            spec = PathFinder.find_spec(name, [folder])
            if spec is not None and spec.origin:
                yield name, spec.origin, _is_ours(spec.origin)


def _is_ours(path: str) -> bool:
    try:
        with open(path, encoding="utf-8") as stream:
            return "from ami_fault_site import startup" in stream.read()
    except (OSError, UnicodeError):
        return False


def _start_up_lines() -> Iterator[str]:
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    for folder in (*site.getsitepackages(), *user):
        yield os.path.join(folder, "ami_fault_site.pth")


def _recorded_versions() -> Iterator[tuple[str, str]]:
    for name in _DISTRIBUTIONS:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _first_function(module: str, names: list[str]) -> str:
    """Find a loop by reading its source: importing a worker would load its models' libraries."""
    try:
        body = ast.parse(_source(module)).body
    except Exception:  # whatever a finder, a file or its syntax may raise: there is no loop to be found
        return ""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    defined = {node.name for node in body if isinstance(node, functions)}
    return next((name for name in names if name in defined), "")


def _source(module: str) -> bytes:
    """Read a module's source without importing its packages; the first of them is found as an import would find it."""
    first, *rest = module.split(".")
    spec = find_spec(first)
    if spec is None:
        return b""
    whole = [os.path.join(folder, *rest) for folder in spec.submodule_search_locations or ()] if rest else []
    paths = [f"{path}{end}" for path in whole for end in (".py", "/__init__.py")] if rest else [spec.origin or ""]
    found = next((path for path in paths if os.path.isfile(path)), "")
    if not found:
        return b""
    with open(found, "rb") as stream:
        return stream.read()


def with_libraries() -> dict[str, object]:
    """Import what the worker imports, and tell what is hooked and what else stands around it."""
    failed = {}
    for name in ("requests", "PIL.Image"):
        try:
            import_module(name)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
    hooks = sys.modules.get(_OURS)
    return {
        "failed": failed,
        "seams": hooks.installed() if hooks is not None else {},
        "layers": {shown: list(_layers(*where)) for shown, where in _WRAPPABLE.items() if where[0] not in failed},
        "versions": dict(_loaded_versions()),
        "compiled": "wrapt._wrappers" in sys.modules,
    }


def _loaded_versions() -> Iterator[tuple[str, str]]:
    recorded = dict(_recorded_versions())
    for name, module in _DISTRIBUTIONS.items():
        if module in sys.modules:
            yield name, str(getattr(sys.modules[module], "__version__", "") or recorded.get(name, "?"))


def _layers(module: str, owner: str, name: str, home: str) -> Iterator[tuple[str, str]]:
    """Yield the module and the file of each function around the library's own, from the outside in."""
    holder = sys.modules[module]
    layer = vars(getattr(holder, owner) if owner else holder).get(name)
    for _ in range(_DEEPEST):
        if layer is None:
            return
        origin = _origin(layer)
        yield origin
        if origin[0] == home:
            return
        layer = _below(layer, name)


def _origin(layer: object) -> tuple[str, str]:
    """Tell where a function was written, which `__module__` does not: functools.wraps copies that of the wrapped."""
    written = layer if type(layer) is FunctionType else getattr(layer, "_self_wrapper", None)  # wrapt's, and copies
    written = getattr(written, "__func__", written)
    if isinstance(written, FunctionType):
        return str(written.__globals__.get("__name__", "?")), written.__code__.co_filename
    kind = type(layer).__module__
    name = kind if kind != "builtins" else str(getattr(layer, "__module__", "?"))
    return name, str(getattr(sys.modules.get(name), "__file__", "") or "")


def _below(layer: object, name: str) -> object:
    """Return what a wrapper calls: `__wrapped__`, or a function of that name in its closure, globals or attributes."""
    inner = getattr(layer, "__wrapped__", None)
    if inner is not None:
        return inner
    held = list(getattr(layer, "__dict__", {}).values())
    if isinstance(layer, FunctionType):
        held += _contents(layer.__closure__ or ())
        held += [layer.__globals__[used] for used in layer.__code__.co_names if used in layer.__globals__]
    fits = (one for one in held if callable(one) and getattr(one, "__name__", "") == name and one is not layer)
    return next(fits, None)


def _contents(cells: tuple[CellType, ...]) -> Iterator[object]:
    for cell in cells:
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue


def order() -> list[tuple[str, list[str]]]:
    """Start as `site` does, started with -S, and tell after each file which libraries and finders came with it."""
    steps: list[tuple[str, list[str]]] = []
    own = sys.path.pop(0)

    def noted(file: str, act: Callable[[], object]) -> None:
        before = _present()
        try:
            act()
        finally:
            steps.append((file, [name for name in _present() if name not in before]))

    def execute(line: str) -> None:
        frame = sys._getframe(1)
        sitedir = frame.f_locals.get("sitedir", "")  # where the lines of namespace packages look for it
        noted(str(frame.f_locals.get("fullname", sitedir)), lambda: exec(line, vars(site), {"sitedir": sitedir}))  # noqa: S102  as site does

    def customizing(name: str, run: Callable[[], None]) -> Callable[[], None]:
        return lambda: noted(name, run)

    hidden = vars(site)
    hidden["exec"] = execute
    for name in ("sitecustomize", "usercustomize"):
        hidden[f"exec{name}"] = customizing(name, hidden[f"exec{name}"])
    site.main()
    sys.path.insert(0, own)
    return steps


def _present() -> list[str]:
    return [name for name in _LIBRARIES if name in sys.modules] + [_name_of(finder) for finder in sys.meta_path]


if __name__ == "__main__":
    main(sys.argv[1:])
