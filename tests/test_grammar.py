from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ami_fault_site.faults import Mode, Phase, Point, Role, Site
from ami_fault_site.grammar import GRAMMAR, RuleError, parse_harm, parse_harms, parse_rules
from ami_fault_site.rules import KEYS, SITES, Duration, Form, HarmTemplate, Match, Rule, Term, forms_at, keys_at

pytestmark = pytest.mark.untraced

# The same cases everywhere and each time; what was found to fail belongs into a test of its own.
steady = settings(
    deadline=None, max_examples=150, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_rules_are_separated_by_semicolons_and_lines_and_kept_in_order() -> None:
    rules = parse_rules("jobs: reset; tasks: off\nresult: stall")

    assert [str(rule) for rule in rules] == ["jobs: reset", "tasks: off", "result: stall"]


def test_empty_rules_are_skipped() -> None:
    assert parse_rules("") == ()
    assert [str(rule) for rule in parse_rules(";; jobs: reset ;\n\r\n ; ")] == ["jobs: reset"]


def test_a_comment_ends_with_its_line() -> None:
    rules = parse_rules("# all; of: it\njobs: reset # once; tasks: off\n\ttasks: stall#")

    assert [str(rule) for rule in rules] == ["jobs: reset", "tasks: stall"]


def test_in_quotes_nothing_ends_a_rule_but_its_line() -> None:
    (rule,) = parse_rules('image.get[name="a;b#c"]: reset')

    assert rule.match.name == "a;b#c"


def test_the_same_rule_twice_is_two_rules() -> None:
    first, second = parse_rules("jobs: 1*reset; jobs: 1*reset")

    assert first == second


def test_all_bad_rules_are_reported_at_once_each_in_its_own_line() -> None:
    with pytest.raises(RuleError) as raised:
        parse_rules("resul[job=7]: 3*off; jobs: reset\n  tasks: refused@after # why\njobs: 0%off")

    assert str(raised.value) == (
        "unknown site 'resul' (did you mean result?)\n"
        "  resul[job=7]: 3*off\n"
        "  ^ column 1\n"
        "refused cannot be @after, only @before\n"
        "  tasks: refused@after\n"
        "                ^ column 15\n"
        "a share is above 0% and at most 100%, not 0%\n"
        "  jobs: 0%off\n"
        "        ^ column 7"
    )
    assert [problem.column for problem in raised.value.problems] == [1, 15, 7]


def test_what_cannot_be_printed_moves_no_caret() -> None:
    with pytest.raises(RuleError) as raised:
        parse_rules("jobs:\t\x00\u2028reset")

    assert str(raised.value).split("\n")[1:] == ["  jobs: \ufffd reset", "        ^ column 7"]


def test_one_effect_is_read_alone() -> None:
    assert str(parse_harm(" status(429, retry_after=2) ", Site.RESULT)) == "status(429, retry_after=2)"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("reset reset", "expected the end\n  reset reset\n        ^ column 7"),
        ("kill@after", "kill has no phase: the point says when\n  kill@after\n      ^ column 5"),
        ("", "expected an effect at crash: exit, kill, segv, abort, hang or sysexit\n  \n  ^ column 1"),
        ("off", "unknown effect 'off' at crash: exit, kill, segv, abort, hang or sysexit\n  off\n  ^ column 1"),
        (
            "3*kill",
            "a term is [after N] [every K] [P%] [N*] EFFECT, in this order\n  3*kill\n  ^ column 1",
        ),
    ],
)
def test_what_is_no_effect_alone_is_a_problem(text: str, problem: str) -> None:
    site = Site.RESULT if "reset" in text else Site.FETCHED
    with pytest.raises(RuleError, match=f"^{re.escape(problem)}$"):
        parse_harm(text, site)


def test_effects_are_separated_by_commas_outside_of_parentheses() -> None:
    harms = parse_harms("refused,reset@after, status(429, retry_after=2),,", Site.JOBS)

    assert [str(harm) for harm in harms] == ["refused", "reset@after", "status(429, retry_after=2)"]
    assert parse_harms(" ", Site.JOBS) == ()


