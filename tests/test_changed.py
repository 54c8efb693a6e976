"""Which tests a change concerns."""

from __future__ import annotations

from tests.changed import concerned
from tests.conftest import ROOT

TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def test_a_module_concerns_its_own_tests_and_those_that_import_it() -> None:
    found = concerned(["adios_zoo/features/journal.py"], TESTS)
    assert "tests/features/test_journal.py" in found
    assert "tests/features/test_extract_to_file.py" in found  # imports it
    assert "tests/train/game/test_optim.py" not in found


def test_modules_of_train_and_export_are_known_by_their_installed_names() -> None:
    assert "tests/train/run/test_schedules.py" in concerned(["train/run/schedules.py"], TESTS)
    assert "tests/export/test_verification.py" in concerned(["export/verification.py"], TESTS)


def test_a_test_concerns_itself_and_other_files_nothing() -> None:
    assert concerned(["tests/test_files.py", "README.md", "docs/data.md"], TESTS) == ["tests/test_files.py"]
