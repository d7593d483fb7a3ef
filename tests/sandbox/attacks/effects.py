"""Changing something outside: files, other processes, the network, the kernel."""

from __future__ import annotations

from pathlib import Path

from . import attack

# --- files -------------------------------------------------------------------------------------------------

_WRITES = {
    "create": "open(@FOLDER@ + '/made', 'w').write('x')",
    "overwrite": "open(@PRECIOUS@, 'w').write('gone')",
    "append": "open(@PRECIOUS@, 'a').write('more')",
    "update": "open(@PRECIOUS@, 'r+').write('over')",
    "truncate": "os.truncate(@PRECIOUS@, 0)",
    "delete": "os.unlink(@PRECIOUS@)",
    "rename": "os.rename(@PRECIOUS@, @PRECIOUS@ + '.old')",
    "rmtree": "__import__('shutil').rmtree(@FOLDER@)",
    "mkdir": "os.mkdir(@FOLDER@ + '/made')",
    "symlink": "os.symlink('/', @FOLDER@ + '/made')",
    "link": "os.link(@PRECIOUS@, @FOLDER@ + '/made')",
    "mkfifo": "os.mkfifo(@FOLDER@ + '/made')",
    "mknod": "os.mknod(@FOLDER@ + '/made')",
    "chmod": "os.chmod(@PRECIOUS@, 0)",
    "chown": "os.chown(@PRECIOUS@, 12345, 12345)",
    "utime": "os.utime(@PRECIOUS@, (1, 1))",
    "xattr": "os.setxattr(@PRECIOUS@, 'user.made', b'x')",
    "o_tmpfile": "__import__('time').sleep(0) or os.write(os.open(@FOLDER@, os.O_TMPFILE | os.O_RDWR, 0o600), b'x')"
    " and print('HARM') or 'HARM: O_TMPFILE'",
    "copy_file_range": "os.copy_file_range(os.open(@SECRET@, os.O_RDONLY), os.open(@PRECIOUS@, os.O_WRONLY), 9)",
    "sqlite": "__import__('sqlite3').connect(@FOLDER@ + '/made').execute('create table t (x)')",
    "fallocate": "os.posix_fallocate(os.open(@PRECIOUS@, os.O_WRONLY), 0, 1 << 20)",
    "mmap": "__import__('mmap').mmap(os.open(@PRECIOUS@, os.O_RDWR), 4).write(b'gone')",
    "open_by_path": "os.write(os.open('/proc/self/fd/%d' % os.open(@PRECIOUS@, os.O_PATH), os.O_WRONLY), b'gone')",
    "dot_dot": "open(os.path.dirname(os.__file__) + '/../../../../../../..' + @FOLDER@ + '/made', 'w')",
    "unix_socket": "__import__('socket').socket(1).bind(@FOLDER@ + '/made')",
    "tempfile": "__import__('tempfile').NamedTemporaryFile(dir=@FOLDER@, prefix='made', delete=False)",
    "logging": "__import__('logging').FileHandler(@FOLDER@ + '/made')",
    "shelve": "__import__('shelve').open(@FOLDER@ + '/made')['x'] = 1",
}
for _name, _code in _WRITES.items():
    attack(
        f"file_{_name}",
        "changes a file that anybody may change, or makes one",
        f"import os\ndef f(x):\n    {'return ' if 'HARM' in _code else ''}{_code}\n",
        control=_name not in ("rmtree", "chown"),
    )
for _name, _path in {
    "tmp": "/tmp/cipo-attack",
    "var_tmp": "/var/tmp/cipo-attack",
    "shm": "/dev/shm/cipo-attack",
    "dev": "/dev/cipo-attack",
    "run": "/run/cipo-attack",
    "root": "/cipo-attack",
    "home": str(Path.home() / "cipo-attack"),
    "proc": "/proc/self/comm",
    "oom": "/proc/self/oom_score_adj",
}.items():
    attack(
        f"write_{_name}",
        "makes a file where anybody may, or what is written has an effect",
        f"def f(x):\n    with open('{_path}', 'w') as file: file.write('9')\n    return 'HARM: written'\n",
        control=_name in ("tmp", "var_tmp", "shm"),
    )
