"""What models write around a final answer, and texts that end in another one."""

from __future__ import annotations

import random
from collections.abc import Callable

from .context import Context

_COMMON = (
    "Adding these, the final answer is $\\boxed{%s}$.",
    "Therefore, the answer is \\(\\boxed{%s}\\).",
    "So we get\n\n\\[\n\\boxed{%s}\n\\]",
    "Thus the value we want is\n$$\\boxed{%s}$$",
    "**Final Answer**\n\\boxed{%s}",
)


def common(answer: str, chance: random.Random) -> str:
    """A sentence with the box, as most responses end."""
    return chance.choice(_COMMON) % answer


Make = Callable[[str, str, Context], str | None]


def _sentences(answer: str, other: str, context: Context) -> str | None:
    return context.random.choice([
        f"We check: 3 + 4 = 7 and 12 is too large.\n\nHence the answer is $\\boxed{{{answer}}}$ as the question asks.",
        f"\\boxed{{{answer}}}",
        f"The answer is $\\boxed{{{answer}}}$.\n\nI hope this helps! Let me know if you have 2 or 3 more questions.",
        f"### Step 5\nPutting it all together:\n\\[ \\boxed{{{answer}}} \\]\nThis completes the solution in 5 steps.",
        f"<think>\nMaybe \\boxed{{99991}}? No, that fails for x = 2.\n</think>\n\nThe answer is $\\boxed{{{answer}}}$.",
        f"The final answer is: $\\boxed{{{answer}}}$",
        f"**Answer:** $\\boxed{{{answer}}}$",
        f"$\\boxed {{{answer}}}$",
        f"So the result is $\\boxed{{ {answer} }}$.",
    ])  # fmt: skip


def _repeated(answer: str, other: str, context: Context) -> str | None:
    if context.several:
        return None
    return f"We find $\\boxed{{{answer}}}$. To sum up, the answer is $\\boxed{{{answer}}}$."


def _unboxed(answer: str, other: str, context: Context) -> str | None:
    if context.several or "\n" in answer:
        return None
    return context.random.choice([
        f"Combining both equations gives the result. The answer is ${answer}$.",
        f"Therefore, the final answer is ${answer}$.",
        f"Let us put it together.\n\nAnswer: ${answer}$",
        f"Final Answer: The final answer is ${answer}$. I hope it is correct.",
    ])  # fmt: skip


def _corrected(answer: str, other: str, context: Context) -> str | None:
    if context.several:
        return None
    first = f"At first sight $\\boxed{{{other or 99991}}}$, but that forgets a case."
    return f"{first} The answer is $\\boxed{{{answer}}}$."


def _other_last(answer: str, other: str, context: Context) -> str | None:
    if context.several:
        return None
    return context.random.choice([
        f"At first we get $\\boxed{{{answer}}}$, but that forgets a case. The answer is $\\boxed{{{other}}}$.",
        f"<think>It could be \\boxed{{{answer}}}.</think>\n\nThe answer is $\\boxed{{{other}}}$.",
        f"One might guess ${answer}$. In fact the answer is $\\boxed{{{other}}}$, not ${answer}$.",
        f"With x = ${answer}$ the equation holds. So the answer is $\\boxed{{{other}}}$.",
    ])  # fmt: skip


RESPONSES: dict[str, tuple[Make, bool]] = {
    "sentence around a box": (_sentences, True),
    "box repeated": (_repeated, True),
    "answer without a box": (_unboxed, True),
    "box corrected": (_corrected, True),
    "another box last": (_other_last, False),
}
"""Kinds of responses: what makes them, and whether they are right."""
