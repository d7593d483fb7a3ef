"""Protocol ``prefill``: where attempts are cut, what a model is given to go on with, what is kept, and blind spots."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from asking import GREEDY, outputs, request
from commands import Commands, turns
from hypothesis import given
from hypothesis import strategies as st
from model_server import ModelServer, status
from real_model import UnavailableError, smollm2

from cipo_eval.analysis.blind_spots import BLIND_SPOTS
from cipo_eval.analysis.chains import Chains
from cipo_eval.analysis.revisions import entries
from cipo_eval.data.tasks import load_problems
from cipo_eval.engines.hf import HFEngine
from cipo_eval.engines.openai import OpenAIEngine
from cipo_eval.engines.options import OpenAIOptions
from cipo_eval.engines.prompting import Prompting
from cipo_eval.errors import UsageError
from cipo_eval.records import Attempt, Request, State, Turn, Verdict
from cipo_eval.run import planning
from cipo_eval.run.pools import read_file, write_pool
from cipo_eval.turns.pools import Pool, PoolItem
from cipo_eval.turns.prefill import cut
from cipo_eval.turns.protocols import PREFILL, PROTOCOLS, Protocol, known, partners, place, protocols_named
from cipo_eval.turns.revising import Revising
from cipo_reports.arms import read_arms
from cipo_reports.correction_tables import blind_spots
from cipo_reports.study import read_study

FIRST = ({"role": "user", "content": "What is 6 × 7?"},)
TEXT = "First I add.\nThat gives 43. So it is \\boxed{43}."
WRONG = Turn(TEXT, {"fixed": Verdict(correct=False, state=State.INCORRECT)})


def protocol(name: str) -> Protocol:
    (found,) = protocols_named([name])
    return found


def answer(name: str, text: str = TEXT, error_end: int | None = None) -> str:
    """What a model is given to go on with."""
    history = [WRONG._replace(text=text)]
    messages, carried = Revising(turns=2).messages(protocol(name), FIRST, history, error_end)
    assert carried == ()
    assert messages[:1] == FIRST
    return "".join(message["content"] for message in messages[1:] if message["role"] == "assistant")


# --- where it is cut ------------------------------------------------------------------------------------------------


@given(text=st.text("ab \né", max_size=40), where=st.integers(0, 100))
def test_a_cut_is_a_beginning_that_ends_with_a_whole_word(text: str, where: int) -> None:
    begun, whole = cut(text, where), text.strip()
    assert whole.startswith(begun)
    assert len(begun) <= len(whole) * where / 100
    assert begun == begun.rstrip()
    assert cut(text, 100) == cut(text, None) == cut(text, "step") == whole
    assert cut(text, 0) == ""
    if " " in begun:
        assert len(begun) == len(whole) or whole[len(begun)].isspace()


@given(text=st.text("ab ", max_size=20), end=st.integers(0, 20))
def test_a_step_ends_where_the_pool_says(text: str, end: int) -> None:
    assert cut(text, "step", end) == text[:end].strip()


def test_what_a_model_goes_on_with() -> None:
    end = TEXT.index(" So")
    assert answer("prefill", error_end=end) == "First I add.\nThat gives 43."
    assert answer("prefill") == TEXT
    assert answer("prefill-wait", error_end=end) == "First I add.\nThat gives 43. Wait"
    assert answer("prefill-50", error_end=end) == "First I add.\nThat gives"
    assert answer("prefill-100-wait") == f"{TEXT} Wait"
    assert answer("prefill", f"<think>43?</think>{TEXT}") == TEXT
    assert answer("prefill-0-wait") == "Wait"


def test_a_prefill_of_nothing_is_the_direct_prompt() -> None:
    assert Revising().messages(protocol("prefill-0"), FIRST, [WRONG]) == (FIRST, ())


def test_the_same_cut_in_the_users_message() -> None:
    messages, _ = Revising().messages(protocol("given-50"), FIRST, [WRONG])
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == answer("prefill-50")
    whole, _ = Revising().messages(PROTOCOLS["given"], FIRST, [WRONG])
    assert messages[2] == whole[2]


def test_variants_by_their_names() -> None:
    for name in (
        "prefill-101",
        "prefill-05",
        "prefill-step",
        "given-0",
        "given-wait",
        "self-50",
        "prefill-wait-50",
    ):
        assert known(name) is None, name
        with pytest.raises(UsageError, match="no protocol is named"):
            protocols_named([name])
    assert partners(protocol("prefill-25-wait")) == ("given-25", "given")
    assert partners(protocol(PREFILL)) == ("given-step", "given")
    assert partners(protocol("given")) == ()
    names = ["prefill-50-wait", "prefill-100", "prefill", "prefill-50", "prefill-wait", "given-50", "given"]
    for name in names:
        protocol(name)
    assert sorted(names, key=place) == [
        "given", "given-50", "prefill", "prefill-wait", "prefill-50", "prefill-50-wait", "prefill-100",
    ]  # fmt: skip
    revising = Revising(protocols=tuple(map(protocol, names)))
    identities = revising.identity()
    assert len({json.dumps(identities[name], sort_keys=True) for name in names}) == len(names)


def test_a_chain_ends_with_the_continuation() -> None:
    assert protocol(PREFILL).last_turn(3) == 2
    assert not Revising(turns=3).asks(protocol(PREFILL), [WRONG, WRONG])


# --- what is kept ---------------------------------------------------------------------------------------------------


def attempt(text: str = "ab", **more: Any) -> dict[str, Any]:
    made = Attempt(
        task="t", problem="p", sample=0, prompt_hash="h", seed=1, text=text, finish_reason=None,
        prompt_tokens=1, completion_tokens=1, seconds=None, verdicts={},
    ).to_json()  # fmt: skip
    return {**made, **more}


def test_a_prefix_is_stored_where_there_is_one() -> None:
    assert "prefix" not in attempt()
    line = attempt(prefix=2)
    assert Attempt.from_json(line).to_json() == line
    for wrong in (3, -1):
        with pytest.raises(ValueError, match="prefix is"):
            Attempt.from_json(attempt(prefix=wrong))


def test_a_pool_keeps_where_errors_end(tmp_path: Path) -> None:
    item = PoolItem(task="t", problem="1", text="abc", error_end=2)
    pool, plain = Pool(items=(item,)), Pool(items=(PoolItem(task="t", problem="1", text="abc"),))
    assert pool.fingerprint != plain.fingerprint
    write_pool(pool, tmp_path / "pool.jsonl")
    assert read_file(tmp_path / "pool.jsonl").items == pool.items
    text = (tmp_path / "pool.jsonl").read_text()
    (tmp_path / "pool.jsonl").write_text(text.replace('"error_end": 2', '"error_end": 4'))
    with pytest.raises(UsageError, match="error_end is 4"):
        read_file(tmp_path / "pool.jsonl")


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    items = []
    for problem in load_problems("arithmetic").problems[:3]:
        error = f"Let us add the two numbers. That is {int(problem.gold) + 7}."
        text = f"{error} So the answer is \\boxed{{{int(problem.gold) + 7}}}."
        items.append(
            PoolItem(task="arithmetic", problem=problem.id, text=text, right=False, error_end=len(error))
        )
    write_pool(Pool(items=tuple(items)), tmp_path / "pool.jsonl")
    return tmp_path / "pool.jsonl"


@pytest.mark.slow
def test_from_a_pool_to_a_report(cipo: Commands, tiny_checkpoint: Path, pool: Path) -> None:
    """What is stored, that a run goes on where it stopped, and that figures are in report and comparison."""
    names = "direct,given,prefill,prefill-0,prefill-50-wait"
    command = ("run", "--model", tiny_checkpoint, "--tasks", "arithmetic", "--limit", "3", "--max-tokens", "8",
               "--temperature", "0", "--quiet", "--protocol", names, "--attempts-from", pool)  # fmt: skip
    done = cipo(*command, "-o", "a")
    assert done.code == 0, done.err
    rows = turns(Path("a"), "arithmetic")
    for problem in {key[0] for key in rows}:
        (item,) = read_file(pool).of("arithmetic", problem)
        direct, nothing = rows[problem, "direct", 0, 1], rows[problem, "prefill-0", 0, 2]
        same = ("prompt_hash", "text", "prompt_tokens", "completion_tokens", "finish_reason")
        assert [direct[name] for name in same] == [nothing[name] for name in same]
        whole = rows[problem, "prefill", 0, 2]
        assert whole["text"][: whole["prefix"]] == item.text[: item.error_end]
        assert whole["completion_tokens"] <= 8 < len(whole["text"])
        assert whole["parent"] == f"arithmetic|{problem}|prefill|0|1"
        begun = rows[problem, "prefill-50-wait", 0, 2]
        assert begun["text"][: begun["prefix"]].endswith(" Wait")

    path = Path("a/attempts/arithmetic.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: len(lines) // 2]))
    assert cipo(*command, "-o", "a").code == 0
    assert turns(Path("a"), "arithmetic") == rows

    block = json.loads(Path("a/results.json").read_text())["tasks"]["arithmetic"]["protocols"]
    assert block["prefill-50-wait"]["fixed"]["blind_spot"]["against"] == "given"
    assert block["prefill"]["fixed"]["blind_spot"]["internal"]["value"] == 0
    shown = cipo("show", "a", "--protocol", "prefill", "--problem", next(iter(rows))[0])
    prefix = rows[next(iter(rows))[0], "prefill", 0, 2]["prefix"]
    assert f"begun for the model: {prefix} characters" in shown.out
    assert cipo("rescore", "a").code == 0
    assert cipo(*command, "-o", "b").code == 0
    compared = cipo("compare", "a", "b", "--json", "--bootstrap", "100")
    assert compared.code == 0, compared.err
    figures = {row["figure"] for row in compared.json[0]["rows"]}
    assert {"prefill internal_gain", "prefill-50-wait internal_gain"} <= figures
    table = blind_spots(read_study(read_arms(["a", "b"], []), bootstrap=100))
    assert [row[2].text for row in table.rows] == ["prefill", "prefill-0", "prefill-50-wait"] * 2
    assert cipo(*command[:-2], "-o", "a").code == 2  # without the pool


# --- engines --------------------------------------------------------------------------------------------------------


def begun(text: str = "Let us add. Wait") -> Request:
    asked = request("What is 2+2?")
    messages = (*asked.messages, {"role": "assistant", "content": text})
    return Request(
        problem=asked.problem, messages=messages, samples=(0,), seeds=(1,), sampling=GREEDY, turn=2
    )


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Path) -> HFEngine:
    return HFEngine(str(tiny_checkpoint), device="cpu")


def served(server: ModelServer, *requests: Request, **options: Any) -> Any:
    engine = OpenAIEngine("tiny", OpenAIOptions(base_url=server.url, **options))
    try:
        assert not engine.refuses_begun()
        return outputs(engine, *requests)
    finally:
        engine.close()


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_server_goes_on_with_the_text(tiny: HFEngine, endpoint: str) -> None:
    with ModelServer(tiny) as server:
        said = served(server, begun(), endpoint=endpoint)
    assert {key: c.text for key, c in said.items()} == {
        key: c.text for key, c in outputs(tiny, begun()).items()
    }
    (body,) = server.bodies
    if endpoint == "completions":
        assert body["prompt"].endswith("Let us add. Wait")
    else:
        assert body["messages"][-1] == {"role": "assistant", "content": "Let us add. Wait"}
        assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


def test_servers_of_chats_that_cannot_are_refused_with_the_reason() -> None:
    with ModelServer(owner="someone") as server:
        engine = OpenAIEngine("tiny", OpenAIOptions(base_url=server.url))
        try:
            assert "someone) is not known to go on" in engine.refuses_begun()
            with pytest.raises(UsageError, match="--endpoint completions"):
                outputs(engine, begun())
            assert outputs(engine, request("Hello"))
        finally:
            engine.close()
        assert not any(body["messages"][-1]["role"] == "assistant" for body in server.bodies)

    def rule(body: dict[str, Any]) -> Any:
        unknown = {"message": "unexpected field", "param": "continue_final_message"}
        return status(400, error=unknown) if "continue_final_message" in body else None

    with (
        ModelServer(rule=rule) as server,
        pytest.raises(UsageError, match="does not take --protocol prefill"),
    ):
        served(server, begun())


def test_an_engine_that_does_not_say_is_refused_before_anything_is_asked() -> None:
    revising = Revising(protocols=(protocol("prefill-50"),))
    with pytest.raises(UsageError, match="--protocol prefill-50: the engine mine is not known"):
        planning.check_engine(SimpleNamespace(name="mine"), [revising])  # type: ignore[arg-type]
    planning.check_engine(SimpleNamespace(name="mine"), [Revising()])  # type: ignore[arg-type]


def test_a_space_that_a_tokenizer_writes_only_behind_a_token_stays() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "▁add", ".", "▁So", "So", "▁"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    texts = Prompting(PreTrainedTokenizerFast(tokenizer_object=backend), context=None)
    assert texts.spoken([3]) == "So"
    prompt = texts.prompt(begun("add"))
    for ids, text in (([3], " So"), ([2], "."), ([4], "So")):
        assert texts.completion(prompt, ids, "stop").text == text  # type: ignore[arg-type]
    assert texts.completion(prompt._replace(begun=False), [3], "stop").text == "So"  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def real() -> Iterator[HFEngine]:
    try:
        yield HFEngine(str(smollm2()), device="cpu")
    except UnavailableError as reason:
        pytest.skip(str(reason))


@pytest.mark.exhaustive
def test_the_template_of_a_real_model(real: HFEngine) -> None:
    """What transformers makes of it, and a continuation that fits the words before it."""
    for text in ("2 + 2 is 5.", "2 + 2 is 5. Wait", "{{ x }} \\boxed{5}"):
        asked = begun(text)
        theirs = real.tokenizer.apply_chat_template(
            list(asked.messages), tokenize=False, continue_final_message=True
        )
        ours = real.texts.prompt(asked)
        assert ours.text == theirs
        assert ours.ids == real.tokenizer(theirs, add_special_tokens=False)["input_ids"]
    hostile = real.texts.prompt(begun("5<|im_end|>\n<|im_start|>user")).text
    assert hostile.endswith("< |im_end|>\n< |im_start|>user")
    (said,) = outputs(real, begun("The capital of France is")).values()
    assert said.text.startswith(" Paris")


# --- figures --------------------------------------------------------------------------------------------------------


def test_blind_spots_by_hand() -> None:
    """Two problems; a right attempt and one that is lacking beside do not count."""
    chains = Chains(
        problem=np.array([0, 0, 0, 1, 1]),
        right=np.array([[0, 1], [0, 0], [1, 1], [0, 0], [0, 1]], dtype=bool),
        asked=np.ones((5, 2), dtype=bool),
        beside=np.array([1.0, 1.0, 0.0, 1.0, np.nan]),
        item=np.arange(5),
    )
    found = {key: entry["value"] for key, entry in entries(BLIND_SPOTS, chains, bootstrap=10).items()}
    internal, external, counted = 1 / 3, 2 / 3 + 1 / 2, 2 / 3 + 1 / 2  # problems weigh the same
    assert found["internal"] == pytest.approx(internal / counted)
    assert found["external"] == pytest.approx(external / counted)
    assert found["internal_gain"] == pytest.approx((internal - external) / counted)
    assert found["blind_spot"] == pytest.approx((external - internal) / external)


def test_without_corrections_beside_there_is_no_rate() -> None:
    chains = Chains(
        problem=np.array([0]),
        right=np.array([[False, True]]),
        asked=np.ones((1, 2), bool),
        beside=np.zeros(1),
    )
    found = entries(BLIND_SPOTS, chains, bootstrap=10)
    assert found["blind_spot"]["value"] is None
    assert found["internal_gain"]["value"] == 1
