"""The kernels themselves: arithmetic in Triton's interpreter, and machine code for GPUs that need not be there.

Triton is 190 MB and not part of the daily installation: `scripts/install gpu-test` brings it, and without it these
tests are skipped. The interpreter takes minutes for wide pairs and long proteins. Races, bfloat16 rounding and speed
need a GPU.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: extra gpu-test"
)

HERE = Path(__file__).parent
# Sums of 32 to 1,024 products of numbers near 1, rounded to float32 in another order.
TOLERANCE = 2e-6


def run(script: str, *arguments: object, tmp_path: Path, **environment: str) -> list[list[object]]:
    command = [sys.executable, HERE / script, *map(str, arguments)]
    variables = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1", **environment}
    result = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("width", "heads", "lengths"),
    [
        (32, 1, (1, 8, 31, 33)),
        *(
            pytest.param(width, width // 32, lengths, marks=pytest.mark.long)
            for width, lengths in [(32, (100, 129)), *((width, (1, 31, 33, 40, 100, 129)) for width in (64, 128, 256))]
        ),
        pytest.param(32, 2, (1, 31, 33, 40), marks=pytest.mark.long),
    ],
)
def test_kernels_equal_plain_torch(width: int, heads: int, lengths: tuple[int, ...], tmp_path: Path) -> None:
    """Both directions of each update, whole and in chunks of rows, with random masks and proteins without residues.

    Multiples of 8 residues have variants of the kernels of their own.
    """
    errors = run("interpret.py", width, heads, *lengths, tmp_path=tmp_path, TRITON_INTERPRET="1")
    assert len(errors) == 7 * len(lengths)
    for update, direction, length, error in errors:
        assert isinstance(error, float) and error < TOLERANCE, f"{update} {direction}, {length} residues: {error}"


@pytest.mark.long
@pytest.mark.parametrize(("width", "heads"), [(32, 1), (64, 2), (128, 4), (256, 8)])
def test_machine_code_uses_tensor_cores_without_spills(width: int, heads: int, tmp_path: Path) -> None:
    from foldatlas.folding.network.kernels.resources import SHARED_MEMORY, launches, resources

    os.environ["TRITON_CACHE_DIR"] = str(tmp_path)
    made = [*launches(width, heads), *launches(width, heads, (33,), rows=20)]
    names = {launch.name for launch in made}
    assert len(names) == 8
    instruction = {80: "mma.sync", 90: "wgmma.mma_async", 100: "tcgen05.mma"}
    for launch in made:
        for capability, needed in instruction.items():
            found = resources(launch, capability)
            assert found.spills == 0, found
            assert found.shared_memory <= SHARED_MEMORY[capability], found
            # The bias of few heads is too narrow for a tensor core and adds 0.1 % of the operations.
            assert (needed in found.instructions) == (launch.options.get("H", 16) >= 16 or "K" in launch.options), found


@pytest.mark.long
@pytest.mark.parametrize("length", [64, 72])
def test_batches_of_a_gpu_are_read_in_wide_words(length: int, tmp_path: Path) -> None:
    """Batches are padded to 8 residues. Triton itself finds out only that a size is a multiple of 16: without further
    information, transposed factors, their product and the attention bias are read and written 2 bytes at a time."""
    from foldatlas.folding.network.kernels.resources import compiled, launches

    os.environ["TRITON_CACHE_DIR"] = str(tmp_path)
    for launch in launches(128, 4, (length,)):
        narrow = re.findall(r"(?:ld|st)\.global\S*\.[bu](?:8|16) ", compiled(launch, 90).asm["ptx"])
        assert len(narrow) <= 8, (launch.name, narrow)  # LayerNorm's weights and masks
