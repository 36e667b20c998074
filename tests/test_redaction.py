from __future__ import annotations

import pytest

from ami_fault_site.redaction import redact

HEX = "5a4db0c5a11ab1e0f0a1c2e3d4b5a69788796a5b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Authorization: Token {HEX}", "Authorization: Token ***"),
        (f"authorization: token {HEX}", "authorization: token ***"),
        (f"{{'Authorization': 'Token {HEX}'}}", "{'Authorization': 'Token ***'}"),
        (f"token={HEX}", "token=***"),
        (f"token: {HEX}, next", "token: ***, next"),
        ("Authorization: Bearer abc.DEF-123_x~y+z/w==", "Authorization: Bearer ***"),
        ("BEARER abcdefgh", "BEARER ***"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "Authorization: Basic ***"),
    ],
)
def test_tokens_are_taken_out(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        f'{{"token": "{HEX}"}}',
        f"{{'auth_token': '{HEX}'}}",
        f"AMI_ANTENNA_API_AUTH_TOKEN={HEX}",
        f"HF_TOKEN={HEX}",
    ],
)
def test_tokens_are_taken_out_in_the_forms_in_which_settings_and_json_are_printed(text: str) -> None:
    assert HEX not in redact(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Cookie: sessionid=abc; csrftoken=def", "Cookie: ***"),
        ("set-cookie: sessionid=abc; Path=/\nHost: x", "set-cookie: ***\nHost: x"),
        ("Set-Cookie = a=b", "Set-Cookie = ***"),
    ],
)
def test_cookies_are_taken_out_to_the_end_of_their_line(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize("text", ["{'Cookie': 'sessionid=s3cret'}", '{"Set-Cookie": "sessionid=s3cret; Path=/"}'])
def test_cookies_are_taken_out_of_printed_headers(text: str) -> None:
    assert "s3cret" not in redact(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:pass@host:8000/x", "http://***@host:8000/x"),
        ("nats://user@host:4222", "nats://***@host:4222"),
        ("at 'https://u:p@h/' now", "at 'https://***@h/' now"),
        ("http://host/a@b", "http://host/a@b"),
    ],
)
def test_the_user_and_password_of_a_url_are_taken_out(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_password_with_an_at_sign_is_taken_out_whole() -> None:
    assert redact("http://user:p@ss@host/x") == "http://***@host/x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "GET https://bucket.example/a/1.jpg?X-Amz-Signature=abc&b=c HTTP",
            "GET https://bucket.example/a/1.jpg?*** HTTP",
        ),
        (
            "HTTPConnectionPool(host='h', port=80): Max retries exceeded with url: /x?sig=abc (Caused by E('refused'))",
            "HTTPConnectionPool(host='h', port=80): Max retries exceeded with url: /x?*** (Caused by E('refused'))",
        ),
        ("('http://h/1.jpg?a=1', 'http://h/2.jpg?b=2')", "('http://h/1.jpg?***', 'http://h/2.jpg?***')"),
        ("http://h?sig=abc", "http://h?***"),
        ("<a href=/p?q=1>", "<a href=/p?***"),
    ],
)
def test_the_query_of_a_url_is_taken_out_with_or_without_a_host(text: str, shown: str) -> None:
    assert redact(text).removesuffix(">") == shown


def test_known_secrets_are_taken_out_wherever_they_stand() -> None:
    assert redact("xs3cr3ty and s3cr3t", ("s3cr3t", "")) == "x***y and ***"


def test_a_secret_shorter_than_four_characters_would_take_out_words_and_is_left() -> None:
    assert redact("abc is no secret", ("abc",)) == "abc is no secret"
    assert redact("abcd is one", ("abcd",)) == "*** is one"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3 tokens left",
        "what? nothing",
        "failed to load image",
        "http://host:8000/api/v2/jobs/3/",
        "the basic idea",
        "mail me@example.org",
        "line one\nline two",
    ],
)
def test_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_text_that_was_redacted_once_stays_as_it_is() -> None:
    once = redact(f"Token {HEX} http://u:p@h/x?y=z\nCookie: a=b")

    assert redact(once) == once


@pytest.mark.parametrize("part", ["/", "?", "?a", "/?", '"?a=b c ', "http://a"])
def test_a_text_without_end_is_read_from_its_beginning_to_its_end_once(part: str) -> None:
    text = part * (600_000 // len(part))

    assert len(redact(text)) <= len(text)  # what looks from each place to the end never returns