def test_all_bad_effects_are_reported_at_once() -> None:
    with pytest.raises(RuleError) as raised:
        parse_harms("refused@after, reset, status(42, retry_after=2), delay(1", Site.JOBS)

    assert str(raised.value) == (
        "refused cannot be @after, only @before\n"
        "  refused@after\n"
        "         ^ column 8\n"
        "a status is a whole number from 400 to 599\n"
        "  status(42, retry_after=2)\n"
        "         ^ column 8\n"
        "expected )\n"
        "  delay(1\n"
        "         ^ column 8"
    )


def test_effects_of_the_api_are_told_as_such() -> None:
    with pytest.raises(RuleError, match=r"^unknown effect 'resett' at api \(did you mean reset\?\)"):
        parse_harms("resett", Site.REGISTER)


def table(first: str) -> dict[str, str]:
    """Return a table of GRAMMAR: the first word of each row, and the rest, where lines go on if they are indented."""
    _, _, rest = GRAMMAR.partition(f"\n{first} ")
    rows: dict[str, str] = {}
    for line in rest.split("\n\n")[0].split("\n")[1:]:
        name, _, text = line.partition(" ")
        name = name or list(rows)[-1]
        rows[name] = f"{rows.get(name, '')} {text.strip()}".strip()
    return rows


def test_the_grammar_tells_of_every_site_what_can_be_matched_there() -> None:
    told = {site: text.split("  ")[0] for site, text in table("SITE").items()}

    assert told == {site: ", ".join(keys_at(site)) for site in SITES}


def written(name: str, form: Form) -> str:
    return form.usage(name) + ("@" if form.phases else "") + "|".join(phase.value for phase in form.phases)


def test_the_grammar_tells_of_every_site_which_effects_are_possible_there() -> None:
    effects = table("EFFECTS")
    for site, text in table("SITE").items():
        told = (
            effects[text.split("  ")[-1].strip().split(",")[0]].partition(";")[0].replace(" with N from 400 to 599", "")
        )
        assert re.sub(r"(?<!,) ", "\n", told).split("\n") == [written(*item) for item in forms_at(site).items()]


def test_the_grammar_tells_of_every_key_and_point() -> None:
    keys = table("KEY")

    assert tuple(keys) == KEYS
    assert keys["point"].partition(";")[0].split() == [point.value for point in Point]


# Rules as they can be written: numbers of at most nine decimals.
shares = st.integers(1, 10**5).map(lambda n: round(n / 10**5, 11)) | st.integers(1, 10**11).map(
    lambda n: round(n / 10**11, 11)
)
numbers = st.integers(0, 3600 * 10**9).map(lambda n: round(n / 10**9, 9)) | st.sampled_from([0.0, 0.5, 2.0, 3600.0])
durations = numbers.map(Duration) | numbers.map(lambda number: Duration(ack_waits=number))
wholes = st.frozensets(st.integers(1, 10**18 - 1), max_size=3)
globs = st.text(st.characters(exclude_characters='"\n'), max_size=12) | st.sampled_from(["moth*.jpg", "[ab]?;#, "])


@st.composite
def harms(draw: st.DrawFn, site: str) -> HarmTemplate:
    name, form = draw(st.sampled_from(sorted(forms_at(site).items(), key=lambda item: item[0])))
    kind, fields = {"transient": "exception"}.get(name, name), dict[str, Duration]()
    if form.first == "N":
        kind = f"http-{draw(st.integers(400, 599))}"
    elif form.first:
        fields["seconds"] = draw(durations)
    if form.option == "jitter":
        whole, part = fields["seconds"], draw(st.sampled_from([0.0, 0.5, 1.0]))
        fields["jitter"] = Duration(round(whole.seconds * part, 9), round(whole.ack_waits * part, 9))
    elif form.option and draw(st.booleans()):
        fields[form.option] = draw(durations)
    phase = draw(st.sampled_from(form.phases or (Phase.BEFORE,)))
    return HarmTemplate(form.effect, kind, phase, **fields)


