"""Tests of `models/training/devices.py`: they need eight devices, so they run in a process that has them."""

import os
import subprocess
import sys
from pathlib import Path

from models.training.devices import mesh

EIGHT = Path(__file__).with_name("eight_devices.py")


def test_one_device_needs_no_mesh() -> None:
    assert mesh(8, 64) is None


def test_eight_emulated_devices_train_as_one_does() -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(EIGHT)]
    done = subprocess.run(command, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
