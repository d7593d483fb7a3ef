"""Coverage-guided fuzzing of what reads hostile programs' results: ``python fuzz_codec.py [-max_total_time=SECONDS]``.

Needs atheris; options are libFuzzer's. Stops at the first input that does anything but decode to built-in objects or
raise ``CodecError``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).resolve().parents[level]) for level in (1, 2)]
with atheris.instrument_imports(include=["cipo_eval.sandbox.codec", "cipo_eval.sandbox.worker", "json"]):
    from cipo_eval.sandbox import codec
    from sandbox import test_codec

SEEDS = (
    '["l"]',
    '["e","TypeError","text","trace"]',
    '["v",{"t":[1,{"s":[2.5]},{"d":[["a",null]]}]}]',
    '["p","out","err",0,true]',
    '{"a":["int64",[[1,2],[3,4]]]}',
    '{"F":[1,3]}',
    '{"r":[0,9,1]}',
    '{"dt":["datetime","2020-01-01T00:00:00"]}',
    '{"td":[1,2,3]}',
    '{"c":[1.0,{"f":"nan"}]}',
    '{"D":"1e5"}',
    '{"T":"int"}',
    '{"i":"0xffffffffffffffffff"}',
    '{"ln":[1,2]}',
    '{"tn":[1,null,2]}',
    '{"q":[{"z":[{"b":"x"},{"B":"y"}]}]}',
    '{"h":"00"}',
)


def one(data: bytes) -> None:
    """One input, as a value and as a record."""
    test_codec.decoded(data)
    test_codec.recorded(data)
    try:
        form = codec.dumps(codec.loads(data))
    except codec.CodecError:
        return
    assert codec.dumps(codec.loads(form)) == form


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(SEEDS):
            Path(folder, str(number)).write_text(seed)
        words = Path(folder, "words.dict")
        words.write_text("".join(f'"{{\\"{tag}\\":"\n' for tag in codec._DECODERS))
        atheris.Setup([*sys.argv, f"-dict={words}", folder], one)
        atheris.Fuzz()
