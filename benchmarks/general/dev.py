"""The tasks that prompts are chosen by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median
from typing import Any

from .case import Case
from .texts import log, prose

NAMES = ("Ines", "Tom", "Ada", "Bruno", "Clara", "Dev", "Elif")


@dataclass
class Person:
    name: str
    age: int
    hobbies: list[str]


def cases() -> list[Case]:
    return [*_lists(), *_strings(), *_data(), *_facts(), *_typed(), *_tools(), *_delegation(), *_window(), *_recovery()]


def _lists() -> list[Case]:
    numbers = Random("lists").sample(range(10, 400), 13)
    primes = [n for n in range(80, 131) if all(n % d for d in range(2, n))]
    return [
        Case(
            name="multiples",
            kind="lists",
            goal="What is the sum of all multiples of 7 below 500?",
            gold=sum(range(0, 500, 7)),
            wrong=sum(range(0, 500, 6)),
            reference=("finish(sum(range(0, 500, 7)))",),
        ),
        Case(
            name="primes",
            kind="lists",
            goal="List the prime numbers between 80 and 130, in ascending order.",
            gold=primes,
            wrong=primes[:-1],
            reference=("finish([n for n in range(80, 131) if all(n % d for d in range(2, n))])",),
        ),
        Case(
            name="loan",
            kind="lists",
            goal="A debt of 12000 grows by 4 percent a year. How much is owed after 7 years, rounded to 2 decimals?",
            gold=round(12000 * 1.04**7, 2),
            wrong=12000 * 1.28,
            reference=("x = 12000 * 1.04 ** 7", "finish(round(x, 2))"),
        ),
        Case(
            name="second-largest",
            kind="lists",
            goal=f"Take the numbers {numbers}. What is the second largest of them minus their median?",
            gold=sorted(numbers)[-2] - median(numbers),
            wrong=sorted(numbers)[-1] - median(numbers),
            reference=(f"n = sorted({numbers})", "finish(n[-2] - n[6])"),
        ),
    ]


def _strings() -> list[Case]:
    text = "A quick movement of the enemy will jeopardize six gunboats"
    return [
        Case(
            name="vowels",
            kind="strings",
            goal=f"How many vowels (a, e, i, o, u) are in this sentence: {text!r}?",
            gold=sum(letter in "aeiou" for letter in text.lower()),
            wrong=17,
            reference=(f"finish(sum(letter in 'aeiou' for letter in {text.lower()!r}))",),
        ),
        Case(
            name="caesar",
            kind="strings",
            goal="In the text 'wkh vhfuhw phhwlqj lv dw qrrq' every letter was shifted forward by 3. Decode it.",
            gold="the secret meeting is at noon",
            wrong="the secret meeting is at night",
            reference=(
                "finish(''.join(chr((ord(c) - 100) % 26 + 97) if c.isalpha() else c for c in "
                "'wkh vhfuhw phhwlqj lv dw qrrq'))",
            ),
        ),
        Case(
            name="longest-word",
            kind="strings",
            goal=f"Which is the longest word in {text!r}?",
            gold="jeopardize",
            wrong="movement",
            reference=(f"finish(max({text!r}.split(), key=len))",),
        ),
        Case(
            name="reverse-words",
            kind="strings",
            goal="Reverse the order of the words (not of the letters) in 'seven grey horses cross the wide plain'.",
            gold="plain wide the cross horses grey seven",
            wrong="nialp ediw eht ssorc sesroh yerg neves",
            reference=("finish(' '.join('seven grey horses cross the wide plain'.split()[::-1]))",),
        ),
    ]


def _data() -> list[Case]:
    rng = Random("data")
    orders = [{"customer": rng.choice(NAMES), "amount": rng.randint(5, 200)} for _ in range(60)]
    staff = [
        {"name": f"p{n}", "department": rng.choice(("sales", "law", "research")), "salary": rng.randint(30, 99) * 1000}
        for n in range(45)
    ]
    pay = {d: [s["salary"] for s in staff if s["department"] == d] for d in ("sales", "law", "research")}
    best = max(pay, key=lambda d: sum(pay[d]) / len(pay[d]))
    users = [{"id": 10 + n, "name": name} for n, name in enumerate(NAMES)]
    bought = [{"user": 10 + rng.choice((0, 1, 2, 2, 3, 4, 5, 6)), "item": f"i{n}"} for n in range(70)] + [
        {"user": 12, "item": "x"}
    ] * 9
    return [
        Case(
            name="customer-total",
            kind="data",
            goal="`context` is a list of orders. What do the orders of the customer Ines add up to?",
            context=orders,
            gold=sum(o["amount"] for o in orders if o["customer"] == "Ines"),
            wrong=sum(o["amount"] for o in orders),
            reference=("print(context[:2])", "finish(sum(o['amount'] for o in context if o['customer'] == 'Ines'))"),
        ),
        Case(
            name="best-paid",
            kind="data",
            goal="Which department in `context` has the highest average salary?",
            context=staff,
            gold=best,
            wrong=min(pay, key=lambda d: sum(pay[d]) / len(pay[d])),
            reference=(
                "pay = {}\nfor s in context: pay.setdefault(s['department'], []).append(s['salary'])",
                "finish(max(pay, key=lambda d: sum(pay[d]) / len(pay[d])))",
            ),
        ),
        Case(
            name="count-if",
            kind="data",
            goal="How many people in `context` work in research and earn more than 60000?",
            context=staff,
            gold=sum(s > 60000 for s in pay["research"]),
            wrong=len(pay["research"]),
            reference=("finish(sum(s['department'] == 'research' and s['salary'] > 60000 for s in context))",),
        ),
        Case(
            name="join",
            kind="data",
            goal="`context` holds users and their orders. What is the name of the user with the most orders?",
            context={"users": users, "orders": bought},
            gold="Ada",
            wrong="Tom",
            reference=(
                "from collections import Counter\ntop = Counter(o['user'] for o in context['orders']).most_common(1)[0][0]",
                "finish(next(u['name'] for u in context['users'] if u['id'] == top))",
            ),
        ),
    ]


def _facts() -> list[Case]:
    rng = Random("facts")
    coins = [rng.randint(3, 90) for _ in range(7)]
    things = ("lamp", "rug", "chair", "vase", "clock", "mirror", "kettle")
    harbour = prose(rng, 120, ["They met at the harbour again."] * 11)
    return [
        Case(
            name="gate-code",
            kind="facts",
            goal="What is the code of the north gate, according to the text in `context`?",
            context=prose(rng, 150, ["The code of the south gate is 7733.", "The code of the north gate is 4821."]),
            gold=4821,
            wrong=7733,
            reference=("import re\nfinish(int(re.search(r'north gate is (\\d+)', context)[1]))",),
        ),
        Case(
            name="mentions",
            kind="facts",
            goal="How many times does the word 'harbour' occur in the text in `context`?",
            context=harbour,
            gold=harbour.count("harbour"),
            wrong=10,
            reference=("finish(context.count('harbour'))",),
        ),
        Case(
            name="treaty",
            kind="facts",
            goal="Read the text in `context`: who signed the treaty of Larnok?",
            context=prose(
                rng,
                150,
                ["Osric Vane refused the treaty of Larnok.", "It was Mira Stell who signed the treaty of Larnok."],
            ),
            gold="Mira Stell",
            wrong="Osric Vane",
            reference=("print([s for s in context.split('.') if 'Larnok' in s])", "finish('Mira Stell')"),
        ),
        Case(
            name="coins",
            kind="facts",
            goal="The text in `context` says of several things how many coins they cost. How many coins do they cost together?",
            context=prose(rng, 100, [f"The {t} costs {n} coins." for t, n in zip(things, coins, strict=True)]),
            gold=sum(coins),
            wrong=max(coins),
            reference=("import re\nfinish(sum(map(int, re.findall(r'(\\d+) coins', context))))",),
        ),
    ]


def _typed() -> list[Case]:
    letters = {letter: "mississippi".count(letter) for letter in "misp"}
    table = [[row * column for column in range(1, 5)] for row in range(1, 4)]
    return [
        Case(
            name="letters",
            kind="typed",
            goal="Count how often each letter occurs in 'mississippi'.",
            returns=dict[str, int],
            gold=letters,
            wrong={**letters, "s": 3},
            reference=("finish({c: 'mississippi'.count(c) for c in set('mississippi')})",),
        ),
        Case(
            name="table",
            kind="typed",
            goal="Make the multiplication table with 3 rows and 4 columns: row r, column c holds r * c, counting from 1.",
            returns=list[list[int]],
            gold=table,
            wrong=table[:2],
            reference=("finish([[r * c for c in range(1, 5)] for r in range(1, 4)])",),
        ),
        Case(
            name="person",
            kind="typed",
            goal="Turn this sentence into a record: 'Ada Brook is 36 years old; her hobbies are chess and rowing.'",
            returns=Person,
            gold={"name": "Ada Brook", "age": 36, "hobbies": ["chess", "rowing"]},
            wrong={"name": "Ada Brook", "age": 36, "hobbies": ["chess"]},
            reference=("finish({'name': 'Ada Brook', 'age': 36, 'hobbies': ['chess', 'rowing']})",),
        ),
        Case(
            name="is-prime",
            kind="typed",
            goal="Is 7917 a prime number?",
            returns=bool,
            gold=False,
            wrong=True,
            reference=("finish(all(7917 % d for d in range(2, 7917)))",),
        ),
    ]


def _weather() -> Sequence[Callable[..., Any]]:
    degrees = {"oslo": 4.5, "rome": 21.0, "cairo": 29.5, "lima": 19.0}

    async def temperature(city: str) -> float:
        """The temperature in a city now, in degrees Celsius."""
        return degrees[city.lower()]

    return (temperature,)


def _shop() -> Sequence[Callable[..., Any]]:
    prices = {"apple": 0.4, "pear": 0.65, "melon": 2.2}

    def price(fruit: str) -> float:
        """What one piece of a fruit costs, such as price("apple")."""
        return prices[fruit.lower().removesuffix("s")]

    return (price,)


def _bosses() -> Sequence[Callable[..., Any]]:
    bosses = {"Tom": "Elif", "Elif": "Bruno", "Bruno": "Clara", "Ada": "Bruno"}

    def manager_of(name: str) -> str:
        """The name of somebody's manager."""
        return bosses[name]

    return (manager_of,)


