"""Values as tagged JSON: what crosses the border between a sandboxed program and everybody else.

Only plain values cross (numbers, strings, containers, dates, arrays, linked nodes); nothing is ever pickled, and
decoding creates built-in objects only, whatever the other side wrote. An object of a class of the program's own becomes
``Opaque``, which equals nothing. Subclasses of built-ins become what they are a subclass of, so that an ``int`` whose
``__eq__`` always agrees arrives as the plain number that it holds.

JSON form: ``null``, booleans, strings, integers below 2**63 and finite floats are themselves, a list is a list;
anything else is an object with one key, its tag (``_DECODERS``). This file is also sent into the sandbox as text: it
imports the standard library only.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import marshal
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_DEPTH = 200
"""Containers nested in each other."""
MAX_NODES = 500_000
"""Values within one value; a larger one crosses as its digest, which tells equal from unequal and nothing else."""
MAX_TEXT = 2_000_000
"""Characters of one string, likewise."""
MAX_BITS = 4_000_000
"""Bits of one integer; its decimal form would take quadratic time."""
KEY_SECONDS = 0.5
"""Processor time for the keys of one set or dict, and a second more for each million of them."""
MAX_LINKS = 200_000
"""Nodes of a linked list or tree."""

_PLAIN_INT = 1 << 63
_SLICE = 4096


class CodecError(ValueError):
    """A value that does not cross: too large, too deep, or (decoding) not of the form above."""


class TooLargeError(CodecError):
    """A value that crosses as its digest only."""


class Digest(str):
    """Stands for a large value: equal to the digest of an equal one."""

    __slots__ = ()


class Opaque:
    """Stands for an object that does not cross. Equal to nothing, not even to itself."""

    __slots__ = ("name",)
    __hash__ = None  # type: ignore[assignment]  # like everything that compares by contents it does not have

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return False

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<{self.name} object>"


class Nodes(list[Any]):
    """The values of a linked list (``kind`` "ln") or of a binary tree in level order ("tn"), outside the sandbox."""

    __slots__ = ("kind",)
    __hash__ = None

    def __init__(self, kind: str, values: list[Any]) -> None:
        super().__init__(values)
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nodes) and self.kind == other.kind and list(self) == list(other)

    def __ne__(self, other: object) -> bool:
        return not self == other


# --- encoding ----------------------------------------------------------------------------------------------


def encode(value: Any) -> Any:
    """The JSON form of a value. Raises ``CodecError`` where it is too deep (or contains itself)."""
    if value is None or value is True or value is False:
        return value
    try:
        return _Encoder().encode(value, 0)
    except TooLargeError:
        return {"h": _digest(value)}


def _digest(value: Any) -> str:
    """SHA-256 of a large value of built-in types; equal values of equal types have equal ones."""
    digest = hashlib.sha256(type(value).__name__.encode())
    try:
        if type(value) in (list, tuple, str):  # in slices: the bytes of the whole may not fit
            for start in range(0, len(value), _SLICE):
                digest.update(marshal.dumps(value[start : start + _SLICE], 2))
        else:
            digest.update(marshal.dumps(value, 2))
    except ValueError:
        raise CodecError("a large value with objects that do not cross") from None
    return digest.hexdigest()


to_json: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":")).encode
"""JSON text, ASCII and without spaces: the one form in which records are compared as text."""


def dumps(value: Any) -> str:
    """``encode`` as ASCII text."""
    return to_json(encode(value))


class _Encoder:
    __slots__ = ("nodes",)

    def __init__(self) -> None:
        self.nodes = 0

    def encode(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            if len(value) > MAX_TEXT:
                raise TooLargeError(f"more than {MAX_TEXT} characters")
            return value
        if kind is int:
            return value if -_PLAIN_INT < value < _PLAIN_INT else _long(value)
        if kind is float:
            return value if math.isfinite(value) else {"f": repr(value)}
        if depth > MAX_DEPTH:
            raise CodecError("nested too deeply, or contains itself")
        if kind is list:
            return self._all(value, depth)
        if kind is tuple:
            return {"t": self._all(value, depth)}
        return self._other(value, kind, depth + 1)

    def _all(self, values: Any, depth: int) -> list[Any]:
        self.nodes += len(values)
        if self.nodes > MAX_NODES:
            raise TooLargeError(f"more than {MAX_NODES} values")
        return [self.encode(value, depth + 1) for value in values]

    def _other(self, value: Any, kind: type, depth: int) -> Any:
        if isinstance(value, dict):
            self.nodes += dict.__len__(value)
            if self.nodes > MAX_NODES:
                raise TooLargeError(f"more than {MAX_NODES} values")
            return {
                "d": [[self.encode(key, depth), self.encode(item, depth)] for key, item in dict.items(value)]
            }
        if isinstance(value, set | frozenset):
            base: Any = set if isinstance(value, set) else frozenset
            items = self._all(list(base.__iter__(value)), depth)
            items.sort(key=lambda item: json.dumps(item, sort_keys=True))
            return {"s" if base is set else "z": items}
        for base, tag in ((list, None), (tuple, "t"), (deque, "q")):
            if isinstance(value, base):
                items = self._all(list(base.__iter__(value)), depth)  # past overrides
                return {tag: items} if tag else items
        if isinstance(value, int):
            return self.encode(int.__int__(value), depth)
        if isinstance(value, str):
            return self.encode(str.__str__(value), depth)
        if isinstance(value, float):
            return self.encode(float.__float__(value), depth)
        return self._rare(value, kind, depth)

    def _rare(self, value: Any, kind: type, depth: int) -> Any:
        if isinstance(value, complex):
            return {"c": [self.encode(value.real, depth), self.encode(value.imag, depth)]}
        if kind is bytes or kind is bytearray:
            return {"b" if kind is bytes else "B": value.decode("latin-1")}
        if kind is range:
            return {"r": [self.encode(part, depth) for part in (value.start, value.stop, value.step)]}
        if kind is Decimal:
            return {"D": str(value)}
        if kind is Fraction:
            return {"F": [self.encode(value.numerator, depth), self.encode(value.denominator, depth)]}
        if kind is datetime.timedelta:
            return {"td": [value.days, value.seconds, value.microseconds]}
        if kind in (datetime.date, datetime.datetime, datetime.time):
            return {"dt": [kind.__name__, value.isoformat(), *([1] if getattr(value, "fold", 0) else [])]}
        if kind is type and value.__module__ == "builtins":
            return {"T": value.__name__}
        if kind.__module__ == "numpy":
            return self._numpy(value, kind, depth)
        if kind.__name__ in ("ListNode", "TreeNode", "Node"):
            return self._linked(value, kind, depth)
        return {"o": kind.__qualname__[:200]}

    def _numpy(self, value: Any, kind: type, depth: int) -> Any:
        if kind.__name__ == "ndarray":
            self.nodes += value.size
            if self.nodes > MAX_NODES:
                raise TooLargeError(f"more than {MAX_NODES} values")
            shape = [] if value.size else [list(value.shape)]  # which the lists of nothing do not show
            return {"a": [str(value.dtype), self.encode(value.tolist(), depth), *shape]}
        plain = value.item()
        return (
            self.encode(plain, depth)
            if type(plain) in (bool, int, float, complex, str)
            else {"o": kind.__name__}
        )

    def _linked(self, value: Any, kind: type, depth: int) -> Any:
        """Linked lists and binary trees in LeetCode's serialisation."""
        if hasattr(value, "next"):
            values: list[Any] = []
            while value is not None:
                if len(values) >= MAX_LINKS:
                    raise CodecError("a linked list without end")
                values.append(self.encode(value.val, depth))
                value = value.next
            return {"ln": values}
        if not hasattr(value, "left"):
            return {"o": kind.__qualname__[:200]}
        values, level = [], deque([value])
        while level:
            if len(values) >= MAX_LINKS:
                raise CodecError("a tree without end")
            node = level.popleft()
            values.append(None if node is None else self.encode(node.val, depth))
            if node is not None:
                level.extend((node.left, node.right))
        while values and values[-1] is None:
            values.pop()
        return {"tn": values}


