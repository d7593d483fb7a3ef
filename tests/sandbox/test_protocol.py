"""Both ends of the control protocol against another end that is broken or hostile.

The harness must end with ``SandboxError`` or ``MissingError``, soon, with little memory, and work afterwards. The
zygote trusts the harness, so for it: frames that come at the wrong time never change a program's verdict.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import examples

from cipo_eval.errors import MissingError
from cipo_eval.sandbox import launch, protocol, worker
from cipo_eval.sandbox.launch import LAYERS, Tier
from cipo_eval.sandbox.lines import record
from cipo_eval.sandbox.worker import Job, SandboxError, Worker

HELLO = json.dumps({"landlock": 7, "seccomp": True, "pid": 1, "uid": 1}).encode()
END = {"reason": "exit", "status": 0, "cpu": 0.0, "wall": 0.0, "rss": 0}
TESTS = [{"args": [1]}]
PROGRAM = Job(program="def f(x): return x", kind="calls", target="f", tests=TESTS)
LARGE = Job(program="def f(x): return x\n#" + "x" * 1_000_000, kind="calls", target="f", tests=TESTS)
BRIEF = Job(program="def f(x): return x", kind="calls", target="f", tests=TESTS, cpu=(0.0,))

# A stand-in for the sealed process: skips the configuration that it is started with, says the bytes of its argument
# once the job is there (or at once), and then does as it is told.
PEER = """
import os, sys, time
then, wait = sys.argv[1], sys.argv[2] == 'wait'
hello, said, each = [open(name, 'rb').read() for name in sys.argv[3:]]
while hello: hello = hello[os.write(1, hello):]
if wait: os.read(0, 5)
try:
    while said: said = said[os.write(1, said):]
    if then == 'flood':
        chunk = each * 2000
        while True: os.write(1, chunk)
except OSError: pass
if then == 'die': os._exit(3)
if then == 'deaf': time.sleep(60)
while os.read(0, 1 << 16): pass
"""


def frame(kind: bytes, body: bytes | dict[str, Any]) -> bytes:
    return protocol.frame(kind, body if isinstance(body, bytes) else json.dumps(body).encode())


def data(text: bytes, cpu: float = 0.0) -> bytes:
    return frame(protocol.DATA, struct.pack("<dd", cpu, 0.0) + text)


class Peers:
    """Makes ``Worker`` start stand-ins in place of sandboxes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch, self._folder = monkeypatch, folder
        monkeypatch.setattr(worker, "START_SECONDS", 1.0)
        monkeypatch.setattr(worker, "GRACE", 0.5)
        monkeypatch.setattr(Job, "wall", property(lambda job: 0.3))

    def start(
        self, said: bytes, then: str = "listen", *, hello: bytes | None = None, each: bytes = b""
    ) -> None:
        """From now on, workers get a process that says hello and then this."""
        first = frame(protocol.HELLO, HELLO) if hello is None else hello
        wait = "wait" if hello is None else "at once"
        files = [self._folder / name for name in ("hello", "said", "each")]
        for path, content in zip(files, (first, said, each), strict=True):
            path.write_bytes(content)
        command = [sys.executable, "-S", "-c", PEER, then, wait, *map(str, files)]

        def start(*_: Any) -> subprocess.Popen[bytes]:
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

        self._monkeypatch.setattr(worker, "start", start)

    def brief(self) -> None:
        """Conversations, which wait for the limit of a call and some seconds, wait half a second."""
        self._monkeypatch.setattr(worker, "GRACE", -3.5)

    def restore(self) -> None:
        """Workers get sandboxes again."""
        self._monkeypatch.setattr(worker, "start", launch.start)
        self._monkeypatch.setattr(worker, "START_SECONDS", 30.0)
        self._monkeypatch.setattr(worker, "GRACE", 30.0)


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Peers:
    return Peers(monkeypatch, tmp_path)