def _pages() -> Sequence[Callable[..., Any]]:
    stock = [{"item": f"item {n}", "quantity": 3 * n % 17 + 1} for n in range(23)]

    def stock_page(page: int) -> list[dict[str, Any]]:
        """The items on a page of the stock list, ten a page; pages count from 1, and a page after the last is empty."""
        return stock[(page - 1) * 10 : page * 10] if page > 0 else []

    return (stock_page,)


def _tools() -> list[Case]:
    return [
        Case(
            name="warmest",
            kind="tools",
            goal="Which of the cities Oslo, Rome and Cairo is the warmest now?",
            tools=_weather,
            gold="Cairo",
            wrong="Rome",
            reference=(
                "t = {c: await temperature(c) for c in ('Oslo', 'Rome', 'Cairo')}",
                "finish(max(t, key=t.get))",
            ),
        ),
        Case(
            name="basket",
            kind="tools",
            goal="What do 3 apples and 2 pears cost together?",
            tools=_shop,
            gold=2.5,
            wrong=1.05,
            reference=("finish(3 * await price('apple') + 2 * await price('pear'))",),
        ),
        Case(
            name="two-up",
            kind="tools",
            goal="Who is the manager of Tom's manager?",
            tools=_bosses,
            gold="Bruno",
            wrong="Elif",
            reference=("boss = await manager_of('Tom')", "finish(await manager_of(boss))"),
        ),
        Case(
            name="pages",
            kind="tools",
            goal="What is the total quantity of all the items in the stock list?",
            tools=_pages,
            gold=sum(3 * n % 17 + 1 for n in range(23)),
            wrong=sum(3 * n % 17 + 1 for n in range(10)),
            reference=(
                "total, page = 0, 1\nwhile items := await stock_page(page):\n"
                "    total += sum(i['quantity'] for i in items)\n    page += 1",
                "finish(total)",
            ),
        ),
    ]


