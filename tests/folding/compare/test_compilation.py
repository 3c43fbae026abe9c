"""Where compiled code is kept: the folder that the user names, never one of another user or that others may write."""

import os
import stat
import tempfile

import pytest

from foldatlas.folding.compare.kernels import compilation


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """No folder has been chosen yet; the home and the temporary folder are the test's own."""
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    compilation.cache_folder.cache_clear()
    yield
    compilation.cache_folder.cache_clear()


def test_named_folder_comes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named"))
    folder = compilation.cache_folder()
    assert folder.parent == tmp_path / "named"
    assert stat.S_IMODE(folder.stat().st_mode) & 0o022 == 0


def test_home_is_the_default(tmp_path):
    assert compilation.cache_folder().parent == tmp_path / "home" / ".cache" / "foldatlas"


def test_unusable_home_gives_a_private_temporary_folder(tmp_path):
    (tmp_path / "home").write_text("no folder")
    assert compilation.cache_folder().parent == tmp_path / "temporary" / f"foldatlas-numba-{os.getuid()}"


@pytest.mark.parametrize("trap", ["open", "link"])
def test_a_folder_that_others_prepared_is_refused(tmp_path, trap):
    (tmp_path / "home").write_text("no folder")
    folder = tmp_path / "temporary" / f"foldatlas-numba-{os.getuid()}"
    if trap == "open":
        folder.mkdir()
        folder.chmod(0o777)
    else:
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    with pytest.warns(RuntimeWarning, match="set NUMBA_CACHE_DIR"):
        assert compilation.cache_folder() is None


def test_kernels_are_compiled_without_a_folder(tmp_path):
    (tmp_path / "home").write_text("no folder")
    (tmp_path / "temporary").rmdir()
    (tmp_path / "temporary").write_text("no folder")
    with pytest.warns(RuntimeWarning):
        doubled = compilation.kernel(_double)
    assert doubled(21) == 42


def test_compiled_code_is_kept_in_the_folder(monkeypatch, tmp_path):
    import numba

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = numba.config.CACHE_DIR
    assert compilation.kernel(_double)(21) == 42
    assert list(compilation.cache_folder().rglob("*.nbc"))
    assert before == numba.config.CACHE_DIR


def _double(number):
    return 2 * number
