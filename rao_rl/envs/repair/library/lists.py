"""Functions from lists of whole numbers to lists of whole numbers, and from numbers to lists."""


def running_sums(values: list[int]) -> list[int]:
    """For each position the sum of the values up to it, itself included."""
    total = 0
    sums = []
    for value in values:
        total += value
        sums.append(total)
    return sums


def drop_repeats(values: list[int]) -> list[int]:
    """The values without those that equal the one just before."""
    kept: list[int] = []
    for value in values:
        if not kept or kept[-1] != value:
            kept.append(value)
    return kept


def rotate(values: list[int], places: int = 2) -> list[int]:
    """The values moved to the left by `places`, by default 2; what leaves on the left comes in again on the right."""
    if not values:
        return []
    cut = places % len(values)
    return values[cut:] + values[:cut]


def differences(values: list[int]) -> list[int]:
    """For each two neighbouring values the second minus the first."""
    return [right - left for left, right in zip(values, values[1:])]


def peaks(values: list[int]) -> list[int]:
    """The values that are larger than both their neighbours; the first and the last value are never among them."""
    found = []
    for index in range(1, len(values) - 1):
        if values[index] > values[index - 1] and values[index] > values[index + 1]:
            found.append(values[index])
    return found


def every_third(values: list[int], start: int = 1) -> list[int]:
    """Every third value, beginning at position `start` (counted from 0), by default 1."""
    return [value for index, value in enumerate(values) if index >= start and (index - start) % 3 == 0]


def cap_all(values: list[int], most: int = 6) -> list[int]:
    """The values, with `most` (by default 6) in place of larger ones."""
    return [min(value, most) for value in values]


def mirror(values: list[int]) -> list[int]:
    """The values followed by the same values backwards; the last value comes only once."""
    return values + values[::-1][1:]


def records(values: list[int]) -> list[int]:
    """The values that are larger than all values before them; the first value always is."""
    found: list[int] = []
    for value in values:
        if not found or value > found[-1]:
            found.append(value)
    return found


def pair_sums(values: list[int]) -> list[int]:
    """The first value plus the second, the third plus the fourth and so on; a last one without a partner stays alone."""
    return [sum(values[index : index + 2]) for index in range(0, len(values), 2)]


def large_first(values: list[int]) -> list[int]:
    """The values from the largest to the smallest, each one once."""
    return sorted(set(values), reverse=True)


def positions_of_odd(values: list[int]) -> list[int]:
    """The positions, counted from 1, of the odd values."""
    return [index for index, value in enumerate(values, 1) if value % 2 == 1]


def window_maxima(values: list[int], width: int = 3) -> list[int]:
    """The largest value of each `width` neighbouring values, by default 3, from left to right."""
    return [max(values[start : start + width]) for start in range(len(values) - width + 1)]


def without_extremes(values: list[int]) -> list[int]:
    """The values in their order, without all that equal the largest or the smallest; an empty list for no values."""
    if not values:
        return []
    low, high = min(values), max(values)
    return [value for value in values if value > low and value < high]


def divisors(number: int) -> list[int]:
    """All divisors of the number, without its sign and of it only the rest of a division by 40; nothing for 0."""
    rest = abs(number) % 40
    return [part for part in range(1, rest + 1) if rest % part == 0]


def countdown(number: int) -> list[int]:
    """The numbers from the number down to 1, of the number only the rest of a division by 8."""
    found = []
    rest = number % 8
    while rest > 0:
        found.append(rest)
        rest -= 1
    return found


def bits(number: int) -> list[int]:
    """The binary digits of the number, without its sign, the smallest first; nothing for 0."""
    rest = abs(number)
    found = []
    while rest > 0:
        found.append(rest % 2)
        rest = rest // 2
    return found