def _delegation() -> list[Case]:
    rng = Random("delegation")
    texts = [prose(rng, n) for n in (12, 20, 15)]
    regions = {name: rng.sample(range(10, 999), 15) for name in ("north", "south", "east")}
    return [
        Case(
            name="word-counts",
            kind="delegation",
            goal="`context` is a list of 3 texts. Launch one sub-agent for each text that counts its words (as split() gives "
            "them), and return the total.",
            context=texts,
            gold=sum(len(t.split()) for t in texts),
            wrong=len(texts[0].split()),
            launches=3,
            reference=(
                "n = await asyncio.gather(*[launch_subagent('How many words has the text?', context=t, returns=int) "
                "for t in context])",
                "finish(sum(n))",
            ),
            child="finish(len(context.split()))",
        ),
        Case(
            name="one-helper",
            kind="delegation",
            goal="Let a sub-agent compute the factorial of 12, then return its result plus 1.",
            gold=479001601,
            wrong=479001600,
            launches=1,
            reference=("n = await launch_subagent('What is 12 factorial?', returns=int)", "finish(n + 1)"),
            child="import math\nfinish(math.factorial(12))",
        ),
        Case(
            name="longest-word",
            kind="delegation",
            goal="Give the text in `context` to a sub-agent that finds its longest word. Return the number of letters of "
            "that word.",
            context="Grey clouds drifted over the lighthouse while fishermen mended their nets",
            gold=10,
            wrong=9,
            launches=1,
            reference=(
                "w = await launch_subagent('Which is the longest word?', context=context, returns=str)",
                "finish(len(w))",
            ),
            child="finish(max(context.split(), key=len))",
        ),
        Case(
            name="regions",
            kind="delegation",
            goal="`context` maps regions to lists of numbers. Use one sub-agent for each region to find its largest number. "
            "Return a dict from region to largest number.",
            context=regions,
            gold={name: max(numbers) for name, numbers in regions.items()},
            wrong={name: min(numbers) for name, numbers in regions.items()},
            launches=3,
            reference=(
                "found = {}\nfor r, n in context.items():\n"
                "    found[r] = await launch_subagent('Largest number?', context=n, returns=int)",
                "finish(found)",
            ),
            child="finish(max(context))",
        ),
    ]