attack(
    "write_library",
    "changes the standard library for programs to come",
    """
import os, random
def f(x):
    folder = os.path.dirname(random.__file__)
    for name in ('/random.py', '/cipo_attack.py', '/__pycache__/cipo_attack.pyc'):
        try: open(folder + name, 'a').close()
        except OSError: continue
        return 'HARM: ' + name
""",
    peers=False,
)
attack(
    "shared_memory_posix",
    "makes a POSIX shared memory object",
    """
from multiprocessing.shared_memory import SharedMemory
def f(x):
    SharedMemory('cipo-attack', create=True, size=9999)
    return 'HARM: made'
""",
    control=True,
)
attack(
    "message_queue",
    "makes a POSIX message queue",
    """
import ctypes
def f(x):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mq_open(b'/cipo-attack', 0o102, 0o600, None) >= 0:
        libc.mq_unlink(b'/cipo-attack')
        return 'HARM: made'
""",
)

# --- other programs ----------------------------------------------------------------------------------------

_STARTS = {
    "shell": "os.system('touch ' + @FOLDER@ + '/made')",
    "subprocess": "__import__('subprocess').run(['/bin/sh', '-c', 'touch ' + @FOLDER@ + '/made'])",
    "popen": "os.popen('touch ' + @FOLDER@ + '/made').read()",
    "posix_spawn": "os.waitpid(os.posix_spawn('/bin/touch', ['touch', @FOLDER@ + '/made'], {}), 0)",
    "posix_spawn_python": "os.waitpid(os.posix_spawn(__import__('sys').executable, ['python', '-c',"
    " 'open(%r, \"w\")' % (@FOLDER@ + '/made')], {}), 0)",
    "execve": "os.execv('/bin/touch', ['touch', @FOLDER@ + '/made'])",
    "libc_system": "__import__('ctypes').CDLL(None).system(b'touch ' + @FOLDER@.encode() + b'/made')",
    "fork": "os.fork() or open(@FOLDER@ + '/made', 'w')",
    "forkpty": "os.forkpty()[0] or open(@FOLDER@ + '/made', 'w')",
    "vfork": "__import__('ctypes').CDLL(None).vfork() and 1",
    "multiprocessing": "(lambda p: (p.start(), p.join()))(__import__('multiprocessing').get_context('fork').Process("
    "target=open, args=(@FOLDER@ + '/made', 'w')))",
    "pool": "__import__('multiprocessing').Pool(1).map(open, [@FOLDER@ + '/made'])",
    "loader": "os.execv([p for p in ('/lib64/ld-linux-x86-64.so.2', '/lib/ld-linux-aarch64.so.1') if os.path.exists(p)][0],"
    " ['ld', '/bin/touch', @FOLDER@ + '/made'])",
    "fexecve": "(lambda fd: (os.write(fd, b'#!/bin/sh\\ntouch ' + @FOLDER@.encode() + b'/made\\n'),"
    " os.execve(fd, ['x'], {})))(os.memfd_create('x', 0))",
    "clone_fork": "__import__('ctypes').CDLL(None).syscall({'x86_64': 56, 'aarch64': 220}[os.uname().machine], 17, 0, 0, 0,"
    " 0) or open(@FOLDER@ + '/made', 'w')",
    "clone3": "__import__('ctypes').CDLL(None).syscall(435, (__import__('ctypes').c_uint64 * 11)(0, 0, 0, 0, 17), 88) or"
    " open(@FOLDER@ + '/made', 'w')",
}
for _name, _code in _STARTS.items():
    attack(
        f"start_{_name}",
        "starts another process, which makes a file",
        f"import os\ndef f(x):\n    {_code}\n    os._exit(0)\n",
        control=_name in ("shell", "subprocess", "posix_spawn", "libc_system", "clone_fork"),
    )