@pytest.fixture
def bounded() -> Iterator[None]:
    """Ends soon, without much memory, and leaves no descriptor open."""
    before = len(os.listdir("/proc/self/fd")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 15
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before[1] < 400 << 10
    assert len(os.listdir("/proc/self/fd")) <= before[0]


WRONG = {
    "nothing": b"",
    "garbage": bytes(range(256)) * 40,
    "zeros": bytes(1000),
    "text": b"Traceback (most recent call last):\n" * 9,
    "unknown kind": frame(b"Q", b"x"),
    "small letter": frame(b"e", END),
    "half a header": b"E\x10",
    "half a frame": frame(protocol.END, END)[:-3],
    "huge length": struct.pack("<cI", b"D", 0xFFFFFFFF) + b"x" * 100,
    "large length": struct.pack("<cI", b"D", (1 << 28) - 1) + b"x" * 100,
    "a hello again": frame(protocol.HELLO, HELLO),
    "a question of a judge": frame(protocol.ASK, b"{}"),
    "a job": frame(protocol.JOB, b"{}"),
    "data without its head": frame(protocol.DATA, b"1234"),
    "empty data": frame(protocol.DATA, b""),
    "no time": data(b'["l"]\n', float("nan")),
    "endless time": data(b'["l"]\n', float("inf")),
    "too much data": data(b"x" * 1000) * 70_000,
    "end: no json": frame(protocol.END, b"\xff\xfe{"),
    "end: a list": frame(protocol.END, b"[]"),
    "end: a number": frame(protocol.END, b"7"),
    "end: empty": frame(protocol.END, b"{}"),
    "end: other reason": frame(protocol.END, {**END, "reason": "passed"}),
    "end: reason of another type": frame(protocol.END, {**END, "reason": ["exit"]}),
    "end: texts": frame(protocol.END, {**END, "status": "0x", "cpu": "much"}),
    "end: null": frame(protocol.END, {**END, "cpu": None}),
    "end: too large": frame(protocol.END, b'{"reason":"exit","status":1e999,"cpu":0,"wall":0,"rss":0}'),
    "end: deep": frame(protocol.END, b"[" * 100_000),
    "end: long number": frame(protocol.END, b"9" * 10_000),
    "printed without end": frame(protocol.PRINTED, b"x" * 1_000_000) * 80,
}


CASES = [(name, job, "listen") for name in WRONG for job in (PROGRAM, LARGE)]
CASES += [
    (name, PROGRAM, then) for name in ("nothing", "half a frame", "garbage") for then in ("die", "deaf")
]


@pytest.mark.parametrize(
    ("name", "job", "then"), [pytest.param(*c, id=f"{c[0]}-{len(c[1].program)}-{c[2]}") for c in CASES]
)
@pytest.mark.usefixtures("bounded")
def test_a_wrong_answer_is_a_broken_sandbox(peers: Peers, name: str, job: Job, then: str) -> None:
    peers.start(WRONG[name], then)
    with Worker(LAYERS[Tier.FULL]) as broken:
        with pytest.raises(SandboxError):
            broken.run(job, lambda *_: True)
        assert broken.restarts == 1
        assert broken.pid is None


@pytest.mark.parametrize(
    "each",
    [
        data(b"x" * 100),
        data(b"[]\n"),
        data(b'["l"]\n'),
        frame(protocol.PRINTED, b""),
        data(b""),
        frame(protocol.HELLO, HELLO),
    ],
    ids=["data", "lines", "records", "nothing printed", "empty data", "hellos"],
)
@pytest.mark.usefixtures("bounded")
def test_frames_without_end_are_a_broken_sandbox(peers: Peers, each: bytes) -> None:
    peers.start(b"", "flood", each=each)
    with Worker(LAYERS[Tier.FULL]) as broken, pytest.raises(SandboxError):
        broken.run(PROGRAM, lambda *_: True)
    with Worker(LAYERS[Tier.FULL]) as broken:
        peers.brief()
        with contextlib.suppress(SandboxError), broken.converse(BRIEF) as live:
            live.ask({"args": [2]})
        assert broken.restarts == 1
    with Worker(LAYERS[Tier.FULL], role="judge") as broken, pytest.raises(SandboxError):
        broken.request({}, lambda _: [], 1.0)


@pytest.mark.parametrize(
    "said", [WRONG["half a frame"], WRONG["garbage"], WRONG["end: deep"], WRONG["no time"]]
)
@pytest.mark.usefixtures("bounded")
def test_a_wrong_answer_in_a_conversation(peers: Peers, said: bytes) -> None:
    peers.brief()
    peers.start(said)
    with Worker(LAYERS[Tier.FULL]) as broken:
        with pytest.raises(SandboxError):
            broken.converse(BRIEF)
        assert broken.restarts == 1
    peers.start(data(b'["l"]\n') + said)
    with Worker(LAYERS[Tier.FULL]) as broken, pytest.raises(SandboxError), broken.converse(BRIEF) as live:
        told = live.ask({"args": ["x" * 1_000_000]})
        assert told


@pytest.mark.parametrize(
    "said", [WRONG["half a frame"], WRONG["garbage"], WRONG["end: deep"], data(b"[]\n"), b""]
)
@pytest.mark.usefixtures("bounded")
def test_a_wrong_answer_of_a_judge(peers: Peers, said: bytes) -> None:
    peers.start(said)
    with Worker(LAYERS[Tier.FULL], role="judge") as broken:
        with pytest.raises(SandboxError):
            broken.request({"tests": ["x" * 1_000_000]}, lambda _: [], 1.0)
        assert broken.restarts == 1


@pytest.mark.parametrize(
    "hello",
    [b"", b"garbage", frame(protocol.HELLO, b"[]"), frame(protocol.HELLO, b"{"), frame(protocol.END, HELLO)]
    + [
        frame(protocol.HELLO, b"[" * 100_000),
        frame(protocol.HELLO, {"landlock": 0, "seccomp": False}),
        HELLO,
    ],
)
@pytest.mark.parametrize("then", ["deaf", "die"])
@pytest.mark.usefixtures("bounded")
def test_a_wrong_hello_is_a_missing_sandbox(peers: Peers, hello: bytes, then: str) -> None:
    peers.start(b"", then, hello=hello)
    with Worker(LAYERS[Tier.FULL]) as broken, pytest.raises(MissingError):
        broken.ensure()
    assert broken.pid is None


def test_a_worker_works_after_it_has_broken(peers: Peers) -> None:
    peers.start(WRONG["garbage"])
    with Worker(LAYERS[Tier.CONTAINER]) as once:
        for _ in range(2):
            with pytest.raises(SandboxError):
                once.run(PROGRAM, lambda *_: True)
        peers.restore()
        records, end = once.collect(PROGRAM)
        assert records == [["l"], ["v", 1]]
        assert end.reason == "exit"
        assert once.restarts == 2


def test_a_fault_of_the_caller_is_not_one_of_the_sandbox() -> None:
    """It is raised as it is; the sandbox in the middle of its job is replaced."""

    def fault(*_: Any) -> bool:
        raise KeyError("the caller's own")

    with Worker(LAYERS[Tier.CONTAINER]) as once:
        with pytest.raises(KeyError, match="own"):
            once.run(PROGRAM, fault)
        assert once.collect(PROGRAM)[0] == [["l"], ["v", 1]]
        assert once.restarts == 0


FRAMES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.builds(
            protocol.frame, st.sampled_from([bytes([k]) for k in b"JCFKHDPEAxQ\0"]), st.binary(max_size=30)
        ),
        st.builds(
            data,
            st.sampled_from([b'["l"]\n', b'["v",1]\n', b"[]\n", b"x", b"\n" * 9, b'["e","a","b","c"]\n']),
        ),
        st.just(frame(protocol.END, END)),
    ),
    max_size=5,
)


