"""Promises of a LeetCode statement in words ("All the integers of nums are unique."), as checks of an input.

Each reading takes one line: it gives None where the line is not of its kind, else the checks that the line means (none
where it says nothing that can be broken), and notes in ``Constraints`` what whoever makes inputs has to know. Readings
are tried in turn; the first that takes a line decides.
"""

from __future__ import annotations

import ast
import itertools
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from cipo_eval.data.readers.leetcode.comparisons import (
    CHECKED,
    NODES,
    Args,
    Chain,
    evaluate,
    read_chain,
    with_powers,
)
from cipo_eval.data.readers.leetcode.constraints import Check, Constraints
from cipo_eval.data.readers.leetcode.properties import (
    are_pairs,
    count_nodes,
    is_acyclic,
    is_forest,
    leaves,
    no_leading_zero,
    reaches_end,
    single_spaces,
)

_NUMBER = re.compile(r"-?\d+")
# fmt: off
_FILLERS = frozenset({
    "'s", "a", "all", "an", "and", "and/or", "any", "are", "be", "both", "brackets", "case", "character",
    "characters", "consist", "consists", "contain", "contains", "digit", "digits", "each", "either",
    "english", "from", "in", "integer", "integer's", "integers", "is", "letter", "letters", "lower",
    "lowercase", "of", "one", "only", "or", "representing", "round", "s", "set", "space", "spaces",
    "string", "symbols:", "that", "the", "to", "uppercase", "value", "values", "will",
})
# fmt: on
"""Words that say nothing more of which characters or numbers there are."""


def understand(
    line: str, constraints: Constraints, linked: Mapping[str, str], examples: Sequence[Args]
) -> bool:
    """Whether a line in words was understood and known inputs agree; then its promises are noted."""
    mentioned = [name for name in constraints.names if re.search(rf"\b{re.escape(name)}\b", line)]
    before = len(constraints.checks)
    for reading in (_nodes, _order, _distinct, _parity, _graph, _member, _special, _characters, _numbers):
        checks = reading(line, mentioned, constraints, linked, examples)
        if checks is not None:
            if all(check(args) for check in checks for args in examples):
                constraints.checks.extend(checks)
                return True
            del constraints.checks[before:]
            return False
    return False


def _nodes(
    line: str,
    mentioned: Sequence[str],
    constraints: Constraints,
    linked: Mapping[str, str],
    _examples: Sequence[Args],
) -> list[Check] | None:
    if not linked or "number of" not in line or "nodes" not in line:
        return None
    names = [n for n in mentioned if n in linked] or [
        name for name, kind in linked.items() if ("list" in line) == ("ln" in kind) or len(linked) == 1
    ]
    if re.search(r"\bis n\b", line):
        count = ast.parse(f"{NODES}.length", mode="eval").body
        constraints.chains.append(Chain(((ast.Name("n"),), (count,)), ("==",)))
        constraints.lines.append(line)
        return []
    span = re.search(r"\[(.+), (.+)\]", line)
    if span is None:
        return None
    chain = read_chain(f"{span[1]} <= x <= {span[2]}", {})
    if chain is None:
        return None
    low, high = (int(evaluate(chain.sides[at][0], {})) for at in (0, 2))
    constraints.nodes.update(dict.fromkeys(names, (low, high)))
    return [lambda args: all(low <= count_nodes(args[name]) <= high for name in names)]


def _order(
    line: str,
    mentioned: Sequence[str],
    constraints: Constraints,
    _linked: Mapping[str, str],
    _examples: Sequence[Args],
) -> list[Check] | None:
    if not re.search(r"sorted|non-increasing|non-decreasing|ascending|increasing order", line):
        return None
    down = re.search(r"non-increasing|descending|decreasing order", line) and "non-decreasing" not in line
    strict = "strictly" in line
    if not mentioned:
        return None
    for name in mentioned:
        constraints.ascending[name] = not down
    inner = any(f"{name}[i]" in line for name in mentioned)

    def ordered(args: Args) -> bool:
        rows = [row for name in mentioned for row in (args[name] if inner else [args[name]])]
        rows = [row[::-1] if down else row for row in rows]
        return all(a < b if strict else a <= b for row in rows for a, b in itertools.pairwise(row))

    return [ordered]