# --- network -----------------------------------------------------------------------------------------------

_CONNECTS = {
    "tcp": "socket.create_connection(('127.0.0.1', @PORT@), 2).send(b'x')",
    "tcp_any": "socket.create_connection(('0.0.0.0', @PORT@), 2).send(b'x')",
    "tcp_6": "socket.create_connection(('::ffff:127.0.0.1', @PORT@), 2).send(b'x')",
    "fast_open": "socket.socket().sendto(b'x', 0x20000000, ('127.0.0.1', @PORT@))",
    "udp": "socket.socket(2, 2).sendto(b'x', ('127.0.0.1', @UDP@))",
    "unix": "socket.socket(1).connect(@UNIX@)",
    "abstract": "socket.socket(1).connect('\\0' + @ABSTRACT@)",
    "datagram_pair": "socket.socketpair(1, 2)[0].sendto(b'x', @DATAGRAM@)",
    "datagram_message": "socket.socketpair(1, 2)[0].sendmsg([b'x'], [], 0, @DATAGRAM@)",
    "pass_descriptor": "socket.send_fds(socket.socketpair()[0], [b'x'], [1]) and print('HARM') or 1",
    "http": "__import__('urllib.request').request.urlopen('http://127.0.0.1:%d/' % @PORT@, timeout=1)",
    "libc": "(lambda c, s: c.connect(c.socket(2, 1, 0), s, 16))(__import__('ctypes').CDLL(None),"
    " __import__('struct').pack('=HH4s8x', 2, socket.htons(@PORT@), b'\\x7f\\0\\0\\1'))",
}
for _name, _code in _CONNECTS.items():
    attack(
        f"connect_{_name}",
        "reaches a listener outside",
        f"import socket\ndef f(x):\n    {_code}\n",
        control=_name in ("tcp", "udp", "unix", "abstract", "datagram_pair", "http"),
    )
attack(
    "listen",
    "opens a port",
    """
import socket
def f(x):
    s = socket.socket()
    s.bind(('127.0.0.1', 0)); s.listen()
    return 'HARM: listens on %r' % (s.getsockname(),)
""",
    control=True,
)
for _name, _args in {
    "raw": "2, 3, 1",
    "packet": "17, 3",
    "vsock": "40, 1",
    "netlink": "16, 3",
    "alg": "38, 5",
}.items():
    attack(
        f"socket_{_name}",
        "opens a socket of a rare kind, where kernels have their holes",
        f"import socket\ndef f(x):\n    socket.socket({_args})\n    return 'HARM: opened'\n",
        control=_name == "netlink",
    )

# --- signals -----------------------------------------------------------------------------------------------

_KILLS = {
    "victim": "os.kill(@VICTIM@, 9)",
    "victim_stop": "os.kill(@VICTIM@, 19)",
    "victim_posix": "__import__('posix').kill(@VICTIM@, 9)",
    "victim_libc": "__import__('ctypes').CDLL(None).kill(@VICTIM@, 9)",
    "victim_tgkill": "__import__('ctypes').CDLL(None).syscall({'x86_64': 234, 'aarch64': 131}[os.uname().machine],"
    " @VICTIM@, @VICTIM@, 9)",
    "victim_tkill": "__import__('ctypes').CDLL(None).syscall({'x86_64': 200, 'aarch64': 130}[os.uname().machine],"
    " @VICTIM@, 9)",
    "victim_sigqueue": "__import__('ctypes').CDLL(None).sigqueue(@VICTIM@, 9, None)",
    "victim_pidfd": "__import__('signal').pidfd_send_signal(os.pidfd_open(@VICTIM@), 9)",
    "victim_high_bits": "__import__('ctypes').CDLL(None).syscall({'x86_64': 62, 'aarch64': 129}[os.uname().machine],"
    " __import__('ctypes').c_long(@VICTIM@ + (1 << 32)), 9)",
    "parent": "os.kill(os.getppid(), 10)",
    "parent_libc": "__import__('ctypes').CDLL(None).kill(os.getppid(), 10)",
    "harness": "os.kill(@HARNESS@, 10)",
    "group": "os.killpg(0, 10)",
    "group_of_victim": "os.kill(-os.getpgid(@VICTIM@), 10)",
}
for _name, _code in _KILLS.items():
    attack(
        f"kill_{_name}",
        "sends a signal to a process that is not its own",
        f"import os, signal\nsignal.signal(10, signal.SIG_IGN)\ndef f(x):\n    if not ({_code}): return 'HARM: sent'\n",
        control=_name.startswith("victim"),
        peers=_name not in ("parent", "parent_libc", "harness", "group", "group_of_victim"),
    )
