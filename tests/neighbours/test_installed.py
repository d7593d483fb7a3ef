"""The environment of these tests has what they need: without this, a package that no longer installs would only skip
them."""

from importlib.metadata import version

import pytest

PACKAGES = (
    "trl",
    "inspect_ai",
    "jsonschema",
    "verifiers",
    "wandb",
    "trackio",
    "mlflow-skinny",
    "tensorboard",
    "torchao",
)


@pytest.mark.parametrize("package", PACKAGES)
def test_installed(package: str) -> None:
    assert version(package)
