"""Watch the worker's imports and put a hook at each seam as its library appears; the table of seams.

Imported while every enabled interpreter starts, so only `os`, `sys` and `_thread` (a built-in lock) come in here.
"""

import _thread
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import FrameType, ModuleType

    from ami_fault_site.injector import Injector

# Where a hook goes: the library's module, and our module whose install() puts it there.
_SEAMS = {"requests.sessions": "http", "PIL.Image": "images"}

# Beside the seams: hooked as well, once a seam has armed the process. To import these alone disturbs nobody.
_BESIDE = {"sentry_sdk": "sentry"}
_HOOKS = {**_SEAMS, **_BESIDE}

# The loops of the worker's versions, and of the sample worker: the first function that a module has is the loop.
TASK_LOOPS: dict[str, tuple[str, ...]] = {
    "trapdata.antenna.worker": ("_process_batch", "_process_job"),
    "trapdata.cli.worker": ("_process_batch", "_process_job", "run_worker"),
    "ami_fault_site.sandbox.worker.loop": ("process_batch",),
}

# The operator's side stands down: the tool must not strike itself.
_OPERATOR = ("ami_fault_site.cli", "ami_fault_site.sandbox.server")


class _Watch:
    """The finder on sys.meta_path. It imports and decides nothing; it lets the others find, and looks on."""

    def __init__(self) -> None:
        self.loops = dict(TASK_LOOPS)
        self.modules = {*_HOOKS, *TASK_LOOPS}
        self.injector: Injector | None = None
        self.undo: list[Callable[[], None]] = []
        self._waiting: list[ModuleType] = []
        self._standing_down = False
        self._has_loop = self._is_descendant = False  # of a process that is armed as well
        self._renew_lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        """Replace the lock: another thread may have held it at a fork, and would hold it for ever in the child."""
        self._lock = _thread.RLock()
        self._arming = False

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """Return the spec that the other finders give, with a loader that tells us once the module has been run.

        Libraries also ask this only to know whether a module is there, so nothing else may happen here.
        """
        if fullname not in self.modules or self._standing_down:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(fullname, path, target) if find is not None else None
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
                return spec
        return None

    def loaded(self, module: "ModuleType") -> None:
        """Put the hook in place that belongs to a module which has just been run."""
        with self._lock:
            if self._standing_down or _is_operator():
                self.stand_down()
                return
            self._waiting.append(module)
            injector = self.injector
            if injector is None and module.__name__ not in _BESIDE and not self._arming:  # what that imports waits
                injector = self._arm()
            while injector is not None and self._waiting:
                self._install(self._waiting.pop(), injector)

    def loop_modules(self) -> "Iterator[ModuleType]":
        """Yield the modules that hold a task loop and are loaded already, for a last look before the first call."""
        for name in sorted(self.modules - set(_HOOKS)):
            module = sys.modules.get(name)
            if module is not None:
                yield module

    def stand_down(self) -> None:
        """Undo every hook and watch no longer."""
        self._standing_down = True
        while self.undo:
            self.undo.pop()()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def _arm(self) -> "Injector | None":
        """Read the settings and join the run, or stop the process if that goes wrong; None where it is off."""
        self._arming = True
        try:
            from ami_fault_site.arming import arm
            from ami_fault_site.runfolder import TREE

            self._is_descendant = TREE in os.environ
            self.injector = arm(os.environ)
            if self.injector is not None and self.injector.settings.task_loop:
                module, _, function = self.injector.settings.task_loop.partition(":")
                self.loops = {module: (function,)}
                self.modules.add(module)
        except Exception as error:
            _stop(getattr(error, "problems", None) or [f"cannot arm: {type(error).__name__}: {error}"])
        if self.injector is None:
            self.stand_down()
        return self.injector

    def _install(self, module: "ModuleType", injector: "Injector") -> None:
        try:
            from importlib import import_module

            if module.__name__ in _HOOKS:
                hook = import_module(f"ami_fault_site.hooks.{_HOOKS[module.__name__]}")
                self.undo.append(hook.install(module, injector, self.look_again))
            else:
                self._install_loop(module, injector)
        except Exception as error:
            _stop([f"cannot hook {module.__name__}: {type(error).__name__}: {error}"])

    def _install_loop(self, module: "ModuleType", injector: "Injector") -> None:
        from ami_fault_site.hooks import tasks

        named = injector.settings.task_loop
        undo = tasks.install(module, self.loops.get(module.__name__, ()), injector)
        if undo is not None:
            self.undo.append(undo)
            self._has_loop = True
        elif named.partition(":")[0] == module.__name__ and not self._may_lack_it(module, named.partition(":")[2]):
            injector.book("refused", target="")
            _stop([f"AMI_TEST_TASK_LOOP={named!r}: the module has no such function"])

    def _may_lack_it(self, module: "ModuleType", name: str) -> bool:
        """Whether it is no mistake that a module does not have the loop.

        It may be hooked already. A `__main__` may be at work before all of it is defined, and that of a program which
        the worker has started is another.
        """
        if self._has_loop or module.__name__ != "__main__":
            return self._has_loop
        return self._is_descendant or any(
            name in frame.f_code.co_names
            for top in sys._current_frames().values()
            for frame in _outwards(top)
            if frame.f_globals is vars(module) and frame.f_code.co_name == "<module>"
        )

    def look_again(self) -> None:
        """Hook the loops whose modules were being imported while we armed, now that a first call is made."""
        # Asked at every call, so the cheap questions come first.
        if self._has_loop or self.injector is None or self.loops.keys().isdisjoint(sys.modules.keys()):
            return
        with self._lock:
            for module in self.loop_modules():
                # Nor has another thread hooked one meanwhile; one that is still being imported comes by itself.
                spec = getattr(module, "__spec__", None)
                if not self._has_loop and not getattr(spec, "_initializing", False):
                    self._install_loop(module, self.injector)