def _distinct(
    line: str,
    mentioned: Sequence[str],
    constraints: Constraints,
    linked: Mapping[str, str],
    examples: Sequence[Args],
) -> list[Check] | None:
    if not re.search(
        r"unique|distinct|no duplicate|no repeated|not contain any duplicate|No two \w+ are exactly", line
    ):
        return None
    if "node" in line and linked:
        names = list(linked)
    else:
        names = list(mentioned) or [
            name
            for name in constraints.names
            if all(isinstance(args[name], list) and are_pairs(args[name]) for args in examples)
        ]
    if not names or re.search(r"except|more than once|at least", line):
        return None
    constraints.distinct.update(names)
    inner = re.search(r"Each \w+\[i\]", line) is not None
    nested = re.search(r"\[i\]\[j\]", line) is not None
    undirected = re.search(r"edge|pairs \(", line) is not None

    def items(value: Any) -> list[Any]:
        rows = [cell for row in value for cell in row] if nested else value
        return [
            repr(sorted(row) if undirected and isinstance(row, list) else row)
            for row in rows
            if row is not None
        ]

    def together(args: Args) -> bool:
        every = [item for name in names for item in items(args[name])]
        return len(every) == len(set(every))

    def apart(args: Args) -> bool:
        every = [items(row) for name in names for row in (args[name] if inner else [args[name]])]
        return all(len(row) == len(set(row)) for row in every)

    return [apart if inner or not all(map(together, examples)) else together]


def _parity(
    line: str,
    _mentioned: Sequence[str],
    constraints: Constraints,
    _linked: Mapping[str, str],
    _examples: Sequence[Args],
) -> list[Check] | None:
    match = re.fullmatch(r"(\w+)(\[i\])? is (?:an )?even(?: integer)?\.?", line)
    if match is None:
        return None
    name = match[1]
    if match[2]:
        constraints.even.add(name)
        return [lambda args: all(value % 2 == 0 for value in args[name])]
    constraints.even.add(name)
    return [lambda args: constraints.symbols(args).get(name, 0) % 2 == 0]


def _graph(
    line: str,
    mentioned: Sequence[str],
    constraints: Constraints,
    _linked: Mapping[str, str],
    examples: Sequence[Args],
) -> list[Check] | None:
    if re.search(r"represents a valid tree", line) and mentioned:
        name = mentioned[0]
        constraints.trees = True
        return [lambda args: is_forest(args[name])]
    if re.search(r"directed and acyclic", line):
        names = [
            n for n in constraints.names if all(isinstance(a[n], list) and are_pairs(a[n]) for a in examples)
        ]
        constraints.acyclic = True
        return [lambda args: all(is_acyclic(args[name]) for name in names)] if len(names) == 1 else None
    return None


def _member(
    line: str,
    _mentioned: Sequence[str],
    constraints: Constraints,
    linked: Mapping[str, str],
    _examples: Sequence[Args],
) -> list[Check] | None:
    if match := re.fullmatch(r"(\w+) is an anagram of (\w+)\.?", line):
        one, other = match.groups()
        constraints.anagrams[one] = other
        return [lambda args: sorted(args[one]) == sorted(args[other])]
    if match := re.fullmatch(r"All the integers of (\w+) also appear in (\w+)\.?", line):
        one, other = match.groups()
        constraints.members[one] = other
        return [lambda args: set(args[one]) <= set(args[other])]
    one = ""
    if match := re.fullmatch(r"(\w+) (?:is in|equals to an element of|exists in) (\w+)\.?", line):
        one, other = match.groups()
    elif (match := re.fullmatch(r"A node with a value of (\w+) exists in the tree\.?", line)) and linked:
        one, other = match[1], next(iter(linked))
    if not one or one not in constraints.names or other not in constraints.names:
        return None
    constraints.members[one] = other
    return [lambda args: args[one] in args[other]]


def _special(
    line: str,
    mentioned: Sequence[str],
    constraints: Constraints,
    _linked: Mapping[str, str],
    examples: Sequence[Args],
) -> list[Check] | None:
    """Promises that only a few problems make."""
    if re.search(r"leading (?:zeros?|0)", line) and re.search(r"\bnot\b|\bno\b", line) and mentioned:
        constraints.no_zero.update(mentioned)
        return [lambda args: all(map(no_leading_zero, (args[name] for name in mentioned)))]
    if "no two adjacent" in line and len(mentioned) == 1:
        name = mentioned[0]
        return [lambda args: not any(a and b for a, b in itertools.pairwise(args[name]))]
    if match := re.fullmatch(r"No letter occurs more than once in any string of (\w+) or (\w+)\.?", line):
        names = match.groups()
        constraints.once.update(names)
        return [lambda args: all(len(set(text)) == len(text) for name in names for text in args[name])]
    if re.search(r"single space", line):
        names = tuple(mentioned) or tuple(n for n in constraints.names if isinstance(examples[0][n], str))
        capital = "begins with a capital letter and then contains lowercase" in line
        if len(names) != 1 or not (capital or re.search(r"^There is|separated by", line)):
            return None
        constraints.spaced[names[0]] = capital
        if capital:
            constraints.alphabets[names[0]] = string.ascii_lowercase + " "
        return [lambda args: single_spaces(args[names[0]], capital=capital)]
    if (
        re.match(r"Each word consists of uppercase and lowercase English letters", line)
        and constraints.spaced
    ):
        constraints.alphabets.update(dict.fromkeys(constraints.spaced, string.ascii_letters + " "))
        return []
    if re.search(r"at least two \w+ have different", line):
        (name,) = [n for n in constraints.names if isinstance(examples[0][n], list)][:1] or [""]
        return [lambda args: len(set(args[name])) > 1] if name else None
    if match := re.fullmatch(r"There is at least a common string between (\w+) and (\w+)\.?", line):
        one, other = match.groups()
        constraints.common = one, other
        return [lambda args: not set(args[one]).isdisjoint(args[other])]
    if match := re.fullmatch(r"The sum of (\w+)\[i\]\.length will not exceed (\d+)\.?", line):
        name, most = match[1], int(evaluate(ast.parse(with_powers(match[2]), mode="eval").body, {}))
        return [lambda args: sum(map(len, args[name])) <= most]
    if re.fullmatch(r"n \+ 1 is a power of 2\.?", line):
        return [lambda args: ((n := constraints.symbols(args).get("n", 0)) & (n + 1)) == 0]
    if re.search(r"at most two digits after the decimal point in (\w+)", line):
        return [lambda args: all(round(args[name], 2) == args[name] for name in mentioned)]
    if re.search(r"you can reach nums\[n - 1\]", line):
        return [lambda args: reaches_end(args["nums"])]
    if re.search(r"The answer is guaranteed to fit", line):
        return []  # integers here have no end
    if match := re.fullmatch(r"(\w+)\[i\]\[(\d)\] is (a lowercase letter|'.'|either '.' or '.')\.?", line):
        name, at = match[1], int(match[2])
        allowed = "".join(re.findall(r"'(.)'", match[3])) or string.ascii_lowercase
        constraints.places.setdefault(name, {})[at] = allowed
        return [lambda args: all(at < len(text) and text[at] in allowed for text in args[name])]
    return None


