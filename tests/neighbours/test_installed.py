"""The environment of these tests has what they need: without this, a package that no longer installs would only skip
them."""

import importlib.util

import pytest

PACKAGES = ("trl", "inspect_ai", "jsonschema", "verifiers", "wandb", "trackio", "mlflow", "tensorboard")


@pytest.mark.parametrize("package", PACKAGES)
def test_installed(package: str) -> None:
    assert importlib.util.find_spec(package)
