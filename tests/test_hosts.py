from __future__ import annotations

import pytest

from ami_fault_site.hosts import protected_by, refused_host
from ami_fault_site.settings import Settings


@pytest.mark.parametrize(
    ("host", "entry"),
    [
        ("antenna.insectai.org", "antenna.insectai.org"),
        ("Antenna.InsectAI.org", "antenna.insectai.org"),
        ("antenna.insectai.org.", "antenna.insectai.org"),
        ("api.antenna.insectai.org", "antenna.insectai.org"),
        ("live.example.org", "LIVE.example.org"),
        ("insectai.org", ""),
        ("notantenna.insectai.org", ""),
        ("antenna.insectai.org.evil.com", ""),
        ("staging.insectai.org", ""),
        ("localhost", ""),
        ("", ""),
    ],
)
def test_a_protected_host_covers_itself_and_its_subdomains_only(host: str, entry: str) -> None:
    assert protected_by(host, ("antenna.insectai.org", "LIVE.example.org")) == entry


def test_only_allowed_hosts_and_their_subdomains_may_be_tested_and_no_protected_one() -> None:
    narrow = Settings(allowed_hosts=("test.example.org",), protected_hosts=("live.test.example.org",))

    assert refused_host("anything.org", Settings()) == ""
    assert refused_host("test.example.org", narrow) == refused_host("a.test.example.org", narrow) == ""
    assert refused_host("example.org", narrow) == (
        "example.org is not among AMI_TEST_ALLOWED_HOSTS=test.example.org: not tested"
    )
    assert refused_host("live.test.example.org", narrow) == (
        "live.test.example.org is a protected host (AMI_TEST_PROTECTED_HOSTS=live.test.example.org): never tested"
    )