@pytest.mark.slow
@given(FRAMES, st.sampled_from(["die", "listen"]), st.sampled_from(["run", "converse", "request"]))
@settings(max_examples=examples(25))
def test_any_answer_ends_well(answers: list[bytes], then: str, what: str) -> None:
    """With a result where the answer was one, with the error that there is for it where not."""
    with pytest.MonkeyPatch.context() as monkeypatch, tempfile.TemporaryDirectory() as folder:
        peers = Peers(monkeypatch, Path(folder))
        monkeypatch.setattr(worker, "GRACE", 0.1)
        monkeypatch.setattr(Job, "wall", property(lambda job: 0.1))
        peers.start(b"".join(answers), then)
        started = time.monotonic()
        with Worker(LAYERS[Tier.FULL]) as broken:
            try:
                if what == "run":
                    assert broken.collect(PROGRAM)[1].reason == "exit"
                elif what == "converse":
                    job = Job(program="", kind="calls", tests=[], cpu=(0.0,))
                    with broken.converse(job) as live:
                        assert isinstance(live.loaded, list)
                else:
                    broken.request({}, lambda _: [], 0.3)
            except SandboxError:
                assert broken.restarts == 1
        assert time.monotonic() - started < 20


# --- the sealed process's side ---------------------------------------------------------------------------------


