"""The reference solver of a synthetic mailbox: code that searches, reads, and copies what it read.

It knows how people write (`phrases`) and nothing of the mailbox. In the recursive mode an agent that finds more emails than it
wants to read asks sub-agents about parts of the period, or about one sender each; alone it reads page by page.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from .goals import Question, parse_goal
from .gold import NONE
from .mailbox import MOST_RESULTS
from .phrases import ATTRIBUTES

FEW = 5
"""Emails that an agent reads itself before it asks sub-agents."""
PARTS = 4
"""Parts that a period is cut into."""
_EMAIL = re.compile(r"^EMAIL (\S+) (\d{4}-\d\d-\d\d)$", re.MULTILINE)
_READ = """for each in found:
    email = await read_email(each['message_id'])
    print('EMAIL', each['message_id'], email['date'][:10])
    print('\\n'.join(line for line in email['body'].splitlines() if not line.startswith('>')))"""

Cells = Generator[str, str, None]
"""Cells of code; each gives back what it showed."""


def delegating(goal: str, context: Any) -> Iterator[str]:
    """The code of an agent that may launch sub-agents."""
    question = parse_goal(goal)
    if question is None:
        yield "finish({'answer': 'none', 'sources': []})"
    elif question.kind == "two-hop":
        yield from _two_hop(question)
    elif question.kind in ("when", "who"):
        yield from _last(question)
    elif question.kind == "count":
        yield from _count(question)
    else:
        yield from _value(question)


def alone(goal: str, context: Any) -> Iterator[str]:
    """The code of an agent that does everything itself."""
    question = parse_goal(goal)
    if question is None:
        yield "finish({'answer': 'none', 'sources': []})"
    elif question.kind == "two-hop":
        lead = yield from _paged(replace(question, kind="value", attribute="lead"))
        if lead is None:
            yield _finish(NONE, [])
            return
        found = yield from _paged(Question(kind="extension", start=question.start, end=question.end, person=lead[0]))
        yield _finish(NONE, []) if found is None else _finish(found[0], [lead[1], found[1]])
    elif question.kind in ("when", "who"):
        yield from _last(question)
    elif question.kind == "count":
        yield _count_alone(question)
    else:
        found = yield from _paged(question)
        yield _finish(NONE, []) if found is None else _finish(found[0], [found[1]])


def _value(question: Question) -> Cells:
    """The last value in a period: read few emails, or ask about the parts of the period and take the last answer."""
    shown = yield f"found = {_search(question)}\nprint(len(found), 'found')"
    days = (question.end - question.start).days
    if _number(shown) > FEW and days > 1:
        yield (
            f"{_launch_parts(question)}\n"
            "known = [part for part in parts if part['answer'] != 'none']\n"
            "finish(known[-1] if known else {'answer': 'none', 'sources': []})"
        )
    elif _number(shown):
        shown = yield _READ
        found = _stated(question, shown)
        yield _finish(NONE, []) if found is None else _finish(found[0], [found[1]])
    else:
        yield _finish(NONE, [])


def _count(question: Question) -> Cells:
    """The number of emails: of each sender by a sub-agent, or of the parts of the period if one search does not give all."""
    if len(question.senders) > 1:
        yield (
            f"senders = {list(question.senders)}\n"
            f"parts = await asyncio.gather(*[launch_subagent(f'How many emails that mention project {question.project} "
            f"did {{sender}} send? Period: {question.start} up to {question.end}') for sender in senders])\n{_ADD}"
        )
        return
    shown = yield f"found = {_search(question)}\nprint(len(found), 'found')"
    if _number(shown) < MOST_RESULTS or (question.end - question.start).days == 1:
        yield "finish({'answer': len(found), 'sources': [each['message_id'] for each in found]})"
    else:
        yield f"{_launch_parts(question)}\n{_ADD}"


_ADD = (
    "finish({'answer': sum(part['answer'] for part in parts), 'sources': sum([part['sources'] for part in parts], [])})"
)


def _count_alone(question: Question) -> str:
    search = (
        _search(question, sender="sender", before="before").replace("'sender'", "sender").replace("'before'", "before")
    )
    return f"""from datetime import date, timedelta
