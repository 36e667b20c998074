from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "ami_fault_site"

# Rooms from the bottom up, as the map has them. A module may import what stands in a lower row.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("",),  # the package itself: its version, and nothing else
    ("faults", "nearest"),
    ("rules",),
    ("syntax",),  # of one rule
    ("grammar",),  # of all
    ("values",),
    ("settings", "load"),
    ("unforeseen",),  # of what is set
    ("antenna", "jobdetail", "forks"),
    ("redaction", "plan", "forecast", "hosts", "banner", "deaths", "endings", "origins", "counters"),
    ("profiles", "ledger", "runfolder", "target", "connections", "guardian", "joblog", "holdings", "injected"),
    ("budget",),
    ("outlook",),  # a forecast in words
    ("history.records",),  # of events, which are the ledger's
    ("history.files", "history.attempts"),
    ("history.kept",),
    ("history.struck",),
    ("history.fold",),
    ("history",),
    ("verdict.terms", "verdict.facts"),
    ("verdict.lives",),
    ("verdict.ends", "verdict.streams", "verdict.spoilt"),
    ("verdict.accounts", "verdict.due"),
    ("verdict.fates",),
    ("verdict.case",),
    (
        "verdict.crashes", "verdict.losses", "verdict.deliveries", "verdict.network", "verdict.images", "verdict.work",
        "verdict.counts", "verdict.jobs", "verdict.calm", "verdict.retries",
    ),
    ("verdict",),
    ("runs", "trials"),
    ("selftest",),
    ("injector", "incarnation", "service", "progress"),
    ("books", "panel", "joborder"),
    ("berth",),
    ("witness", "arming", "supervisor", "display"),
    ("hooks.patch", "hooks.wire", "hooks.strikes"),
    ("hooks.recording",),
    ("hooks.breaking",),
    ("hooks.transport",),
    ("hooks.failing_adapter", "hooks.crossing", "hooks.revising", "hooks.hop"),
    ("hooks.http", "hooks.images", "hooks.tasks", "hooks.sentry"),
    ("hooks",),
    ("report.contents", "report.refusals"),
    ("report.ending",),
    ("report.sentence", "report.again", "report.figures", "report.notes"),
    ("report.advice", "report.wording"),
    ("report.making", "report.moments", "report.search", "report.junit", "report.machine"),
    ("report.markdown", "report.terminal", "report.story"),
    ("report.page.timescale", "report.page.concerns", "report.page.histogram", "report.page.chances"),
    ("report.page.lanes", "report.page.matrix", "report.page.throughput", "report.page.stories"),
    ("report.page.spans", "report.page.marks", "report.page.settings_shown"),
    ("report.page.drawing",),
    ("report.page.rendering",),
    ("report.page",),
    ("report",),
    ("doctor.inside", "doctor.terms", "bundle"),
    ("doctor.probe", "doctor.place"),
    ("doctor.hooked", "doctor.command"),
    ("doctor",),  # looks at the hooks
    ("startup", "cli.speaking"),
    ("cli.pages",),
    ("cli.sandboxing", "cli.verdicts", "cli.looking", "cli.trying"),
    ("cli.options",),
    ("cli.running", "cli.reporting", "cli.watching", "cli.judging", "cli.noting"),
    ("cli.jobs",),
    ("cli",),
    ("__main__", "site.sitecustomize"),  # doorways of the two roots
)  # fmt: skip
SANDBOX = "sandbox"
SANDBOX_DOORS = {"sandbox.launch", "sandbox.options", "sandbox.photographs"}
ROOTS = {"startup", "cli"}
DOORWAYS = {"__main__": {"cli"}, "site.sitecustomize": {"startup"}}

HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}

