from __future__ import annotations

import pytest

from ami_fault_site.faults import Effect, Phase, Point, Role, Site
from ami_fault_site.grammar import RuleError, parse_harm, parse_rules
from ami_fault_site.rules import Duration, HarmTemplate, Match, Rule, Term

HTTP = (
    "refused, dns, tls, connect-timeout, reset, closed, read-timeout, stall, garbage, bad-json, "
    "truncated, status, delay or trickle"
)
ORDER = "a term is [after N] [every K] [P%] [N*] EFFECT, in this order"
DURATION = "a duration is 2, 0.5s, 500ms or 1.5ack_wait, and at most 3600 s"
QUOTES = "expected a value; one that holds , ; # [ or ] is written in double quotes"

RESET = HarmTemplate(Effect.NETWORK, "reset")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (
            "result[job=7]: 3*off -> 1*reset@after -> off",
            Rule(
                "result",
                Match(frozenset({7})),
                (Term(None, most=3), Term(HarmTemplate(Effect.NETWORK, "reset", Phase.AFTER), most=1), Term(None)),
            ),
        ),
        (
            "image.get[name=moth*.jpg]: 20%5*status(503, retry_after=2)",
            Rule(
                "image.get",
                Match(name="moth*.jpg"),
                (Term(HarmTemplate(Effect.NETWORK, "http-503", retry_after=Duration(2.0)), share=0.2, most=5),),
            ),
        ),
        (
            "crash[point=posting-unheard]: after 20 1*kill",
            Rule(
                "crash",
                Match(points=frozenset({Point.POSTING_UNHEARD})),
                (Term(HarmTemplate(Effect.CRASH, "kill"), after=20, most=1),),
            ),
        ),
        (
            "tasks: 20%reset@after",
            Rule("tasks", Match(), (Term(HarmTemplate(Effect.NETWORK, "reset", Phase.AFTER), share=0.2),)),
        ),
        (
            "api: delay(0.5, jitter=0.2)",
            Rule(
                "api",
                Match(),
                (Term(HarmTemplate(Effect.SLOW, "delay", seconds=Duration(0.5), jitter=Duration(0.2))),),
            ),
        ),
        (
            "batch: 10%delay(1.5ack_wait)",
            Rule(
                "batch",
                Match(),
                (Term(HarmTemplate(Effect.SLOW, "delay", seconds=Duration(ack_waits=1.5)), share=0.1),),
            ),
        ),
        (
            "image.get[images=20%, attempt=1]: status(503)",
            Rule(
                "image.get",
                Match(attempts=frozenset({1}), images=0.2),
                (Term(HarmTemplate(Effect.NETWORK, "http-503")),),
            ),
        ),
        (
            "image.open: 10%truncated",
            Rule("image.open", Match(), (Term(HarmTemplate(Effect.CORRUPT, "truncated"), share=0.1),)),
        ),
    ],
)
def test_a_rule_is_read_as_it_is_written(text: str, rule: Rule) -> None:
    assert parse_rules(text) == (rule,)


def term(text: str) -> Term:
    (rule,) = parse_rules(text)
    return rule.terms[0]


def match(text: str) -> Match:
    (rule,) = parse_rules(f"{text}: off")
    return rule.match


def test_a_term_can_say_after_how_many_and_which_of_those_and_how_often() -> None:
    assert term("result: after 2 every 3 12.5% 4* reset") == Term(RESET, 2, 3, 0.125, 4)