class Raw:
    """Speaks to a real sandbox past ``Worker``'s rules."""

    def __init__(self, sandbox: Worker) -> None:
        sandbox.ensure()
        self.sandbox = sandbox

    def send(self, *frames: bytes) -> None:
        self.sandbox.send(b"".join(frames), time.monotonic() + 5)

    def end(self) -> tuple[list[Any], dict[str, Any]]:
        """Records and the end of a job."""
        lines = b""
        while True:
            kind, payload = self.sandbox._reader.read(time.monotonic() + 20)
            if kind == protocol.END:
                return [record(line) for line in lines.split(b"\n")[:-1]], json.loads(payload)
            if kind == protocol.DATA:
                lines += bytes(payload[protocol.DATA_HEADER.size :])


@pytest.fixture(scope="module")
def raw() -> Iterator[Raw]:
    with Worker(LAYERS[Tier.CONTAINER]) as sandbox:
        yield Raw(sandbox)


STRAY = (
    frame(protocol.COMMAND, b'{"args":[5]}\n'),
    frame(protocol.COMMAND, b"garbage" * 99),
    frame(protocol.COMMAND, b""),
    frame(protocol.FINISH, b""),
    frame(protocol.HELLO, b"x"),
    frame(protocol.END, b"{}"),
    frame(protocol.DATA, b"[]\n"),
)
KILL = frame(protocol.KILL, b"")


def test_frames_between_jobs_change_nothing(raw: Raw) -> None:
    """A kill that comes too late is meant for the job before."""
    rng = random.Random(1)
    for _ in range(60):
        raw.send(*rng.choices([*STRAY, KILL], k=rng.randrange(4)))
        raw.send(raw.sandbox._encode(PROGRAM))
        records, end = raw.end()
        assert records == [["l"], ["v", 1]]
        assert (end["reason"], end["status"]) == ("exit", 0)


def test_frames_during_a_job_change_nothing(raw: Raw) -> None:
    """A job that is not a conversation has nobody to tell them to."""
    slow = Job(
        program="import time\ndef f(x):\n    time.sleep(0.02)\n    return x",
        kind="calls",
        target="f",
        tests=[{"args": [number]} for number in range(3)],
    )
    rng = random.Random(2)
    for _ in range(15):
        raw.send(raw.sandbox._encode(slow))
        for _ in range(4):
            raw.send(*rng.choices(STRAY, k=rng.randrange(3)))
            time.sleep(0.01)
        records, end = raw.end()
        assert records == [["l"], *(["v", number] for number in range(3))]
        assert end["reason"] == "exit"


def test_a_kill_during_a_job_ends_it(raw: Raw) -> None:
    endless = Job(program="while True: pass", kind="calls", target="f", tests=[{"args": [1]}])
    for _ in range(5):
        raw.send(raw.sandbox._encode(endless), KILL)
        assert raw.end()[1]["reason"] == "killed"
    raw.send(raw.sandbox._encode(PROGRAM))
    assert raw.end()[0] == [["l"], ["v", 1]]


