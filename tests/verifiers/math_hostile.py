r"""Answers that are made to stall a grader: families of generators, seeded, each a kind of work that grows without bound.

``cases(seed)`` is every family's own list followed by what chance makes of it (numbers, depth, spelling). No answer here
equals one of ``GOLDS``, so every one of them has to be called wrong, at a bounded cost.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

GOLDS = {
    "integer": "27",
    "expression": r"\frac{x^2+3x+2}{x-1}",
    "trigonometric": r"\sin^2(2x)+\cos x",
    "tuple": r"(1, \frac{2}{3})",
    "matrix": r"\begin{pmatrix} 1 & 2 \\ 3 & x \end{pmatrix}",
    "interval": r"(-\infty, 2] \cup [3, \infty)",
    "equation": r"x^2+y^2-4x=1",
    "integral": r"\int_0^1 e^{-x^2} dx",
    "set": r"\{1, \sqrt{2}, \pi\}",
    "words": r"\text{Evelyn}",
}
"""One gold of each kind that the grader tells apart."""


class Case(NamedTuple):
    """One hostile answer."""

    family: str
    text: str


Family = Callable[[random.Random], Iterator[str]]
_FAMILIES: dict[str, Family] = {}


def _family(make: Family) -> Family:
    _FAMILIES[make.__name__.strip("_")] = make
    return make


def families() -> list[str]:
    """Names of all families."""
    return list(_FAMILIES)


def cases(seed: int = 0, *, only: str | None = None) -> list[Case]:
    """All answers, in order; the same for the same seed."""
    found = []
    for name, make in _FAMILIES.items():
        if only in (None, name):
            made = dict.fromkeys(make(random.Random(f"{seed} {name}")))
            found += [Case(name, text) for text in made]
    return found


def nest(before: str, inner: str, after: str, depth: int) -> str:
    """``inner`` within so many pairs of ``before`` and ``after``."""
    return before * depth + inner + after * depth


def _big(chance: random.Random, digits: int) -> str:
    return str(chance.randint(1, 9)) + "".join(chance.choices("0123456789", k=digits - 1))


# --- powers ---------------------------------------------------------------------------------------------------------


@_family
def _towers(chance: random.Random) -> Iterator[str]:
    """Powers of powers, in every way to write one."""
    yield from (
        "9^{9^{9^9}}",
        "9^9^9^9",
        "9**9**9**9",
        "9**(9**(9**9))",
        "{9}^{9^{9^{9}}}",
        "9⁹⁹⁹⁹",
        "9^{9⁹⁹}",
        "(((9^9)^9)^9)^9",
    )
    yield from (
        r"\left(9^{9}\right)^{9^{9}}",
        r"9^{9!}",
        r"9^{\frac{9^{9^9}}{2}}",
        r"2^{2^{2^{2^{2^{2}}}}}",
        r"9\uparrow\uparrow 9",
    )
    yield from (
        r"9^{\left(9^{\left(9^{9}\right)}\right)}",
        r"9^{{9}^{{9}^{9}}}",
        r"9^{ 9 ^ { 9 ^ 9 } }",
        r"9^{+9^{+9^{9}}}",
        r"9^{-9^{9^9}}",
    )
    yield from (
        r"10^{10^{100}}",
        r"10^{-10^{10^{10}}}",
        r"3^{3^{27}}",
        r"1.5^{1.5^{1.5^{40}}}",
        r"(\frac{3}{2})^{(\frac{5}{2})^{30}}",
    )
    yield from (
        r"(2^{1000})^{(2^{1000})}",
        r"9^{9\cdot 9^{9}}",
        r"9^{9\times10^{9}}",
        r"7^{10^9+1}",
        r"7^{3\cdot 123456789}",
        r"7^{1234\cdot 56789}",
    )
    yield from (
        r"x^{9^{9^{9}}}",
        r"x^{x^{x^{x^{x^x}}}}",
        r"(x+1)^{9^{9}}",
        r"\sqrt{2}^{\sqrt{2}^{\sqrt{2}^{99999}}}",
        r"i^{i^{i^{i^{i}}}}",
        r"\pi^{\pi^{\pi^{\pi}}}",
    )
    yield from (
        r"\pi^{\pi^{\pi^{\pi^{\pi}}}}",
        r"e^{e^{e^{e^{e}}}}",
        r"e^{e^{e^{e^{e^{e}}}}}",
        r"\exp(\exp(\exp(\exp(\exp(9)))))",
        r"\exp{\exp{\exp{\exp{9}}}}",
    )
    yield from (
        r"2^{\lfloor 9^{9^{9}}\rfloor}",
        r"7^{7^{7^{7}}} \bmod 100",
        r"2^{10^{10}} \pmod{7}",
        r"1^{9^{9^{9^9}}}",
        r"0^{9^{9^9}}",
        r"(-1)^{9^{9^{9}}}",
    )
    yield from (
        "2^{1}0^{1}0",
        "2^(10^(10))",
        "2^(10^10)",
        "2^ (  10 ) ^ ( 10 )",
        r"\mathrm{2}^{\mathrm{10}^{\mathrm{10}}}",
        r"2^{\text{10}^{\text{10}}}",
    )
    yield from (
        r"2^{\overline{9999999999}}",
        r"2^{\frac{99999999999}{2}}",
        r"2^{99999999.5}",
        r"2^{9.9e99}",
        r"2^{1e10}",
        r"1e999999999",
        r"1e-999999999",
        r"9.9E+888888888",
    )
    for _ in range(10):
        base, depth = chance.randint(2, 99), chance.randint(3, 12)
        style = chance.choice(("{}", "()", "", "**", r"\left(\right)"))
        terms = [str(chance.randint(2, 99)) for _ in range(depth)]
        if style == "**":
            yield "**".join([str(base), *terms])
        elif style == "":
            yield "^".join([str(base), *terms])
        else:
            left, right = style[: len(style) // 2], style[len(style) // 2 :]
            yield str(base) + "".join(f"^{left}{term}" for term in terms) + right * depth


@_family
def _exponents(chance: random.Random) -> Iterator[str]:
    """One huge power of a number."""
    for digits in (5, 6, 7, 9, 12, 40, 300):
        yield f"{chance.randint(2, 99)}^{{{_big(chance, digits)}}}"
        yield f"{chance.randint(2, 99)}**{_big(chance, digits)}"
        yield rf"\left(\frac{{{chance.randint(2, 9)}}}{{7}}\right)^{{-{_big(chance, digits)}}}"
    yield from (
        "3^{9999}",
        "3^{9999}+3^{9998}",
        "123456789^{9999}",
        "(10^{300})^{9999}",
        "(10^{99})^{9999}",
        "999^{999}^{2}",
        "3^{9999} \\cdot 7^{9999} - 5^{9999}",
    )
    yield from (
        "3^{9999}!",
        r"\sqrt{3^{9999}+1}",
        r"\frac{3^{9999}+1}{2^{9998}+3}",
        r"\lfloor \pi^{9999} \rfloor",
        r"\left(\sqrt{2}+\sqrt{3}\right)^{9999}",
        r"(1+\sqrt{5})^{1000}",
    )
    yield from (
        r"(2+3i)^{9999}",
        r"(1.000001)^{9999}",
        r"\log(3^{9999}+1)",
        r"\sin(3^{9999})",
        r"e^{9999}",
        r"e^{99999999}",
        r"\pi^{9999}",
        r"(\pi+e)^{9999}",
        r"1.1^{9999}",
    )
    yield from (
        r"\sin(10^{400})",
        r"\cos(10^{9999})",
        r"\tan(7^{5000})",
        r"e^{10^{30}}",
        r"\lfloor 10^{9999}\pi\rfloor",
        r"\lfloor e^{9999} \rfloor",
        r"10^{9999} \bmod 97",
        r"7^{-5000}",
    )


@_family
def _polynomials(chance: random.Random) -> Iterator[str]:
    """Powers of sums that somebody may multiply out."""
    yield from (
        "(x+1)^{2000}",
        "(x+1)^{99999}",
        "(x+y+z+w)^{40}",
        "(a+b+c+d+f+g)^{20}",
        "((x+1)^{50}+1)^{50}",
        "(x^2+1)^{500}",
        "(x+1)^{100}(x-1)^{100}",
        "(x+1)^{200}-(x-1)^{200}",
    )
    yield from (
        "x^{2000}-1",
        r"\frac{x^{2000}-1}{x-1}",
        r"\frac{x^{210}-1}{x^{30}-1}",
        r"\frac{x^{99999999}-1}{x-1}",
        r"\frac{(x+1)^{300}-1}{x}",
        r"\frac{1}{(x+1)^{300}}",
    )
    yield from (
        r"(x+\sqrt{x})^{200}",
        r"(\sqrt{x+1}+\sqrt{x})^{99}",
        r"(x^{1/2}+x^{1/3}+x^{1/5})^{30}",
        r"(e^x+1)^{200}",
        r"(\sin x+\cos x)^{60}",
        r"(\sin x+\cos y)^{99}",
    )
    yield from (
        r"(1+x)^{n^{2000}}",
        r"((((x+1)^2+1)^2+1)^2+1)^2",
        nest("(", "x", "^2+1)", 8),
        nest("(", "x", "^2+1)", 12),
        nest("(", "x", "^3+y)", 9),
        nest("(", "x", "^9+1)", 6),
    )
    for _ in range(10):
        letters = chance.sample("abcdfghkmnpqrtuvwxyz", chance.randint(2, 9))
        yield f"({'+'.join(letters)})^{{{chance.randint(10, 400)}}}"
    for count in (10, 20, 40):
        yield "".join(f"({a}x+{chance.randint(1, 9)})" for a in range(1, count))
        yield "+".join(f"(x+{a})^{{{count}}}" for a in range(1, 9))
        yield "".join(f"(x_{{{a}}}+y_{{{a}}})" for a in range(count))
    yield r"\prod_{k=1}^{50}(x+k)"
    yield "+".join(rf"\frac{{1}}{{x+{a}}}" for a in range(1, 40))
    yield "+".join(rf"\frac{{x^{{{a}}}+{a}}}{{x^{{{a}}}-y^{{{a}}}}}" for a in range(2, 20))
    yield "+".join(rf"\frac{{1}}{{\sqrt{{{a}}}+\sqrt{{{a + 1}}}}}" for a in range(2, 30))


# --- factorials, binomials, divisors --------------------------------------------------------------------------------


@_family
def _factorials(chance: random.Random) -> Iterator[str]:
    """Factorials of much, many factorials, factorials of factorials."""
    yield from (
        "99999999!",
        "((5!)!)!",
        "(10^{10})!",
        "10^{10^{10}}!",
        "5!!!!!!",
        "99999!!",
        "(100!)!",
        "\\left(9!\\right)!",
        "(9!)!",
        "\\Gamma(10^9)",
        "\\Gamma(99999)",
        "3000!",
        "2999!+2998!",
    )
    yield from (
        r"\frac{3000!}{2999!}",
        r"\frac{99999999!}{99999998!}",
        r"\left(\frac{99999999}{1}\right)!",
        r"(99999+99999)!",
        r"(300\cdot 300)!",
        r"{99999999}!",
        r"\{99999999\}!",
        r"99999999\,!",
    )
    yield from (
        r"(1e9)!",
        r"(\sqrt{99999999})!",
        r"(2^{30})!",
        r"(3!)!!",
        r"((((3!)!)!)!)!",
        r"\left(\left(4!\right)!\right)!",
        r"n!!!!!!!!!!!!",
        r"(n!)!",
        r"(-99999)!",
        r"(0.5)!",
        r"(99999.5)!",
    )
    yield from (
        r"\text{99999999}!",
        r"\mathrm{99999999}!",
        "99999999！",
        "٩٩٩٩٩٩٩٩!",
        r"\overline{99999999}!",
        r"(i+99999)!",
        r"e^{3000!}",
        r"\sin(3000!)",
        r"\ln(2500!)",
        r"\ln(99999999!)",
    )
    yield from (
        r"\sum_{n=0}^{\infty}\frac{1}{n!}",
        r"\sum_{n=0}^{3000} n!",
        r"\prod_{n=1}^{300} n!",
        r"!99999999",
        r"99999999\#",
        r"!3000",
        "|99999999|!",
        r"\lfloor 99999999 \rfloor!",
    )
    for _ in range(6):
        yield "+".join(f"{chance.randint(1000, 3000)}!" for _ in range(20))
        yield "".join(rf"\cdot {chance.randint(1000, 3000)}!" for _ in range(20)).removeprefix(r"\cdot ")
        yield rf"\frac{{{chance.randint(1000, 3000)}!+1}}{{{chance.randint(1000, 3000)}!}}"


@_family
def _binomials(chance: random.Random) -> Iterator[str]:
    """Binomials and multinomials."""
    yield from (
        r"\binom{10^8}{5\cdot10^7}",
        r"\binom{99999999999}{4999999999}",
        r"\binom{100000}{50000}",
        r"\binom{999999}{499999}",
        r"\tbinom{999999}{499999}",
        r"{999999 \choose 499999}",
    )
    yield from (
        r"\dbinom{10^{8}}{10^{7}}",
        r"\binom{\binom{100}{50}}{\binom{50}{25}}",
        r"\binom{\binom{\binom{30}{15}}{7}}{99}",
        r"\binom{n}{9^{9^9}}",
        r"\binom{9^{9^9}}{2}",
        r"C(10^8, 5\cdot10^7)",
    )
    yield from (
        r"\binom{3\cdot 10^6}{10^6}",
        r"\binom{2^{30}}{2^{29}}",
        r"\binom{30!}{15!}",
        r"\binom{999999.5}{499999}",
        r"\binom{-999999}{499999}",
        r"{}^{999999}C_{499999}",
        r"\binom 999999 499999",
    )
    yield from (
        r"\binom {1000000} {500000}",
        r"\binom{ 1000000 }{ 500000 }",
        r"\binom{(1000000)}{500000}",
        r"\binom{+1000000}{500000}",
        r"\binom{500000+500000}{500000}",
        r"\binom{1e6}{5e5}",
    )
    yield from (
        r"\sum_{k=0}^{1000}\binom{1000}{k}",
        r"\sum_{k=0}^{n}\binom{n}{k}^2",
        r"\frac{\binom{99999}{500}}{\binom{99998}{499}}",
        r"\binom{x}{500}",
        r"\binom{x}{99999}",
        r"\binom{x+y}{300}",
    )
    for _ in range(6):
        n = chance.randint(2000, 10**7)
        yield rf"\binom{{{n}}}{{{n // chance.randint(2, 5)}}}"


@_family
def _integers(chance: random.Random) -> Iterator[str]:
    """Long integers and what factors them: gcd, lcm, roots, modulus, divisors."""
    for digits in (40, 80, 200, 399, 401, 3000, 5000, 100_000):
        number = _big(chance, digits)
        yield number
        yield rf"\sqrt{{{number}}}"
        yield rf"\sqrt[7]{{{number}}}"
        yield rf"\gcd({number}, {_big(chance, digits)})"
        yield rf"\frac{{{number}}}{{{_big(chance, digits)}}}"
        yield rf"{number} \bmod {_big(chance, digits)}"
    semiprime = (
        "1522605027922533360535618378132637429718068114961380688657908494580122963258952897654000350692006139"
    )
    yield from (
        semiprime,
        rf"\sqrt{{{semiprime}}}",
        rf"\sqrt[3]{{{semiprime}}}",
        rf"{semiprime}^{{x}}",
        rf"\log({semiprime})",
        rf"{semiprime}^{{1/3}}",
        rf"\frac{{1}}{{\sqrt{{{semiprime}}}}}",
    )
    yield from (
        rf"\phi({semiprime})",
        rf"\sqrt{{{semiprime[:60]}}}+\sqrt{{{semiprime[30:90]}}}",
        r"\sqrt{10^{99}+3}",
        r"\sqrt{2^{997}-1}",
        r"\sqrt[3]{2^{997}-1}",
        r"\sqrt{3^{3000}+2}",
        r"\sqrt{1000!+1}",
    )
    yield from (
        r"\operatorname{lcm}(" + ",".join(map(str, range(1, 200))) + ")",
        r"\gcd(" + ",".join(map(str, range(1000, 1100))) + ")",
        r"\gcd(2^{9999}-1, 2^{9998}-1)",
        r"\gcd(x^{999}-1,x^{99}-1)",
    )
    yield from (
        r"7^{9999} \pmod{10^{9}}",
        r"2^{9999}_{16}",
        r"0." + _big(chance, 5000),
        r"0." + _big(chance, 390),
        r"3." + "0" * 100_000 + "1",
        "1" + "0" * 399,
        "0x" + "f" * 4000,
        "1" * 300 + "_2",
    )
    yield "0.\\overline{" + _big(chance, 300) + "}"
    yield "0.\\overline{" + _big(chance, 50_000) + "}"
    yield ",".join(_big(chance, 3) for _ in range(200_000))


# --- nesting --------------------------------------------------------------------------------------------------------


@_family
def _nesting(chance: random.Random) -> Iterator[str]:
    """One construct within itself, as deep as it goes, closed or not."""
    pairs = (
        ("(", ")"), ("[", "]"), ("{", "}"), (r"\{", r"\}"), (r"\left(", r"\right)"), (r"\sqrt{", "}"), (r"\sqrt{1+", "}"), (r"\sqrt[3]{x+", "}"), (r"\frac{1}{1+", "}"),
        (r"\frac{", "}{2}"), (r"\dfrac{x}{x-", "}"), (r"\boxed{", "}"), (r"\fbox{", "}"), (r"\text{", "}"), (r"\mathrm{", "}"), ("|", "|"), (r"\lfloor ", r"\rfloor"), (r"\left\lfloor x\cdot", r"\right\rfloor"),
        (r"\sin(", ")"), (r"\ln(", ")"), (r"\log_{", "}{2}"), (r"\exp(", ")"), (r"\arctan(\tan(", "))"), ("f(", ")"), ("x^{", "}"), ("x_{", "}"), ("-(", ")"), ("1-(2-(", "))"), (r"\overline{", "}"),
        (r"\binom{", "}{2}"), (r"\begin{pmatrix}", r"\end{pmatrix}"), (r"\begin{cases}", r"\end{cases}"), ("$", "$"), (r"\(", r"\)"), (r"\phantom{", "}"), (r"\hspace{", "}"), ("(1,", ")"), (r"\{1,", r"\}"),
        (r"\sum_{k=1}^{", "}k"), (r"\int_0^{", "} x dx"), (r"\max(1,", ")"), (r"\left|1-", r"\right|"), ("(x+", ")^2"), (r"\bar{", "}"), (r"\vec{", "}"), (r"\lim_{x\to 0}(", ")"), (r"\frac{d}{dx}(", ")"),
        (r"\sqrt{2+\sqrt{3}-", "}"), (r"\cos(\sin(", "))"), (r"\left[", r"\right]"), (r"\mathbb{", "}"), (r"\operatorname{", "}"), (r"\textbf{\textit{", "}}"), (r"\color{", "}"),
    )  # fmt: skip
    for before, after in pairs:
        for depth in (6, 14, 24, 200):
            yield nest(before, "x", after, depth)
        yield nest(before, "2", after, chance.randint(8, 29))
    for before, after in pairs:
        yield before * 20_000
        yield nest(before, "2", after, 30_000)
    yield from (
        "{" * 500_000,
        "(" * 1_000_000,
        ")" * 500_000,
        "[" * 500_000,
        "(" * 29 + "1" + ")" * 29,
        "-" * 400 + "1",
        "-" * 990 + "1",
        "+" * 990 + "1",
        "+-" * 450 + "x",
    )


@_family
def _radicals(chance: random.Random) -> Iterator[str]:
    """Roots within roots and sums of many roots, whose equality needs minimal polynomials."""
    for depth in (3, 5, 8, 12, 20):
        yield nest(r"\sqrt{2+", r"\sqrt{2}", "}", depth)
        yield nest(r"\sqrt[3]{5-", "2", "}", depth)
        yield "".join(rf"\sqrt{{{a}+" for a in range(2, depth + 2)) + "1" + "}" * depth
        yield nest(r"\sqrt{x+", "x", "}", depth)
        yield nest(r"\sqrt{1+x\cdot", "x", "}", depth)
    primes = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)
    for count in (4, 6, 8, 12, 15):
        total = "+".join(rf"\sqrt{{{p}}}" for p in primes[:count])
        yield total
        yield rf"\frac{{1}}{{{total}}}"
        yield rf"\sqrt{{{total}}}"
        yield f"({total})^{{{chance.randint(5, 30)}}}"
    yield from (
        r"\sqrt[97]{2}+\sqrt[89]{3}",
        r"\sqrt[1000]{2+\sqrt[999]{3}}",
        r"\sqrt[99999999]{3}",
        r"\frac{1}{\sqrt[3]{2}+\sqrt[3]{3}+\sqrt[3]{5}}",
        r"\sqrt{\sqrt{2}+\sqrt[3]{3}+\sqrt[5]{5}+\sqrt[7]{7}}",
    )
    yield from (
        r"\sqrt[3]{2+\sqrt{5}}+\sqrt[3]{2-\sqrt{5}}",
        r"\sqrt[3]{7+5\sqrt{2}}-\sqrt[3]{7-5\sqrt{2}}+x",
        r"(-1)^{1/97}",
        r"(-8)^{\frac{1}{99}}",
        r"i^{\frac{1}{1000}}",
        r"\sqrt{i+\sqrt{i+\sqrt{i}}}",
    )


@_family
def _fractions(chance: random.Random) -> Iterator[str]:
    """Fractions within fractions, long sums of them, many slashes."""
    for depth in (5, 10, 15, 20, 29):
        yield nest(r"\frac{1}{2+", "x", "}", depth)
        yield nest(r"\cfrac{1}{a+", r"\frac{1}{b}", "}", depth)
        yield nest(r"1/(1+", "x", ")", depth)
        yield nest(r"\frac{\sin x}{1+", "x", "}", depth)
        yield nest(r"\frac{x^2}{x^3+y-", "y", "}", depth)
        yield "".join(rf"\frac{{x_{{{a}}}}}{{y_{{{a}}}+" for a in range(depth)) + "1" + "}" * depth
    yield from (
        "/".join("2" * 200),
        "/".join("x" * 300),
        "1" + "/2" * 480,
        r"\frac" * 300,
        r"\frac{" * 300,
        r"\frac12" * 120,
        "\\frac{1}{0}",
        "1/0",
        "0/0",
        r"\frac{x}{0}",
        r"\frac{1}{x-x}",
        r"\frac{0}{0}",
    )
    yield "+".join(rf"\frac{{1}}{{{n}}}" for n in range(1, 60))
    yield "+".join(rf"\frac{{{_big(chance, 30)}}}{{{_big(chance, 30)}}}" for _ in range(12))
    yield "+".join(rf"\frac{{{_big(chance, 8)}}}{{{_big(chance, 8)}}}\pi^{{{k}}}" for k in range(20))


# --- calculus -------------------------------------------------------------------------------------------------------


@_family
def _integrals(chance: random.Random) -> Iterator[str]:
    """Integrals that have no closed form, or a costly one."""
    bodies = (
        r"\sin(x^x)", r"x^x", r"e^{\sin x}", r"\frac{\sin x}{x+e^x}", r"\sqrt{1+x^7}", r"\ln(\ln(\ln x))", r"\frac{1}{\sqrt{x^5+x+1}}", r"\tan(x^2+1)", r"e^{e^{e^x}}", r"\frac{x^{99}}{1+x^{100}+x}",
        r"\Gamma(x)", r"\zeta(x)", r"\lfloor x^2 \rfloor", r"|\sin(x^3)|", r"\arctan(\sqrt{x}+\ln x)", r"(\sin x)^{99}(\cos x)^{98}", r"\frac{1}{x^{8}+x+1}", r"e^{-x^2}\ln x\sin x", r"\sqrt{\sin x}", r"\sqrt{\tan x}",
        r"\frac{\ln(1+x)}{1+x^2}", r"\frac{x^3}{e^x-1}", r"\sin(\sin(\sin x))", r"\frac{1}{1+\sin x+\cos^3 x}", r"x^{2000}(1+x)^{2000}", r"\prod_{k=1}^{9}(x-k)^{9}", r"\frac{\sin^5(3x)}{x^4}",
    )  # fmt: skip
    for body in bodies:
        yield rf"\int {body} dx"
        yield rf"\int_0^1 {body} \, dx"
        if chance.random() < 0.5:
            yield rf"\int_{{-\infty}}^{{\infty}} {body} \, \mathrm{{d}}x"
    yield from (
        r"\iint_{D} e^{x^2y} dx dy",
        r"\int_0^1\int_0^1\int_0^1 \sin(xyz) dx dy dz",
        r"\int\int\int\int x^x dx dx dx dx",
        nest(r"\int ", "x^x", " dx", 12),
        nest(r"\int_0^x ", r"\sin(x^2)", " dx", 8),
    )
    yield from (
        r"\oint_C \frac{dz}{z^9-1}",
        r"\int_0^{10^{100}} \sin(x^2) dx",
        r"∫_0^1 sin(x^x) dx",
        r"∫ sin(x^x) dx",
        r"\smallint x^x dx",
        r"\int\limits_0^1 x^x dx",
        r"\int^1_0 x^x dx",
        r"\int_{0}^{1}{x^{x}}dx",
    )


@_family
def _sums(chance: random.Random) -> Iterator[str]:
    """Sums and products: long, of high powers, within each other, or without a closed form."""
    bodies = (r"\frac{1}{k^2}", r"\frac{1}{k^{k}}", r"k!", r"\frac{1}{k!}", r"\sin(k)", r"k^{k}", r"\frac{1}{k^3+k+1}", r"\frac{\ln k}{k^2}", r"\sqrt{k}", r"\binom{2k}{k}", r"x^k", r"\frac{(-1)^k}{2k+1}", r"k^{99}", r"2^{k^2}", r"\frac{\sin(kx)}{k}", r"\gcd(k,99)")  # fmt: skip
    for body in bodies:
        bound = chance.choice((r"\infty", "10^{9}", "99999", "99999999", "9^{9^9}", "n"))
        command = chance.choice((r"\sum", r"\prod"))
        yield rf"{command}_{{k=1}}^{{{bound}}} {body}"
        yield rf"\sum_{{k=1}}^{{9999}} {body}"
        yield rf"\prod_{{k=1}}^{{2000}} ({body}+1)"
    yield from (
        nest(r"\sum_{k=1}^{9}", "k", "", 12),
        nest(r"\sum_{i=1}^{n}", "i^2", "", 8),
        nest(r"\prod_{k=1}^{99}", "k", "", 6),
        r"\sum_{i=1}^{99}\sum_{j=1}^{99}\sum_{k=1}^{99} i^jk",
        r"\prod_{p} \frac{1}{1-p^{-2}}",
    )
    yield from (
        r"\sum_{d|n} \phi(d)",
        r"∑_{k=1}^{99999999} k^k",
        r"∏_{k=1}^{99999999} k",
        r"\sum\limits_{k=1}^{10^8} \frac{1}{k}",
        r"\sum^{99999999}_{k=1} k!",
        r"1+2+\cdots+99999999^{99999}",
        r"\sum_{k=1}^{n} k^{200}",
        r"\sum_{k=-99999999}^{99999999} \frac{1}{k^2+1}",
    )


@_family
def _limits(chance: random.Random) -> Iterator[str]:
    """Limits and derivatives."""
    yield from (
        r"\lim_{n\to\infty} (1+\frac{1}{n})^{n^2}",
        r"\lim_{x\to 0} \frac{\sin(\tan x)-\tan(\sin x)}{\arcsin(\arctan x)-\arctan(\arcsin x)}",
        r"\lim_{x\to\infty} x^{x^{x}}",
        r"\lim_{n\to\infty}\frac{n!}{n^n}",
        r"\lim_{x\to 0} x^{x^{x^{x}}}",
    )
    yield from (
        r"\lim_{x\to0}\frac{e^{x^{20}}-1-x^{20}}{x^{40}}",
        r"\lim_{x\to\infty}\frac{\Gamma(x+1)}{x^x}",
        r"\lim_{n\to\infty}\sum_{k=1}^{n}\frac{n}{n^2+k^2}",
        nest(r"\lim_{x\to 0}", r"\frac{\sin x}{x}", "", 9),
        r"\lim_{x\to\infty}\sqrt[x]{x!}",
    )
    yield from (
        r"\lim_{x\to0}\left(\frac{\sin x}{x}\right)^{\frac{1}{x^2}}",
        r"\lim_{x\to\infty}(\ln x)^{\ln\ln x}/x",
        r"\lim_{x\to 0}\frac{\sin(x^{99})}{x^{98}}",
        r"\lim_{x\to 0^{+}} \ln(x)^{\sin(x)\tan(x)}",
        r"\frac{d}{dx} x^{x^{x^{x}}}",
    )
    yield from (
        nest(r"\frac{d}{dx}(", r"e^{x^x}", ")", 8),
        nest(r"\frac{d}{dx}", r"\tan(x)^{x}", "", 10),
        r"\frac{d^{99}}{dx^{99}} \tan x",
        r"\frac{\partial^{20}}{\partial x^{20}} e^{x^2y}",
        r"\frac{d^{9999}}{dx^{9999}} x^{9999}",
        r"\frac{\partial}{\partial x}(x+y)^{999}",
    )
    for _ in range(4):
        yield rf"\lim_{{x\to {chance.randint(0, 9)}}} \frac{{(x-1)^{{{chance.randint(50, 999)}}}-\sin^{{{chance.randint(9, 99)}}}(x)}}{{\ln(1+x^{{{chance.randint(9, 99)}}})}}"


@_family
def _special(chance: random.Random) -> Iterator[str]:
    """Special functions at unpleasant places."""
    for name in (
        r"\Gamma",
        r"\zeta",
        r"\psi",
        r"\operatorname{Li}",
        r"\operatorname{erf}",
        r"\mathrm{Ai}",
        r"J_{99}",
        r"\eta",
        r"\beta",
        "W",
        r"\theta",
    ):
        yield rf"{name}({_big(chance, 8)})"
        yield rf"{name}(\frac{{1}}{{{_big(chance, 5)}}})"
        yield rf"{name}({name}({name}({chance.randint(5, 99)})))"
    yield from (
        r"\zeta(3)",
        r"\zeta(99999999)",
        r"\zeta(-99999)",
        r"\zeta(\frac12+10^{9}i)",
        r"\Gamma(\frac13)^{99}",
        r"\Gamma(-99999.5)",
        r"\arctan(\arctan(10^{9999}))",
        r"\sin(\cos(\tan(\sin(\cos(\tan(x^{x}))))))",
    )
    yield from (
        r"\cosh(99999999)",
        r"\sinh(\sinh(\sinh(9)))",
        r"\arcsin(10^{300})",
        r"\cot(\frac{\pi}{9999})",
        r"\cos(\frac{\pi}{257})",
        r"\cos(\frac{2\pi}{65537})",
        r"\tan(\frac{\pi}{97})+\tan(\frac{2\pi}{97})",
        r"\sin(1^\circ)",
    )
    yield from (
        r"\log_{2}(\log_{2}(\log_{2}(2^{2^{2^{99999}}})))",
        r"\log_{x}(\log_{x}(\log_x(x^{x^{x}})))",
        nest(r"\ln(", "99999999", ")", 20),
        nest(r"\log(", "x", ")", 25),
        r"\log_{10^{9999}}{7^{9999}}",
        nest(r"\log_{2}{", "x", "}", 20),
    )
    yield "*".join(rf"\cos(\frac{{{k}\pi}}{{31}})" for k in range(1, 31))
    yield "+".join(rf"\cos(\frac{{{k}\pi}}{{61}})" for k in range(1, 40))
    yield "+".join(rf"\sin^{{{k}}}({k}x)\cos^{{{k}}}(x)" for k in range(2, 20))
    yield "".join(rf"\sin({k}x)" for k in range(1, 40))
    yield r"\sin(\sum_{k=1}^{99}kx)"
    yield nest(r"\sin(x+", "y", ")", 20)
    yield nest(r"\tan(2", "x", ")", 14)
    yield nest(r"\arcsin(\frac{1}{2}+", "x", ")", 10)


# --- structures -----------------------------------------------------------------------------------------------------


def _rows(name: str, rows: int, columns: int, cell: Callable[[int, int], str]) -> str:
    lines = (" & ".join(cell(i, j) for j in range(columns)) for i in range(rows))
    return rf"\begin{{{name}}}" + r" \\ ".join(lines) + rf"\end{{{name}}}"


@_family
def _matrices(chance: random.Random) -> Iterator[str]:
    """Matrices of many or heavy entries, determinants, inverses, powers."""
    kinds = (
        lambda i, j: str(i * 7 + j), lambda i, j: f"x^{{{i}}}+{j}", lambda i, j: f"a_{{{i}{j}}}", lambda i, j: rf"\sqrt{{{i + j + 2}}}", lambda i, j: rf"\sin({i}x+{j})",
        lambda i, j: rf"\frac{{1}}{{{i + j + 1}}}",
    )  # fmt: skip
    for cell in kinds:
        for name, size in (
            ("pmatrix", 4),
            ("bmatrix", 7),
            ("vmatrix", 5),
            ("vmatrix", 9),
            ("pmatrix", 12),
            ("array", 6),
        ):
            text = _rows(name, size, size, cell)
            yield text
            if size < 7 and chance.random() < 0.6:
                yield text + chance.choice(
                    ("^{-1}", "^{99}", "^{999999}", r"\cdot" + text, "^{T}", "^{x}", "!")
                )
    yield rf"\det{_rows('pmatrix', 6, 6, kinds[2])}"
    yield rf"\det\left({_rows('pmatrix', 8, 8, kinds[1])}\right)"
    yield _rows("pmatrix", 2, 2, lambda i, j: "9^{9^{9^9}}")
    yield _rows("pmatrix", 2, 2, lambda i, j: r"\int \sin(x^x) dx")
    yield _rows("pmatrix", 2, 2, lambda i, j: "x") + "^{99999999}"
    yield _rows("pmatrix", 2, 2, lambda i, j: f"{i + 2 * j}") + "^{9999}"
    yield rf"e^{{{_rows('pmatrix', 3, 3, kinds[0])}}}"
    yield _rows("pmatrix", 200, 200, lambda i, j: "1")
    yield _rows("pmatrix", 1, 60, lambda i, j: f"x+{j}")
    yield "&" * 900
    yield r"\begin{pmatrix}" + r"\\" * 400 + r"\end{pmatrix}"
    yield r"\begin{pmatrix}" * 40
    yield nest(r"\begin{pmatrix} 1 & ", "2", r" \end{pmatrix}", 10)
    yield r"\begin{pmatrix} 1 & 2 \\ 3 & x \end{pmatrix}" * 20
    yield r"\begin{array}{" + "c" * 5000 + "} 1 \\end{array}"


@_family
def _sets(chance: random.Random) -> Iterator[str]:
    """Sets, unions, tuples, intervals, chains of signs."""
    for count in (20, 64, 100, 400):
        yield r"\{" + ", ".join(rf"\sqrt{{{k}}}" for k in range(count)) + r"\}"
        yield ", ".join(f"x_{{{k}}}={k}" for k in range(count))
        yield "(" + ", ".join(str(chance.randint(1, 99)) for _ in range(count)) + ")"
        yield r" \cup ".join(f"({k}, {k + 1})" for k in range(count))
        yield r" \cup ".join(rf"[\sqrt{{{k}}}, \pi^{{{k}}})" for k in range(2, count // 4 + 3))
    for count in (2, 5, 10, 20, 60):
        yield r"\pm " + r" \pm ".join(rf"\sqrt{{{k + 2}}}" for k in range(count))
        yield r" \mp ".join("abcdfghkmnpqrstuvwxyz"[k % 21] for k in range(count + 1))
        yield "±".join("1" * (count + 1))
        yield ", ".join(rf"\pm {k}" for k in range(count))
    yield from (
        r"\{x \mid x^{99}+x+1=0\}",
        r"\{x : \sin(x^x) < 1\}",
        r"\{n \in \mathbb{Z} \mid 0 < n < 10^{9}\}",
        r"\{1, 2, \ldots, 99999999\}",
        r"\mathbb{R} \setminus \{" + ",".join(map(str, range(200))) + r"\}",
    )
    yield from (
        r"(-\infty, 9^{9^9}) \cup (9^{9^{9^9}}, \infty)",
        r"[0, 1] \cap [\sin(9^{99}), 2]",
        r"\mathbb{R} \times \mathbb{R} \times \mathbb{C}",
        r"2^{\{1,2,3\}}",
        r"\mathcal{P}(\mathcal{P}(\mathcal{P}(\{1,2,3,4,5\})))",
    )
    yield from (
        nest("(1, ", "2", ")", 20),
        nest(r"\{1, ", "2", r"\}", 20),
        nest(r"\{", "", r"\}", 29),
        r" \cap ".join(f"[{k}, \\infty)" for k in range(80)),
        r" \setminus ".join(rf"\{{{k}\}}" for k in range(60)),
    )
    yield from (
        ", ".join("abcdefgh" * 60),
        ";".join("1" * 400),
        ",".join("," * 400),
        ":".join("1" * 300),
        "|".join("1" * 300),
        r" \text{ and } ".join("1" * 100),
        " or ".join(str(k) for k in range(150)),
    )


@_family
def _relations(chance: random.Random) -> Iterator[str]:
    """Equations and inequalities that somebody may solve."""
    yield from (
        r"x^{99}+x+1=0",
        r"\sin(x^x)=\cos(x)",
        r"x^5-x-1=0",
        r"x^5+y^5+z^5=1",
        r"x^{20}-3x^7+y^{19}=2",
        r"e^x+\ln x+x^7=y",
        r"|x|+|x-1|+|x-2|+|x-3|+|x-4|<9",
        r"\sin x<x^{99}",
        r"x^{x}=2",
        r"x^{x^{x}}>y",
        r"\sqrt{x+1}+\sqrt{x+2}+\sqrt{x+3}+\sqrt{x+4}=9",
    )
    yield from (
        r"x^3+y^3+z^3-3xyz<0",
        r"\frac{1}{x-1}+\frac{1}{x-2}+\frac{1}{x-3}+\frac{1}{x-4}>0",
        r"\lfloor x\rfloor+\lfloor 2x\rfloor=9",
        r"2^x+3^x=5^y",
        r"\tan x+\tan 2x+\tan 3x=y",
        r"\ln(x+y)=\sin(xy)",
        r"x^2+y^2-4x=\sin(9^{9^9})",
        r"a^2+b^2+c^2+d^2<\sqrt{abcd}",
        r"(x+1)^{300}=y^{300}",
        r"x^{2000}+y^{2000}=1",
    )
    yield from (
        "=".join("x" * 300),
        "<".join("x" * 300),
        r" \le ".join(f"x_{{{k}}}" for k in range(60)),
        "=".join(str(k) for k in range(200)),
        r" \neq ".join("x" * 60),
        r"x \in \{" + ",".join(map(str, range(300))) + r"\}",
        r" \iff ".join("x=1" for _ in range(60)),
    )
    yield r"\begin{cases}" + r" \\ ".join(f"x_{{{k}}}+x_{{{k + 1}}}={k}" for k in range(25)) + r"\end{cases}"
    yield ", ".join(f"{chance.randint(2, 9)}x_{{{k}}}^{{{k + 2}}}+x_{{{k + 1}}}={k}" for k in range(12))
    for _ in range(8):
        degree = chance.randint(5, 30)
        yield (
            "+".join(f"{chance.randint(2, 99)}x^{{{k}}}y^{{{degree - k}}}" for k in range(degree))
            + chance.choice(("=", "<", r"\ge "))
            + "0"
        )


# --- texts ----------------------------------------------------------------------------------------------------------


@_family
def _unicode(chance: random.Random) -> Iterator[str]:
    """Superscripts, combining characters, odd digits, look-alikes, broken code points."""
    yield from (
        "9⁹⁹⁹⁹⁹⁹⁹",
        "2²²²²²²²²²",
        "x⁹⁹⁹⁹⁹⁹⁹⁹",
        "(x+1)²⁰⁰⁰",
        "⁹⁹⁹⁹",
        "√" * 300 + "2",
        "√√√√√√√√√√√2",
        "∛" * 50 + "3",
        "9" + "⁹" * 5000,
        "x" + "²" * 200,
        "½" * 300,
        "1⁄0",
        "¼⁄⅔⁄½",
        "∞^∞",
        "∞-∞",
    )
    yield from (
        "2\u20dd^{9^9}",
        "1" + "\u0301" * 900,
        "x" + "\u0301" * 200_000,
        "\u202e9^9^9^9",
        "\ud800\udfff",
        "\x00",
        "\x00" * 900,
        "a\x1bb\x7f",
        "\ufeff" * 1000,
        "\u200b" * 200_000,
        "９＾９＾９＾９",
        "9＾{9＾{9＾9}}",
        "９⁹⁹⁹⁹⁹⁹",
        "𝟗^{𝟗^{𝟗^𝟗}}",
    )
    yield from (
        "Ⅸ^Ⅸ^Ⅸ",
        "٩^{٩^{٩^٩}}",
        "९^९^९^९",
        "九的九次方的九次方",
        "百" * 500,
        "万" * 900,
        "億" * 300,
        "ﷺ" * 300,
        "ﷺ" * 30_000,
        "㎢" * 500,
        "Å" * 500,
        "ﬁ" * 900,
        "∑" * 400,
        "∫" * 300,
        "∫sin(x^x)dx",
        "∏_{k=1}^{99999999}k",
    )
    for _ in range(12):
        yield "".join(
            chr(
                chance.choice(
                    (
                        chance.randrange(32, 127),
                        chance.randrange(0x370, 0x400),
                        chance.randrange(0x2070, 0x2100),
                        chance.randrange(0x2200, 0x2300),
                        chance.randrange(0x1D400, 0x1D7FF),
                    )
                )
            )
            for _ in range(chance.choice((40, 300, 900)))
        )


@_family
def _texts(chance: random.Random) -> Iterator[str]:
    """Long texts and repeated pieces, each against patterns that may go back and forth over them."""
    pieces = (" ", "\n", "\\", "$", "a ", "1 ", "1,", "1,000", "a,b;", r"\text{a}", r"\text{", "}", r"\ ", r"\,", r"\quad", r"\frac", "^", "_", "=", "%", r"\%", "x=", "and ", "or ", " is ", r"\boxed{1}", r"\boxed{", r"\fbox{", r"\left(", "0", ".", "-", "1/", "e", "e1", "10^", r"\circ", r"^\circ", "degrees ", "1 000 ", "np.", "sqrt(", "inf", r"\\", "&", "~", "°", "answer is ", "I hope it is correct", "th ", "1st ", r"\mathrm{m}", r"\pm", ":", "<", r"\le", "|", "'", '"', "<think>", "</think>", "#### ", r"\begin{pmatrix}", r"\begin{array}{c}", "٣", "²")  # fmt: skip
    for piece in pieces:
        yield piece * (580 // len(piece))
        yield piece * (990 // len(piece))
        yield piece * (4900 // len(piece))
    for piece in chance.sample(pieces, 24):
        yield piece * (1_000_000 // len(piece))
    for _ in range(10):
        yield "".join(chance.choice(pieces) for _ in range(chance.choice((60, 150, 900))))
    yield from (
        "27" + " " * 1_000_000 + "x",
        "x" * 1_000_000,
        "1" * 1_000_000,
        "1." + "0" * 1_000_000,
        "1e" + "9" * 1_000_000,
        "a " * 500_000,
        "27 " * 300_000,
        "(" * 500_000 + ")" * 500_000,
        ("x+" * 300)[:-1],
        ("2x+3y-" * 150)[:-1],
    )


@_family
def _many(chance: random.Random) -> Iterator[str]:
    """Much of everything within the length that is looked at: variables, terms, functions, chance grammar."""
    letters = "abcdfghklmnpqrstuvwxyzABCDFGHKLMNPQRSTUVWXYZ"
    yield "".join(letters)
    yield "+".join(letters)
    yield "*".join(f"({a}+{b})" for a, b in zip(letters, letters[1:], strict=False))
    yield "+".join(f"{a}^{{{k}}}" for k, a in enumerate(letters))
    yield rf"\frac{{{'+'.join(letters[:20])}}}{{{'-'.join(letters[20:])}}}"
    yield rf"\left({'+'.join(letters[:9])}\right)^{{9}}-\left({'-'.join(letters[:9])}\right)^{{9}}"
    yield "+".join(rf"\alpha_{{{k}}}\beta_{{{k}}}" for k in range(40))
    for _ in range(60):
        yield _grown(chance, chance.randint(3, 6))[:900]


def _grown(chance: random.Random, depth: int) -> str:
    """An expression of chance, so many levels deep."""
    if depth == 0 or chance.random() < 0.08:
        return chance.choice(("x", "y", "2", "7", "99", r"\pi", "e", "i", "n", "1.5", "10", r"\infty", "0"))
    forms = ("{a}+{b}", "{a}-{b}", r"{a}\cdot {b}", r"\frac{{{a}}}{{{b}}}", "({a})^{{{b}}}", r"\sqrt{{{a}}}", r"\sqrt[3]{{{a}}}", r"\sin({a})", r"\ln({a})", "({a})!", r"\binom{{{a}}}{{{b}}}", "({a})({b})", r"\lfloor {a} \rfloor", "|{a}|", r"e^{{{a}}}", r"\arctan({a})", r"\log_{{{a}}}({b})", r"\sum_{{k=1}}^{{{a}}} {b}", r"\int_0^{{{a}}} {b} dx", r"\max({a},{b})", r"\tan({a})", "{a}={b}", "({a},{b})")  # fmt: skip
    form = chance.choice(forms)
    return form.format(a=_grown(chance, depth - 1), b=_grown(chance, depth - 1) if "{b}" in form else "")
