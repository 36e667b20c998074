"""Read the settings, join the run and give the injector its parts; raise SettingsError if anything is wrong."""

from __future__ import annotations

import atexit
import os
import secrets
import sys
from collections.abc import MutableMapping
from pathlib import Path
from urllib.parse import urlsplit

import ami_fault_site
from ami_fault_site import profiles, runfolder
from ami_fault_site.hosts import refused_host
from ami_fault_site.injector import Injector, say
from ami_fault_site.ledger import Ledger
from ami_fault_site.settings import Settings, SettingsError

BASE_URL = "AMI_ANTENNA_API_BASE_URL"


def arm(environ: MutableMapping[str, str]) -> Injector | None:
    """Return this process's injector, or None where the settings say off; raises SettingsError with every problem.

    The run folder and the seed go into `environ`, so that children, forked or spawned, share them.
    """
    settings = profiles.resolve(environ).settings
    if not settings.enabled:
        return None
    _refuse_host(environ.get(BASE_URL, ""), settings)
    joined = runfolder.join(settings, Path(runfolder.HOME))
    settings, run = joined.settings, joined.run
    environ["AMI_TEST_RUN_DIR"] = str(run.path)
    environ["AMI_TEST_SEED"] = str(settings.seed)
    if settings.profile not in ("", *profiles.available()):
        environ["AMI_TEST_PROFILE"] = str(Path(settings.profile).absolute())  # children may begin in another folder
    ledger = Ledger(run.ledger, settings.incarnation)
    try:
        ledger.append(
            "armed",
            version=ami_fault_site.__version__,
            python=sys.version.split()[0],
            program=os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else "",
            seed=settings.seed,
        )
    except OSError as error:
        raise SettingsError([f"AMI_TEST_RUN_DIR={str(run.path)!r}: cannot be written: {error.strerror}"]) from error
    _end_in_order(ledger)
    if joined.made and settings.incarnation == 0:
        say(f"run folder {run.path}, seed {settings.seed}")
    tree = environ.setdefault(runfolder.TREE, secrets.token_hex(4))
    return Injector(settings, run, ledger, f"{settings.incarnation}-{tree}")


def _refuse_host(url: str, settings: Settings) -> None:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError as error:
        raise SettingsError([f"{BASE_URL}={url!r}: is not a URL: {error}"]) from error
    why = refused_host(host, settings) if host else ""
    if why:
        raise SettingsError([f"{BASE_URL}: {why}"])


def _end_in_order(ledger: Ledger) -> None:
    """Book the end of this process and of those forked from it.

    multiprocessing's children leave without running atexit; they run multiprocessing's own finalizers, which are
    cleared after the fork, so each child registers again.
    """
    atexit.register(ledger.end)
    if not hasattr(os, "register_at_fork"):
        return

    def in_child() -> None:
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            util.register_after_fork(ledger, lambda kept: util.Finalize(None, kept.end, exitpriority=-100))

    os.register_at_fork(after_in_child=in_child)
    # A child of multiprocessing that arms only now has the fork behind it, and atexit will not run either. It may be
    # on its way to its own beginning, where finalizers are cleared (forkserver), or past it.
    in_child()
    process, util = (sys.modules.get(f"multiprocessing.{name}") for name in ("process", "util"))
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, ledger.end, exitpriority=-100)