def test_blanks_between_the_parts_of_a_rule_mean_nothing() -> None:
    spaced = " result [ job = 7 , task = 1 | 2 ] : 3 * off -> 20 % 1 * delay ( 0.5 , jitter = 0.2 ) @ after"

    assert parse_rules(spaced) == parse_rules("result[job=7,task=1|2]:3*off->20%1*delay(0.5,jitter=0.2)@after")


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("2", Duration(2.0)),
        ("0.5", Duration(0.5)),
        ("2s", Duration(2.0)),
        ("500ms", Duration(0.5)),
        ("0.7ms", Duration(0.0007)),
        ("1.5ack_wait", Duration(ack_waits=1.5)),
        ("3600", Duration(3600.0)),
        ("0", Duration()),
    ],
)
def test_a_duration_is_read_in_any_of_its_units(text: str, duration: Duration) -> None:
    assert parse_harm(f"delay({text})", Site.BATCH).seconds == duration


def test_whole_numbers_can_be_several() -> None:
    assert match("image.get[job=7|8, task=3|4, delivery=1 | 2, attempt=2|3]") == Match(
        frozenset({7, 8}), frozenset({3, 4}), "", frozenset({1, 2}), frozenset({2, 3})
    )


def test_points_and_processes_are_read_by_their_names() -> None:
    assert match("crash[process=loader, point=before-batch|in-batch]") == Match(
        roles=frozenset({Role.LOADER}), points=frozenset({Point.BEFORE_BATCH, Point.IN_BATCH})
    )


def test_a_glob_in_quotes_can_hold_what_would_end_it() -> None:
    assert match('image.get[name="[ab], c;#*.jpg "]').name == "[ab], c;#*.jpg "


def test_a_glob_needs_no_quotes_for_a_url() -> None:
    assert match("image.get[name=http://images:80/a?b=(1) 2.jpg ]").name == "http://images:80/a?b=(1) 2.jpg"


@pytest.mark.parametrize(
    ("text", "site", "phase"),
    [
        ("reset", Site.JOBS, Phase.BEFORE),
        ("reset@during", Site.JOBS, Phase.DURING),
        ("truncated", Site.IMAGE, Phase.DURING),
        ("truncated@during", Site.IMAGE, Phase.DURING),
        ("truncated", Site.OPEN, Phase.BEFORE),
        ("trickle(3)", Site.RESULT, Phase.DURING),
        ("status(404)@after", Site.IMAGE, Phase.AFTER),
        ("delay(1)@after", Site.BATCH, Phase.AFTER),
        ("transient@before", Site.JOB_PASS, Phase.BEFORE),
        ("segv", Site.IDLE, Phase.BEFORE),
    ],
)
def test_an_effect_has_the_phase_that_is_named_or_the_one_that_is_meant(text: str, site: Site, phase: Phase) -> None:
    assert parse_harm(text, site).phase is phase


def test_the_error_that_a_batch_raises_is_an_exception() -> None:
    harm = parse_harm("transient", Site.BATCH)

    assert harm == HarmTemplate(Effect.TRANSIENT, "exception")
    assert str(harm) == "transient"


@pytest.mark.parametrize("status", [400, 599])
def test_a_status_is_any_that_tells_of_an_error(status: int) -> None:
    assert parse_harm(f"status({status})", Site.JOBS) == HarmTemplate(Effect.NETWORK, f"http-{status}")


