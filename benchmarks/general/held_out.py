"""The held-out tasks, of the same kinds. Never choose a prompt by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Any

from .case import Case
from .texts import log, prose


@dataclass
class Flight:
    number: str
    origin: str
    destination: str
    minutes: int


def cases() -> list[Case]:
    return [*_lists(), *_strings(), *_data(), *_facts(), *_typed(), *_tools(), *_delegation(), *_window(), *_recovery()]


def _lists() -> list[Case]:
    numbers = Random("held lists").sample(range(100, 999), 15)
    return [
        Case(
            name="digit-sum",
            kind="lists",
            goal="What is the sum of the digits of 2 to the power of 90?",
            gold=sum(map(int, str(2**90))),
            wrong=27,
            reference=("finish(sum(map(int, str(2 ** 90))))",),
        ),
        Case(
            name="days",
            kind="lists",
            goal="How many days lie between 3 March 2021 and 17 November 2023?",
            gold=(date(2023, 11, 17) - date(2021, 3, 3)).days,
            wrong=988,
            reference=("from datetime import date\nd = date(2023, 11, 17) - date(2021, 3, 3)", "finish(d.days)"),
        ),
        Case(
            name="odd-sorted",
            kind="lists",
            goal=f"From {numbers} keep the odd numbers, in descending order.",
            gold=sorted((n for n in numbers if n % 2), reverse=True),
            wrong=sorted(n for n in numbers if n % 2),
            reference=(f"finish(sorted((n for n in {numbers} if n % 2), reverse=True))",),
        ),
    ]


def _strings() -> list[Case]:
    text = "Never odd or even, said the level civic rotor to the noon kayak"
    return [
        Case(
            name="palindromes",
            kind="strings",
            goal="Which of the words level, paper, civic, rotor, table, kayak read the same backwards? Keep their order.",
            gold=["level", "civic", "rotor", "kayak"],
            wrong=["level", "civic", "kayak"],
            reference=("finish([w for w in 'level paper civic rotor table kayak'.split() if w == w[::-1]])",),
        ),
        Case(
            name="acronym",
            kind="strings",
            goal="Make the acronym of 'north atlantic society for ocean research and trade': the first letter of each word, "
            "in capitals.",
            gold="NASFORAT",
            wrong="NASOR",
            reference=(
                "finish(''.join(w[0] for w in 'north atlantic society for ocean research and trade'.split()).upper())",
            ),
        ),
        Case(
            name="letter-count",
            kind="strings",
            goal=f"How many times does the letter 'e' occur in {text!r} (capital or small)?",
            gold=text.lower().count("e"),
            wrong=text.lower().count("o"),
            reference=(f"finish({text!r}.lower().count('e'))",),
        ),
    ]


def _data() -> list[Case]:
    rng = Random("held data")
    day = date(2024, 1, 1)
    rain = [{"day": (day + timedelta(n)).isoformat(), "mm": rng.randint(0, 40)} for n in range(91)]
    cities = [
        {"city": f"c{n}", "country": rng.choice(("Peru", "Chad", "Laos")), "people": rng.randint(1, 900)}
        for n in range(50)
    ]
    grades = {name: rng.sample(range(40, 100), 6) for name in ("Uma", "Viktor", "Wen", "Xenia")}
    return [
        Case(
            name="rain",
            kind="data",
            goal="`context` lists the rain of each day. How many millimetres fell in February 2024?",
            context=rain,
            gold=sum(r["mm"] for r in rain if r["day"].startswith("2024-02")),  # type: ignore[misc, attr-defined]
            wrong=sum(r["mm"] for r in rain),  # type: ignore[misc]
            reference=("print(context[0])", "finish(sum(r['mm'] for r in context if r['day'].startswith('2024-02')))"),
        ),
        Case(
            name="by-country",
            kind="data",
            goal="For each country in `context`, how many people live in its cities together? Return a dict from country to "
            "number.",
            context=cities,
            gold={c: sum(i["people"] for i in cities if i["country"] == c) for c in ("Peru", "Chad", "Laos")},  # type: ignore[misc]
            wrong={"Peru": 1, "Chad": 2, "Laos": 3},
            reference=(
                "t = {}\nfor i in context: t[i['country']] = t.get(i['country'], 0) + i['people']",
                "finish(t)",
            ),
        ),
        Case(
            name="best-grade",
            kind="data",
            goal="`context` maps students to their grades. Which student has the best average?",
            context=grades,
            gold=max(grades, key=lambda n: sum(grades[n])),
            wrong=min(grades, key=lambda n: sum(grades[n])),
            reference=("finish(max(context, key=lambda n: sum(context[n])))",),
        ),
    ]


def _facts() -> list[Case]:
    rng = Random("held facts")
    ages = {"Nela": 31, "Pavel": 47, "Rosa": 28, "Sven": 52}
    return [
        Case(
            name="train",
            kind="facts",
            goal="From which platform does the train to Velden leave, according to the text in `context`?",
            context=prose(
                rng,
                160,
                ["The train to Morau leaves from platform 3.", "The train to Velden leaves from platform 9."],
            ),
            gold=9,
            wrong=3,
            reference=("import re\nfinish(int(re.search(r'Velden leaves from platform (\\d+)', context)[1]))",),
        ),
        Case(
            name="oldest",
            kind="facts",
            goal="The text in `context` gives the ages of four people. Who is the oldest?",
            context=prose(rng, 120, [f"{name} is {age} years old." for name, age in ages.items()]),
            gold="Sven",
            wrong="Pavel",
            reference=(
                "import re\nfound = re.findall(r'(\\w+) is (\\d+) years', context)",
                "finish(max(found, key=lambda f: int(f[1]))[0])",
            ),
        ),
        Case(
            name="inventor",
            kind="facts",
            goal="Read the text in `context`: what did Tamsin Roe invent?",
            context=prose(rng, 150, ["Jon Hale invented the glass kite.", "Tamsin Roe invented the folding piano."]),
            gold="the folding piano",
            wrong="the glass kite",
            reference=("i = context.find('Tamsin')\nprint(context[i:i + 60])", "finish('the folding piano')"),
        ),
    ]


def _typed() -> list[Case]:
    return [
        Case(
            name="squares",
            kind="typed",
            goal="Map each whole number from 3 to 8 to its square.",
            returns=dict[int, int],
            gold={n: n * n for n in range(3, 9)},
            wrong={n: n * n for n in range(3, 8)},
            reference=("finish({n: n * n for n in range(3, 9)})",),
        ),
        Case(
            name="flight",
            kind="typed",
            goal="Turn this into a record: 'Flight KX204 from Lisbon to Tunis takes 2 hours and 35 minutes.'",
            returns=Flight,
            gold={"number": "KX204", "origin": "Lisbon", "destination": "Tunis", "minutes": 155},
            wrong={"number": "KX204", "origin": "Lisbon", "destination": "Tunis", "minutes": 235},
            reference=("finish({'number': 'KX204', 'origin': 'Lisbon', 'destination': 'Tunis', 'minutes': 155})",),
        ),
        Case(
            name="initials",
            kind="typed",
            goal="Give the initials of Grace Hopper, Alan Turing and Edsger Dijkstra, such as 'GH', in this order.",
            returns=list[str],
            gold=["GH", "AT", "ED"],
            wrong=["G", "A", "E"],
            reference=("finish(['GH', 'AT', 'ED'])",),
        ),
    ]


def _distances() -> Sequence[Callable[..., Any]]:
    km = {("aven", "brill"): 42, ("brill", "corso"): 67, ("corso", "dune"): 18}

    def distance(start: str, end: str) -> int:
        """The length of the road between two neighbouring towns, in kilometres."""
        pair = (start.lower(), end.lower())
        return km[pair] if pair in km else km[pair[::-1]]

    return (distance,)


def _books() -> Sequence[Callable[..., Any]]:
    books = [
        {"title": "Salt", "author": "Orla Finn", "pages": 310},
        {"title": "Tides", "author": "Orla Finn", "pages": 198},
        {"title": "Amber", "author": "Kit Marlow", "pages": 455},
        {"title": "Reeds", "author": "Orla Finn", "pages": 264},
    ]

    def search_books(author: str) -> list[dict[str, Any]]:
        """The books of an author, each with title, author and pages."""
        return [book for book in books if str(book["author"]).lower() == author.lower()]

    return (search_books,)


def _sensors() -> Sequence[Callable[..., Any]]:
    async def read_sensor(number: int) -> float:
        """The reading of sensor 1, 2, 3, 4 or 5."""
        return {1: 20.5, 2: 19.0, 3: 24.5, 4: 18.0, 5: 23.0}[number]

    return (read_sensor,)


def _tools() -> list[Case]:
    return [
        Case(
            name="route",
            kind="tools",
            goal="How many kilometres is the way from Aven over Brill and Corso to Dune?",
            tools=_distances,
            gold=127,
            wrong=109,
            reference=(
                "a = await distance('Aven', 'Brill') + await distance('Brill', 'Corso')",
                "finish(a + await distance('Corso', 'Dune'))",
            ),
        ),
        Case(
            name="longest-book",
            kind="tools",
            goal="What is the title of the longest book by Orla Finn?",
            tools=_books,
            gold="Salt",
            wrong="Amber",
            reference=("b = await search_books('Orla Finn')", "finish(max(b, key=lambda b: b['pages'])['title'])"),
        ),
        Case(
            name="sensors",
            kind="tools",
            goal="What is the average reading of the sensors 1 to 5?",
            tools=_sensors,
            gold=21.0,
            wrong=20.5,
            reference=("r = [await read_sensor(n) for n in range(1, 6)]", "finish(sum(r) / 5)"),
        ),
    ]


def _delegation() -> list[Case]:
    rng = Random("held delegation")
    letters = {name: prose(rng, 10, [f"I owe you {n} coins."]) for name, n in (("Uma", 17), ("Wen", 25), ("Zoe", 8))}
    rows = [rng.sample(range(100), 12) for _ in range(4)]
    return [
        Case(
            name="letters",
            kind="delegation",
            goal="`context` maps names to letters. Launch a sub-agent for each letter to find how many coins its writer owes. "
            "Return the total.",
            context=letters,
            gold=50,
            wrong=42,
            launches=3,
            reference=(
                "n = await asyncio.gather(*[launch_subagent('How many coins?', context=t, returns=int) "
                "for t in context.values()])",
                "finish(sum(n))",
            ),
            child="import re\nfinish(int(re.search(r'(\\d+) coins', context)[1]))",
        ),
        Case(
            name="even-counts",
            kind="delegation",
            goal="`context` is a list of 4 lists of numbers. Use one sub-agent for each list to count its even numbers, and "
            "return the 4 counts as a list.",
            context=rows,
            gold=[sum(n % 2 == 0 for n in row) for row in rows],
            wrong=[12, 12, 12, 12],
            launches=4,
            reference=(
                "n = [await launch_subagent('How many are even?', context=r, returns=int) for r in context]",
                "finish(n)",
            ),
            child="finish(sum(n % 2 == 0 for n in context))",
        ),
        Case(
            name="twice",
            kind="delegation",
            goal="Ask a sub-agent for the sum of the whole numbers from 1 to 150, and return twice its answer.",
            gold=22650,
            wrong=11325,
            launches=1,
            reference=("n = await launch_subagent('Sum of 1 to 150?', returns=int)", "finish(2 * n)"),
            child="finish(sum(range(151)))",
        ),
    ]


def _window() -> list[Case]:
    rng = Random("held window")
    lines = log(rng, 5_000)
    slow = max(int(line.split()[-2]) for line in lines.splitlines() if "worker-4" in line)
    names = [rng.choice(("fox", "owl", "hare", "lynx")) for _ in range(9_000)] + ["owl"] * 400
    rng.shuffle(names)
    return [
        Case(
            name="slowest",
            kind="window",
            goal="What is the longest time in ms that a job of worker-4 took, by the log in `context`?",
            context=lines,
            gold=slow,
            wrong=slow - 1,
            reference=(
                "print(context[:200])",
                "finish(max(int(line.split()[-2]) for line in context.splitlines() if 'worker-4' in line))",
            ),
        ),
        Case(
            name="most-seen",
            kind="window",
            goal="`context` is a diary with one animal a line, as it was seen. Which animal was seen most often?",
            context="\n".join(f"On day {n} we saw: {name}" for n, name in enumerate(names)),
            gold="owl",
            wrong="fox",
            reference=(
                "from collections import Counter\nc = Counter(line.split()[-1] for line in context.splitlines())",
                "finish(c.most_common(1)[0][0])",
            ),
        ),
        Case(
            name="mayor",
            kind="window",
            goal="Who is the mayor of Quill, by the long text in `context`?",
            context=prose(rng, 4_000, ["The mayor of Brint is Olaf Dane.", "The mayor of Quill is Petra Lund."]),
            gold="Petra Lund",
            wrong="Olaf Dane",
            reference=("i = context.find('mayor of Quill')\nprint(context[i:i + 50])", "finish('Petra Lund')"),
        ),
    ]


def _locked() -> Sequence[Callable[..., Any]]:
    opened = False

    def unlock(code: int) -> str:
        """Unlocks the safe. The code is 314."""
        nonlocal opened
        opened = opened or code == 314
        return "open" if opened else "wrong code"

    def read_safe() -> int:
        """The number that lies in the safe."""
        if not opened:
            raise RuntimeError("the safe is locked: call unlock first")
        return 8675

    return unlock, read_safe


def _recovery() -> list[Case]:
    durations = ["12 min", "1 h", "45 min", "2 h", "30 min"]
    scores = [
        {"team": "red", "points": 12},
        {"team": "blue"},
        {"team": "red", "points": None},
        {"team": "red", "points": 9},
    ]
    return [
        Case(
            name="durations",
            kind="recovery",
            goal="How many minutes are the durations in `context` together?",
            context=durations,
            gold=267,
            wrong=90,
            reference=(
                "sum(int(d) for d in context)",
                "finish(sum(int(d.split()[0]) * (60 if 'h' in d else 1) for d in context))",
            ),
        ),
        Case(
            name="missing-points",
            kind="recovery",
            goal="How many points do all the teams in `context` have together? Points that are missing count as 0.",
            context=scores,
            gold=21,
            wrong=12,
            reference=("sum(s['points'] for s in context)", "finish(sum(s.get('points') or 0 for s in context))"),
        ),
        Case(
            name="safe",
            kind="recovery",
            goal="Which number lies in the safe?",
            tools=_locked,
            gold=8675,
            wrong=314,
            reference=("await read_safe()", "await unlock(314)\nfinish(await read_safe())"),
        ),
    ]
