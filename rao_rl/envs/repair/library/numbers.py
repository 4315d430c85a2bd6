"""Functions of whole numbers and lists of them. The docstring of each is all that agents are told of what it should do."""


def sum_of_even(values: list[int]) -> int:
    """The sum of the even values."""
    total = 0
    for value in values:
        if value % 2 == 0:
            total += value
    return total


def largest_gap(values: list[int]) -> int:
    """The largest difference between two neighbouring values, without its sign; 0 for fewer than two values."""
    gap = 0
    for left, right in zip(values, values[1:]):
        gap = max(gap, abs(left - right))
    return gap


def range_of(values: list[int]) -> int:
    """The largest value minus the smallest; 0 for no values."""
    if not values:
        return 0
    return max(values) - min(values)


def second_largest(values: list[int]) -> int:
    """The second largest of the different values; 0 where there are fewer than two."""
    different = sorted(set(values))
    if len(different) < 2:
        return 0
    return different[-2]


def longest_rise(values: list[int]) -> int:
    """The length of the longest run of neighbouring values in which each is larger than the one before; 0 for no values."""
    if not values:
        return 0
    best = run = 1
    for left, right in zip(values, values[1:]):
        run = run + 1 if right > left else 1
        best = max(best, run)
    return best


def alternating_sum(values: list[int]) -> int:
    """The first value minus the second plus the third minus the fourth and so on."""
    total = 0
    for index, value in enumerate(values):
        if index % 2 == 0:
            total += value
        else:
            total -= value
    return total


def count_above(values: list[int], limit: int = 4) -> int:
    """How many values are larger than `limit`, by default 4."""
    count = 0
    for value in values:
        if value > limit:
            count += 1
    return count


def first_negative(values: list[int]) -> int:
    """The position of the first negative value, counted from 0; -1 where there is none."""
    for index, value in enumerate(values):
        if value < 0:
            return index
    return 0 - 1


def median_low(values: list[int]) -> int:
    """The value in the middle of the sorted values, the smaller one of two; 0 for no values."""
    if not values:
        return 0
    return sorted(values)[(len(values) - 1) // 2]


def balance_point(values: list[int]) -> int:
    """The first position before which the values add up to at least half of the whole sum; the number of values if none."""
    whole = sum(values)
    seen = 0
    for index, value in enumerate(values):
        if seen * 2 >= whole:
            return index
        seen += value
    return len(values)


def longest_plateau(values: list[int]) -> int:
    """The length of the longest run of equal neighbouring values; 0 for no values."""
    if not values:
        return 0
    best = run = 1
    for left, right in zip(values, values[1:]):
        run = run + 1 if left == right else 1
        best = max(best, run)
    return best


def sign_changes(values: list[int]) -> int:
    """How often a value and the one after it have different signs; zeros are left out first."""
    signed = [value for value in values if value != 0]
    count = 0
    for left, right in zip(signed, signed[1:]):
        if left * right < 0:
            count += 1
    return count


def digit_sum(number: int) -> int:
    """The sum of the decimal digits, without the sign."""
    rest = abs(number)
    total = 0
    while rest > 0:
        total += rest % 10
        rest = rest // 10
    return total


def halvings(number: int) -> int:
    """How often the number, without its sign, can be halved (rounded down) before it is at most 1."""
    rest = abs(number)
    count = 0
    while rest > 1:
        rest = rest // 2
        count += 1
    return count


def next_multiple(number: int, step: int = 5) -> int:
    """The smallest multiple of `step`, by default 5, that is at least the number."""
    over = number % step
    if over == 0:
        return number
    return number + step - over


def triangle(number: int) -> int:
    """1 + 2 + 3 and so on up to the number, without its sign and of it only the rest of a division by 12."""
    total = 0
    for step in range(1, abs(number) % 12 + 1):
        total += step
    return total


def squeeze(number: int, low: int = 2, high: int = 9) -> int:
    """The number, but `low` where it is smaller than that and `high` where it is larger; by default 2 and 9."""
    return min(max(number, low), high)


def distance_to_tens(number: int) -> int:
    """How far the nearest multiple of 10 is."""
    over = number % 10
    return min(over, 10 - over)


def share(part: int, whole: int) -> int:
    """How many hundredths of the whole the part is, rounded down; 0 for a whole of 0."""
    if whole == 0:
        return 0
    return part * 100 // whole


def steps_down(start: int, end: int) -> int:
    """How far the end is below the start; 0 where it is not below."""
    return max(start - end, 0)


def score_of(hits: int, misses: int) -> int:
    """Three points for each hit minus one for each miss, and never less than 0."""
    points = hits * 3 - misses
    if points < 0:
        return 0
    return points


def closer_to_zero(first: int, second: int) -> int:
    """The one of the two numbers that is closer to 0; the first if they are equally close."""
    if abs(second) < abs(first):
        return second
    return first