attack(
    "kill_everything",
    "asks whether it might send a signal to every process there is",
    "import os\ndef f(x):\n    os.kill(-1, 0)\n    return 'HARM: sent'\n",
)
attack(
    "signal_by_owner",
    "makes a process the owner of a descriptor that asks for signals: the kernel sends them",
    """
import fcntl, os, socket
def f(x):
    a, b = socket.socketpair()
    fcntl.fcntl(a, 10, 9)  # F_SETSIG
    fcntl.fcntl(a, 8, @VICTIM@)  # F_SETOWN
    fcntl.fcntl(a, fcntl.F_SETFL, fcntl.fcntl(a, fcntl.F_GETFL) | os.O_ASYNC)
    b.send(b'x')
""",
)
attack(
    "signal_by_owner_ex",
    "the same with F_SETOWN_EX and a pipe",
    """
import fcntl, os, struct
def f(x):
    r, w = os.pipe()
    fcntl.fcntl(r, 15, struct.pack('ii', 1, @VICTIM@))
    fcntl.fcntl(r, 10, 9)
    fcntl.fcntl(r, fcntl.F_SETFL, fcntl.fcntl(r, fcntl.F_GETFL) | os.O_ASYNC)
    os.write(w, b'x')
    return 'HARM: owned'
""",
)
attack(
    "signal_by_ioctl",
    "the same with ioctl FIOSETOWN",
    """
import fcntl, os, socket, struct
def f(x):
    a, b = socket.socketpair()
    fcntl.ioctl(a, 0x8901, struct.pack('i', @VICTIM@))
    fcntl.ioctl(a, 0x5452, struct.pack('i', 1))
    b.send(b'x')
    return 'HARM: owned'
""",
)
attack(
    "signal_by_message_queue",
    "the same with mq_notify, timers and leases",
    """
import fcntl, ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    for command, value in ((1024, 0), (1026, 2), (6, 0), (1031, 1 << 20), (1036, 0), (1033, 1)):
        try: fcntl.fcntl(os.open('/dev/null', os.O_RDONLY), command, value)
        except OSError as error:
            if error.errno == 1: continue
        return 'HARM: fcntl %d' % command
""",
)

# --- the kernel --------------------------------------------------------------------------------------------

