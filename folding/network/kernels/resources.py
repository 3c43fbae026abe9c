"""Compilation of kernels for a GPU that this machine need not have, and the resources that their machine code uses.

Triton contains its compiler, NVIDIA's assembler and `cuobjdump`, so registers, spills and shared memory of each kernel
are known without a GPU. Whether the machine code is right or fast is not.
"""

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from foldatlas.folding.network.kernels import launch, policy, self_check
from foldatlas.folding.network.kernels.policy import Case

# Shared memory that one block may use, in bytes, by compute capability (CUDA C++ Programming Guide, table of technical
# specifications).
SHARED_MEMORY: Final = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
# PTX instructions of the tensor cores. Triton may use those of an older GPU for small tiles.
_TENSOR_CORE: Final = re.compile(r"\b(wgmma\.mma_async|mma\.sync|tcgen05\.mma)\b")
_SEQUENCE_HEADS: Final = 32
_POINTERS: Final = {torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.uint8: "*u8"}


@dataclass(frozen=True, slots=True)
class Resources:
    """What one kernel uses on one GPU. `spills` are bytes of local memory a thread, 0 without spilled registers."""

    kernel: str
    capability: int
    width: int
    registers: int  # of a thread
    spills: int
    shared_memory: int  # bytes of a block
    threads: int  # of a block
    instructions: str  # of the tensor cores, empty if there are none
    blocks: int  # of a multiprocessor, by registers, shared memory and threads

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def launches(
    width: int, heads: int, lengths: Sequence[int] = (384,), *, rows: int | None = None
) -> list[launch.Launch]:
    """Return the launches of all updates of a block in bfloat16, one of each kernel and set of options.

    `heads` are those of triangle attention; the sequence attention has 32.
    """
    found: dict[tuple[str, str], launch.Launch] = {}

    def record(made: launch.Launch) -> None:
        found.setdefault((made.name, str(sorted(made.options.items()))), made)

    number_of_heads = {policy.ATTENTION: heads, policy.TO_SEQUENCE: _SEQUENCE_HEADS}
    layers = [
        self_check.layers(update, Case("cpu", torch.bfloat16, width, number_of_heads.get(update, 0)))[0]
        for update in policy.UPDATES
    ]
    with torch.inference_mode(), policy.forced(*policy.UPDATES), launch.recording(record):
        for length in lengths:
            for layer in layers:
                pair_BLLZ = torch.empty(2, length, length, width, dtype=torch.bfloat16, device="meta")
                mask_BL = torch.ones(2, length, dtype=torch.bool, device="meta")
                layer.to("meta", torch.bfloat16)(pair_BLLZ, mask_BL, rows or length)
    return list(found.values())


def compiled(made: launch.Launch, capability: int) -> Any:
    """Return Triton's result of compiling a recorded launch for NVIDIA GPUs of `capability`: 90 for H100 and H200."""
    options = dict(made.options)
    build = {name: options.pop(name) for name in ("num_warps", "num_stages") if name in options}
    names = made.kernel.arg_names
    signature: dict[str, str] = {}
    constants: dict[str, Any] = dict(options)
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    for index, (name, value) in enumerate(zip(names, made.arguments, strict=False)):
        # What triton.jit specialises on: integers of 1 are constants, and divisibility by 16 allows wide loads.
        has_variants = not made.kernel.params[index].do_not_specialize
        if isinstance(value, Tensor):
            signature[name] = _POINTERS[value.dtype]
            attributes[(index,)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[name] = "fp32"
        elif value == 1 and has_variants:
            constants[name] = 1
        else:
            signature[name] = "i32" if value < 2**31 else "i64"
            if value % 16 == 0 and has_variants:
                attributes[(index,)] = [["tt.divisibility", 16]]
    signature.update({name: "constexpr" for name in names if name in constants})
    source = ASTSource(made.kernel, {name: signature[name] for name in names}, constants, attributes)
    return compile(source, target=GPUTarget("cuda", capability, 32), options=build)


def resources(made: launch.Launch, capability: int) -> Resources:
    """Compile a recorded launch and return what it uses."""
    result = compiled(made, capability)
    registers, spills = _usage(result.asm["cubin"])
    found = sorted(set(_TENSOR_CORE.findall(result.asm["ptx"])))
    threads, shared = 32 * result.metadata.num_warps, result.metadata.shared
    # A multiprocessor has 65,536 registers, given to warps in units of 256, and 1 KiB of shared memory a block is the
    # system's. It holds 2,048 threads.
    per_block = -(-registers * 32 // 256) * 256 * threads // 32
    resident = min(65536 // per_block, (SHARED_MEMORY[capability] + 1024) // (shared + 1024), 2048 // threads)
    width = made.options.get("Z") or made.options["H"] * made.options["K"]
    return Resources(made.name, capability, width, registers, spills, shared, threads, " ".join(found), resident)


def _usage(cubin: bytes) -> tuple[int, int]:
    """Return registers and bytes of local memory a thread of the kernel in `cubin`."""
    with _file(cubin) as path:
        program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        command = [str(program), "--dump-resource-usage", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack, local = (re.search(rf"\b{name}:(\d+)", text) for name in ("REG", "STACK", "LOCAL"))
    assert registers is not None and stack is not None and local is not None, text
    return int(registers[1]), int(stack[1]) + int(local[1])


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(content)
        yield path
