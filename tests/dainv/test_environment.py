import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dainv import environment

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder, *arguments):
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=folder, capture_output=True, check=True
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository of somebody's, with a copy of the file that asks git inside."""
    copy = tmp_path / ".venv" / "environment.py"
    copy.parent.mkdir()
    shutil.copy(environment.__file__, copy)
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "theirs")
    monkeypatch.setattr(environment, "__file__", str(copy))
    return tmp_path


def test_no_commit_where_the_package_is_installed_inside_another_project(project):
    found = environment.environment()
    assert found["commit"] is None
    assert found["uncommitted_changes"] is None


def test_the_commit_of_a_checkout(project):
    git(project, "add", "--force", ".venv/environment.py")
    git(project, "commit", "-m", "ours")
    found = environment.environment()
    assert len(found["commit"]) == 40
    assert found["uncommitted_changes"] is False
    Path(environment.__file__).write_text("changed")
    assert environment.environment()["uncommitted_changes"] is True


def test_nothing_of_the_machine_can_be_recognised():
    text = str(environment.environment())
    assert sys.prefix not in text
    assert str(Path.home()) not in text
