from __future__ import annotations

from pathlib import Path

import pytest

from ami_fault_site.target import BASE_URL, DEFAULT_BASE_URL, SERVICE_NAME, TOKEN, Target, TargetError, find, require

ENVIRONMENT = {BASE_URL: "https://host:8443/api/v2/", TOKEN: "abcd", SERVICE_NAME: "mine"}


def dotenv(folder: Path, text: str) -> Path:
    path = folder / ".env"
    path.write_text(text)
    return path


def test_without_anything_the_target_is_the_workers_own_default(tmp_path: Path) -> None:
    target = find({}, tmp_path)

    assert target == Target(DEFAULT_BASE_URL, "", "", dict.fromkeys((BASE_URL, TOKEN, SERVICE_NAME), "default"))
    assert (target.host, target.hostname) == ("localhost:8000", "localhost")


def test_the_environment_says_where_the_service_is(tmp_path: Path) -> None:
    target = find(ENVIRONMENT, tmp_path)

    assert (target.base_url, target.token, target.service_name) == ("https://host:8443/api/v2", "abcd", "mine")
    assert set(target.sources.values()) == {"environment"}
    assert (target.host, target.hostname) == ("host:8443", "host")


def test_a_dotenv_file_in_the_working_directory_says_what_the_environment_does_not(tmp_path: Path) -> None:
    dotenv(tmp_path, f'{BASE_URL}="http://in-file/api/v2"\nexport {TOKEN}=from-file # mine\n{SERVICE_NAME}=from-file\n')
    target = find({SERVICE_NAME: "from-environment"}, tmp_path)

    assert (target.base_url, target.token, target.service_name) == (
        "http://in-file/api/v2", "from-file", "from-environment",
    )  # fmt: skip
    assert target.sources == {BASE_URL: ".env", TOKEN: ".env", SERVICE_NAME: "environment"}
    assert target.remarks == ()


def test_names_count_in_any_case_as_they_do_for_the_worker(tmp_path: Path) -> None:
    dotenv(tmp_path, "Ami_Antenna_Api_Auth_Token=from-file\n")
    target = find({BASE_URL.lower(): "http://lower"}, tmp_path)

    assert (target.base_url, target.token) == ("http://lower", "from-file")


def test_a_broken_line_is_remarked_on_and_the_others_count(tmp_path: Path) -> None:
    path = dotenv(tmp_path, f"{TOKEN}=abcd\nthis is no setting\n{SERVICE_NAME}=mine\n")
    target = find({}, tmp_path)

    assert (target.token, target.service_name) == ("abcd", "mine")
    assert target.remarks == (f"{path}:2: not NAME=value, ignored as the worker ignores it",)


def test_the_remark_on_a_broken_line_counts_the_blank_lines_before_it(tmp_path: Path) -> None:
    path = dotenv(tmp_path, f"{TOKEN}=abcd\n\n\nthis is no setting\n")

    assert find({}, tmp_path).remarks == (f"{path}:4: not NAME=value, ignored as the worker ignores it",)


def test_a_name_without_an_equals_sign_says_nothing(tmp_path: Path) -> None:
    dotenv(tmp_path, f"{TOKEN}\n")

    assert find({}, tmp_path).sources == dict.fromkeys((BASE_URL, TOKEN, SERVICE_NAME), "default")


def test_a_blank_value_counts_and_hides_those_below_it_as_it_does_for_the_worker(tmp_path: Path) -> None:
    dotenv(tmp_path, f"{TOKEN}=from-file\n{SERVICE_NAME}=\n")
    target = find({TOKEN: " "}, tmp_path)

    assert (target.token, target.service_name) == ("", "")
    assert target.sources == {BASE_URL: "default", TOKEN: "environment", SERVICE_NAME: ".env"}


def test_a_dotenv_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe")

    with pytest.raises(TargetError) as caught:
        find({}, tmp_path)
    assert str(caught.value) == f"{tmp_path / '.env'}: cannot be read: not UTF-8 text"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/api", "http://", "//host/api", "host"])
def test_an_address_that_is_no_http_url_is_an_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(TargetError) as caught:
        find({BASE_URL: url}, tmp_path)
    assert str(caught.value) == f"{BASE_URL}={url!r}: is a URL such as {DEFAULT_BASE_URL}"


@pytest.mark.parametrize("url", ["http://[::1", "http://host:port/api", "http://host:99999/api"])
def test_an_address_that_cannot_be_taken_apart_is_an_error_of_the_same_kind(url: str, tmp_path: Path) -> None:
    with pytest.raises(TargetError) as caught:
        find({BASE_URL: url}, tmp_path)
    assert str(caught.value) == f"{BASE_URL}={url!r}: is a URL such as {DEFAULT_BASE_URL}"


def test_the_host_is_shown_without_user_and_password(tmp_path: Path) -> None:
    target = find({BASE_URL: "http://user:secret@host:81/api/v2"}, tmp_path)

    assert (target.host, target.hostname) == ("host:81", "host")


def test_nothing_is_missing_where_token_and_name_are_given(tmp_path: Path) -> None:
    found = find(ENVIRONMENT, tmp_path)
    require(found)
    assert all((found.token, found.service_name))


def test_everything_that_is_missing_is_named_with_the_broken_lines_that_may_have_held_it(tmp_path: Path) -> None:
    path = dotenv(tmp_path, f"{TOKEN} abcd\n")
    where = "is required, in the environment or in .env in the working directory"

    with pytest.raises(TargetError) as caught:
        require(find({}, tmp_path))
    assert str(caught.value).splitlines() == [
        f"{TOKEN}: {where}",
        f"{SERVICE_NAME}: {where}",
        f"{path}:1: not NAME=value, ignored as the worker ignores it",
    ]
    with pytest.raises(TargetError) as caught:
        require(find({SERVICE_NAME: "mine"}, tmp_path / "elsewhere"))
    assert str(caught.value) == f"{TOKEN}: {where}"
