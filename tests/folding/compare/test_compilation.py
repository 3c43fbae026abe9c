"""Where compiled code is kept: the folder that the user names, never one of another user or that others may write."""

import os
import stat
import subprocess
import sys
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


ALIGNMENTS = """
import hashlib, sys
import numpy as np
from foldatlas.folding.compare.tm_align import Chains, lower_bounds, score_pairs, tm_align_many
rng = np.random.default_rng(1)
lengths = rng.integers(50, 120, 30)
points = [np.cumsum(rng.normal(size=(length, 3)) * 2.2, axis=0).astype(np.float32) for length in lengths]
states = [rng.integers(0, 20, length).astype(np.uint8) for length in lengths]
chains = Chains(np.concatenate(points), np.concatenate(states), np.cumsum([0, *lengths]))
if sys.argv[1:] == ["search first"]:
    score_pairs(points[0], points[0], 50)
if sys.argv[1:] == ["alignment first"]:
    tm_align_many(points[0], states[0], chains)
digest = hashlib.sha256()
for query in zip(points[:8], states[:8]):
    digest.update(lower_bounds(*query, chains).tobytes())
    found = tm_align_many(*query, chains)
    digest.update(found.tm_query_P.tobytes() + found.rotation_P233.tobytes() + found.translation_P23.tobytes())
print(digest.hexdigest())
"""


@pytest.mark.long
def test_results_do_not_depend_on_what_was_loaded_first(tmp_path):
    """To the last bit, in the process that compiled the kernels and in others that call one or another kernel first."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    digests = set()
    for arguments in ([], [], ["search first"], ["alignment first"]):
        command = [sys.executable, "-c", ALIGNMENTS, *arguments]
        digests.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(digests) == 1


def _double(number):
    return 2 * number