ids = []
for sender in {list(question.senders)}:
    before, found = '{question.end}', [None] * {MOST_RESULTS}
    while len(found) == {MOST_RESULTS}:
        found = {search}
        ids += [each['message_id'] for each in found if each['message_id'] not in ids]
        if found:
            last = await read_email(found[-1]['message_id'])
            before = str(date.fromisoformat(last['date'][:10]) + timedelta(1))
finish({{'answer': len(ids), 'sources': ids}})"""


def _last(question: Question) -> Cells:
    """The day or the sender of the last email: the first that a search finds."""
    shown = yield (
        f"found = {_search(question, results=1)}\n"
        "for each in found:\n"
        "    email = await read_email(each['message_id'])\n"
        "    print('LAST', each['message_id'], email['date'][:10], email['from_address'])"
    )
    match = re.search(r"^LAST (\S+) (\S+) (\S+)$", shown, re.MULTILINE)
    if match is None:
        yield _finish(NONE, [])
    else:
        yield _finish(match[2] if question.kind == "when" else match[3], [match[1]])


def _two_hop(question: Question) -> Cells:
    period = f"Period: {question.start} up to {question.end}"
    shown = yield (
        f"lead = await launch_subagent('What is the lead of project {question.project}? {period}')\n"
        "print('LEAD', lead['answer'])"
    )
    match = re.search(r"^LEAD (.+)$", shown, re.MULTILINE)
    if match is None or match[1] == NONE:
        yield _finish(NONE, [])
        return
    yield (
        f"extension = await launch_subagent('What is the extension of {match[1]}? {period}')\n"
        "known = extension['answer'] != 'none'\n"
        "finish({'answer': extension['answer'], 'sources': lead['sources'] + extension['sources'] if known else []})"
    )


def _paged(question: Question) -> Generator[str, str, tuple[str, str] | None]:
    """(value, message id) of the last statement in a period, read page by page from its end."""
    before = question.end
    while True:
        shown = yield f"found = {_search(question, before=str(before))}\nprint(len(found), 'found')\n{_READ}"
        if (found := _stated(question, shown)) is not None:
            return found
        emails = _EMAIL.findall(shown)
        if len(emails) < MOST_RESULTS:
            return None
        # Once more the day of the last email, of which there may be others.
        before = min(before - timedelta(1), date.fromisoformat(emails[-1][1]) + timedelta(1))


def _search(
    question: Question, *, results: int | None = None, sender: str | None = None, before: str | None = None
) -> str:
    keywords = [question.subject]
    if question.kind in ("value", "extension"):
        keywords.append(question.keyword)
    sender = sender or next(iter(question.senders), None)
    parts = [repr(keywords)]
    parts += [f"from_addr={sender!r}"] if sender else []
    parts += [f"sent_after='{question.start}'", f"sent_before='{before or question.end}'"]
    parts += [f"max_results={results}"] if results else []
    return f"await search_emails({', '.join(parts)})"


def _launch_parts(question: Question) -> str:
    number = min(PARTS, (question.end - question.start).days)
    return (
        "from datetime import date\n"
        f"first, end = date.fromisoformat('{question.start}'), date.fromisoformat('{question.end}')\n"
        f"cuts = [first + (end - first) * part // {number} for part in range({number + 1})]\n"
        "periods = [f'{cut} up to {after}' for cut, after in zip(cuts, cuts[1:])]\n"
        f"parts = await asyncio.gather(*[launch_subagent(f'{question.text()} Period: {{period}}') for period in periods])"
    )


def _stated(question: Question, shown: str) -> tuple[str, str] | None:
    """(value, message id) of the newest of the emails shown that states the value."""
    heads = list(_EMAIL.finditer(shown))
    attribute = ATTRIBUTES[question.attribute or "extension"]
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        text = shown[head.end() : following.start() if following else len(shown)]
        value = attribute.read(text, question.subject)
        # An extension is its writer's, who signs: a name on a line of its own.
        if value is not None and (question.kind == "value" or f"\n{question.subject}\n" in f"{text}\n"):
            return value, head[1]
    return None


def _number(shown: str) -> int:
    match = re.search(r"^(\d+) found$", shown, re.MULTILINE)
    return int(match[1]) if match else 0


def _finish(answer: str, sources: list[str]) -> str:
    return f"finish({{'answer': {answer!r}, 'sources': {sources}}})"