PURE = (
    "faults", "rules", "syntax", "grammar", "values", "settings", "hosts", "plan", "antenna", "redaction", "forecast",
    "load", "unforeseen", "progress", "outlook", "joblog", "jobdetail", "trials", "endings",
    *(name for name in HEIGHT if name.partition(".")[0] in ("history", "verdict")),
)  # fmt: skip
IMPURE = {
    "PIL", "datetime", "os", "pathlib", "random", "requests", "secrets", "socket", "subprocess", "threading", "time",
}  # fmt: skip
WORKER_SIDE = {
    "", "startup", "arming", "injector", "witness", "ledger", "runfolder", "plan", "profiles", "settings", "antenna",
    "faults", "redaction", "values", "rules", "syntax", "grammar", "nearest",
    "hosts", "banner", "deaths", "holdings", "budget", "injected", "origins", "counters", "forks", "hooks.sentry",
    "hooks.strikes", "hooks.crossing", "hooks.revising", "hooks.hop",
    "hooks", "hooks.http", "hooks.images", "hooks.tasks", "hooks.patch", "hooks.failing_adapter",
    "hooks.transport", "hooks.breaking", "hooks.recording", "hooks.wire",
}  # fmt: skip
OPERATOR_ONLY = {"typer", "rich", "fastapi", "uvicorn", "nats"}

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def name_of(path: Path) -> str:
    parts = list(path.relative_to(ROOT / PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}
OURS = [name for name in MODULES if name.partition(".")[0] != SANDBOX]
ITS = [name for name in MODULES if name.partition(".")[0] == SANDBOX]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_under(node: ast.AST, inside_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif inside_functions or not (is_type_checking(child) or isinstance(child, FUNCTIONS)):
            yield from imports_under(child, inside_functions)


@cache
def imported(module: str, inside_functions: bool = True) -> frozenset[str]:
    """Return the full names that a module imports: of ours the module, of others whatever is named."""
    names: set[str] = set()
    for node in imports_under(ast.parse(MODULES[module].read_text()), inside_functions):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"{module}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                inner = whole.removeprefix(PACKAGE).lstrip(".")
                names.add(whole if whole.startswith(PACKAGE) and inner in MODULES else str(node.module))
    return frozenset(names)


def of_ours(module: str, inside_functions: bool = True) -> set[str]:
    names = imported(module, inside_functions)
    return {name[len(PACKAGE) :].lstrip(".") for name in names if name.split(".")[0] == PACKAGE}


def of_others(module: str, inside_functions: bool = True) -> set[str]:
    return {name.split(".")[0] for name in imported(module, inside_functions)} - {PACKAGE, "__future__"}


def reached(starts: set[str]) -> set[str]:
    found, waiting = set(starts), list(starts)
    while waiting:
        new = of_ours(waiting.pop()) - found
        found |= new
        waiting += new
    return found


def test_every_module_has_its_place_on_the_map() -> None:
    assert sorted(set(OURS) - set(HEIGHT)) == []


def test_every_place_on_the_map_is_a_module() -> None:
    assert sorted(set(HEIGHT) - set(OURS)) == []


def test_every_import_of_ours_is_of_a_module_that_is_there() -> None:
    assert {name for module in MODULES for name in of_ours(module)} - set(MODULES) == set()


@pytest.mark.parametrize("module", OURS)
def test_every_arrow_points_down(module: str) -> None:
    ours = {name for name in of_ours(module) if name.partition(".")[0] != SANDBOX}

    assert {name for name in ours if HEIGHT[name] >= HEIGHT[module]} == set()


def test_the_two_roots_never_reach_each_other() -> None:
    assert "cli" not in reached({"startup"} | {name for name in OURS if name.startswith("hooks")})
    assert "startup" not in reached({"cli"})


def test_nobody_imports_a_root_but_its_doorway() -> None:
    importers = {module: of_ours(module) & ROOTS for module in MODULES if module.partition(".")[0] not in ROOTS}

    assert {module: roots for module, roots in importers.items() if roots} == DOORWAYS


def test_only_the_operators_root_and_the_trials_know_the_sandbox_and_only_by_its_doors() -> None:
    importers = {module: {n for n in of_ours(module) if n.partition(".")[0] == SANDBOX} for module in OURS}

    knowing = {module: names for module, names in importers.items() if names}
    assert {module.partition(".")[0] for module in knowing} == {"cli", "selftest"}
    assert set().union(*knowing.values()) == SANDBOX_DOORS


@pytest.mark.parametrize("module", ITS)
def test_the_sandbox_imports_none_of_ours_but_its_own(module: str) -> None:
    assert {name for name in of_ours(module) if name.partition(".")[0] != SANDBOX} == set()


@pytest.mark.parametrize("module", PURE)
def test_a_module_that_decides_has_no_clock_no_chance_and_no_way_out(module: str) -> None:
    assert of_others(module) & IMPURE == set()


def test_the_package_itself_imports_nothing() -> None:
    assert imported("") == frozenset()


def test_startup_costs_no_import_but_os_and_sys() -> None:
    assert imported("startup", inside_functions=False) == {"os", "sys"}


def test_the_finder_that_startup_puts_in_place_costs_no_import_but_a_builtin_lock() -> None:
    assert imported("hooks", inside_functions=False) - {"__future__"} == {"os", "sys", "_thread"}


def test_a_bare_start_really_loads_nothing_but_the_finder() -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        "from ami_fault_site import startup; startup.activate()\n"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import os; {script}"],
        env={"AMI_TEST_FAULT_INJECTION_ENABLED": "true"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stderr == ""
    assert done.stdout == "['ami_fault_site', 'ami_fault_site.hooks', 'ami_fault_site.startup']\n"


def test_the_workers_side_is_what_startup_and_its_hooks_reach() -> None:
    assert reached({"startup"} | {name for name in OURS if name.startswith("hooks")}) == WORKER_SIDE


@pytest.mark.parametrize("module", sorted(WORKER_SIDE))
def test_no_worker_ever_loads_what_only_the_operator_needs(module: str) -> None:
    assert of_others(module) & OPERATOR_ONLY == set()


def test_the_checks_see_an_import_wherever_it_stands() -> None:
    tree = ast.parse(
        "import a.b\nfrom c import d\n"
        "if TYPE_CHECKING:\n    import e\n"
        "try:\n    import f\nexcept ImportError:\n    import g\n"
        "def function():\n    import h\n    async def inner():\n        from i import j\n"
        "class Thing:\n    import k\n    def method(self):\n        import m\n"
    )

    def names(inside_functions: bool) -> list[str]:
        return [
            alias.name if isinstance(node, ast.Import) else str(node.module)
            for node in imports_under(tree, inside_functions)
            for alias in node.names
        ]

    assert names(True) == ["a.b", "c", "e", "f", "g", "h", "i", "k", "m"]
    assert names(False) == ["a.b", "c", "f", "g", "k"]
