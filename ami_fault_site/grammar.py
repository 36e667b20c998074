"""Read AMI_TEST_RULES: text -> rules, or what is wrong with each, to the column; and tell what can be written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from ami_fault_site.faults import API_SITES, Site
from ami_fault_site.rules import SITES, HarmTemplate, Rule
from ami_fault_site.syntax import BadRuleError, Parser

GRAMMAR = """\
RULES  = RULE { (";" | newline) RULE }          "#" begins a comment, to the end of the line
RULE   = SITE [ "[" MATCH { "," MATCH } "]" ] ":" TERM { "->" TERM }
TERM   = [ "after" N ] [ "every" K ] [ P "%" ] [ N "*" ] EFFECT
EFFECT = NAME [ "(" ARG { "," ARG } ")" ] [ "@" PHASE ]
MATCH  = KEY "=" GLOB
ARG    = [ NAME "=" ] VALUE

A passage goes to the first rule that matches it and, there, to the first term that takes it. A term lets N passages
go by (after), takes every K-th one from then on, of those a share (P%), and not more than so many in the whole run
(N*). What it does not take goes on to the next term, then to the next rule, then to the rates. "off" takes a passage
and strikes with nothing.

N, K   whole numbers from 1 to 1000000
P      above 0, at most 100; decimals are allowed
S      a duration: 2, 0.5, 2s, 500ms, or 1.5ack_wait (times the service's ack_wait); at most 3600 s
PHASE  before (not sent), during (cut short) or after (done, not heard)
GLOB   * ? [abc] as in file names; in double quotes if it holds , ; # [ or ]

SITE        KEYS, of what is known there                         EFFECTS, beside off
jobs        attempt, process                                     http
tasks       job, attempt, process                                http
result      job, task, delivery, attempt, process                http
register    attempt, process                                     http
api         job, task, delivery, attempt, process                http, at the four above
image.get   job, task, name, delivery, attempt, process, images  http
image.open  job, task, name, delivery, process, images           image
batch       job, task, delivery, process                         batch
crash       job, task, name, delivery, process, point            crash

EFFECTS     with their phases; the first is meant if none is named
http        refused@before dns@before tls@before connect-timeout@before
            reset@before|during|after closed@before|after read-timeout@before|after stall@before|after
            garbage@before|after bad-json@before|after truncated@during
            status(N, retry_after=S)@before|after with N from 400 to 599
            delay(S, jitter=S)@before|after trickle(S)@during
image       empty@before html@before bad-magic@before cut-header@before truncated@before wrong-size@before
batch       transient@before delay(S, jitter=S)@before|after
crash       exit kill segv abort hang sysexit; no phase, since the point says when

KEY       what it is compared with
job       the job's id; several as 7|8 (so with task, delivery and attempt)
task      the task's sequence within its job
name      a glob for the image's id, file name or URL
delivery  how often the task has been handed out, from 1
attempt   which attempt of the worker's own retries, from 1
process   main or loader
point     after-fetch downloading before-batch in-batch after-batch posting-unsent posting-unheard after-post idle;
          several as before-batch|in-batch; without it those of AMI_TEST_CRASH_POINTS
images    P%: the share of the images, the same ones for the whole run
"""

_PART = re.compile(r'((?:"[^"\n]*"|[^;\n#])+)|#[^\n]*|[;\n]')
_HARM = re.compile(r"(?:\([^()]*\)?|[^,(])+")

T = TypeVar("T")


class Problem(NamedTuple):
    """What is wrong with one rule, and at which column of its line, from 1."""

    message: str
    line: str
    column: int

    def __str__(self) -> str:
        # What cannot be printed would move the caret, or break the line.
        shown = "".join(sign if sign.isprintable() else " " if sign.isspace() else "\ufffd" for sign in self.line)
        return f"{self.message}\n  {shown}\n  {' ' * (self.column - 1)}^ column {self.column}"


class RuleError(ValueError):
    """Everything that is wrong with the rules, one problem a rule, each with a caret at its column."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Read rules, one a line or separated by semicolons; raise RuleError with a problem for each bad one."""
    return _each((found[1] or "" for found in _PART.finditer(text)), Parser.rule)


def parse_harm(text: str, site: Site) -> HarmTemplate:
    """Read one effect of a site, which cannot be "off"; raise RuleError with what is wrong with it."""
    (harm,) = _each([text], lambda parser: parser.harm(_name(site)), blank=True)
    return harm


def parse_harms(text: str, site: Site) -> tuple[HarmTemplate, ...]:
    """Read effects of a site, separated by commas; raise RuleError with a problem for each bad one."""
    return _each(_HARM.findall(text), lambda parser: parser.harm(_name(site)))


def _name(site: Site) -> str:
    return "api" if site in API_SITES else next(name for name, sites in SITES.items() if site in sites)


def _each(lines: Iterable[str], read: Callable[[Parser], T], blank: bool = False) -> tuple[T, ...]:
    """Read each line; blank ones are skipped, unless they too are to be read."""
    found, problems = [], []
    for line in map(str.strip, lines):
        if not line and not blank:
            continue
        try:
            found.append(read(Parser(line)))
        except BadRuleError as bad:
            problems.append(Problem(bad.message, line, bad.at + 1))
    if problems:
        raise RuleError(tuple(problems))
    return tuple(found)
