"""Functions from and to dicts of texts and whole numbers."""


def count_each(texts: list[str]) -> dict[str, int]:
    """How often each text occurs."""
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    return counts


def lengths_table(texts: list[str]) -> dict[str, int]:
    """The length of each text of more than two characters."""
    return {text: len(text) for text in texts if len(text) > 2}


def last_places(texts: list[str]) -> dict[str, int]:
    """For each text the position, counted from 1, of its last occurrence."""
    places = {}
    for index, text in enumerate(texts, 1):
        places[text] = index
    return places


def first_letters(texts: list[str]) -> dict[str, int]:
    """How many of the texts begin with each letter; empty texts are left out."""
    counts: dict[str, int] = {}
    for text in texts:
        if text != "":
            counts[text[0]] = counts.get(text[0], 0) + 1
    return counts


def total_of(table: dict[str, int]) -> int:
    """The sum of the positive numbers of the table."""
    total = 0
    for number in table.values():
        if number > 0:
            total += number
    return total


def spread(table: dict[str, int]) -> int:
    """The largest number of the table minus the smallest; 0 for an empty table."""
    if not table:
        return 0
    return max(table.values()) - min(table.values())


def heavy_keys(table: dict[str, int], least: int = 3) -> int:
    """How many numbers of the table are at least `least`, by default 3."""
    return len([key for key in table if table[key] >= least])


def odd_share(table: dict[str, int]) -> int:
    """How many hundredths of the numbers of the table are odd, rounded down; 0 for an empty table."""
    if not table:
        return 0
    odd = len([number for number in table.values() if number % 2 == 1])
    return odd * 100 // len(table)


def best_keys(table: dict[str, int]) -> list[str]:
    """The keys that have the largest number, sorted; an empty list for an empty table."""
    if not table:
        return []
    best = max(table.values())
    return sorted(key for key in table if table[key] == best)


def keys_by_number(table: dict[str, int]) -> list[str]:
    """The keys from the largest number to the smallest, those with equal numbers sorted from z to a."""
    return sorted(table, key=lambda key: (table[key], key), reverse=True)


def positive_keys(table: dict[str, int]) -> list[str]:
    """The keys of the numbers above 0, sorted."""
    return sorted(key for key, number in table.items() if number > 0)


def long_keys(table: dict[str, int]) -> list[str]:
    """The keys of more than three letters or with a number below 2, sorted."""
    return sorted(key for key, number in table.items() if len(key) > 3 or number < 2)
