"""seccomp: system calls that a process of SQL never needs fail with EPERM, for the calling thread and its descendants.

No sockets, no other programs or processes, no signals, no tracing, no changes of files' owners, modes and times, which
Landlock does not cover. Threads may be started. https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import os
import platform
import struct
from typing import Final

# x86-64 and 64-bit ARM have different numbers; None where a call does not exist.
_CALLS: Final[dict[str, tuple[int | None, int | None]]] = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "kill": (62, 129),
    "tkill": (200, 130), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440), "kcmp": (312, 272),
    "mount": (165, 40), "umount2": (166, 39), "move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "mount_setattr": (442, 442), "pivot_root": (155, 41),
    "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268), "io_uring_setup": (425, 425), "bpf": (321, 280),
    "userfaultfd": (323, 282), "perf_event_open": (298, 241), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463), "removexattrat": (466, 466), "setrlimit": (160, 164), "init_module": (175, 105),
    "finit_module": (313, 273), "kexec_load": (246, 104), "reboot": (169, 142), "swapon": (167, 224),
    "memfd_create": (319, 279), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
}  # fmt: skip
_CLONE: Final = (56, 220)
_CLONE3: Final = (435, 435)
_ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_CLONE_THREAD: Final = 0x10000
_X32: Final = 0x40000000  # numbers from here on are of another interface of x86-64

_LOAD, _EQUAL, _ABOVE, _BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # of classic BPF; _ABOVE: at least
_NUMBER, _ARCHITECTURE, _ARGUMENT_0 = 0, 4, 16  # offsets in struct seccomp_data, little-endian
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2  # of prctl

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.c_char_p))


def restrict() -> None:
    """Let the calls that are listed here fail from now on. Raise OSError, also on other architectures."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(f"no list of system calls for {machine}: x86_64 and aarch64 are supported")
    code = _filter(*_ARCHITECTURES[machine])
    program = _Program(len(code) // 8, code)
    for arguments in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)):
        if _libc.prctl(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _filter(column: int, architecture: int) -> bytes:
    """Return the filter: struct sock_filter { u16 code; u8 if_true, if_false; u32 value } for each instruction."""

    def instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    def fail(error: int) -> bytes:
        return instruction(_RETURN, _FAIL | error)

    numbers = [pair[column] for pair in _CALLS.values()]
    parts = [
        instruction(_LOAD, _ARCHITECTURE),
        instruction(_EQUAL, architecture, 1, 0),
        instruction(_RETURN, _KILL),
        instruction(_LOAD, _NUMBER),
        instruction(_ABOVE, _X32, 0, 1),
        fail(_EPERM),
    ]
    for number in numbers:
        if number is not None:
            parts += [instruction(_EQUAL, number, 0, 1), fail(_EPERM)]
    # glibc starts threads with clone3, whose flags are in memory that a filter cannot read; it falls back to clone.
    parts += [instruction(_EQUAL, _CLONE3[column], 0, 1), fail(_ENOSYS)]
    parts += [
        instruction(_EQUAL, _CLONE[column], 0, 3),
        instruction(_LOAD, _ARGUMENT_0),
        instruction(_BITS, _CLONE_THREAD, 1, 0),
        fail(_EPERM),
        instruction(_RETURN, _ALLOW),
    ]
    return b"".join(parts)
