"""The machine that the tests of the local cluster run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import Machine, end_all


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """This machine, with a fresh home for its runs; whatever a test leaves running there is killed."""
    found = Machine(tmp_path)
    yield found
    end_all(found)
