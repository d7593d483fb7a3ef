"""The recipes for Kubernetes and SkyPilot in ``examples``: what belongs together in them does, and their own command
lines, with the variables that the platform sets, come to the run without shards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import results, turns

from cipo_eval.errors import EXIT_MISSING, EXIT_USAGE
from cipo_eval.run.api import evaluate
from cipo_eval.run.request import requested

ROOT = Path(__file__).resolve().parents[1]
KUBERNETES, SKYPILOT = ROOT / "examples/kubernetes", ROOT / "examples/skypilot"
TINY = {"model": "solver", "tasks": ["arithmetic"], "limit": 5, "samples": 2, "quiet": True}
"""What a run of the tests asks for in place of a recipe's model and tasks; protocols stay."""
SEEDED = {"engine": "seeded_engine:Seeded", "delay": 0.05}
TASKS = ("shards", "shard", "merge", "ray")


def documents(name: str) -> dict[str, dict[str, Any]]:
    """The objects of a file for Kubernetes, by kind."""
    return {found["kind"]: found for found in yaml.safe_load_all((KUBERNETES / f"{name}.yaml").read_text())}


def task(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((SKYPILOT / f"{name}.yaml").read_text())
    return found


def spec(thing: Mapping[str, Any]) -> dict[str, Any]:
    """What a Job or a Deployment says of its pods."""
    found: dict[str, Any] = thing["spec"]["template"]["spec"]
    return found


def variables(container: Mapping[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


def program() -> str:
    """The folder of the ``cipo-eval`` that these tests are of."""
    return str(Path(sys.executable).parent)


# --- what belongs together -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["prepare", "shards", "merge", "run-on-servers", "servers"])
def test_pods_have_what_they_name(name: str) -> None:
    there = documents(name)
    pods = spec(there["Deployment" if name == "servers" else "Job"])
    (container,) = pods["containers"]
    volumes = {volume["name"]: volume for volume in pods["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == _name(
        documents("volume")["PersistentVolumeClaim"]
    )
    if "config" in volumes:
        assert volumes["config"]["configMap"]["name"] == _name(there["ConfigMap"])
    if name == "servers":
        return
    assert container["securityContext"]["readOnlyRootFilesystem"]
    for rule in there["Job"]["spec"].get("podFailurePolicy", {"rules": ()})["rules"]:
        assert pods["restartPolicy"] == "Never"  # what a policy on failures wants
        if codes := rule.get("onExitCodes"):
            assert codes["containerName"] == container["name"]
            retried = {EXIT_MISSING} if name == "run-on-servers" else set()  # servers may come back
            assert set(codes["values"]) == {EXIT_USAGE, EXIT_MISSING} - retried


def test_numbers_and_names_agree() -> None:
    run, merge = documents("shards")["Job"], documents("merge")["Job"]
    shards = {variables(spec(job)["containers"][0])["SHARDS"] for job in (run, merge)}
    assert shards == {str(run["spec"]["completions"])}
    assert run["spec"]["completionMode"] == "Indexed"
    servers = documents("servers")
    service = servers["Service"]["spec"]
    assert service["clusterIP"] == "None"
    assert (
        service["selector"].items() <= servers["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    )
    asked = yaml.safe_load(documents("run-on-servers")["ConfigMap"]["data"]["run.yaml"])
    (port,) = service["ports"]
    assert asked["engine"]["base_url"] == f"http://{_name(servers['Service'])}:{port['port']}/v1"
    words = spec(servers["Deployment"])["containers"][0]["args"]
    assert words[words.index("--model") + 1] == asked["model"]
    assert words[words.index("--port") + 1] == str(port["targetPort"])


@pytest.mark.parametrize("name", ["shards", "run-on-servers", "skypilot"])
def test_what_a_recipe_asks_for_is_understood(name: str, tmp_path: Path) -> None:
    path = SKYPILOT / "run.yaml"
    if name != "skypilot":
        path = tmp_path / "run.yaml"
        path.write_text(documents(name)["ConfigMap"]["data"]["run.yaml"])
    asked = requested(path)
    asked.engine.choice()
    assert asked.turns.protocol == ("direct", "self")


def test_tasks_of_skypilot_share_their_folders() -> None:
    found = {name: task(name) for name in TASKS}
    for one in found.values():
        assert one["envs"]["RUNS"].startswith("/data/")
        assert one["file_mounts"] == {"/data": {"name": "${BUCKET}", "mode": "MOUNT_CACHED"}}
        assert one["workdir"] == "."
        if config := one["envs"].get("CONFIG"):
            assert (ROOT / config).is_file()


def _name(thing: Mapping[str, Any]) -> str:
    found: str = thing["metadata"]["name"]
    return found


# --- their command lines -------------------------------------------------------------------------------------


@cache
def confinable() -> bool:
    """Whether pods can be had here."""
    command = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "true"]
    return bool(shutil.which("bwrap")) and subprocess.run(command, capture_output=True).returncode == 0


@dataclass
class Pods:
    """Pods as a node makes them: a file system that is read only but for volumes, a user of its own, the command as
    process 1, and no network but loopback."""

    folder: Path
    files: dict[str, str] = field(default_factory=dict)
    """More that a pod finds, by path."""

    def start(self, job: Mapping[str, Any], more: Mapping[str, str], script: str | None = None) -> Pod:
        pods = spec(job)
        (container,) = pods["containers"]
        user = str(pods["securityContext"]["runAsUser"])
        words = [
            "bwrap",
            "--die-with-parent",
            "--unshare-user",
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-net",
        ]
        words += ["--as-pid-1", "--uid", user, "--gid", user, "--tmpfs", "/"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        for place in sorted(Path("/").iterdir()):
            if place.is_symlink():
                words += ["--symlink", str(place.readlink()), str(place)]
            elif str(place) not in {"/proc", "/dev", *mounts}:
                words += ["--ro-bind", str(place), str(place)]
        words += ["--proc", "/proc", "--dev", "/dev"]
        for path, name in sorted(mounts.items()):
            here = self.folder / name
            lasting = name in ("data", "config")
            words += (
                [("--ro-bind" if name == "config" else "--bind"), str(here), path]
                if lasting
                else ["--tmpfs", path]
            )
        for place in (ROOT, Path(sys.prefix), Path(sys.base_prefix)):  # should they be below one of those
            words += ["--ro-bind", str(place), str(place)]
        for number, (path, text) in enumerate(self.files.items()):
            (file := self.folder / f"file-{number}").write_text(text)
            words += ["--ro-bind", str(file), path]
        environment = {
            "PATH": f"{program()}:/usr/bin:/bin",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        environment |= {"OMP_NUM_THREADS": "1", **variables(container), **more}
        words += ["--remount-ro", "/", "--clearenv"]
        for name, value in environment.items():
            words += ["--setenv", name, value]
        command = [*container["command"], *(container["args"] if script is None else [script])]
        return Pod([*words, "--chdir", "/", "--info-fd", "{}", "--", *command])

    def run(self, job: Mapping[str, Any], script: str | None = None, **more: str) -> str:
        """What a pod says, which has to end with 0."""
        pod = self.start(job, more, script)
        assert pod.ended() == 0, pod.said
        return pod.said


class Pod:
    """One of them."""

    def __init__(self, words: list[str]) -> None:
        reading, writing = os.pipe()
        words = [str(writing) if word == "{}" else word for word in words]
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self._process = subprocess.Popen(words, pass_fds=[writing], **pipe)  # type: ignore[call-overload]  of what **pipe holds
        os.close(writing)
        with os.fdopen(reading) as info:
            self._first = int(json.load(info)["child-pid"])

    def terminate(self) -> None:
        """As a node ends a pod."""
        os.kill(self._first, signal.SIGTERM)

    def ended(self) -> int:
        self.said: str = self._process.communicate(timeout=120)[0]
        return int(self._process.returncode)


@pytest.fixture
def pods(tmp_path: Path) -> Pods:
    if not confinable():
        pytest.skip("no pod can be made here (bwrap)")
    for name in ("data", "config"):
        (tmp_path / name).mkdir()
    return Pods(tmp_path)


def configured(text: str, path: Path, **more: Any) -> None:
    """A recipe's configuration with the tests' model, tasks and engine."""
    path.write_text(
        yaml.safe_dump({**yaml.safe_load(text), **TINY, "engine": SEEDED, "verifier_workers": 1, **more})
    )


def same(merged: Path, configuration: Path) -> None:
    """A merged run is the one that the same configuration makes without shards."""
    whole = evaluate(requested(configuration), output=merged.with_name("whole")).folder
    assert whole is not None
    assert turns(merged, "arithmetic") == turns(whole, "arithmetic")
    assert len(turns(merged, "arithmetic")) == 20
    assert results(merged) == results(whole)


@pytest.mark.slow
def test_shards_on_kubernetes_are_the_run(pods: Pods) -> None:
    """One pod is ended in the middle, and begins again."""
    run, merge = documents("shards"), documents("merge")
    configured(run["ConfigMap"]["data"]["run.yaml"], pods.folder / "config/run.yaml")
    runs = pods.folder / "data/runs"
    evicted = pods.start(run["Job"], {"SHARDS": "2", "JOB_COMPLETION_INDEX": "0"})
    stored = runs / "math.shard-1-of-2/attempts/arithmetic.jsonl"
    end = time.monotonic() + 60
    while not (stored.is_file() and stored.stat().st_size):
        assert time.monotonic() < end
        time.sleep(0.02)
    evicted.terminate()
    assert evicted.ended() == 128 + signal.SIGTERM, evicted.said
    assert 0 < stored.read_bytes().count(b"\n") < 10
    for index in ("0", "1"):
        pods.run(run["Job"], SHARDS="2", JOB_COMPLETION_INDEX=index)
    pods.run(merge["Job"], SHARDS="2")
    same(runs / "math", pods.folder / "config/run.yaml")


@pytest.mark.slow
def test_a_run_on_servers_finds_all_of_them(pods: Pods) -> None:
    """The name of the service has two addresses."""
    there = documents("run-on-servers")
    asked = yaml.safe_load(there["ConfigMap"]["data"]["run.yaml"])
    (pods.folder / "config/run.yaml").write_text(yaml.safe_dump({**asked, **TINY, "model": "tiny"}))
    addresses = ("127.0.0.1", "127.0.0.2")
    pods.files["/etc/hosts"] = "".join(f"{address} vllm-headless\n" for address in addresses)
    servers = [
        f"{sys.executable} -S {ROOT}/tests/fast_server.py --host {address} --port 8000 >/tmp/{address} &"
        for address in addresses
    ]
    waited = [f"until [ -s /tmp/{address} ]; do sleep 0.05; done" for address in addresses]
    (script,) = spec(there["Job"])["containers"][0]["args"]
    said = pods.run(there["Job"], "\n".join([*servers, *waited, f"{script.rstrip()} --dry-run"]))
    assert all(f"http://vllm-headless:8000/v1 ({address})" in said for address in addresses)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_shards_on_skypilot_are_the_run(tmp_path: Path) -> None:
    """One as a node of a cluster, the other as a job of its own."""
    configured((SKYPILOT / "run.yaml").read_text(), tmp_path / "run.yaml")
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/activate").write_text("")  # of what setup makes
    runs = tmp_path / "runs"

    def carry_out(name: str, **more: str) -> None:
        one = task(name)
        given = {"CONFIG": str(tmp_path / "run.yaml"), "RUNS": str(runs), "HOME": str(tmp_path), **more}
        envs = {**one["envs"], **given}
        assert None not in envs.values()
        paths = {
            "PATH": f"{program()}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        environment = {**os.environ, **envs, **paths}
        subprocess.run(["bash", "-c", one["run"]], env=environment, cwd=tmp_path, check=True, timeout=120)

    carry_out("shards", SKYPILOT_NODE_RANK="0", SKYPILOT_NUM_NODES="2")
    carry_out("shard", SHARD="2", SHARDS="2")
    carry_out("merge")
    same(runs / "math", tmp_path / "run.yaml")
