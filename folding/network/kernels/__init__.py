"""Triton kernels for the pair representation on a GPU, and the policy that chooses them.

Without Triton, on a CPU, in float32 and when gradients are recorded, the plain torch code of triangle.py, trunk.py and
sequence_and_pair.py runs, which is the reference of every kernel. See docs/decisions/0046-kernels.md.

policy.py       which kernels are used
self_check.py   comparison of the kernels with the plain code when a model is loaded
launch.py       launches, and what they share
arithmetic.py   LayerNorm, sigmoid and linear layers within kernels
projections.py  LayerNorm and the projections that read it
attention.py    triangle attention
updates.py      output projections and the pair transition, added to the pairs
resources.py    compilation for any GPU: registers, spills, shared memory
"""