def test_whether_a_jitter_in_another_unit_exceeds_its_delay_is_left_open() -> None:
    assert str(parse_harm("delay(1ack_wait, jitter=100)", Site.BATCH)) == "delay(1ack_wait, jitter=100)"


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("resul[job=7]: 3*off", "unknown site 'resul' (did you mean result?)", 1),
        (
            "xyz: off",
            "unknown site 'xyz': jobs, tasks, result, register, api, image.get, image.open, batch or crash",
            1,
        ),
        (
            ": off",
            "expected a site: jobs, tasks, result, register, api, image.get, image.open, batch or crash",
            1,
        ),
        ("result", "expected :", 7),
        ("result:", f"expected an effect at result: off, {HTTP}", 8),
        ("result: 3*", f"expected an effect at result: off, {HTTP}", 11),
        ("result: reset off", "expected -> and another term, or the end", 15),
        ("result: 1*reset ->", f"expected an effect at result: off, {HTTP}", 19),
    ],
)
def test_a_rule_has_a_site_and_then_terms(text: str, message: str, column: int) -> None:
    assert_problem(text, message, column)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("result[]: off", "expected a key: job, task, name, delivery, attempt, process, point or images", 8),
        ("result[jb=7]: off", "unknown key 'jb' (did you mean job?)", 8),
        ("result[job]: off", "expected =", 11),
        ("result[job=]: off", QUOTES, 12),
        ("result[job=7: off", "expected a whole number from 0, or several: 7|8", 12),
        ('result[job="7": off', "expected ]", 15),
        ("result[job=7, job=8]: off", "job is given twice", 15),
        ("result[job=x]: off", "expected a whole number from 0, or several: 7|8", 12),
        ("result[task=0]: off", "expected a whole number from 1, or several: 7|8", 13),
        ("result[delivery=1|]: off", "expected a whole number from 1, or several: 7|8", 17),
        ("result[attempt=0]: off", "expected a whole number from 1, or several: 7|8", 16),
        ("crash[process=x]: off", "unknown process 'x' (it is main or loader)", 15),
        ("crash[point=posting-unherd]: off", "unknown point 'posting-unherd' (did you mean posting-unheard?)", 13),
        ("image.get[name=[ab].jpg]: off", QUOTES, 16),
        ('image.get[name=""]: off', QUOTES, 16),
        ("image.get[images=20]: off", "a share of the images is a percentage, such as 20%, not '20'", 18),
        ("image.get[images=0%]: off", "a share is above 0% and at most 100%, not 0%", 18),
    ],
)
def test_what_is_matched_is_checked_key_by_key(text: str, message: str, column: int) -> None:
    assert_problem(text, message, column)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("jobs[name=a*]: off", "name cannot be matched at jobs, only attempt or process", 6),
        ("jobs[job=7]: off", "job cannot be matched at jobs, only attempt or process", 6),
        ("register[task=7]: off", "task cannot be matched at register, only attempt or process", 10),
        ("jobs[attempt=1, delivery=2]: off", "delivery cannot be matched at jobs, only attempt or process", 17),
        (
            "result[point=idle]: off",
            "point cannot be matched at result, only job, task, delivery, attempt or process",
            8,
        ),
        (
            "batch[point=in-batch]: off",
            "point cannot be matched at batch, only job, task, delivery or process",
            7,
        ),
        (
            "result[images=5%]: off",
            "images cannot be matched at result, only job, task, delivery, attempt or process",
            8,
        ),
        (
            "crash[point=idle, task=7]: off",
            "task cannot be matched at crash[point=idle], only process or point",
            19,
        ),
    ],
)
def test_what_a_site_cannot_have_is_a_problem(text: str, message: str, column: int) -> None:
    assert_problem(text, message, column)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("result: 0%reset", "a share is above 0% and at most 100%, not 0%", 9),
        ("result: 101%reset", "a share is above 0% and at most 100%, not 101%", 9),
        ("result: 0*reset", "expected a whole number from 1 to 1000000", 9),
        ("result: 1000001*reset", "expected a whole number from 1 to 1000000", 9),
        ("result: 1.5*reset", "expected a whole number from 1 to 1000000", 9),
        ("result: after 0 reset", "expected a whole number from 1 to 1000000", 15),
        ("result: every reset", "expected a whole number from 1 to 1000000", 15),
        (f"result: {'9' * 5000}*reset", "expected a whole number from 1 to 1000000", 9),
        ("result: 5*20%reset", ORDER, 11),
        ("result: every 3 after 2 reset", ORDER, 17),
        ("result: 3reset", ORDER, 9),
        ("result: 20%3reset", ORDER, 12),
    ],
)
def test_the_numbers_of_a_term_have_their_ranges_and_their_order(text: str, message: str, column: int) -> None:
    assert_problem(text, message, column)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("result: reset -> off", "no passage is left for this term: reset takes every one", 18),
        ("result: 1*off -> off -> reset", "no passage is left for this term: off takes every one", 25),
        ("result: 100%reset -> off", "no passage is left for this term: reset takes every one", 22),
    ],
)
def test_a_term_that_is_never_reached_is_a_problem(text: str, message: str, column: int) -> None:
    assert_problem(text, message, column)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("result: resett", f"unknown effect 'resett' at result (did you mean reset?): off, {HTTP}", 9),
        ("result: kill", f"unknown effect 'kill' at result: off, {HTTP}", 9),
        (
            "crash: kil",
            "unknown effect 'kil' at crash (did you mean kill?): off, exit, kill, segv, abort, hang or sysexit",
            8,
        ),
        ("batch: reset", "unknown effect 'reset' at batch: off, transient or delay", 8),
        (
            "image.open: refused",
            "unknown effect 'refused' at image.open: off, empty, html, bad-magic, cut-header, truncated or wrong-size",
            13,
        ),
        ("result: offé", "expected -> and another term, or the end", 12),
    ],
)
def test_an_effect_that_is_not_possible_at_a_site_is_a_problem(text: str, message: str, column: int) -> None:
    assert_problem(text, message, column)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("result: refused@after", "refused cannot be @after, only @before", 16),
        ("result: stall@during", "stall cannot be @during, only @before or @after", 14),
        ("result: truncated@before", "truncated cannot be @before, only @during", 18),
        ("result: trickle(2)@after", "trickle cannot be @after, only @during", 19),
        ("batch: transient@after", "transient cannot be @after, only @before", 17),
        ("image.open: html@after", "html cannot be @after, only @before", 17),
        ("crash: kill@after", "kill has no phase: the point says when", 12),
        ("crash: off@after", "off has no phase", 11),
        ("result: reset@aftr", "unknown phase 'aftr' (did you mean after?)", 15),
        ("result: reset@", "expected a phase: before, during or after", 15),
    ],
)
def test_an_effect_has_only_the_phases_that_are_possible(text: str, message: str, column: int) -> None:
    assert_problem(text, message, column)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("result: status", "status is written status(N, retry_after=S)", 15),
        ("result: trickle", "trickle is written trickle(S)", 16),
        ("result: reset(3)", "reset takes nothing in parentheses", 14),
        ("result: status(399)", "a status is a whole number from 400 to 599", 16),
        ("result: status(600)", "a status is a whole number from 400 to 599", 16),
        ("result: status(4.5)", "a status is a whole number from 400 to 599", 16),
        ("result: status()", "a status is a whole number from 400 to 599", 16),
        ("result: status(503, 2)", "expected an argument of status: retry_after", 21),
        (
            "result: status(503, retry=2)",
            "unknown argument 'retry' of status (did you mean retry_after?): retry_after",
            21,
        ),
        ("result: delay(1, jitter=2)", "the jitter exceeds the delay", 18),
        ("batch: delay(1ack_wait, jitter=1.1ack_wait)", "the jitter exceeds the delay", 25),
        ("result: delay(1h)", DURATION, 15),
        ("result: delay(-1)", DURATION, 15),
        ("result: delay(3600.1)", DURATION, 15),
        ("result: delay(nan)", DURATION, 15),
        (f"result: delay({'9' * 5000})", DURATION, 15),
        ("result: delay(0.5", "expected )", 18),
        ("result: trickle(0.5, jitter=0.1)", "expected )", 20),
    ],
)
def test_what_stands_in_parentheses_is_checked(text: str, message: str, column: int) -> None:
    assert_problem(text, message, column)


def assert_problem(text: str, message: str, column: int) -> None:
    with pytest.raises(RuleError) as raised:
        parse_rules(text)

    assert str(raised.value) == f"{message}\n  {text}\n  {' ' * (column - 1)}^ column {column}"
