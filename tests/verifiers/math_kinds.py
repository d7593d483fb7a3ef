r"""Kinds of answers that graders get wrong, found by reading reports about other graders and by probing ours and math-verify.

Each kind has answers that are right and answers that are wrong; sources are repository#number where a report gave the idea, and
"own" where none did. No row is taken from a data set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A kind of answer: (gold, answer) pairs that are right and that are wrong, under the same options."""

    name: str
    source: str
    right: tuple[tuple[str, str], ...]
    wrong: tuple[tuple[str, str], ...]
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    texts: bool = False
    """Whether the answers are whole responses."""


KINDS = (
    Kind(
        "colour and size", "iDiagoValeta/localOllamaRAG#208",
        (("12", "\\color{red}{12}"), ("12", "{\\color{blue} 12}"), ("\\frac{1}{2}", "\\textcolor{red}{\\frac{1}{2}}"),
         ("12", "\\boldsymbol{12}"), ("12", "\\underline{12}"), ("12", "\\bm{12}"), ("12", "\\large{12}"),
         ("x+1", "\\boldsymbol{x+1}"), ("12", "\\Large 12"), ("12", "\\emph{12}"), ("12", "\\underline{\\underline{12}}")),
        (("12", "\\color{red}{13}"), ("12", "{\\color{blue} 2}"), ("12", "\\underline{1}2\\underline{1}"),
         ("12", "\\textcolor{red}{1} + \\textcolor{blue}{12}"), ("\\frac{1}{2}", "\\boldsymbol{\\frac{2}{1}}")),
    ),
    Kind(
        "a command and round brackets", "huggingface/Math-Verify#41",
        (("4\\sqrt{2}", "4\\sqrt(2)"), ("\\sqrt{2}", "sqrt(2)"), ("\\sqrt{x+1}", "\\sqrt(x+1)"), ("2\\sqrt{3}", "2*sqrt(3)")),
        (("4", "4\\sqrt(2)"), ("8", "4\\sqrt(2)"), ("\\sqrt{2}", "\\sqrt(3)"), ("4\\sqrt{2}", "4\\sqrt(2)+1")),
    ),
    Kind(
        "plus or minus where one is asked", "huggingface/Math-Verify#14",
        (("\\pm 21", "\\pm 21"), ("\\pm 21", "21, -21"), ("\\pm\\sqrt{2}", "\\sqrt{2} \\text{ or } -\\sqrt{2}"),
         ("3 \\pm \\sqrt{2}", "3 - \\sqrt{2}, 3 + \\sqrt{2}")),
        (("\\pm 21", "21"), ("21", "\\pm 21"), ("-21", "\\pm 21"), ("\\pm 21", "-21"), ("3+\\sqrt{2}", "3 \\pm \\sqrt{2}")),
    ),
    Kind(
        "times of day and ratios with a colon", "huggingface/Math-Verify#14",
        (("12:00", "12:00"), ("3:4", "3 : 4"), ("3:4", "6:8"), ("10:15", "\\text{10:15}"), ("3:4", "3\\!:\\!4"),
         ("3:4", "\\frac{3}{4}")),
        (("12:00", "1:00"), ("3:4", "4:3"), ("10:15", "10:51"), ("10:15", "10.15"), ("12:00", "12:30"), ("3:4", "3, 4")),
    ),
    Kind(
        "ellipses in lists", "huggingface/Math-Verify#14",
        (("1, 2, \\ldots, n", "1,2,\\dots,n"), ("1, 3, 5, \\ldots, 2n-1", "1, 3, 5, \\cdots, 2n-1"),
         ("1, 2, \\ldots, n", "\\{1, 2, \\ldots, n\\}")),
        (("1, 2, \\ldots, n", "1, 3, 5, \\ldots, 2n-1"), ("1, 2, \\ldots, n", "1, 2, \\ldots, n-1"),
         ("1, 2, \\ldots, n", "1, 2, n"), ("1, 2, \\ldots, 9", "1, 2, \\ldots, 10")),
    ),
    Kind(
        "upright constants", "huggingface/Math-Verify#14",
        (("1-\\frac{1}{e}", "1 - \\frac{1}{\\mathrm{e}}"), ("2+3i", "2+3\\mathrm{i}"), ("e^2", "\\mathrm{e}^{2}"),
         ("2+3i", "2 + 3\\text{i}"), ("\\frac{\\pi}{2}", "\\frac{\\mathrm{\\pi}}{2}")),
        (("1-\\frac{1}{e}", "1 + \\frac{1}{\\mathrm{e}}"), ("2+3i", "2-3\\mathrm{i}"), ("e^2", "\\mathrm{e}^{3}"),
         ("1-\\frac{1}{e}", "1 - \\mathrm{e}")),
    ),
    Kind(
        "linear equations with other coefficients", "huggingface/Math-Verify#60",
        (("3x-y+13=0", "y = 3x+13"), ("3x-y+13=0", "-3x+y=13"), ("2x+4y-3=0", "4x + 8y = 6"), ("y=2x+1", "2x - y + 1 = 0")),
        (("3x-y+13=0", "3x+4y+14=0"), ("3x-y+13=0", "3x-y+14=0"), ("3x-y+13=0", "3x-y+13"), ("y=2x+1", "y = x + 2"),
         ("3x-y+13=0", "0=0")),
    ),
    Kind(
        "golds that no parser reads", "huggingface/open-r1#293",
        (("\\text{see the proof}", "\\text{see the proof}"), ("\\ddagger\\star", "\\ddagger\\star"), ("\\text{AAS}", "AAS"),
         ("f^{\\dagger}g", "f^{\\dagger} g")),
        (("\\text{see the proof}", "5"), ("\\ddagger\\star", "7"), ("\\ddagger\\star", "\\text{anything}"),
         ("\\text{AAS}", "\\text{SAS}"), ("f^{\\dagger}g", "0"), ("\\ddagger\\star", "\\star\\ddagger\\star")),
    ),
    Kind(
        "signs and ends of numbers", "UKGovernmentBEIS/inspect_ai#3916",
        (("-5", "-5"), ("-5", "−5"), ("5", "5.0"), ("3.14", "3.140"), ("-5", "-5.")),
        (("-5", "5"), ("5", "25"), ("5", "50"), ("3.14", "33.14"), ("3.14", "3.141"), ("5", "-5"), ("5", "0.5")),
    ),
    Kind(
        "currencies", "UKGovernmentBEIS/inspect_ai#4646",
        (("27", "\\$27.00"), ("\\$27", "27 \\text{ dollars}"), ("27", "€27"), ("27", "£27.00"), ("27", "\\text{€}27"),
         ("27", "27 \\text{ USD}"), ("27", "\\text{Rs. } 27"), ("27", "¥27"), ("\\$4.50", "4.50 \\text{ dollars}")),
        (("27", "\\$2.70"), ("\\$27", "\\$27.01"), ("\\$27", "27 \\text{ cents}"), ("27", "€28"), ("\\$4.50", "\\$4.05"),
         ("\\$27", "€27")),
    ),
    Kind(
        "percent in words", "UKGovernmentBEIS/inspect_ai#1622",
        (("60\\%", "60 \\text{ percent}"), ("60\\%", "60\\text{ per cent}"), ("60\\%", "60\\text{\\%}"), ("60\\%", "0.6"),
         ("60\\%", "\\frac{3}{5}"), ("60", "60\\%")),
        (("60\\%", "6\\%"), ("60\\%", "0.06"), ("60\\%", "61 \\text{ percent}"), ("60\\%", "600\\%"), ("60\\%", "\\frac{2}{5}")),
    ),
    Kind(
        "answers in bold, without a box", "huggingface/Math-Verify#76",
        (("73", "So all four are owned by 73 people.\n\n---\n\nFinal Answer: **73**"),
         ("73", "Right: 122 + 294 + 489 = 905\n\n✅ Final Answer: **73**"), ("73", "Thus the number is **73**."),
         ("\\frac{1}{2}", "**Answer:** $\\frac{1}{2}$"), ("73", "**Final answer: 73**"), ("73", "__Answer__: 73")),
        (("73", "Final Answer: **74**"), ("73", "With 73 people we get\n\nFinal Answer: **7**"), ("3", "✅ Final Answer: **73**"),
         ("7", "**Final answer: 73**")),
        texts=True,
    ),
    Kind(
        "punctuation behind an answer in a sentence", "UKGovernmentBEIS/inspect_ai#4742",
        (("42", "The answer is 42!"), ("42", "The answer is (42)."), ("42", "The answer is: 42;"), ("42", "The answer is \"42\"."),
         ("42", "The answer is 42, as claimed.")),
        (("42", "The answer is 43!"), ("42", "The answer is 4.2."), ("42", "The answer is (24)."), ("4", "The answer is 42!")),
        texts=True,
    ),
    Kind(
        "answers announced in other languages", "own",
        (("42", "因此，答案是 42。"), ("42", "最终答案：$42$"), ("42", "所以答案为 $\\boxed{42}$。"), ("42", "La réponse est $42$."),
         ("42", "Ответ: 42")),
        (("42", "因此，答案是 24。"), ("42", "所以答案为 $\\boxed{43}$，不是 42。"), ("42", "Ответ: 420"), ("2", "最终答案：$42$")),
        texts=True,
    ),
    Kind(
        "boxes written otherwise", "own",
        (("5", "The answer is $\\boxed 5$."), ("5", "The answer is $\\boxed {5}$."), ("5", "So $\\fbox{5}$."),
         ("5", "$\\boxed{5}$ and so on. \\boxed{}"), ("5", "\\[\\boxed{\n5\n}\\]"), ("5", "$\\boxed{x = 5}$"),
         ("5", "$x = \\boxed{5}$ where 5 < 6.")),
        (("5", "The answer is $\\boxed 6$, not 5."), ("5", "$\\boxed{5}$? No: $\\boxed{6}$."), ("5", "So $\\fbox{6}$; 5 is too small."),
         ("5", "$\\boxed{x = 6}$, 5")),
        texts=True,
    ),
    Kind(
        "digits of other scripts", "own",
        (("42", "٤٢"), ("42", "४२"), ("42", "𝟒𝟐"), ("105", "１０５"), ("42", "𝟺𝟸")),
        (("42", "٤٣"), ("42", "४३"), ("42", "𝟒𝟑"), ("4", "٤٢"), ("105", "１５０")),
    ),
    Kind(
        "invisible characters", "own",
        (("42", "4\u200b2"), ("42", "\ufeff42"), ("42", "42\u00a0"), ("x+1", "x\u2062+\u20611"), ("-5", "-\u00a05"),
         ("42", "\u202a42\u202c"), ("1000", "1\u202f000")),
        (("42", "4\u200b3"), ("42", "\ufeff24"), ("42", "\u00ad4"), ("-5", "\u200b5"), ("1000", "1\u202f001")),
    ),
    Kind(
        "groups of digits in other countries", "Khan/khan-exercises#129156",
        (("100000", "1,00,000"), ("1234567", "1 234 567"), ("1234567", "1\\,234\\,567"), ("1234567", "1'234'567"),
         ("12345678", "1,23,45,678"), ("1234567", "1~234~567"), ("1234567", "1_234_567")),
        (("100000", "1,00,001"), ("1234567", "1 234 568"), ("1234567", "1\\,234\\,56"), ("100000", "1,00,0000"),
         ("1234567", "1'234'576")),
    ),
    Kind(
        "semicolons between values", "own",
        (("(2,3)", "(2; 3)"), ("[2,5)", "[2; 5)"), ("1, 2, 3", "1; 2; 3"), ("(1.5,2)", "(1{,}5; 2)"), ("(2,3)", "(2;3)")),
        (("(2,3)", "(3; 2)"), ("[2,5)", "[2; 5]"), ("1, 2, 3", "1; 2"), ("(2,3)", "(2;4)"), ("1,2,3", "1; 2; 4")),
    ),
    Kind(
        "open intervals with turned brackets", "own",
        (("(2,3)", "]2,3["), ("[2,5)", "[2,5["), ("(2,5]", "]2,5]"), ("(-\\infty,4)", "]-\\infty, 4[")),
        (("[2,3]", "]2,3["), ("[2,5]", "[2,5["), ("(2,5]", "[2,5["), ("(-\\infty,4]", "]-\\infty, 4["), ("(2,3)", "]2,4[")),
    ),
    Kind(
        "inequalities turned round", "own",
        (("(-\\infty,3)", "3 > x"), ("x < 3", "3 > x"), ("(2,5]", "5 \\ge x > 2"), ("(2,5]", "x > 2 \\text{ and } x \\le 5"),
         ("[4,\\infty)", "4 \\leq x"), ("x \\ge 4", "4 \\le x")),
        (("(-\\infty,3)", "3 < x"), ("x < 3", "3 \\ge x"), ("(2,5]", "5 > x \\ge 2"), ("(2,5]", "x > 2 \\text{ or } x \\le 5"),
         ("[4,\\infty)", "4 \\geq x"), ("x \\ge 4", "x \\ge 5")),
    ),
    Kind(
        "sets without a point", "own",
        (("(-\\infty,2)\\cup(2,\\infty)", "\\mathbb{R} \\setminus \\{2\\}"), ("(-\\infty,2)\\cup(2,\\infty)", "x \\ne 2"),
         ("(-\\infty,2)\\cup(2,\\infty)", "\\{x \\in \\mathbb{R} \\mid x \\neq 2\\}"),
         ("(-\\infty,2)\\cup(2,\\infty)", "x \\in \\mathbb{R}, x \\neq 2"),
         ("(-\\infty,2)\\cup(2,\\infty)", "\\mathbb{R} - \\{2\\}")),
        (("(-\\infty,2)\\cup(2,\\infty)", "\\mathbb{R} \\setminus \\{3\\}"), ("(-\\infty,2)\\cup(2,\\infty)", "x \\ne 3"),
         ("(-\\infty,2)\\cup(2,\\infty)", "\\mathbb{R}"), ("(-\\infty,2)\\cup(2,\\infty)", "\\{2\\}"),
         ("(-\\infty,2)\\cup(2,\\infty)", "x = 2"), ("2", "x \\ne 2")),
    ),
    Kind(
        "sets by a condition", "own",
        (("(3,\\infty)", "\\{x \\mid x > 3\\}"), ("[1,4]", "\\{x : 1 \\le x \\le 4\\}"), ("(3,\\infty)", "\\{x \\in \\mathbb{R} : x > 3\\}"),
         ("(-\\infty,0)\\cup(3,\\infty)", "x < 0 \\text{ or } x > 3")),
        (("(3,\\infty)", "\\{x \\mid x < 3\\}"), ("[1,4]", "\\{x : 1 \\le x < 4\\}"), ("(3,\\infty)", "\\{x \\mid x \\ge 3\\}"),
         ("(-\\infty,0)\\cup(3,\\infty)", "x < 0 \\text{ or } x \\ge 3"), ("3", "\\{x \\mid x > 3\\}")),
    ),
    Kind(
        "everything and nothing", "own",
        (("(-\\infty,\\infty)", "\\mathbb{R}"), ("\\emptyset", "\\varnothing"), ("\\emptyset", "\\{\\}"),
         ("\\mathbb{R}", "\\text{all real numbers}"), ("(-\\infty,\\infty)", "x \\in \\mathbb{R}"), ("\\emptyset", "\\text{no solution}")),
        (("(-\\infty,\\infty)", "\\emptyset"), ("\\emptyset", "0"), ("\\emptyset", "\\{0\\}"), ("\\mathbb{R}", "\\mathbb{Z}"),
         ("0", "\\emptyset"), ("5", "\\mathbb{R}"), ("\\emptyset", "\\mathbb{R}"), ("[0,\\infty)", "\\mathbb{R}")),
    ),
    Kind(
        "infinity", "own",
        (("\\infty", "+\\infty"), ("\\infty", "∞"), ("\\infty", "\\text{infinity}"), ("-\\infty", "-∞")),
        (("\\infty", "-\\infty"), ("\\infty", "10^{100}"), ("-\\infty", "\\infty"), ("\\infty", "\\pm\\infty"), ("5", "\\infty")),
    ),
    Kind(
        "vectors", "own",
        (("(1,2,3)", "\\langle 1, 2, 3 \\rangle"), ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "(1, 2)^T"),
         ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{bmatrix} 1 \\\\ 2 \\end{bmatrix}"),
         ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 1 & 2 \\end{pmatrix}^T"), ("(1,2)", "\\vec{v} = (1,2)")),
        (("(1,2,3)", "\\langle 1, 3, 2 \\rangle"), ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "(2, 1)^T"),
         ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{bmatrix} 2 \\\\ 1 \\end{bmatrix}"), ("(1,2,3)", "\\langle 1, 2 \\rangle"),
         ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 1 & 3 \\end{pmatrix}^T")),
    ),
    Kind(
        "matrices as nested lists", "OrangeX4/Latex-Sympy-Calculator#10",
        (("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "[[1,2],[3,4]]"),
         ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\left[\\begin{array}{cc} 1 & 2 \\\\ 3 & 4 \\end{array}\\right]"),
         ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{bmatrix} 1&2\\\\3&4\\\\ \\end{bmatrix}"),
         ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "A = \\begin{bmatrix} 1 & 2 \\\\ 3 & 4 \\end{bmatrix}")),
        (("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "[[1,3],[2,4]]"), ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "[[1,2,3,4]]"),
         ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{vmatrix} 1 & 2 \\\\ 3 & 4 \\end{vmatrix}"),
         ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "-2"), ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\{1,2,3,4\\}")),
    ),
    Kind(
        "values in cases and aligned lines", "own",
        (("(1,2)", "\\begin{cases} x = 1 \\\\ y = 2 \\end{cases}"), ("x=1, y=2", "\\begin{aligned} x &= 1 \\\\ y &= 2 \\end{aligned}"),
         ("x=1, y=2", "\\begin{cases} y = 2 \\\\ x = 1 \\end{cases}"), ("x=1, y=2", "x = 1 \\\\ y = 2")),
        (("(1,2)", "\\begin{cases} x = 2 \\\\ y = 1 \\end{cases}"), ("x=1, y=2", "\\begin{aligned} x &= 2 \\\\ y &= 1 \\end{aligned}"),
         ("x=1, y=2", "\\begin{cases} x = 1 \\end{cases}"), ("x=1, y=2", "x = 1 \\\\ y = 3")),
    ),
    Kind(
        "binomials", "own",
        (("126", "\\binom{9}{4}"), ("126", "{9 \\choose 4}"), ("126", "\\dbinom{9}{4}"), ("\\binom{9}{4}", "\\binom{9}{5}"),
         ("\\binom{2n}{n}", "\\frac{(2n)!}{(n!)^2}"), ("126", "C(9,4)"), ("126", "{}_9C_4")),
        (("126", "\\binom{9}{3}"), ("\\binom{9}{4}", "\\binom{4}{9}"), ("\\binom{9}{4}", "\\frac{9}{4}"), ("126", "{4 \\choose 9}"),
         ("\\binom{2n}{n}", "\\binom{n}{2n}"), ("\\binom{9}{4}", "(9,4)")),
    ),
    Kind(
        "floors, ceilings, absolute values", "own",
        (("3", "\\lfloor 7/2 \\rfloor"), ("4", "\\left\\lceil \\frac{7}{2} \\right\\rceil"), ("5", "|-5|"), ("5", "\\lvert -5 \\rvert"),
         ("\\lfloor \\frac{n}{2} \\rfloor", "\\left\\lfloor n/2 \\right\\rfloor"), ("-4", "\\lfloor -7/2 \\rfloor")),
        (("4", "\\lfloor 7/2 \\rfloor"), ("3", "\\left\\lceil \\frac{7}{2} \\right\\rceil"), ("-5", "|-5|"), ("3.5", "\\lfloor 7/2 \\rfloor"),
         ("\\lfloor \\frac{n}{2} \\rfloor", "\\lceil \\frac{n}{2} \\rceil"), ("\\lfloor \\frac{n}{2} \\rfloor", "\\frac{n}{2}")),
    ),
    Kind(
        "powers of functions", "sympy/sympy#30486",
        (("\\sin^2 x", "(\\sin x)^2"), ("\\sin 2x", "\\sin(2x)"), ("\\arcsin x", "\\sin^{-1} x"), ("\\cos^2 x", "\\cos(x)^2"),
         ("\\ln^2 2", "(\\ln 2)^2"), ("\\sin x \\cos y", "\\cos y \\sin x"), ("2\\sin x\\cos x", "\\sin 2x")),
        (("\\sin^2 x", "\\sin(x^2)"), ("\\sin 2x", "2\\sin x"), ("\\arcsin x", "\\frac{1}{\\sin x}"), ("\\ln^2 2", "\\ln 4"),
         ("\\sin x \\cos y", "\\sin(x\\cos y)"), ("\\cos^2 x", "\\cos(2x)"), ("\\sin^2 x", "\\sin 2x")),
    ),
    Kind(
        "what binds closer", "shuokay on sympy/sympy#5418",
        (("-9", "-3^2"), ("512", "2^{3^2}"), ("0", "2-1-1"), ("12", "2 \\cdot 3!"), ("36", "(3!)^2"), ("\\frac{1}{6}", "\\frac{\\frac{1}{2}}{3}"),
         ("\\frac{3}{2}", "\\frac{1}{\\frac{2}{3}}"), ("2", "8/2/2")),
        (("9", "-3^2"), ("64", "2^{3^2}"), ("2", "2-1-1"), ("720", "2 \\cdot 3!"), ("\\frac{1}{6}", "\\frac{1}{\\frac{2}{3}}"), ("8", "8/2/2"),
         ("-8", "(-2)^4")),
    ),
    Kind(
        "e-notation or the number e", "own",
        (("2000", "2e3"), ("2e", "2e"), ("2e^3", "2e^{3}"), ("0.002", "2e-3"), ("2000", "2\\mathrm{e}3"), ("2000", "2\\text{E}3"),
         ("2000", "2*10^3")),
        (("2000", "2e^3"), ("2e^3", "2e3"), ("2e", "2"), ("6e", "2e3"), ("0.002", "2e^{-3}"), ("2e", "5.4"), ("2000", "2e4")),
    ),
    Kind(
        "code for mathematics", "own",
        (("\\frac{1+\\sqrt{5}}{2}", "(1 + sqrt(5))/2"), ("x^2+1", "x**2 + 1"), ("\\frac{\\pi}{4}", "pi/4"), ("3\\sqrt{5}", "3*sqrt(5)"),
         ("e^2", "exp(2)"), ("\\frac{3x}{4}", "3*x/4"), ("\\ln 2", "log(2)")),
        (("\\frac{1+\\sqrt{5}}{2}", "1 + sqrt(5)/2"), ("x^2+1", "x*2 + 1"), ("\\frac{\\pi}{4}", "pi*4"), ("3\\sqrt{5}", "3 + sqrt(5)"),
         ("e^2", "exp(3)"), ("\\frac{3x}{4}", "3*x**4")),
    ),
    Kind(
        "words for numbers", "own",
        (("7", "\\text{seven}"), ("42", "\\text{forty-two}"), ("7", "\\text{Seven}"), ("12", "\\text{twelve}"), ("\\text{seven}", "7"),
         ("120", "\\text{one hundred twenty}")),
        (("7", "\\text{seventy}"), ("42", "\\text{twenty-four}"), ("7", "\\text{eight}"), ("7", "\\text{seven or eight}"), ("12", "\\text{two}"),
         ("1", "\\text{no one}")),
    ),
    Kind(
        "ordinal numbers", "own",
        (("12", "12^{\\text{th}}"), ("12", "12\\text{th}"), ("3", "3^{rd}"), ("21", "21\\text{st}"), ("12", "12^{th}")),
        (("12", "13^{\\text{th}}"), ("12", "2\\text{nd}"), ("3", "3^{r}"), ("1", "21\\text{st}"), ("12", "12^{t}")),
    ),
    Kind(
        "one out of six", "own",
        (("\\frac{1}{6}", "1 \\text{ out of } 6"), ("\\frac{1}{6}", "1 \\text{ in } 6"), ("\\frac{3}{8}", "3 \\text{ out of } 8"),
         ("\\frac{3}{8}", "\\frac{3}{8} \\text{ of the cake}")),
        (("\\frac{1}{6}", "1 \\text{ out of } 5"), ("1", "1 \\text{ out of } 6"), ("6", "1 \\text{ in } 6"), ("\\frac{3}{8}", "8 \\text{ out of } 3"),
         ("3", "3 \\text{ out of } 8")),
    ),
    Kind(
        "degrees, minutes, seconds", "own",
        (("30.25^\\circ", "30^\\circ 15'"), ("30.5^\\circ", "30°30′"), ("30^\\circ 15'", "30.25^\\circ"),
         ("12^\\circ 30'", "12^{\\circ}30'"), ("36.51^\\circ", "36^\\circ 30' 36''")),
        (("30.25^\\circ", "30^\\circ 25'"), ("30.5^\\circ", "30°5′"), ("30", "30^\\circ 15'"), ("15", "30^\\circ 15'"),
         ("30.15^\\circ", "30^\\circ 15'")),
    ),
    Kind(
        "temperatures", "own",
        (("25", "25^\\circ\\text{C}"), ("25^\\circ\\text{C}", "25^\\circ C"), ("25^\\circ\\text{C}", "25 °C"), ("25^\\circ\\text{C}", "25℃"),
         ("25^\\circ\\text{C}", "25 \\text{ degrees Celsius}")),
        (("25^\\circ\\text{C}", "25^\\circ\\text{F}"), ("25", "26^\\circ\\text{C}"), ("25^\\circ\\text{C}", "52^\\circ C"),
         ("25^\\circ\\text{C}", "298 \\text{ K}"), ("-25", "25^\\circ\\text{C}")),
    ),
    Kind(
        "dates", "own",
        (("\\text{June 20}", "\\text{June 20th}"), ("\\text{June 20}", "\\text{20 June}"), ("\\text{June 20}", "June 20"),
         ("\\text{June 20}", "\\text{june 20}")),
        (("\\text{June 20}", "\\text{June 21}"), ("\\text{June 20}", "\\text{July 20}"), ("\\text{June 20}", "\\text{June}"),
         ("\\text{June 20}", "20"), ("\\text{June 20}", "\\text{June 2}")),
    ),
    Kind(
        "units in full", "iDiagoValeta/localOllamaRAG#208",
        (("60\\text{ mph}", "60 \\text{ miles per hour}"), ("12\\text{ cm}^2", "12 \\text{ square centimeters}"),
         ("864\\text{ in}^2", "864 \\text{ sq. in.}"), ("5\\text{ km}", "5 \\text{ kilometers}"), ("60", "60 \\text{ km/h}"),
         ("12", "12 \\text{ cm}^2")),
        (("60\\text{ mph}", "66 \\text{ miles per hour}"), ("12\\text{ cm}^2", "144 \\text{ square centimeters}"), ("5\\text{ km}", "5 \\text{ miles}"),
         ("5\\text{ km}", "50 \\text{ kilometers}"), ("144", "12 \\text{ cm}^2"), ("60\\text{ mph}", "60 \\text{ km/h}")),
    ),
    Kind(
        "the name behind", "own",
        (("x=5", "5 = x"), ("5", "5 = x"), ("\\frac{1}{2}", "\\frac{1}{2} = k"), ("y=2x+1", "2x+1=y")),
        (("x=5", "6 = x"), ("5", "6 = x"), ("x=5", "5 = y + 1"), ("y=2x+1", "2x-1=y"), ("\\frac{1}{2}", "2 = k")),
    ),
    Kind(
        "a calculation before its value", "own",
        (("7", "3 + 4 = 7"), ("3", "\\frac{12}{4} = 3"), ("120", "10 \\times 12 = 120"), ("5", "\\sqrt{9 + 16} = \\sqrt{25} = 5"),
         ("7", "7 = 3 + 4"), ("6", "3! = 6")),
        (("4", "3 + 4 = 7"), ("3", "3 + 4 = 7"), ("12", "\\frac{12}{4} = 3"), ("25", "\\sqrt{9 + 16} = \\sqrt{25} = 5"), ("12", "10 \\times 12 = 120"),
         ("8", "3 + 4 = 7")),
    ),
    Kind(
        "remarks behind a value", "own",
        (("7", "7 \\text{ (by symmetry)}"), ("2", "2 \\text{ (double root)}"), ("7", "7, \\text{ as required}"), ("7", "7 \\checkmark"),
         ("7", "7 \\text{ exactly}"), ("7", "7\\ \\blacksquare"), ("7", "7 \\quad \\text{Q.E.D.}")),
        (("7", "6 \\text{ (7 is excluded)}"), ("7", "7 \\text{ (rejected)}"), ("7", "8 \\text{ (not 7)}"), ("2", "3 \\text{ (the other root is 2)}"),
         ("7", "7 \\text{ is too small}"), ("7", "\\text{more than } 7")),
    ),
    Kind(
        "yes with a reason", "EuroEval/EuroEval#2167",
        (("\\text{Yes}", "\\text{Yes, because } n \\text{ is even}"), ("\\text{Yes}", "Yes"), ("\\text{True}", "\\text{true.}"),
         ("\\text{No}", "\\text{no}"), ("Yes", "\\textbf{Yes}")),
        (("\\text{Yes}", "\\text{No}"), ("\\text{Yes}", "\\text{Yes and no}"), ("\\text{No}", "\\text{Yes, no doubt}"), ("\\text{Yes}", "\\text{Not yes}"),
         ("\\text{True}", "\\text{False}"), ("\\text{Yes}", "\\text{Yes or no}")),
    ),
    Kind(
        "several choices", "own",
        (("\\text{A,D}", "A, D"), ("\\text{A,D}", "\\text{D and A}"), ("\\text{A,D}", "\\{A, D\\}"), ("\\text{A,D}", "\\text{(A) and (D)}"),
         ("\\text{A,D}", "A \\text{ and } D")),
        (("\\text{A,D}", "A"), ("\\text{A,D}", "A, C"), ("\\text{A,D}", "A, D, E"), ("\\text{A,D}", "\\text{A or C}"), ("\\text{A}", "A, D"),
         ("\\text{(A)}", "\\text{(A) or (D)}")),
    ),
    Kind(
        "subscripts written otherwise", "own",
        (("x_1+x_2", "x_{1}+x_{2}"), ("\\lambda_{\\text{red}}", "\\lambda_{red}"), ("x_1+x_2", "x₁ + x₂"), ("a_{10}", "a_{1 0}"),
         ("\\omega_0^2", "\\omega_{0}^{2}")),
        (("x_1+x_2", "x_{1}+x_{3}"), ("x_1", "x"), ("x_1+x_2", "x1 \\cdot x2"), ("\\lambda_{\\text{red}}", "\\lambda_{\\text{blue}}"),
         ("a_{10}", "a_{1}0"), ("\\omega_0^2", "\\omega_{2}^{0}")),
    ),
    Kind(
        "HTML and Markdown in an answer", "janhq/jan#7742",
        (("x \\le 5", "x &le; 5"), ("(-\\infty,5)", "x &lt; 5"), ("12", "**12**"), ("12", "<b>12</b>"), ("x^2", "x<sup>2</sup>"),
         ("12", "`12`"), ("12", "__12__")),
        (("x \\le 5", "x &ge; 5"), ("(-\\infty,5)", "x &gt; 5"), ("12", "**13**"), ("12", "<b>1</b>2<b>1</b>"), ("x^2", "x<sub>2</sub>"),
         ("x^2", "2x<sup>2</sup>")),
    ),
    Kind(
        "escaped backslashes", "deepseek-ai/DeepSeek-Coder#175",
        (("\\frac{1}{2}", "\\\\frac{1}{2}"), ("\\sqrt{2}", "\\\\sqrt{2}"), ("3\\pi", "3\\\\pi"), ("\\frac{\\sqrt{3}}{2}", "\\\\frac{\\\\sqrt{3}}{2}")),
        (("\\frac{1}{2}", "\\\\frac{2}{1}"), ("\\sqrt{2}", "\\\\sqrt{3}"), ("3\\pi", "3\\\\times"), ("12", "1\\\\2"), ("3\\pi", "3")),
    ),
    Kind(
        "stops of other languages", "own",
        (("42", "42。"), ("(1,2)", "（1，2）"), ("1, 2", "1、2"), ("x=5", "x＝5"), ("60\\%", "60％")),
        (("42", "43。"), ("(1,2)", "（2，1）"), ("1, 2", "1、3"), ("x=5", "x＝6"), ("12", "1、2")),
    ),
    Kind(
        "hexadecimal letters", "EleutherAI/lm-evaluation-harness#3785",
        (("2A7_{16}", "2a7_{16}"), ("2A7_{16}", "2A7_{\\text{16}}"), ("1101_2", "1101_{\\text{two}}"), ("1101_2", "(1101)_2"), ("52_8", "52_{\\text{base }8}")),
        (("2A7_{16}", "2a8_{16}"), ("1101_2", "1101_{3}"), ("1101_2", "1011_{2}"), ("52_8", "52_{10}"), ("2A7_{16}", "2A7_{15}"), ("1101_2", "13")),
    ),
    Kind(
        "logical connectives between values", "modelscope/ms-swift#4541",
        (("a=1 \\text{ or } a=-2", "a = -2 \\lor a = 1"), ("a=1 \\text{ or } a=-2", "a = 1, a = -2"), ("1, -2", "a=1 \\text{ or } a=-2"),
         ("1, -2", "1 \\vee -2"), ("1,-2", "a \\in \\{-2, 1\\}"), ("1,-2", "a_1 = 1, a_2 = -2")),
        (("a=1 \\text{ or } a=-2", "a = 1"), ("a=1 \\text{ or } a=-2", "a = 1 \\text{ or } a = 2"), ("1, -2", "a=1 \\text{ or } b=3"),
         ("1, -2", "1 \\vee -2 \\vee 3"), ("1", "1 \\vee -2"), ("1,-2", "a \\in \\{-2, 2\\}")),
    ),
    Kind(
        "complex numbers in polar form", "huggingface/Math-Verify#69",
        (("2i", "2\\left(\\cos\\frac{\\pi}{2} + i\\sin\\frac{\\pi}{2}\\right)"), ("2i", "2\\operatorname{cis} 90^\\circ"), ("1+i", "\\sqrt{2}e^{i\\pi/4}"),
         ("-1", "e^{\\pi i}"), ("2i", "2e^{\\frac{\\pi i}{2}}")),
        (("2i", "2\\left(\\cos\\frac{\\pi}{2} - i\\sin\\frac{\\pi}{2}\\right)"), ("2i", "2\\operatorname{cis} 180^\\circ"), ("1+i", "2e^{i\\pi/4}"),
         ("-1", "e^{2\\pi i}"), ("1+i", "\\sqrt{2}e^{-i\\pi/4}")),
    ),
    Kind(
        "operators by name", "own",
        (("\\sec x", "\\operatorname{sec} x"), ("\\arctan 2", "\\operatorname{arctan}(2)"), ("\\ln 2", "\\operatorname{ln} 2"), ("\\ln 2", "\\log_e 2"),
         ("\\sin x", "\\operatorname{sin}(x)"), ("\\tan x", "\\text{tan}(x)"), ("\\arctan 2", "\\tan^{-1}(2)"), ("\\log_{10} 5", "\\lg 5")),
        (("\\sec x", "\\operatorname{csc} x"), ("\\arctan 2", "\\operatorname{arcsin}(2)"), ("\\ln 2", "\\log_{2} 2"), ("\\sin x", "\\operatorname{sinh}(x)"),
         ("\\arctan 2", "\\frac{1}{\\tan 2}"), ("\\ln 2", "\\ln 3")),
    ),
)  # fmt: skip

OPEN: dict[tuple[str, str, str], str] = {}
"""(kind, gold, answer) of what is judged wrongly on purpose or not mended yet, each with its reason."""


def cases() -> Iterator[tuple[Kind, str, str, bool]]:
    """(kind, gold, answer, whether it is right) of every row."""
    for kind in KINDS:
        for gold, answer in kind.right:
            yield kind, gold, answer, True
        for gold, answer in kind.wrong:
            yield kind, gold, answer, False
