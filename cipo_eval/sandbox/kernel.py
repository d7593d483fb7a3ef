"""What confines a sandboxed process: Landlock, seccomp, limits and identity, straight from the kernel's interface.

Plain ctypes: the wrappers on PyPI are stale or alpha, and a process that is about to run hostile code should carry
little.
Sources: landlock(7), seccomp(2), linux/filter.h, linux/landlock.h; tables for x86-64 and aarch64.

This file is sent into the sandbox as text: it imports the standard library only.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Iterable, Sequence

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *4 * [ctypes.c_ulong]]
_raw = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock during a call

_NUMBERS = {
    "x86_64": """
    read=0 write=1 readv=19 writev=20 pread64=17 preadv=295 preadv2=327 pwrite64=18 close=3 close_range=436
    fstat=5 lstat=6 stat=4 newfstatat=262 statx=332 lseek=8 mmap=9 munmap=11 mprotect=10 mremap=25 madvise=28
    brk=12 rt_sigaction=13 rt_sigprocmask=14 rt_sigreturn=15 rt_sigpending=127 rt_sigtimedwait=128
    rt_sigsuspend=130 sigaltstack=131 ioctl=16 access=21 faccessat=269 faccessat2=439 open=2 openat=257
    getdents64=217 getcwd=79 chdir=80 fchdir=81 readlink=89 readlinkat=267 pipe=22 pipe2=293 dup=32 dup2=33
    dup3=292 fcntl=72 poll=7 ppoll=271 select=23 pselect6=270 epoll_create=213 epoll_create1=291 epoll_ctl=233
    epoll_wait=232 epoll_pwait=281 epoll_pwait2=441 eventfd2=290 sched_yield=24 sched_getaffinity=204
    nanosleep=35 clock_nanosleep=230 clock_gettime=228 clock_getres=229 gettimeofday=96 time=201 times=100
    getitimer=36 setitimer=38 alarm=37 pause=34 getpid=39 gettid=186 getppid=110 getuid=102 geteuid=107
    getgid=104 getegid=108 getpgrp=111 getpgid=121 getsid=124 getgroups=115 getresuid=118 getresgid=120 exit=60
    exit_group=231 futex=202 futex_waitv=449 set_robust_list=273 set_tid_address=218 rseq=334 arch_prctl=158
    membarrier=324 getrlimit=97 setrlimit=160 prlimit64=302 getrusage=98 sysinfo=99 uname=63 getrandom=318
    umask=95 getcpu=309 ftruncate=77 fsync=74 fdatasync=75 socketpair=53 sendto=44 recvfrom=45
    restart_syscall=219 flock=73 fadvise64=221 clone=56 kill=62 tgkill=234 prctl=157 seccomp=317
    memfd_create=319 wait4=61 waitid=247 fork=57 clone3=435
    """,
    "aarch64": """
    read=63 write=64 readv=65 writev=66 pread64=67 preadv=69 preadv2=286 pwrite64=68 close=57 close_range=436
    fstat=80 newfstatat=79 statx=291 lseek=62 mmap=222 munmap=215 mprotect=226 mremap=216 madvise=233 brk=214
    rt_sigaction=134 rt_sigprocmask=135 rt_sigreturn=139 rt_sigpending=136 rt_sigtimedwait=137 rt_sigsuspend=133
    sigaltstack=132 ioctl=29 faccessat=48 faccessat2=439 openat=56 getdents64=61 getcwd=17 chdir=49 fchdir=50
    readlinkat=78 pipe2=59 dup=23 dup3=24 fcntl=25 ppoll=73 pselect6=72 epoll_create1=20 epoll_ctl=21
    epoll_pwait=22 epoll_pwait2=441 eventfd2=19 sched_yield=124 sched_getaffinity=123 nanosleep=101
    clock_nanosleep=115 clock_gettime=113 clock_getres=114 gettimeofday=169 times=153 getitimer=102
    setitimer=103 getpid=172 gettid=178 getppid=173 getuid=174 geteuid=175 getgid=176 getegid=177 getpgid=155
    getsid=156 getgroups=158 getresuid=148 getresgid=150 exit=93 exit_group=94 futex=98 futex_waitv=449
    set_robust_list=99 set_tid_address=96 rseq=293 membarrier=283 getrlimit=163 setrlimit=164 prlimit64=261
    getrusage=165 sysinfo=179 uname=160 getrandom=278 umask=166 getcpu=168 ftruncate=46 fsync=82 fdatasync=83
    socketpair=199 sendto=206 recvfrom=207 restart_syscall=128 flock=32 fadvise64=223 clone=220 kill=129
    tgkill=131 prctl=167 seccomp=277 memfd_create=279 wait4=260 waitid=95 clone3=435
    """,
}
"""System calls by number; a name that an architecture lacks has a successor there (``open``: ``openat``)."""
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_SECCOMP = {"x86_64": 317, "aarch64": 277}

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
_PR_CAPBSET_DROP, _PR_CAP_AMBIENT = 24, 47
EPERM, ENOTTY, ENOSYS = 1, 25, 38


class UnsupportedError(OSError):
    """The kernel, or a sandbox around this process, does not offer a layer."""


def architecture() -> str:
    """``x86_64`` or ``aarch64``. Raises ``UnsupportedError`` on any other machine or system."""
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in _NUMBERS or struct.calcsize("P") != 8:
        raise UnsupportedError(ENOSYS, f"no sandbox for {platform.system()} on {machine}")
    return machine


def prctl(option: int, *values: int) -> None:
    """prctl(2). Raises ``OSError``."""
    if _libc.prctl(option, *(*values, 0, 0, 0, 0)[:4]) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _syscall(number: int, *values: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *values)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


# --- Landlock ----------------------------------------------------------------------------------------------

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Number of file-system rights by version of the interface; all of them are taken away."""
_ALL_NET, _ALL_SCOPES = 0b11, 0b11


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def landlock_version() -> int:
    """Version of Landlock's interface; 0 where there is none."""
    try:
        return _syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except OSError:
        return 0


