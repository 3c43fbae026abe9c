"""Errors of the kernels in Triton's interpreter, in float32 on a CPU, against plain torch. Printed as JSON.

Run in a process of its own with TRITON_INTERPRET=1, which Triton reads when it is imported.

    python interpret.py WIDTH HEADS LENGTH...
"""

import json
import sys

import torch

from foldatlas.folding.network.kernels import policy, self_check
from foldatlas.folding.network.kernels.policy import Case


def main(width: int, heads: int, lengths: list[int]) -> None:
    found = []
    for length in lengths:
        masks_BL = torch.rand(1, length, generator=torch.Generator().manual_seed(length)) < 0.7
        masks_BL[:, length // 2] = True
        # A protein with a random mask, and one without any residue, whose rows have no key to attend to.
        masks_BL = torch.cat([masks_BL, torch.zeros(1, length, dtype=torch.bool)])
        for update in policy.UPDATES:
            case = Case("cpu", torch.float32, width, 32 if update == policy.TO_SEQUENCE else heads)
            for direction, layer in enumerate(self_check.layers(update, case)):
                rows = length if direction else max(1, length // 2 + 1)
                with torch.inference_mode():
                    error, _ = self_check.errors(update, layer, case, masks_BL, rows)
                found.append([update, direction, length, error])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), [int(length) for length in sys.argv[3:]])
