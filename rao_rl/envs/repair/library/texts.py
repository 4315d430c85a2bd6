"""Functions of texts, and of lists of them."""


def count_vowels(text: str) -> int:
    """How many letters of the text are vowels (a, e, i, o, u)."""
    return len([letter for letter in text if letter in "aeiou"])


def longest_word(text: str) -> int:
    """The length of the longest word; 0 where there is none."""
    best = 0
    for word in text.split():
        best = max(best, len(word))
    return best


def double_letters(text: str) -> int:
    """How often a letter equals the one just before."""
    count = 0
    for left, right in zip(text, text[1:]):
        if left == right:
            count += 1
    return count


def words_of_length(text: str, least: int = 4) -> int:
    """How many words have at least `least` letters, by default 4."""
    return len([word for word in text.split() if len(word) >= least])


def last_position(text: str, letter: str = "e") -> int:
    """The position, counted from 1, of the last `letter`, by default e; 0 where there is none."""
    found = 0
    for index, other in enumerate(text, 1):
        if other == letter:
            found = index
    return found


def different_letters(text: str) -> int:
    """How many different characters other than blanks the text has."""
    return len({letter for letter in text if letter != " "})


def swap_ends(text: str) -> str:
    """The text with its first and its last character exchanged; shorter texts than two characters stay as they are."""
    if len(text) < 2:
        return text
    return text[-1] + text[1:-1] + text[0]


def initials(text: str) -> str:
    """The first letters of all words, without blanks between them."""
    return "".join(word[:1] for word in text.split())


def squash(text: str) -> str:
    """The text without those characters that equal the one just before."""
    kept = ""
    for letter in text:
        if not kept or kept[-1] != letter:
            kept += letter
    return kept


def every_other(text: str) -> str:
    """Every second character of the text, beginning with the first."""
    return "".join(letter for index, letter in enumerate(text) if index % 2 == 0)


def shorten(text: str, most: int = 6) -> str:
    """The first `most` characters of the text, by default 6, and a dot after them if any were left out."""
    if len(text) <= most:
        return text
    return text[:most] + "."


def words_backwards(text: str) -> str:
    """The words in the opposite order, with a blank between them."""
    return " ".join(text.split()[::-1])


def without_vowel_ends(text: str) -> str:
    """The words that do not end in a vowel (a, e, i, o, u), with a blank between them."""
    return " ".join(word for word in text.split() if word[-1] not in "aeiou")


def run_lengths(text: str) -> str:
    """For each run of equal characters the character and the length of the run: aab gives a2b1."""
    if not text:
        return ""
    parts = []
    run = 1
    for left, right in zip(text, text[1:]):
        if left == right:
            run += 1
        else:
            parts.append(left + str(run))
            run = 1
    return "".join(parts) + text[-1] + str(run)


def long_texts(texts: list[str], least: int = 5) -> list[str]:
    """The texts of at least `least` characters, by default 5, in their order."""
    return [text for text in texts if len(text) >= least]


def by_length(texts: list[str]) -> list[str]:
    """The texts from the longest to the shortest; equally long ones stay in their order."""
    return sorted(texts, key=len, reverse=True)


def first_of_each_letter(texts: list[str]) -> list[str]:
    """The first text for each first letter, in their order; empty texts are left out."""
    seen = ""
    kept = []
    for text in texts:
        if text and text[0] not in seen:
            seen += text[0]
            kept.append(text)
    return kept


def joined_pairs(texts: list[str]) -> list[str]:
    """Each text joined by a hyphen to the next one; the last one has no next one."""
    return [left + "-" + right for left, right in zip(texts, texts[1:])]


def split_words(text: str) -> list[str]:
    """The words of the text that have at least two letters."""
    return [word for word in text.split() if len(word) > 1]


def prefixes(text: str) -> list[str]:
    """The first character, the first two and so on, up to the first four or the whole of a shorter text."""
    return [text[:length] for length in range(1, min(len(text), 4) + 1)]


def letter_positions(text: str) -> list[int]:
    """The place in the alphabet of each letter from a to z, counted from 1; other characters are left out."""
    return [ord(letter) - 96 for letter in text if letter.isalpha()]


def word_lengths(text: str) -> list[int]:
    """The lengths of the words, without words of a single letter."""
    return [len(word) for word in text.split() if len(word) != 1]