def test_a_conversation_takes_what_it_is_told(raw: Raw) -> None:
    """Long commands, several at once, and an end of them."""
    with raw.sandbox.converse(
        Job(program="def f(x): return len(x)", kind="calls", target="f", tests=[])
    ) as live:
        assert live.loaded == ["l"]
        for size in (0, 1, 70_000, 3_000_000, 5):
            assert live.ask({"args": ["x" * size]}) == ["v", size]
        raw.send(frame(protocol.FINISH, b""))
        assert live.ask({"args": [""]}) == ["d"]
    assert raw.sandbox.collect(PROGRAM)[0] == [["l"], ["v", 1]]


def test_two_that_only_write_do_not_wait_for_each_other(raw: Raw) -> None:
    """A program writes megabytes that nobody asked for while it is told megabytes."""
    program = """
import os, stat
def out():
    return [fd for fd in range(3, 64) if os.path.exists('/dev/null') and kind(fd)]
def kind(fd):
    try: return stat.S_IFMT(os.fstat(fd).st_mode) in (stat.S_IFREG, stat.S_IFIFO)
    except OSError: return False
def f(x):
    if x != 'go': return len(x)
    for _ in range(100):
        for fd in out():
            try: os.write(fd, b' ' * 65536)
            except OSError: pass
    return 1
"""
    job = Job(program=program, kind="calls", target="f", tests=[], cpu=(5.0,))
    started = time.monotonic()
    with raw.sandbox.converse(job) as live:
        assert live.ask({"args": ["x"]}) == ["v", 1]
        live.ask({"args": ["go"]})
        live.ask({"args": ["x" * 8_000_000]})
    assert time.monotonic() - started < 60
    assert raw.sandbox.collect(PROGRAM)[0] == [["l"], ["v", 1]]


@pytest.mark.parametrize("closed", ["stdin", "stdout"])
def test_a_sandbox_ends_with_its_harness(closed: str) -> None:
    """Without a word, in the middle of a job or not."""
    for busy in (False, True):
        with Worker(LAYERS[Tier.CONTAINER]) as sandbox:
            raw = Raw(sandbox)
            if busy:
                program = "import time\nprint(1)\nwhile True: time.sleep(0.01)"
                raw.send(raw.sandbox._encode(Job(program=program, kind="stdin", tests=[{"input": ""}])))
                time.sleep(0.1)
            process = sandbox._process
            assert process is not None
            getattr(process, closed).close()
            if closed == "stdout" and not busy:
                raw.send(raw.sandbox._encode(PROGRAM))
            if closed == "stdout" and busy:
                raw.send(KILL)
            process.wait(5)


def reader_of(text: bytes) -> protocol.Reader:
    read, write = os.pipe()
    os.write(write, text)
    os.close(write)
    return protocol.Reader(read, 1 << 20)


@given(st.binary(max_size=300))
def test_a_reader_reads_frames_or_fails_properly(text: bytes) -> None:
    reader = reader_of(text)
    try:
        while True:
            kind, payload = reader.read(time.monotonic() + 5)
            assert kind in protocol.KINDS
            assert len(payload) <= 1 << 20
    except protocol.ProtocolError:
        pass
    finally:
        os.close(reader.fd)


@given(st.lists(st.tuples(st.sampled_from(sorted(protocol.KINDS)), st.binary(max_size=50)), max_size=20))
def test_frames_survive(frames: list[tuple[bytes, bytes]]) -> None:
    reader = reader_of(b"".join(protocol.frame(kind, body) for kind, body in frames))
    assert [reader.read() for _ in frames] == frames
    os.close(reader.fd)


def test_descriptors_beyond_a_thousand_work() -> None:
    """As in a harness that has many files open: select(2) would not do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1300:
        pytest.skip("not that many files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1300), hard))
    many = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        with Worker(LAYERS[Tier.CONTAINER]) as sandbox:
            assert sandbox.collect(PROGRAM)[0] == [["l"], ["v", 1]]
    finally:
        for fd in many:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