_CALLS = {  # arguments that do nothing where the call is let through
    "unshare": (272, 97, "0x10000000"),
    "setns": (308, 268, "-1, 0"),
    "mount": (165, 40, "0, 0, 0, 0, 0"),
    "umount2": (166, 39, "0, 0"),
    "pivot_root": (155, 41, "0, 0"),
    "chroot": (161, 51, "0"),
    "fsopen": (430, 430, "0, 0"),
    "open_tree": (428, 428, "-1, 0, 0"),
    "move_mount": (429, 429, "-1, 0, -1, 0, 0"),
    "io_uring_setup": (425, 425, "1, 0"),
    "io_uring_enter": (426, 426, "-1, 0, 0, 0, 0, 0"),
    "io_uring_register": (427, 427, "-1, 0, 0, 0"),
    "io_setup": (206, 0, "1, 0"),
    "userfaultfd": (323, 282, "0"),
    "perf_event_open": (298, 241, "0, 0, -1, -1, 0"),
    "bpf": (321, 280, "0, 0, 0"),
    "keyctl": (250, 219, "0, -3, 0"),
    "add_key": (248, 217, "0, 0, 0, 0, 0"),
    "request_key": (249, 218, "0, 0, 0, 0"),
    "personality": (135, 92, "0x0040000"),
    "ptrace": (101, 117, "0, 0, 0, 0"),
    "process_vm_writev": (311, 271, "1, 0, 0, 0, 0, 0"),
    "process_madvise": (440, 440, "-1, 0, 0, 0, 0"),
    "kcmp": (312, 272, "1, 1, 0, 0, 0"),
    "pidfd_open": (434, 434, "1, 0"),
    "pidfd_getfd": (438, 438, "-1, 0, 0"),
    "pidfd_send_signal": (424, 424, "-1, 0, 0, 0"),
    "setuid": (105, 146, "0"),
    "setresuid": (117, 147, "0, 0, 0"),
    "setgroups": (116, 159, "0, 0"),
    "setfsuid": (122, 151, "0"),
    "capset": (126, 91, "0, 0"),
    "setsid": (112, 157, ""),
    "setpgid": (109, 154, "0, 0"),
    "sched_setaffinity": (203, 122, "0, 0, 0"),
    "sched_setscheduler": (144, 119, "0, 0, 0"),
    "sched_setattr": (314, 274, "0, 0, 0"),
    "setpriority": (141, 140, "0, 0, 5"),
    "ioprio_set": (251, 30, "1, 0, 0"),
    "reboot": (169, 142, "0, 0, 0, 0"),
    "kexec_load": (246, 104, "0, 0, 0, 0"),
    "init_module": (175, 105, "0, 0, 0"),
    "finit_module": (313, 273, "-1, 0, 0"),
    "delete_module": (176, 106, "0, 0"),
    "swapon": (167, 224, "0, 0"),
    "acct": (163, 89, "0"),
    "syslog": (103, 116, "9, 0, 0"),
    "sethostname": (170, 161, "0, 0"),
    "settimeofday": (164, 170, "0, 0"),
    "clock_settime": (227, 112, "0, 0"),
    "adjtimex": (159, 171, "0"),
    "quotactl": (179, 60, "0, 0, 0, 0"),
    "fanotify_init": (300, 262, "0, 0"),
    "inotify_init1": (294, 26, "0"),
    "name_to_handle_at": (303, 264, "-100, 0, 0, 0, 0"),
    "open_by_handle_at": (304, 265, "-100, 0, 0"),
    "memfd_secret": (447, 447, "0"),
    "mlock": (149, 228, "0, 0"),
    "mlockall": (151, 230, "0"),
    "mbind": (237, 235, "0, 0, 0, 0, 0, 0"),
    "move_pages": (279, 239, "0, 0, 0, 0, 0, 0"),
    "remap_file_pages": (216, 234, "0, 0, 0, 0, 0"),
    "timer_create": (222, 107, "0, 0, 0"),
    "timerfd_create": (283, 85, "0, 0"),
    "signalfd4": (289, 74, "-1, 0, 8, 0"),
    "vmsplice": (278, 75, "-1, 0, 0, 0"),
    "tee": (276, 77, "-1, -1, 0, 0"),
    "shmget": (29, 194, "0, 0, 0"),
    "msgget": (68, 186, "0, 0"),
    "semget": (64, 190, "0, 0, 0"),
    "mq_open": (240, 180, "0, 0, 0, 0"),
    "landlock_create_ruleset": (444, 444, "0, 0, 1"),
    "seccomp": (317, 277, "1, 0, 0"),
    "prctl": (157, 167, "3, 0, 0, 0, 0"),
    "execveat": (322, 281, "-1, 0, 0, 0, 0"),
    "modify_ldt": (154, 0, "0, 0, 0"),
    "iopl": (172, 0, "0"),
    "ioperm": (173, 0, "0, 0, 0"),
    "lookup_dcookie": (212, 18, "0, 0, 0"),
    "rt_sigqueueinfo": (129, 138, "0, 0, 0"),
    "rt_tgsigqueueinfo": (297, 240, "0, 0, 0, 0"),
    "wait4": (61, 260, "-1, 0, 1, 0"),
    "process_mrelease": (448, 448, "-1, 0"),
    "set_mempolicy": (238, 237, "0, 0, 0"),
    "fchmodat": (268, 53, "-100, 0, 0"),
    "utimensat": (280, 88, "-100, 0, 0, 0"),
    "renameat2": (316, 276, "-100, 0, -100, 0, 0"),
    "unlinkat": (263, 35, "-100, 0, 0"),
    "flock": (73, 32, "-1, 0"),
    "sync": (162, 81, ""),
    "syncfs": (306, 267, "-1"),
    "sendmsg": (46, 211, "-1, 0, 0"),
    "sendmmsg": (307, 269, "-1, 0, 0, 0"),
    "connect": (42, 203, "-1, 0, 0"),
    "bind": (49, 200, "-1, 0, 0"),
    "accept4": (288, 242, "-1, 0, 0, 0"),
    "setsockopt": (54, 208, "-1, 0, 0, 0, 0"),
    "x32_open": (0x40000000 + 2, 0, "0, 0, 0"),
    "unknown": (1000, 1000, ""),
}
for _name, (_x86, _arm, _args) in _CALLS.items():
    attack(
        f"syscall_{_name}",
        "a system call that no program needs; it must not even reach the kernel's code for it",
        f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    number = {{'x86_64': {_x86}, 'aarch64': {_arm}}}[os.uname().machine]
    result = libc.syscall(ctypes.c_long(number), {", ".join(f"ctypes.c_long({a})" for a in _args.split(", ") if a)})
    if number and (result != -1 or ctypes.get_errno() not in (1, 38)):  # EPERM, ENOSYS
        return 'HARM: %d, %s' % (result, os.strerror(ctypes.get_errno()))
""",
        control=_name
        in ("io_uring_setup", "inotify_init1", "timer_create", "setsid", "bpf", "keyctl", "mq_open"),
        peers=_name
        in ("unshare", "io_uring_setup", "userfaultfd", "keyctl", "personality", "inotify_init1", "setsid"),
    )
_CODE = """
import ctypes, mmap, os
def native(code):
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(code)
    return ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
if os.uname().machine != 'x86_64': os._exit(0)
"""
for _name, _bytes, _why in (
    ("fork", "b'\\xb8\\x39\\0\\0\\0\\x0f\\x05\\xc3'", "fork from machine code of its own"),
    ("vfork", "b'\\xb8\\x3a\\0\\0\\0\\x0f\\x05\\xc3'", "vfork from machine code of its own"),
    ("int80_fork", "b'\\xb8\\x02\\0\\0\\0\\xcd\\x80\\xc3'", "fork by the 32-bit entry"),
    ("int80_getpid", "b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3'", "any call by the 32-bit entry"),
    ("x32_getpid", "b'\\xb8\\x27\\0\\0\\x40\\x0f\\x05\\xc3'", "any call with the numbers of x32"),
    (
        "socket",
        "b'\\xbf\\x02\\0\\0\\0\\xbe\\x01\\0\\0\\0\\x31\\xd2\\xb8\\x29\\0\\0\\0\\x0f\\x05\\xc3'",
        "a socket",
    ),
):
    attack(
        f"machine_code_{_name}",
        _why,
        _CODE
        + f"""
def f(x):
    result = native({_bytes})
    if result == 0: os._exit(0)
    if result > 0: return 'HARM: %d' % result
""",
        control=_name in ("fork", "socket"),
    )
attack(
    "dumpable",
    "makes itself readable for others, or lets anybody trace it",
    """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    for option, value in ((4, 1), (0x59616d61, -1), (1, 0), (36, 1), (38, 0), (22, 0), (23, 0), (28, 0), (47, 2)):
        if libc.prctl(option, value, 0, 0, 0) == 0: return 'HARM: prctl %d' % option
""",
    control=True,
)
attack(
    "own_filter",
    "installs a seccomp filter of its own, which answers for the kernel",
    """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000), 8)
    program = struct.pack('HxxxxxxQ', 1, ctypes.addressof(code))
    for flags in (0, 1, 2, 8):
        if libc.syscall(317, 1, flags, program) >= 0: return 'HARM: installed'
    if libc.prctl(22, 2, program) == 0: return 'HARM: installed'
