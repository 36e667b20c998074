"""Whatever stands in the environment, and wherever it starts: the interpreter starts, and says nothing on stdout."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ami_fault_site.settings import ENABLED, NAMES
from tests.thorough import times

pytestmark = [pytest.mark.untraced, pytest.mark.timeout(times(180, 7200))]

# The same cases everywhere and each time; what was found to fail belongs into a test of its own.
anywhere = settings(
    deadline=None,
    max_examples=times(300, 10_000),
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

# No path in here leaves what is made for a test: none is absolute, and what is put into one brings no slash along.
PATHS = (b"mine.env", b"./mine.env", b"light", b"everything", b"medum", b"run", b"a/b", b"mine.env/run", b".", b"./run")
RULES = (
    b"jobs: 3*off -> 1*reset@after -> off",
    b"crash[point=downloading, name=*_7.jpg?a=b]: 2*kill; batch: delay(1.5ack_wait)",
    b'image.get[name="a;b#c", images=5%]: status(403)',
)
GOOD = {
    ENABLED: (b"true", b"1", b"YES", b"false", b"maybe"),
    "AMI_TEST_PROFILE": PATHS,
    "AMI_TEST_RUN_DIR": PATHS,
    "AMI_TEST_SEED": (b"7", b"0", b"9" * 300, b"9" * 5000),
    "AMI_TEST_INCARNATION": (b"3", b"9" * 300),
    "AMI_TEST_TASK_LOOP": (b"my_loop:work", b"PIL.Image:open", b"requests.sessions:Session", b"json:loads", b"os:fork"),
    "AMI_TEST_WORKER_COMMAND": (b"sh -c 'exit 3'",),
    "AMI_TEST_JOBS": (b"1,2", b"1", b"9" * 5000),
    "AMI_TEST_PROTECTED_HOSTS": (b"example.org", b"[::1]", b".", b"a:b"),
    "AMI_TEST_ALLOWED_HOSTS": (b"example.org", b"[::1]"),
    "AMI_TEST_NETWORK_LAYER": (b"attempt", b"call"),
    "AMI_TEST_NETWORK_KINDS": (b"refused,reset@after,status(503)", b"delay(2ack_wait)", b"off"),
    "AMI_TEST_CRASH_MODE": (b"kill", b"hang"),
    "AMI_TEST_CRASH_POINTS": (b"downloading,in-batch", b"idle"),
    "AMI_TEST_CRASH_PROCESS": (b"loader", b"any"),
    "AMI_TEST_RULES": RULES,
    "AMI_TEST_PERMANENT_ERROR_IMAGES": (b"7, a%2Cb.jpg, https://host/7.jpg?sig=a",),
    "AMI_TEST_EXHAUST": (b"7, b.jpg",),
    "AMI_TEST_SENTRY": (b"tag", b"silent"),
    "AMI_TEST_DRY_RUN": (b"true", b"no"),
}
NUMBERS = (b"0", b"1", b"0.5", b"30", b"1e308", b"1e-320", b"nan", b"inf", b"-1", b"50%", "٣".encode(), b"1_0")
URLS = (b"http://127.0.0.1:9/api/v2", b"https://antenna.insectai.org/api", b"http://[x", b"//", b"http://a:b:c/\xff")
ODD = st.binary(max_size=12).map(lambda some: bytes(one for one in some if one not in b"\0=/"))
BLANK = st.sampled_from([b"", b" "])
LONG = st.builds(
    lambda part, size: b"x" + part * (size // len(part)),
    st.sampled_from([b"/", b"?", b'"', b"(", b";", b"9", b"\xff", b"?a", b"token ", b"jobs: off;", b"jobs: off->"]),
    st.sampled_from([300, 5_000, 100_000]),
)


@st.composite
def values(draw: st.DrawFn, name: str) -> bytes:
    """Return a value that is right for this name, or for another, or nearly, or not at all."""
    good = st.sampled_from(GOOD.get(name, NUMBERS))
    kind = draw(st.sampled_from(["good"] * 6 + ["other", "near", "odd", "long", "empty"]))
    if kind == "near":
        text = draw(good)
        at = draw(st.integers(0, len(text)))
        return text[:at] + draw(ODD) + text[at:]
    if kind == "other":
        return draw(st.sampled_from([*PATHS, *RULES, *NUMBERS]))
    drawn: dict[str, st.SearchStrategy[bytes]] = {"good": good, "odd": ODD, "long": LONG, "empty": BLANK}
    return draw(drawn[kind])


@st.composite
def names(draw: st.DrawFn) -> bytes:
    """Return a setting's name, or one that is nearly one, or not at all."""
    name = draw(st.sampled_from(NAMES)).encode()
    kind = draw(st.sampled_from(["good"] * 12 + ["near", "odd"]))
    if kind == "near":
        at = draw(st.integers(9, len(name) - 1))
        return name[:at] + draw(ODD) + name[at + 1 :]
    return b"AMI_TEST_" + draw(ODD) if kind == "odd" else name


