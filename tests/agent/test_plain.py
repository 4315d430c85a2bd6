"""What values become on their way to an agent: plain data by their own conversion, or a refusal by name."""

from __future__ import annotations

import array
import collections
import datetime as dt
import enum
import ipaddress
import math
import pathlib
import uuid
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from recursive_agent.plain import MOST_LEVELS, NotPlain, plain

pd = pytest.importorskip("pandas")
torch = pytest.importorskip("torch")


class Size(enum.IntEnum):
    SMALL = 1


class Kind(enum.Enum):
    RAW = "raw"


class Point(NamedTuple):
    x: int
    y: int


class Model(BaseModel):
    when: dt.date
    kind: Kind


@dataclass
class Data:
    values: Any


@attrs.define
class Attrs:
    a: int
    b: Any


class Odd(str):
    def __str__(self) -> str:
        return "not me"


class Wild(dict[str, int]):
    pass


RECORD = np.dtype([("x", np.int32), ("y", "U1")])
TABLE = pd.DataFrame({"a": [1, 2], "t": pd.to_datetime(["2024-01-02", None])})

SAME: list[tuple[Any, Any]] = [
    (np.bool_(False), False),
    (np.int64(5), 5),
    (np.uint8(5), 5),
    (np.float32(0.5), 0.5),
    (np.float64(1.5), 1.5),
    (np.longdouble(1.5), 1.5),
    (np.str_("a"), "a"),
    (np.bytes_(b"a"), b"a"),
    (np.datetime64("2024-01-02"), "2024-01-02"),
    (np.datetime64("NaT"), None),
    (np.timedelta64(5, "s"), "PT5S"),
    (np.arange(3), [0, 1, 2]),
    (np.zeros((2, 0)), [[], []]),
    (np.array(3), 3),
    (np.array(["2024-01-02", "NaT"], dtype="M8[D]"), ["2024-01-02", None]),
    (np.array([{"a": np.int8(1)}, None], dtype=object), [{"a": 1}, None]),
    (np.array([(1, "a")], dtype=RECORD), [{"x": 1, "y": "a"}]),
    (np.array([(1, "a")], dtype=RECORD)[0], {"x": 1, "y": "a"}),
    (np.ma.masked_array([1, 2], [False, True]), [1, None]),
    (TABLE, [{"a": 1, "t": "2024-01-02T00:00:00"}, {"a": 2, "t": None}]),
    (pd.DataFrame({"a": [1]}, index=["r"]), [{"index": "r", "a": 1}]),
    (pd.DataFrame({"a": [1]}, index=pd.Index(["r"], name="row")), [{"row": "r", "a": 1}]),
    (pd.DataFrame({"a": pd.array([pd.NA, 2], dtype="Int64")}), [{"a": None}, {"a": 2}]),
    (pd.DataFrame({"a": []}), []),
    (TABLE["a"], [1, 2]),
    (TABLE[TABLE["a"] == 2]["a"], {1: 2}),
    (pd.Series([1, 2], index=["x", "y"]), {"x": 1, "y": 2}),
    (pd.NaT, None),
    (pd.NA, None),
    (pd.Timestamp("2024-01-02", tz="UTC"), "2024-01-02T00:00:00+00:00"),
    (pd.Timedelta("1s"), "P0DT0H0M1S"),
    (pd.Index([1, 2]), [1, 2]),
    (pd.DatetimeIndex(["2024-01-02"]), ["2024-01-02T00:00:00"]),
    (pd.Categorical(["a", "b"]), ["a", "b"]),
    (torch.tensor(3), 3),
    (torch.tensor(True), True),
    (torch.tensor([[1.5]], requires_grad=True), [[1.5]]),
    (torch.tensor([1.0], dtype=torch.bfloat16), [1.0]),
    (Size.SMALL, 1),
    (Kind.RAW, "raw"),
    (Odd("me"), "me"),
    (Wild(a=1), {"a": 1}),
    (Decimal("1.50"), "1.50"),
    (Fraction(1, 3), "1/3"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (pathlib.PurePosixPath("/x"), "/x"),
    (ipaddress.ip_address("1.2.3.4"), "1.2.3.4"),
    (dt.datetime(2024, 1, 2, tzinfo=dt.UTC), "2024-01-02T00:00:00Z"),
    (dt.timedelta(seconds=5), "PT5S"),
    (bytearray(b"x"), b"x"),
    (memoryview(b"x"), b"x"),
    (array.array("i", [1]), [1]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({Kind.RAW}), ["raw"]),
    (Point(1, 2), [1, 2]),
    (collections.deque([1]), [1]),
    (range(2), [0, 1]),
    ({1: 2}.items(), [[1, 2]]),
    ((i for i in "ab"), ["a", "b"]),
    (map(str, [1]), ["1"]),
    (collections.Counter("aa"), {"a": 2}),
    (Model(when=dt.date(2024, 1, 2), kind=Kind.RAW), {"when": "2024-01-02", "kind": "raw"}),
    (Data(np.arange(2)), {"values": [0, 1]}),
    (Attrs(1, {np.int64(2)}), {"a": 1, "b": [2]}),
    ({np.int64(1): 2, Kind.RAW: 3, dt.date(2024, 1, 2): 4}, {1: 2, "raw": 3, "2024-01-02": 4}),
    ([(1, {"a": np.float64(2)})], [[1, {"a": 2.0}]]),
]


def _kinds(value: Any) -> Any:
    """The value with the exact type of everything in it, so that True is not 1."""
    if isinstance(value, list):
        return [_kinds(item) for item in value]
    if isinstance(value, dict):
        return {key: _kinds(item) for key, item in value.items()}
    return type(value), value


@pytest.mark.parametrize(
    ("value", "expected"), SAME, ids=[f"{type(value).__name__}-{n}" for n, (value, _) in enumerate(SAME)]
)
def test_values_become_plain_by_their_own_conversion(value: Any, expected: Any) -> None:
    assert _kinds(plain(value, strict=True, most=1_000)) == _kinds(expected)


def test_numbers_that_are_none_stay_what_they_are() -> None:
    made = plain({"n": float("nan"), "i": np.float32("inf"), "f": np.array([np.nan])}, strict=True)
    assert math.isnan(made["n"])
    assert made["i"] == math.inf
    assert math.isnan(made["f"][0])


class Opaque:
    pass


class Failing:
    dtype = np.dtype(float)

    def tolist(self) -> Any:
        raise RuntimeError("on another device")


REFUSED: list[tuple[Any, str]] = [
    (Opaque(), "Opaque"),
    (1j, "complex"),
    (np.complex128(1), "complex"),
    (print, "builtin_function"),
    (Opaque, "type"),
    (ValueError("x"), "ValueError"),
    (pd.Period("2024-01"), "Period"),
    (pd.Interval(0, 1), "Interval"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns of one name"),
    (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "several levels"),
    (pd.Series([1, 2], index=["x", "x"]), "twice"),
    (torch.float32, "torch.dtype"),
    (torch.ones(2).to_sparse(), "could not be made plain"),
    (Failing(), "on another device"),
    ({(1, 2): 3}, "key of a dict"),
    ({Kind.RAW: 1, "raw": 2}, "two keys"),
    (..., "ellipsis"),
    ([[Opaque()]], "Opaque"),
    (np.zeros(2_000), "too large"),
    (torch.zeros(2_000), "too large"),
    (["a"] * 2_000, "too large"),
    (["a" * 10_000] * 200, "too large"),
    (iter(int, 1), "too large"),
]


@pytest.mark.parametrize(("value", "words"), REFUSED, ids=[f"{words}-{n}" for n, (_, words) in enumerate(REFUSED)])
def test_what_has_no_plain_form_is_refused_by_name_and_never_its_repr(value: Any, words: str) -> None:
    with pytest.raises(NotPlain, match=words) as refused:
        plain(value, strict=True, most=1_000)
    assert " at 0x" not in str(refused.value)


def test_values_inside_themselves_and_far_too_deep_are_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    knot: dict[str, Any] = {}
    knot["a"] = Data(knot)
    for value in (loop, deep, knot):
        with pytest.raises(NotPlain, match=f"more than {MOST_LEVELS} levels"):
            plain(value)
    fitting: Any = 1
    for _ in range(MOST_LEVELS):
        fitting = [fitting]
    assert plain(fitting) == fitting


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
PLAIN: st.SearchStrategy[Any] = st.deferred(
    lambda: LEAVES | st.lists(PLAIN, max_size=4) | st.dictionaries(st.text() | st.integers(), PLAIN, max_size=4)
)


@given(PLAIN)
def test_plain_data_stays_as_it_is(value: Any) -> None:
    assert _kinds(plain(value, strict=True)) == _kinds(value)


@given(
    st.lists(st.integers(-(2**31), 2**31 - 1) | st.floats(allow_nan=False)),
    st.sampled_from([np.array, torch.tensor, pd.Series]),
)
def test_arrays_give_what_they_hold(values: list[Any], make: Any) -> None:
    held = make(values, dtype=torch.float64 if make is torch.tensor else float)
    assert plain(held, strict=True) == [float(value) for value in values]