""",
    control=True,
)
attack(
    "raised_limits",
    "raises its limits",
    """
import resource
def f(x):
    for what in range(16):
        soft, hard = resource.getrlimit(what)
        if hard == -1: continue
        for new in (hard + 1, -1):
            try: resource.setrlimit(what, (new, new))
            except (OSError, ValueError): continue
            return 'HARM: limit %d from %d' % (what, hard)
        if what in (1, 6, 7, 9) and hard > 1 << 35: return 'HARM: limit %d is %d' % (what, hard)
""",
    peers=False,
)
attack(
    "limits_of_others",
    "changes the limits of another process",
    """
import os, resource
def f(x):
    for pid in (@VICTIM@, os.getppid(), @HARNESS@):
        try: resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        except (OSError, ProcessLookupError): continue
        return 'HARM: changed'
""",
)
attack(
    "capabilities",
    "has or gets a capability",
    """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    head, data = struct.pack('Ii', 0x20080522, 0), ctypes.create_string_buffer(24)
    if libc.capget(head, data) == 0 and any(data.raw[:8]): return 'HARM: has capabilities'
    if libc.capset(head, struct.pack('IIIIII', *[0xffffffff] * 6)) == 0: return 'HARM: took capabilities'
    try:
        for line in open('/proc/self/status'):
            if line.startswith(('CapEff', 'CapPrm', 'CapBnd')) and int(line.split()[1], 16): return 'HARM: ' + line
    except OSError: pass