class _Loader:
    """Stands for one spec's loader until its module has been run."""

    def __init__(self, real: object, watch: "_Watch") -> None:
        self._real = real
        self._watch = watch

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        """Let the real loader make the module."""
        create = getattr(self._real, "create_module", None)
        return create(spec) if create is not None else None

    def exec_module(self, module: "ModuleType") -> None:
        """Let the real loader run the module, step back, and only then put the hook in place."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._real  # type: ignore[assignment]
        module.__loader__ = self._real  # type: ignore[assignment]
        self._real.exec_module(module)  # type: ignore[attr-defined]
        self._watch.loaded(module)


_watch: "_Watch | None" = None


def watch_imports() -> None:
    """Put the finder in place, once; hook at once what is there already."""
    global _watch
    if _watch is not None:
        return
    _watch = _Watch()
    named = os.environ.get("AMI_TEST_TASK_LOOP", "").strip().partition(":")[0]
    if named:
        _watch.modules.add(named)
    sys.meta_path.insert(0, _watch)
    # Not the loops: `__main__` is there before its functions are. They are looked for again at the first call.
    for name in sorted(_HOOKS.keys() & sys.modules.keys()):
        _watch.loaded(sys.modules[name])


def stand_down() -> None:
    """Take every hook out again and watch no longer; imports that come later are left alone."""
    if _watch is not None:
        _watch.stand_down()


def installed() -> dict[str, str]:
    """Return what is hooked in this process: seam -> where."""
    if _watch is None or _watch.injector is None:
        return {}
    return {seam.value: where for seam, where in _watch.injector.seams.items()}


def _outwards(frame: "FrameType | None") -> "Iterator[FrameType]":
    """Yield a frame, and those that have called it."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_operator() -> bool:
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    run_as_module = main is not None and main.name in ("ami_fault_site.__main__", "ami_fault_site.sandbox.__main__")
    return run_as_module or any(name in sys.modules for name in _OPERATOR)


def _stop(problems: list[str]) -> None:
    """Leave by os._exit(78), with every problem on stderr; works even if our own modules cannot be imported."""
    try:
        from ami_fault_site.redaction import redact

        problems = [redact(problem) for problem in problems]
    except ImportError:
        problems = ["it cannot be imported whole: install it again"]
    for problem in problems if sys.__stderr__ is not None else ():
        try:
            os.write(2, f"ami-fault-site: {problem}\n".encode(errors="replace"))
        except OSError:
            break
    os._exit(78)
