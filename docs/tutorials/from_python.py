# %% [markdown]
# # From Python
#
# The whole of it without a command line: attempts at sums are corrected by two models, the corrections are scored, and
# the two are compared. The page is executed when the site is built, from `docs/tutorials/from_python.py`, which runs as
# it stands. A checkpoint is asked in the same way, by `cipo_eval.evaluate` ([every call](../python.md)).

# %%
import json
import random
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import cipo_eval

folder = Path(tempfile.mkdtemp())
problems = cipo_eval.load_problems("arithmetic").problems[:40]
problems[0].prompt, problems[0].gold

# %% [markdown]
# ## The same attempts, corrected twice
#
# Four attempts at each of forty sums, every second one wrong. *base* changes its mind as a coin falls; *tuned* mostly
# repairs what is wrong and leaves what is right. A row with `attempt` says what it corrects.


# %%
def written(answer: int) -> str:
    return f"The sum is \\boxed{{{answer}}}."


def row(problem: cipo_eval.Problem, sample: int, text: str, **more: str) -> dict[str, object]:
    return {"problem_id": problem.id, "sample": sample, "text": text, **more}


def save(name: str, rows: list[dict[str, object]]) -> Path:
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


draw = random.Random(0)
first = [
    (problem, sample, draw.choice((0, draw.randint(1, 3)))) for problem in problems for sample in range(4)
]
attempts = save(
    "attempts", [row(problem, sample, written(int(problem.gold) + off)) for problem, sample, off in first]
)


def corrected(name: str, repairs: float, spoils: float) -> Path:
    """Corrections that are right with these probabilities, of wrong and (not) of right attempts."""
    rows = []
    for problem, sample, off in first:
        right = draw.random() < (repairs if off else 1 - spoils)
        answer = int(problem.gold) + (0 if right else draw.randint(1, 3))
        rows.append(row(problem, sample, written(answer), attempt=written(int(problem.gold) + off)))
    return save(name, rows)


# %% [markdown]
# ## Scored

# %%
runs = {
    name: cipo_eval.score(
        corrected(name, **how),
        task="arithmetic",
        limit=40,
        protocol="given",
        attempts_from=attempts,
        output=folder / "runs" / name,
    )
    for name, how in {
        "base": {"repairs": 0.4, "spoils": 0.4},
        "tuned": {"repairs": 0.7, "spoils": 0.1},
    }.items()
}
print(*runs["tuned"].account, sep="\n")

# %% [markdown]
# Every figure with its interval over problems, as in `results.json` ([what they mean](../correction.md)):

# %%
for name, results in runs.items():
    given = results.figures["tasks"]["arithmetic"]["protocols"]["given"]["fixed"]
    step = given["steps"][0]["metrics"]
    for figure, value in {
        **given["by_turn"],
        **{key: step[key] for key in ("correction_rate", "retention")},
    }.items():
        low, high = value["ci"]
        print(f"{name:6} {figure:16} {value['value']:.3f}  [{low:.3f}, {high:.3f}]")

# %% [markdown]
# ## Compared
#
# Both corrected the same attempts, so problems are paired; interval and p are one permutation test.

# %%
for line in cipo_eval.compare(runs["base"].folder, runs["tuned"].folder).rows:
    difference = line.difference
    interval = "[{:+.3f}, {:+.3f}]".format(*difference.ci) if difference.ci else ""
    print(f"{line.figure.name:16} {difference.difference:+.3f}  {interval}  p = {difference.p}")

# %% [markdown]
# ## Drawn

# %%
figure, axes = plt.subplots(figsize=(5, 3))
for place, (name, results) in enumerate(runs.items()):
    turns = results.figures["tasks"]["arithmetic"]["protocols"]["given"]["fixed"]["by_turn"].values()
    values, low, high = zip(*[(turn["value"], *turn["ci"]) for turn in turns], strict=True)
    spread = [
        [value - bound for value, bound in zip(values, low, strict=True)],
        [bound - value for value, bound in zip(values, high, strict=True)],
    ]
    axes.errorbar([1 + place / 50, 2 + place / 50], values, yerr=spread, marker="o", capsize=3, label=name)
axes.set(xticks=[1, 2], xlabel="turn", ylabel="accuracy", ylim=(0, 1))
axes.legend(frameon=False)
plt.show()