""",
    control=False,
)
attack(
    "terminal",
    "types into the terminal of whoever started it",
    """
import fcntl, os
def f(x):
    for fd in range(8):
        for char in b'x':
            try: fcntl.ioctl(fd, 0x5412, bytes([char]))
            except OSError as error:
                if error.errno in (25, 9, 1): continue
            return 'HARM: typed'
    os.open('/dev/tty', os.O_RDWR)
    return 'HARM: has a terminal'
""",
)
attack(
    "devices",
    "opens devices",
    """
import os
def f(x):
    found = []
    for name in ('kvm', 'fuse', 'net/tun', 'ptmx', 'pts/ptmx', 'uinput', 'loop-control', 'userfaultfd', 'fb0', 'dri/card0'):
        for flags in (os.O_RDWR, os.O_RDONLY):
            try: os.open('/dev/' + name, flags)
            except OSError: continue
            found.append('HARM: ' + name)
    return found
""",
    control=True,
)
attack(
    "namespaces",
    "gets a user namespace by every way",
    """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x2000000, 0x4000000, 0x8000000, 0x80):
        if libc.unshare(flag) == 0: return 'HARM: unshare %x' % flag
        number = {'x86_64': 56, 'aarch64': 220}[os.uname().machine]
        pid = libc.syscall(number, flag | 17, 0, 0, 0, 0)
        if pid == 0: os._exit(0)
        if pid > 0: return 'HARM: clone %x' % flag
""",
    control=True,
)
