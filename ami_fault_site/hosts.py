"""Say which hosts may be tested."""

from __future__ import annotations

from ami_fault_site.settings import Settings


def refused_host(host: str, settings: Settings) -> str:
    """Return why a host may not be tested, "" if it may."""
    entry = protected_by(host, settings.protected_hosts)
    if entry:
        return f"{host} is a protected host (AMI_TEST_PROTECTED_HOSTS={entry}): never tested"
    if settings.allowed_hosts and not protected_by(host, settings.allowed_hosts):
        return f"{host} is not among AMI_TEST_ALLOWED_HOSTS={','.join(settings.allowed_hosts)}: not tested"
    return ""


def protected_by(host: str, protected: tuple[str, ...]) -> str:
    """Return the entry of the protected hosts that covers `host` (itself or a parent domain), or ""."""
    bare = host.lower().rstrip(".")
    return next((p for p in protected if bare == p.lower() or bare.endswith("." + p.lower())), "")