@st.composite
def terms(draw: st.DrawFn, site: str) -> Term:
    count = st.integers(1, 1_000_000)
    return Term(
        draw(st.none() | harms(site)),
        draw(st.just(0) | count),
        draw(st.just(1) | count),
        draw(st.just(1.0) | shares),
        draw(st.none() | count),
    )


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    site = draw(st.sampled_from(sorted(SITES)))
    points = draw(st.frozensets(st.sampled_from(Point))) if site == "crash" else frozenset()
    known = keys_at(site, points)
    match = Match(
        draw(wholes | st.just(frozenset({0}))) if "job" in known else frozenset(),
        draw(wholes) if "task" in known else frozenset(),
        draw(globs) if "name" in known else "",
        draw(wholes) if "delivery" in known else frozenset(),
        draw(wholes) if "attempt" in known else frozenset(),
        draw(st.frozensets(st.sampled_from(Role))),
        points,
        draw(st.none() | shares) if "images" in known else None,
    )
    chain = draw(st.lists(terms(site).filter(lambda term: not term.always), max_size=3))
    return Rule(site, match, (*chain, draw(terms(site))))


@steady
@given(rules())
def test_a_rule_that_is_written_and_read_is_the_same_rule(rule: Rule) -> None:
    assert parse_rules(str(rule)) == (rule,)


@steady
@given(st.lists(rules(), max_size=4))
def test_rules_that_are_written_and_read_are_the_same_rules(given_rules: list[Rule]) -> None:
    assert parse_rules("\n".join(map(str, given_rules))) == tuple(given_rules)


TOKENS = (
    *SITES, *KEYS, *(name for site in SITES for name in forms_at(site)), *(phase.value for phase in Phase),
    *(point.value for point in Point), *(mode.value for mode in Mode), "off", "after", "every", "retry_after", "jitter",
    "main", "loader", "->", "[", "]", "(", ")", ":", ";", ",", "=", "|", "@", "%", "*", '"', "#", "\n", " ", "\t",
    ".", "-", "0", "1", "7", "20", "0.5", "503", "500ms", "2s", "1.5ack_wait", "1000001", "moth*.jpg", "é", "²", "\x00",
    "\ud800",
)  # fmt: skip
token_soup = st.lists(st.sampled_from(TOKENS), max_size=25).map("".join)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """Return rules with something put in, or left out, at one place."""
    text = "; ".join(map(str, draw(st.lists(rules(), min_size=1, max_size=2))))
    start = draw(st.integers(0, len(text)))
    return text[:start] + draw(st.sampled_from(TOKENS)) + text[start + draw(st.integers(0, 5)) :]


def assert_read_or_told(text: str, read: str) -> None:
    try:
        if read == "rules":
            parse_rules(text)
        else:
            parse_harms(text, Site.IMAGE)
    except RuleError as error:
        lines = str(error).split("\n")
        assert lines
        assert len(lines) % 3 == 0
        for shown, caret in zip(lines[1::3], lines[2::3], strict=True):
            found = re.fullmatch(r"  ( *)\^ column ([0-9]+)", caret)
            assert found
            assert shown.startswith("  ")
            assert 1 <= int(found[2]) == len(found[1]) + 1 <= len(shown[2:]) + 1


@pytest.mark.parametrize("read", ["rules", "harms"])
@steady
@given(st.text())
def test_any_text_is_read_or_told_what_is_wrong_with_it(read: str, text: str) -> None:
    assert_read_or_told(text, read)


@pytest.mark.parametrize("read", ["rules", "harms"])
@steady
@given(token_soup)
def test_any_words_of_the_grammar_are_read_or_told_what_is_wrong_with_them(read: str, text: str) -> None:
    assert_read_or_told(text, read)


@steady
@given(damaged())
def test_a_rule_with_a_slip_is_read_or_told_what_is_wrong_with_it(text: str) -> None:
    assert_read_or_told(text, "rules")