def _window() -> list[Case]:
    rng = Random("window")
    lines = log(rng, 5_000)
    paid = [rng.randint(100, 90_000) for _ in range(4_000)]
    chapters = [rng.randint(10, 99) for _ in range(12)]
    return [
        Case(
            name="errors",
            kind="window",
            goal="How many lines of the log in `context` have the level ERROR?",
            context=lines,
            gold=lines.count(" ERROR "),
            wrong=lines.count(" WARN "),
            reference=("finish(context.count(' ERROR '))",),
        ),
        Case(
            name="archive",
            kind="window",
            goal="The long text in `context` mentions the password of the archive. What is it?",
            context=prose(
                rng, 4_000, ["The password of the archive is heron-52.", "The password of the cellar is otter-8."]
            ),
            gold="heron-52",
            wrong="otter-8",
            reference=(
                "i = context.find('password of the archive')\nprint(context[i:i + 60])",
                "finish('heron-52')",
            ),
        ),
        Case(
            name="largest-payment",
            kind="window",
            goal="`context` is a log of payments, one a line. What is the largest amount that was paid?",
            context="\n".join(
                f"{n:05} customer c{n * 7 % 311} paid {amount} EUR by card" for n, amount in enumerate(paid)
            ),
            gold=max(paid),
            wrong=max(paid) - 1,
            reference=(
                "print(context[:100])",
                "finish(max(int(line.split()[4]) for line in context.splitlines()))",
            ),
        ),
        Case(
            name="chapters",
            kind="window",
            goal="`context` is a book of 12 chapters. Each chapter says once how many ships were counted. How many ships is "
            "that over all chapters?",
            context="\n\n".join(
                f"# Chapter {n}\n\n" + prose(rng, 300, [f"In that year {ships} ships were counted."])
                for n, ships in enumerate(chapters, 1)
            ),
            gold=sum(chapters),
            wrong=sum(chapters[:-1]),
            reference=("import re\nfinish(sum(map(int, re.findall(r'(\\d+) ships', context))))",),
        ),
    ]


def _busy() -> Sequence[Callable[..., Any]]:
    asked = 0

    def balance(account: str) -> int:
        """The balance of an account, such as balance("A1")."""
        nonlocal asked
        asked += 1
        if asked == 1:
            raise RuntimeError("the bank is busy, ask again")
        return {"A1": 1250, "B2": 340}[account]

    return (balance,)


def _exchange() -> Sequence[Callable[..., Any]]:
    def to_euro(amount: float, currency: str) -> float:
        """An amount of another currency in euro."""
        rates = {"USD": 0.9, "GBP": 1.2, "CHF": 1.05}
        if currency not in rates:
            raise ValueError(f"unknown currency {currency!r}: use one of {', '.join(rates)}")
        return amount * rates[currency]

    return (to_euro,)


def _recovery() -> list[Case]:
    rng = Random("recovery")
    amounts = ["1,200", "n/a", "350", "2,075", "", "40"]
    goods = [{"name": f"g{n}", "price" if n % 5 else "cost": rng.randint(1, 60)} for n in range(20)]
    return [
        Case(
            name="dirty-numbers",
            kind="recovery",
            goal="Add up the amounts in `context`; leave out those that are no numbers.",
            context=amounts,
            gold=3665,
            wrong=390,
            reference=(
                "sum(int(a) for a in context)",
                "finish(sum(int(a.replace(',', '')) for a in context if a.replace(',', '').isdigit()))",
            ),
        ),
        Case(
            name="busy-bank",
            kind="recovery",
            goal="What is the balance of account A1 plus the balance of account B2?",
            tools=_busy,
            gold=1590,
            wrong=1250,
            reference=("await balance('A1')", "finish(await balance('A1') + await balance('B2'))"),
        ),
        Case(
            name="two-keys",
            kind="recovery",
            goal="What do all the things in `context` cost together?",
            context=goods,
            gold=sum(g.get("price", 0) + g.get("cost", 0) for g in goods),  # type: ignore[misc, operator]
            wrong=sum(g.get("price", 0) for g in goods),  # type: ignore[misc]
            reference=(
                "sum(g['price'] for g in context)",
                "finish(sum(g['price'] if 'price' in g else g['cost'] for g in context))",
            ),
        ),
        Case(
            name="currency",
            kind="recovery",
            goal="How many euro are 250 British pounds?",
            tools=_exchange,
            gold=300,
            wrong=225,
            reference=("await to_euro(250, 'pounds')", "finish(await to_euro(250, 'GBP'))"),
        ),
    ]