def _characters(
    line: str,
    mentioned: Sequence[str],
    constraints: Constraints,
    _linked: Mapping[str, str],
    examples: Sequence[Args],
) -> list[Check] | None:
    names = [name for name in mentioned if any(leaves(args[name], str) for args in examples)]
    if not names or not re.search(r"consist|contain|letter|digit|character|\bis\b|\bare\b", line):
        return None
    rest, alphabet = line, ""
    if symbols := re.search(r"symbols: \"([^\"]+)\"", line):
        alphabet += symbols[1]
        rest = rest.replace(symbols[0], "symbols:")
    for quoted in re.findall(r"'(.)'|\"(.)\"", rest):
        alphabet += quoted[0] or quoted[1]
    if spread := re.search(r"from '(\w)' to '(\w)'|\b(\d)-(\d)\b", line):
        first, last = (spread[1], spread[2]) if spread[1] else (spread[3], spread[4])
        alphabet += "".join(map(chr, range(ord(first), ord(last) + 1)))
        rest = rest.replace(spread[0], "")
    elif "digits" in line:
        alphabet += string.digits
    rest = re.sub(r"'.'|\"[^\"]*\"|\{.*\}", " ", rest)
    if "{" not in line and re.search(r"letters?\b", line):
        both = re.search(r"uppercase and lowercase|lowercase and uppercase", line)
        if both or "lowercase" in line or "uppercase" not in line:
            alphabet += string.ascii_lowercase
        if both or "uppercase" in line or "lowercase" not in line:
            alphabet += string.ascii_uppercase
    if "brackets" in line:
        alphabet += "()"
    if re.search(r"\bspaces?\b", line):
        alphabet += " "
    if "valid ascii" in line:
        alphabet += "".join(map(chr, range(33, 127)))
        rest = rest.replace("valid ascii", "")
    if not alphabet:
        return None
    alphabet = "".join(dict.fromkeys(alphabet))
    for name in names:
        constraints.alphabets[name] = alphabet
    rest = re.sub(r"\w+(?:\[[^\]]*\])+", " ", rest)
    words = set(re.findall(r"[\w/':-]+", rest.lower())) - {name.lower() for name in constraints.names}
    if words - _FILLERS:
        return None
    allowed = set(alphabet)
    return [
        lambda args: all(set(leaf) <= allowed for name in names for leaf in leaves(args[name], str)[:CHECKED])
    ]


def _numbers(
    line: str,
    mentioned: Sequence[str],
    constraints: Constraints,
    _linked: Mapping[str, str],
    examples: Sequence[Args],
) -> list[Check] | None:
    if not mentioned or not re.search(r"\b(?:is|are)\b(?: either)? -?\d", line):
        return None
    body = re.sub(r"\w+(?:\[[^\]]*\])+", " ", line)
    values = tuple(sorted(set(map(int, _NUMBER.findall(body)))))
    words = set(re.findall(r"[a-z]+", body.lower())) - _FILLERS - {name.lower() for name in constraints.names}
    if words or not all(leaves(args[name], int) for name in mentioned for args in examples):
        return None
    for name in mentioned:
        constraints.values[name] = values
    allowed = set(values)
    return [
        lambda args: all(leaf in allowed for name in mentioned for leaf in leaves(args[name], int)[:CHECKED])
    ]