def _long(value: int) -> dict[str, str]:
    if value.bit_length() > MAX_BITS:
        raise CodecError(f"an integer of more than {MAX_BITS} bits")
    return {"i": hex(value)}


# --- decoding ----------------------------------------------------------------------------------------------

Hooks = Mapping[str, Callable[[Any], Any]]


def loads(text: str | bytes, hooks: Hooks | None = None) -> Any:
    """The value of a text that ``dumps`` or a hostile program wrote. Raises ``CodecError`` for anything else."""
    return decode(parse(text), hooks)


def parse(text: str | bytes) -> Any:
    """JSON, strictly: no ``NaN``, no integers that take quadratic time. Raises ``CodecError``."""
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode("utf-8"))
    except CodecError:
        raise
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not JSON: {error}"[:200]) from None


def decode(data: Any, hooks: Hooks | None = None) -> Any:
    """The value of a JSON form. ``hooks`` make linked nodes ("ln", "tn") of their values, in place of ``Nodes``."""
    try:
        return _decode(data, hooks or {}, 0)
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"not a value: {type(error).__name__}: {error}"[:200]) from None


def _decode(data: Any, hooks: Hooks, depth: int) -> Any:
    kind = type(data)
    if kind is list:
        if depth > 2 * MAX_DEPTH:
            raise CodecError("nested too deeply")
        return [_decode(item, hooks, depth + 1) for item in data]
    if kind is not dict:
        return data
    if len(data) != 1 or depth > 2 * MAX_DEPTH:
        raise CodecError("an object that is no tagged value, or nested too deeply")
    ((tag, body),) = data.items()
    if tag in ("ln", "tn"):
        values = [_decode(item, hooks, depth + 1) for item in _list(body)]
        if tag in hooks:
            return hooks[tag](values)
        return Nodes(tag, values) if values else None
    decoder = _DECODERS.get(tag)
    if decoder is None:
        raise CodecError(f"unknown tag {tag[:20]!r}")
    if tag in _CONTAINERS:
        body = [_decode(item, hooks, depth + 1) for item in _list(body)]
    return decoder(body)