def landlock(readable: Iterable[str], listable: Iterable[str], writable: Iterable[str]) -> int:
    """Leaves this thread, for good: reading below ``readable``, listing folders below ``listable``, writing the files
    ``writable``; no execution, no TCP, no signals or abstract sockets to the outside where the kernel can tell.

    Returns the interface's version. Paths that do not exist are passed over. Raises ``UnsupportedError``.
    """
    version = landlock_version()
    if version < 1:
        raise UnsupportedError(ENOSYS, "the kernel has no Landlock")
    handled = (1 << _FS_BITS.get(version, 16)) - 1
    attributes = _RulesetAttributes(
        handled, _ALL_NET if version >= 4 else 0, _ALL_SCOPES if version >= 6 else 0
    )
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _syscall(_LANDLOCK_CREATE, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for paths, rights in (
            (readable, _READ_FILE | _READ_DIR),
            (listable, _READ_DIR),
            (writable, _READ_FILE | _WRITE_FILE | _TRUNCATE),
        ):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        _syscall(_LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= ~_READ_DIR
        if rights:
            rule = _PathBeneath(rights, parent)
            _syscall(
                _LANDLOCK_ADD, ctypes.c_int(ruleset), ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint32(0)
            )
    finally:
        os.close(parent)


# --- seccomp -----------------------------------------------------------------------------------------------

_PLAIN = """
    read write readv writev pread64 preadv preadv2 pwrite64 close close_range fstat lstat stat newfstatat statx
    lseek mmap munmap mprotect mremap madvise brk rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending
    rt_sigtimedwait rt_sigsuspend sigaltstack access faccessat faccessat2 open openat getdents64 getcwd chdir
    fchdir readlink readlinkat pipe pipe2 dup dup2 dup3 poll ppoll select pselect6 epoll_create epoll_create1
    epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2 sched_yield sched_getaffinity nanosleep
    clock_nanosleep clock_gettime clock_getres gettimeofday time times getitimer setitimer alarm pause getpid
    gettid getppid getuid geteuid getgid getegid getpgrp getpgid getsid getgroups getresuid getresgid exit
    exit_group futex futex_waitv set_robust_list set_tid_address rseq arch_prctl membarrier getrlimit setrlimit
    getrusage sysinfo uname getrandom umask getcpu ftruncate fsync fdatasync restart_syscall fadvise64 recvfrom
"""
"""Calls that any program may make: they reach only what it has (memory, descriptors, files that it may read)."""
_KEEPER = "clone fork wait4 waitid kill prctl seccomp memfd_create"
"""Further calls of the process that forks samples, limits them and kills them."""
_AF_UNIX, _CLONE_THREAD = 1, 0x00010000
_TERMINAL = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451, 0x5421)
"""ioctl requests: isatty, window size, bytes readable, close-on-exec, non-blocking."""

_DESCRIPTOR = (0, 1, 2, 3, 4, 1030, 1032)
"""fcntl commands: duplicate, flags, size of a pipe. Not F_SETOWN: a descriptor's owner gets signals, whoever it is."""

_LOAD_ARCH, _LOAD_NUMBER = (0x20, 0, 0, 4), (0x20, 0, 0, 0)
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_ANY_PID = 0xC1B0C1B0
_Instruction = tuple[int, int, int, int]


def _numbers() -> dict[str, int]:
    return {
        name: int(number) for name, number in (entry.split("=") for entry in _NUMBERS[architecture()].split())
    }


def _return(value: int) -> _Instruction:
    return (0x06, 0, 0, value)


def _equal(value: int, skip_if: int, skip_else: int) -> _Instruction:
    return (0x15, skip_if, skip_else, value)


def _argument(index: int) -> _Instruction:
    """Loads the low half of an argument (both machines are little-endian)."""
    return (0x20, 0, 0, 16 + 8 * index)


def _when(number: int, body: Sequence[_Instruction]) -> list[_Instruction]:
    """``body``, which ends in a return, for one system call."""
    return [_equal(number, 0, len(body)), *body]


def _head() -> list[_Instruction]:
    """Wrong architecture, or x86-64's 32-bit-pointer variant: the end."""
    machine = architecture()
    head = [_LOAD_ARCH, _equal(_AUDIT_ARCH[machine], 1, 0), _return(_KILL), _LOAD_NUMBER]
    if machine == "x86_64":
        head += [(0x35, 0, 1, 0x40000000), _return(_KILL)]
    return head


def keeper_filter() -> list[_Instruction]:
    """The allow-list under which the zygote and everything that it forks run: what is not named fails with EPERM."""
    numbers = _numbers()
    program = _head()
    for name in (_PLAIN + _KEEPER).split():
        if name in numbers:
            program += _when(numbers[name], [_return(_ALLOW)])
    itself = ("prlimit64", "tgkill")
    for name in itself:  # narrowed again for samples; the zygote needs them for its own
        program += _when(numbers[name], [_return(_ALLOW)])
    program += _when(
        numbers["socketpair"],
        [_argument(0), _equal(_AF_UNIX, 0, 1), _return(_ALLOW), _return(_ERRNO | EPERM)],
    )
    for name, requests, error in (("ioctl", _TERMINAL, ENOTTY), ("fcntl", _DESCRIPTOR, EPERM)):
        accept = [part for request in requests for part in (_equal(request, 0, 1), _return(_ALLOW))]
        program += _when(numbers[name], [_argument(1), *accept, _return(_ERRNO | error)])
    unaddressed = [
        _argument(4),
        _equal(0, 0, 3),
        (0x20, 0, 0, 16 + 8 * 4 + 4),
        _equal(0, 0, 1),
        _return(_ALLOW),
    ]
    program += _when(numbers["sendto"], [*unaddressed, _return(_ERRNO | EPERM)])
    program += _when(
        numbers["clone3"], [_return(_ERRNO | ENOSYS)]
    )  # its flags are behind a pointer: use clone
    return [*program, _return(_ERRNO | EPERM)]


def sample_filter() -> list[_Instruction]:
    """What a sample loses on top: new processes, other processes, new limits and filters. Threads are allowed.

    Its own process id is filled in by ``Filter.install``.
    """
    numbers = _numbers()
    denied = [_return(_ERRNO | EPERM)]
    program = _head()
    program += _when(
        numbers["clone"],
        [_argument(0), (0x45, 0, 1, _CLONE_THREAD), _return(_ALLOW), _return(_ERRNO | EPERM)],
    )
    for name in ("kill", "tgkill"):
        program += _when(
            numbers[name], [_argument(0), _equal(_ANY_PID, 0, 1), _return(_ALLOW), _return(_ERRNO | EPERM)]
        )
    itself = [_argument(0), _equal(0, 1, 0), _equal(_ANY_PID, 0, 1), _return(_ALLOW), _return(_ERRNO | EPERM)]
    for name in ("sched_getaffinity", "getpgid", "getsid"):  # they tell which processes there are
        program += _when(numbers[name], itself)
    for name in ("clock_gettime", "clock_getres", "clock_nanosleep"):  # below zero: clocks of other processes
        program += _when(
            numbers[name], [_argument(0), (0x35, 0, 1, 1 << 31), _return(_ERRNO | EPERM), _return(_ALLOW)]
        )
    program += _when(
        numbers["prlimit64"], [_argument(0), _equal(0, 0, 1), _return(_ALLOW), _return(_ERRNO | EPERM)]
    )
    for name in ("fork", "wait4", "waitid", "prctl", "seccomp", "memfd_create"):
        if name in numbers:
            program += _when(numbers[name], denied)
    return [*program, _return(_ALLOW)]


class _SockFprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class Filter:
    """A seccomp filter in the kernel's form, made once; ``install`` is then one system call."""

    def __init__(self, program: Sequence[_Instruction]) -> None:
        packed = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
        self._buffer = ctypes.create_string_buffer(packed, len(packed))
        self._program = _SockFprog(len(program), ctypes.cast(self._buffer, ctypes.c_void_p).value or 0)
        self._number = _SECCOMP[architecture()]
        here = struct.pack("I", _ANY_PID)
        self._pids = [i for i in range(0, len(packed), 8) if packed[i + 4 : i + 8] == here]

    def install(self, pid: int = 0) -> None:
        """Confines this process for good; ``pid`` is what ``sample_filter`` needs. Needs no_new_privs.

        Raises ``UnsupportedError``.
        """
        for place in self._pids:
            struct.pack_into("I", self._buffer, place + 4, pid)
        try:
            _syscall(self._number, ctypes.c_uint(1), ctypes.c_uint(0), ctypes.byref(self._program))
        except OSError as error:
            raise UnsupportedError(error.errno, f"seccomp: {error.strerror}") from error


# --- identity and limits -----------------------------------------------------------------------------------


def drop_privileges(uid: int, readable: Sequence[str]) -> None:
    """Gives up root's powers: no capabilities, and a user of its own, so that the number of its threads is limited.

    Where only root may read the interpreter's files, the effective user stays root, without capabilities. A container
    whose root may not change its user keeps it.
    """
    if os.geteuid() == 0:
        others = all(_others_may_read(path) for path in readable)
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid if others else 0, uid)
        except OSError:  # not allowed, or a user that its namespace does not have
            pass
    for capability in range(64):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError:
            break
    header, empty = struct.pack("Ii", 0x20080522, 0), bytes(24)
    if _libc.capset(header, empty) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _others_may_read(path: str) -> bool:
    """Whether any user may go down to ``path`` and read it."""
    while True:
        try:
            mode = os.stat(path).st_mode
        except OSError:
            return True  # not there: nobody will miss it
        needed = 0o005 if os.path.isdir(path) else 0o004
        if mode & needed != needed:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


def limit(what: int, value: int) -> None:
    """Lowers a resource limit (``RLIMIT_…``), soft and hard; one that is lower already stays."""
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def thread_stack(size: int) -> None:
    """Sets the bytes of stack of threads that ask for none. glibc takes the main thread's limit, which is more than
    fits here."""
    attributes = ctypes.create_string_buffer(64)
    _libc.pthread_attr_init(attributes)
    _libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(size))
    _libc.pthread_setattr_default_np(attributes)
    _libc.pthread_attr_destroy(attributes)


def fork() -> int:
    """fork(2) without what Python does after one (0.7 ms: new random seeds, hooks of modules). For a process with one
    thread only, whose child never returns to its caller's loop.
    """
    pid: int = _raw.fork()
    if pid < 0:
        raise OSError(ctypes.get_errno(), "fork")
    return pid


def cpu_clock(pid: int) -> int:
    """The clock that counts a process's processor time, for ``time.clock_gettime_ns`` (see clock_getcpuclockid(3))."""
    return (~pid << 3) | 2
