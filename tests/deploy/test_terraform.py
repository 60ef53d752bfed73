"""terraform/ as Terraform itself judges it: form, validity, and its own tests with a mocked provider."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from deploy.conftest import TERRAFORM


def test_is_formatted():
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-recursive", "-diff", TERRAFORM], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
    assert done.returncode == 0


def test_is_valid(configuration):
    done = configuration.run("validate")
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_own_tests(configuration):
    done = configuration.run("test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout


def test_every_file_of_the_configuration_is_short():
    assert {path.name: n for path in TERRAFORM.rglob("*.tf") if (n := len(path.read_text().splitlines())) > 250} == {}