def _list(body: Any) -> list[Any]:
    if type(body) is not list:
        raise CodecError("a tagged value without its list")
    return body


def _integer(text: str) -> int:
    if len(text) > 20:
        raise CodecError("an integer of more than 63 bits without its tag")
    return int(text)


def _reject(text: str) -> Any:
    raise CodecError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(parse_int=_integer, parse_constant=_reject)


def _float(body: Any) -> float:
    if body not in ("nan", "inf", "-inf"):
        raise CodecError("a float that is not nan or infinite needs no tag")
    return float(body)


def _hex(body: Any) -> int:
    if type(body) is not str or len(body) > MAX_BITS // 4 + 8:
        raise CodecError("not an integer")
    return int(body, 16)


def _pairs(body: Any) -> dict[Any, Any]:
    if any(
        type(pair) is not list for pair in body
    ):  # an array of two would give its scalars, which are none of ours
        raise CodecError("a dict of something else than pairs")
    made: dict[Any, Any] = _filled({}, body)
    return made


def _filled(made: Any, items: list[Any]) -> Any:
    """Fills a set or dict step by step, against the clock: keys that were chosen to collide take quadratic time, here
    and when they are compared.

    Hashes of numbers and tuples are predictable, and equal ones are not the only way to collide: different ones can be
    made to walk the same path through the table.
    """
    end = time.thread_time() + KEY_SECONDS + len(items) / 1e6
    for start in range(0, len(items), 256):
        made.update(items[start : start + 256])
        if time.thread_time() > end:
            raise CodecError("keys that collide")
    return made


def _moment(body: Any) -> Any:
    name, text, *fold = body
    kinds: dict[str, Any] = {
        "date": datetime.date,
        "datetime": datetime.datetime,
        "time": datetime.time,
    }
    moment = kinds[name].fromisoformat(text)
    return moment.replace(fold=1) if fold == [1] else moment


def _builtin_type(body: Any) -> Any:
    import builtins

    named = vars(builtins).get(body)
    if type(named) is not type:
        raise CodecError("not a built-in type")
    return named


def _array(body: Any) -> Any:
    import numpy as np

    dtype, values, *shape = body
    if dtype not in _NUMERIC or _array_text(values) > MAX_TEXT:
        return Opaque("ndarray")
    array = np.array(_decode(values, {}, 0), dtype=dtype)
    return array.reshape(shape[0]) if shape and not array.size else array


_NUMERIC = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
_NUMERIC |= {"float16", "float32", "float64", "complex64", "complex128"}
"""Element types of arrays that are made again; others equal nothing."""


def _array_text(values: Any) -> int:
    """Refuses, by a large number, array contents that are more than nested lists of numbers."""
    if type(values) is list:
        return sum(map(_array_text, values))
    if type(values) is dict:
        return 1 if len(values) == 1 and next(iter(values)) in ("c", "f") else MAX_TEXT + 1
    return 1 if type(values) in (bool, int, float) else MAX_TEXT + 1


def _fraction(body: Any) -> Fraction:
    if len(body) != 2 or not all(type(part) is int for part in body):
        raise CodecError("not a fraction")
    return Fraction(*body)


def _decimal(body: Any) -> Decimal:
    if type(body) is not str or len(body) > 10_000:
        raise CodecError("not a decimal")
    return Decimal(body)


def _range(body: Any) -> range:
    numbers = range(*map(int, body))
    most = MAX_NODES * abs(numbers.step)
    if numbers.stop - numbers.start > most or numbers.start - numbers.stop > most:
        raise CodecError(f"a range of more than {MAX_NODES} numbers")
    return numbers


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "i": _hex,
    "f": _float,
    "t": tuple,
    "s": lambda body: _filled(set(), body),
    "z": lambda body: frozenset(_filled(set(), body)),
    "q": deque,
    "d": _pairs,
    "c": lambda body: complex(*map(float, body)),
    "b": lambda body: body.encode("latin-1"),
    "B": lambda body: bytearray(body.encode("latin-1")),
    "r": _range,
    "D": _decimal,
    "F": _fraction,
    "td": lambda body: datetime.timedelta(*body),
    "dt": _moment,
    "T": _builtin_type,
    "a": _array,
    "o": lambda body: Opaque(str(body)[:200]),
    "h": lambda body: Digest(body) if type(body) is str else Opaque("digest"),
}
"""By tag: long integer, special float, tuple, set, frozenset, deque, dict (list of pairs), complex, bytes, bytearray,
range, Decimal, Fraction, timedelta, date or time, built-in type, NumPy array, opaque object, digest of a large
value."""
_CONTAINERS = frozenset({"t", "s", "z", "q", "d", "c", "r", "F", "td"})