@st.composite
def settings_given(draw: st.DrawFn, most: int) -> dict[bytes, bytes]:
    """Return so many settings at most."""
    found = draw(st.lists(names(), max_size=most, unique=True))
    return {name: draw(values(name.decode(errors="replace"))) for name in found}


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Return what a dotenv file holds: settings a line, with odd bytes between."""
    lines = [name + b"=" + value for name, value in draw(settings_given(3)).items()]
    lines += draw(st.lists(st.one_of(ODD, st.sampled_from([b"# why", b'A="', b"export", b"\xef\xbb\xbf"])), max_size=1))
    return b"\n".join(draw(st.permutations(lines)))


@dataclass(frozen=True)
class World:
    """All that a process finds when it starts."""

    program: str
    variables: dict[bytes, bytes]
    profile: bytes
    dotenv: bytes
    closed: frozenset[int]
    folder: str  # what becomes of the working directory once it is entered: a command, to which it is given
    run: bytes | None  # the settings.json of a folder `run` in there

    @property
    def is_undisturbed(self) -> bool:
        """Whether nothing of ours may be noticed at all."""
        return self.program == "pass" or ENABLED.encode() not in self.variables


OTHERS = {
    b"HOME": st.sampled_from([None, b"/", b"nowhere", b"mine.env", b"\xff"]),
    b"TMPDIR": st.sampled_from([None, b"", b"nowhere", b"mine.env", b"\xff\xfe"]),
    b"LC_ALL": st.sampled_from([None, b"C", b"C.UTF-8", b"en_US.ISO-8859-1", b"\xff"]),
    b"AMI_ANTENNA_API_BASE_URL": st.sampled_from([None, None, None, *URLS]),
}


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Return any of them, in which less is imported than in a real worker: that takes long."""
    others = {name: draw(value) for name, value in OTHERS.items()}
    variables = {name: value for name, value in others.items() if value is not None}
    variables |= draw(settings_given(4))
    switch = draw(st.sampled_from([b"true"] * 12 + [b"false", b"maybe", None]))
    if switch is not None:
        variables[ENABLED.encode()] = switch
    return World(
        draw(st.sampled_from(["pass"] * 32 + ["import PIL.Image"] * 25 + ["import requests"])),
        variables,
        draw(files()),
        draw(files()),
        draw(st.frozensets(st.integers(0, 2))),
        draw(st.sampled_from([":", ":", ":", "rmdir", "chmod 0", "chmod 500"])),
        draw(st.sampled_from([None, None, None, b"", b"{}", b"[" * 5000, b'{"fingerprint": {"AMI_TEST_SEED": "7"}}'])),
    )


@contextlib.contextmanager
def folder_of(world: World, home: Path) -> Iterator[Path]:
    """Make the folder in which it starts, and take it away in the end."""
    top = Path(tempfile.mkdtemp(dir=home))
    folder = top / "here"
    folder.mkdir()
    if world.folder != "rmdir":
        (folder / "mine.env").write_bytes(world.profile)
        (folder / ".env").write_bytes(world.dotenv)
        if world.run is not None:
            (folder / "run").mkdir()
            (folder / "run" / "settings.json").write_bytes(world.run)
    yield folder
    if world.folder != "rmdir":
        folder.chmod(0o700)
    shutil.rmtree(top)


def started(python: Path, world: World, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Start an interpreter in such a world and wait for its end."""
    enter = f'cd {shlex.quote(str(folder))} && {world.folder} "$PWD"'
    closed = " ".join(f"{number}>&-" for number in sorted(world.closed))
    given = [name + b"=" + value for name, value in world.variables.items()]
    # A shell drops the variables whose names it does not like, so they are given to env.
    command = [b"/bin/sh", b"-c", f'{enter} && exec env -i "$@" {closed}'.encode(), b"sh"]
    return subprocess.run(
        [*command, *given, str(python).encode(), b"-c", world.program.encode()],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


OURS = ("Traceback", "ami_fault_site/", "Error processing line", "could not start", "cannot arm", "cannot hook")


@given(world=worlds())
@anywhere
def test_the_interpreter_starts_whatever_there_is_and_goes_on_or_says_why_not(
    wheel_python: Path, tmp_path: Path, world: World
) -> None:
    with folder_of(world, tmp_path) as folder:
        ended = started(wheel_python, world, folder)
    said = ended.stderr.decode(errors="replace")
    assert ended.stdout == b""
    assert [word for word in OURS if word in said] == [], said
    if world.is_undisturbed:
        assert (ended.returncode, said) == (0, "")
        return
    assert ended.returncode in (0, 78), said
    if 2 in world.closed:
        assert said == ""
    elif ended.returncode == 78:
        assert said.startswith("ami-fault-site: ")
    else:
        assert not said or re.fullmatch(r"ami-fault-site: run folder [^\n]+, seed [0-9]+\n", said)
