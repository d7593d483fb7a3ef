"""Taking what others need: processor, memory, disk, processes, the harness's own time; or not coming to an end."""

from __future__ import annotations

from . import Report, attack

MEBI = 1 << 20


def _fits(report: Report) -> str | None:
    """Texts of a program end up in result files."""
    return "long words of its were kept" if len(report.words) > 20_000 else None


# --- processes and threads ---------------------------------------------------------------------------------

attack(
    "fork_bomb",
    "two hundred processes that stay",
    """
import posix, time
def f(x):
    for _ in range(200):
        try:
            if posix.fork() == 0:
                time.sleep(60); posix._exit(0)
        except OSError: pass
    return 1
""",
    control=True,
)
attack(
    "daemon",
    "a process that leaves the group, the session and its parent, and stays",
    """
import posix, time
def f(x):
    if posix.fork() == 0:
        posix.setsid()
        if posix.fork() == 0:
            for fd in range(64):
                try: posix.close(fd)
                except OSError: pass
            time.sleep(60)
        posix._exit(0)
    return 1
""",
    control=True,
)
attack(
    "thread_bomb",
    "as many threads as it gets",
    """
import threading, time
def f(x):
    threading.stack_size(32768)
    count = 0
    try:
        while count < 6000:
            threading.Thread(target=time.sleep, args=(60,)).start(); count += 1
    except (RuntimeError, MemoryError): pass
    if count > @THREADS@: return 'HARM: %d threads' % count
    while True: time.sleep(1)
""",
    cpu=0.3,
    peers=False,
)
_CLONE = """
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
def thread(stack=8192):
    at = libc.mmap(None, ctypes.c_size_t(stack), 3, 0x22, -1, ctypes.c_long(0))
    if at in (None, (1 << 64) - 1): return -1
    # CLONE_VM, CLONE_SIGHAND, CLONE_THREAD: no memory to speak of
    return libc.clone(ctypes.cast(libc.pause, ctypes.c_void_p), ctypes.c_void_p(at + stack - 64), 0x10900, None)
"""
attack(
    "bare_thread_bomb",
    "threads without Python and almost without memory, until the system has no more numbers for processes",
    _CLONE
    + """
def f(x):
    count = 0
    while count < 6000 and thread() > 0: count += 1
    return 'HARM: %d threads' % count if count > @THREADS@ else count
""",
    cpu=1.0,
    peers=False,
)
attack(
    "leader_leaves",
    "the first thread ends, others stay",
    _CLONE
    + """
import os, threading, time
def f(x):
    threading.Thread(target=time.sleep, args=(60,)).start()
    thread()
    libc.syscall({'x86_64': 60, 'aarch64': 93}[os.uname().machine], 0)
""",
)
attack(
    "hanging_threads",
    "threads that never end, though the call has",
    """
import threading, time
def work():
    while True: time.sleep(0.01)
def f(x):
    for _ in range(4): threading.Thread(target=work, daemon=False).start()
    return 1
""",
)
attack(
    "hanging_threads_stdin",
    "a program whose threads never end",
    "import threading\ntry: threading.Thread(target=threading.Event().wait).start()\nfinally: print(1)\n",
    kind="stdin",
)
attack(
    "hanging_exit",
    "handlers at exit that never end",
    "import atexit, time\natexit.register(time.sleep, 60)\nprint(1)\n",
    kind="stdin",
)
attack(
    "closed_descriptors",
    "closes every descriptor and goes on",
    """
import os
def f(x):
    os.closerange(0, 1024)
    while True: pass
""",
)
attack(
    "closed_descriptors_asleep",
    "closes every descriptor and sleeps",
    """
import os, time
def f(x):
    os.closerange(0, 1024)
    time.sleep(60)
""",
)
attack(
    "stopped",
    "stops itself, so that it uses no processor time",
    "import os\ndef f(x): os.kill(os.getpid(), 19)\n",
)
attack(
    "stopped_thread",
    "stops itself by the terminal's signals",
    """
import os, signal
def f(x):
    for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGSTOP): os.kill(os.getpid(), number)
""",
)

# --- endless ------------------------------------------------------------------------------------------------

_ENDLESS = {
    "loop": "while True: pass",
    "loop_all_exceptions": "while True:\n        try:\n            while True: pass\n        except BaseException: pass",
    "bignum": "return 7 ** (10 ** 8) % 10",
    "bignum_text": "import sys; sys.set_int_max_str_digits(0); return len(str(1 << 10 ** 8))",
    "factorial": "import math; return math.factorial(10 ** 8)",
    "regex": "import re; return re.match('(a+)+$', 'a' * 60 + 'b')",
    "sum": "return sum(range(10 ** 13))",
    "range_search": "return 1.5 in range(10 ** 13)",
    "list_multiply": "return sorted(range(10 ** 7, 0, -1)) * 10 ** 9",
    "sleep": "import time; time.sleep(1e6)",
    "sleep_in_c": "import ctypes; ctypes.CDLL(None).sleep(10000)",
    "pause": "import signal; signal.pause()",
    "lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "pipe": "import os; os.read(os.pipe()[0], 1)",
    "full_pipe": "import os\n    r, w = os.pipe()\n    while True: os.write(w, b'x' * 65536)",
    "signal_storm": "import signal; signal.signal(14, lambda *a: None); signal.setitimer(0, 1e-6, 1e-6)\n"
    "    while True: pass",
    "trace": "import sys; sys.setswitchinterval(1e9)\n    while True: pass",
    "zip_bomb": "import zlib; d = zlib.compress(bytes(10 ** 7))\n    while True: zlib.decompress(d)",
    "decompressor": "import lzma; d = lzma.compress(bytes(10 ** 6))\n    while True: lzma.decompress(d)",
    "hash": "import hashlib; hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10 ** 9)",
    "hash_collisions": "return {(k * ((1 << 61) - 1)) for k in range(10 ** 6)}",
    "futex": "import ctypes; ctypes.CDLL(None).syscall({'x86_64': 202, 'aarch64': 98}[__import__('os').uname().machine],"
    " ctypes.byref(ctypes.c_int(0)), 0, 0, None)",
    "iterator": "import itertools; return list(itertools.repeat(0))",
    "print": "while True: print('x', flush=True)",
}
for _name, _code in _ENDLESS.items():
    attack(
        f"endless_{_name}",
        "does not come to an end",
        f"def f(x):\n    {_code}\n",
        peers=_name not in ("print", "range_search", "factorial", "list_multiply"),
    )
attack("endless_import", "does not come to an end while it loads", "while True: pass\n")
attack(
    "endless_two_cores",
    "several threads in C, which use more than one core",
    """
import hashlib, threading
def f(x):
    work = lambda: hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10 ** 9)
    for _ in range(8): threading.Thread(target=work).start()
    work()
""",
)
attack(
    "endless_str",
    "an exception whose text never comes",
    """
class E(Exception):
    def __str__(self):
        while True: pass
def f(x): raise E
""",
)
attack(
    "endless_repr_of_type",
    "an exception whose class is strange",
    """
class M(type):
    def __getattribute__(cls, name):
        while True: pass
class E(Exception, metaclass=M): pass
def f(x): raise E
""",
)
attack(
    "endless_del",
    "a value whose finalizer never ends",
    """
class E:
    def __del__(self):
        while True: pass
def f(x): E()
""",
)
attack(
    "endless_value",
    "a linked list without end as the value",
    """
class ListNode:
    val = 1
    @property
    def next(self): return ListNode()
def f(x): return ListNode()
""",
)
attack(
    "endless_tree",
    "a tree without end as the value",
    """
class TreeNode:
    val = 1
    @property
    def left(self): return TreeNode()
    right = left
def f(x): return TreeNode()
""",
)
attack(
    "endless_stdin",
    "a program that waits for more input than there is",
    "import sys, time\nwhile True:\n    sys.stdin.readline()\n",
    kind="stdin",
)
attack(
    "endless_stdin_pipe",
    "a program that makes its standard input a pipe that stays empty",
    "import os\nos.dup2(os.pipe()[0], 0)\nprint(input())\n",
    kind="stdin",
)

# --- memory ------------------------------------------------------------------------------------------------

_MEMORY = {
    "bytes": "return len(b'x' * (@GIB@ << 30))",
    "list": "return len([0] * (3 << 27))",
    "growing": "a = []\n    while len(a) < @GIB@ << 10: a.append(b'x' * (1 << 20))\n    return len(a)",
    "text": "return len('x' * (3 << 30))",
    "anonymous": "import mmap; m = mmap.mmap(-1, @GIB@ << 30)\n    for i in range(0, len(m), 4096): m[i] = 1",
    "private": "import mmap; m = [mmap.mmap(-1, 1 << 26, flags=2) for _ in range(48)]\n    for p in m: p[:] = bytes(1 << 26)",
    "remap": "import mmap; m = mmap.mmap(-1, 1 << 20); m.resize(3 << 30); m[:] = bytes(1) * len(m)",
    "memfd": "import os; f = os.memfd_create('x'); b = bytes(1 << 24)\n    for _ in range(@GIB@ << 6): os.write(f, b)",
    "memfd_mapped": "import os, mmap; f = os.memfd_create('x'); os.truncate(f, 3 << 30); m = mmap.mmap(f, 3 << 30)\n"
    "    for i in range(0, 3 << 30, 4096): m[i] = 1",
    "given_files": "import os; b = bytes(1 << 24)\n    for fd in range(64):\n        for _ in range(20):\n"
    "            try: os.write(fd, b) if fd < 3 or os.fstat(fd).st_size else 0\n            except OSError: break",
    "heap": "import ctypes; c = ctypes.CDLL(None); c.malloc.restype = ctypes.c_void_p\n    for _ in range(192):\n"
    "        p = c.malloc(1 << 24)\n        if not p: return 0\n        ctypes.memset(p, 1, 1 << 24)",
    "stacks": "import threading, time; threading.stack_size(1 << 28)\n    for _ in range(40):\n"
    "        threading.Thread(target=time.sleep, args=(9,)).start()",
    "stack": "import sys, threading; sys.setrecursionlimit(1 << 30)\n    g = lambda n: g(n + 1)\n    g(0)",
    "exponent": "return (1 << (1 << 34)).bit_length()",
    "zip_bomb": "import zlib; d = b''.join([zlib.compress(bytes(1 << 24))])\n    o = zlib.decompressobj()\n"
    "    return len(zlib.decompress(d)) + len(b''.join(zlib.decompress(d) for _ in range(200)))",
    "dict": "return len(dict.fromkeys(range(1 << 26)))",
    "pipes": "import os\n    for _ in range(400):\n        w = os.pipe()[1]; os.set_blocking(w, False)\n"
    "        try: os.write(w, bytes(1 << 20))\n        except OSError: pass",
    "sockets": "import socket\n    k = []\n    for _ in range(400):\n        k += socket.socketpair(); k[-1].setblocking(False)\n"
    "        try: k[-1].sendall(bytes(1 << 22))\n        except OSError: pass",
    "descriptors": "import os\n    while True: os.dup(0)",
    "format": "return len('%*d' % (2 * 10 ** 9, 1))",
    "numpy": "import numpy; return float(numpy.ones(3 << 27).sum())",
}
for _name, _code in _MEMORY.items():
    attack(
        f"memory_{_name}",
        "takes more memory than it may, by this way",
        f"def f(x):\n    {_code}\n",
        cpu=0.4,
        peers=_name in ("bytes", "anonymous", "memfd", "growing"),
    )
attack(
    "compile_constant",
    "a constant that takes memory while it is compiled",
    "x = 1 << (1 << 40)\ny = 'a' * (1 << 40)\n",
)
attack(
    "compile_nesting",
    "a text that nests too deeply for the compiler",
    "x = " + "(" * 5000 + "1" + ")" * 5000 + "\n",
)
attack("compile_unary", "a text that overflows the compiler's stack", "x = " + "-" * 200000 + "1\n")
attack("compile_long", "a text that takes long to compile", "x = [\n" + "1+" * 100000 + "1]\n" * 1)
attack(
    "compile_fstring",
    "a text with a million parts",
    "x = f'" + "{x}" * 100000 + "'\n",
    cpu=1.0,
)
attack(
    "compile_null", "a text with a NUL byte and lone surrogates", "x = 1\x00\ndef f(x): return '\\ud800'\n"
)
attack("compile_coding", "a text with a declared coding", "# -*- coding: utf-7 -*-\ndef f(x): return 1\n")

# --- crashes -----------------------------------------------------------------------------------------------

_CRASHES = {
    "segfault": "import ctypes; ctypes.string_at(1)",
    "abort": "import os; os.abort()",
    "kill_itself": "import os; os.kill(os.getpid(), 9)",
    "illegal": "import os; os.kill(os.getpid(), 4)",
    "recursion": "return f(x)",
    "deep_recursion": "import sys; sys.setrecursionlimit(10 ** 9)\n    g = lambda: g()\n    g()",
    "c_recursion": "import sys; sys.setrecursionlimit(10 ** 9); l = None\n    for _ in range(10 ** 6): l = (l,)\n    hash(l)",
    "del_recursion": "l = None\n    for _ in range(10 ** 6): l = [l]",
    "repr_recursion": "import sys; sys.setrecursionlimit(10 ** 9); l = None\n    for _ in range(10 ** 6): l = [l]\n"
    "    return repr(l)",
    "bad_code": "f.__code__ = f.__code__.replace(co_code=bytes(2) * 99, co_stacksize=0)\n    return f(1)",
    "broken_interpreter": "import sys, gc; sys.modules.clear(); vars(__builtins__).clear() if not isinstance(__builtins__,"
    " dict) else __builtins__.clear()",
    "broken_gc": "import gc\n    for o in gc.get_objects():\n        if type(o) is dict: o.clear()",
    "signal_pending": "import signal, os; signal.signal(11, signal.SIG_IGN); os.kill(os.getpid(), 11)\n    while 1: pass",
    "limit_signal": "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n    while 1: pass",
    "file_size_signal": "import signal; signal.signal(25, signal.SIG_DFL)\n    while 1: print('x' * 99999)",
}
for _name, _code in _CRASHES.items():
    attack(
        f"crash_{_name}",
        "ends its process the hard way",
        f"def f(x):\n    {_code}\n",
        peers=_name != "broken_gc",
    )

# --- output ------------------------------------------------------------------------------------------------

_VALUES = {
    "huge_text": "return 'x' * (1 << 26)",
    "huge_bytes": "return b'\\xff' * (1 << 26)",
    "huge_list": "return [[]] * (1 << 23)",
    "huge_nested": "l = []\n    for _ in range(24): l = [l, l]\n    return l",
    "huge_int": "return 1 << 10 ** 7",
    "huge_int_list": "return [1 << 10 ** 6] * 200",
    "cyclic": "l = []; l.append(l); return l",
    "cyclic_dict": "d = {}; d[1] = d; return [d, {2: d}]",
    "deep": "l = []\n    for _ in range(10 ** 5): l = [l]\n    return l",
    "collisions": "return {k * ((1 << 61) - 1) for k in range(3000)}",
    "not_text": "return '\\ud800\\udfff\\x00\\x1b[2J' * 99",
    "error_text": "raise ValueError('x' * (1 << 25))",
    "error_type": "raise type('x' * (1 << 23), (Exception,), {})('quiet')",
    "error_chain": "e = None\n    for _ in range(10 ** 5):\n        n = ValueError(); n.__cause__ = n.__context__ = e; e = n\n"
    "    raise e",
    "error_surrogates": "raise ValueError('\\udc80\\ud800\\x1b]0;x\\x07')",
    "error_group": "e = ValueError()\n    for _ in range(300): e = ExceptionGroup('x', [e])\n    raise e",
    "stdout": "import os\n    while True: os.write(1, b'x' * (1 << 20))",
    "stderr": "import os\n    while True: os.write(2, b'x' * (1 << 20))",
    "warnings": "import warnings\n    while True: warnings.warn('x' * 9999, stacklevel=9)",
}
for _name, _code in _VALUES.items():
    attack(
        f"output_{_name}",
        "gives more, or other, than can be taken",
        f"def f(x):\n    {_code}\n",
        cpu=0.4,
        harm=_fits,
    )
_PRINTS = {
    "stdout": "import os\nwhile True: os.write(1, b'x' * (1 << 20))\n",
    "stderr": "import os\nwhile True: os.write(2, b'x' * (1 << 20))\n",
    "lines": "while True: print()\n",
    "not_text": "import os\nos.write(1, bytes(range(256)) * 4096)\nos.write(2, bytes(range(128, 256)) * 4096)\n",
    "by_name": "file = open('/dev/stdout', 'wb', 0)\nwhile True: file.write(b'x' * (1 << 20))\n",
    "many_by_name": "files = []\nwhile True: files.append(open('/dev/stdout', 'wb', 0))\n",
    "escapes": "print('\\x1b[2J\\x1b]0;owned\\x07' * 99)\n",
    "sparse": "import os\nos.ftruncate(1, 1 << 40)\n",
    "sparse_small": "import os\nos.ftruncate(1, (32 << 20) - 1)\nos.ftruncate(2, (32 << 20) - 1)\nos._exit(0)\n",
    "mapped": "import mmap, os\nos.ftruncate(1, 1 << 20)\nm = mmap.mmap(1, 1 << 20)\nm[:] = b'x' * len(m)\nos._exit(0)\n",
    "input": "import os\nwhile True: os.write(0, b'x' * (1 << 20))\n",
    "closed": "import os\nos.close(0), os.close(1), os.close(2)\nwhile True: pass\n",
    "full": "import os\ntry:\n    while True: os.write(1, b'\\xff' * (1 << 20))\nexcept OSError: os._exit(0)\n",
}
for _name, _program in _PRINTS.items():
    attack(
        f"printed_{_name}",
        "prints more, or other, than can be taken",
        _program,
        kind="stdin",
        cpu=0.4,
        peers=False,
        harm=lambda report: "more than 80 MiB came back" if len(report.text) > 80 * MEBI else None,
    )
_RESULT = """
import os, stat, time
def out():
    pipes = []
    for fd in range(3, 64):
        try: mode = os.fstat(fd).st_mode
        except OSError: continue
        if stat.S_ISREG(mode): return fd
        if stat.S_ISFIFO(mode): pipes.append(fd)
    return pipes[0]
"""
_FLOODS = {
    "flood": "while True: os.write(out(), b'x' * (1 << 16))",
    "flood_lines": "while True: os.write(out(), b'[]\\n' * 21000)",
    "flood_empty_lines": "while True: os.write(out(), b'\\n' * (1 << 16))",
    "flood_values": "while True: os.write(out(), b'[\"v\",1]\\n' * 8000)",
    "brackets": "os.write(out(), b'[\"v\",[' + b'[],' * (5 << 20) + b'[]]]\\n')",
    "objects": "os.write(out(), b'[\"v\",[' + b'{},' * (5 << 20) + b'{}]]\\n')",
    "braces": "os.write(out(), b'[\"v\",' + b'[' * (15 << 20) + b'\\n')",
    "tags": "os.write(out(), b'[\"v\",' + b'{\"t\":[' * 400 + b']}' * 400 + b']\\n')",
    "digits": "os.write(out(), b'[\"v\",' + b'9' * (8 << 20) + b']\\n')",
    "hex": "os.write(out(), b'[\"v\",{\"i\":\"' + b'f' * (8 << 20) + b'\"}]\\n')",
    "escapes": "os.write(out(), b'[\"v\",\"' + b'\\\\ud800' * (2 << 20) + b'\"]\\n')",
    "wide_text": "os.write(out(), b'[\"v\",\"\\\\ud83d\\\\ude00' + b'x' * (15 << 20) + b'\"]\\n')",
    "words": 'os.write(out(), b\'["x","T","\' + b\'w\' * (15 << 20) + b\'",""]\\n\')',
    "words_at_load": "os.write(out(), b'[\"e\",\"' + b'w' * (7 << 20) + b'\",\"\",\"' + b'w' * (7 << 20) + b'\"]\\n')",
    "why": "os.write(out(), b'[\"u\",\"' + b'w' * (15 << 20) + b'\"]\\n')",
    "stderr_text": "os.write(out(), b'[\"p\",\"\",\"' + b'w' * (15 << 20) + b'\",0,true]\\n')",
    "flood_every_descriptor": "import itertools\n    for fd in itertools.cycle(range(3, 64)):\n"
    "        try: os.set_blocking(fd, False); os.write(fd, b'+' * 4096)\n        except OSError: pass",
    "drip_every_descriptor": "import itertools\n    for fd in itertools.cycle(range(3, 12)):\n"
    "        try: os.write(fd, b'+')\n        except OSError: pass",
    "rewritten": 'fd = out()\n    while True:\n        try: os.pwrite(fd, b\'["v",1]\\n["v",2]\\n\', 0); os.ftruncate(fd, 0)\n'
    "        except OSError: break",
    "sparse": "fd = out()\n    for size in (1 << 40, 1 << 30, 60 << 20, 30 << 20):\n        try: os.ftruncate(fd, size); break\n"
    "        except OSError: pass\n    time.sleep(60)",
    "sought": "os.lseek(out(), 1 << 40, 0); os.write(out(), b'x')",
    "drip": "while True:\n        os.write(out(), b'x'); time.sleep(0.0002)",
    "set_of_ints": 'os.write(out(), b\'["v",{"s":[\' + b\',\'.join(b\'{"i":"%x"}\' % (k * ((1 << 61) - 1)) for k in'
    " range(2, 40000)) + b']}]\\n')",
    "dict_of_ints": 'os.write(out(), b\'["v",{"d":[\' + b\',\'.join(b\'[{"i":"%x"},0]\' % (k * ((1 << 61) - 1)) for k in'
    " range(2, 40000)) + b']}]\\n')",
    "long_range": 'os.write(out(), b\'["v",{"r":[0,{"i":"0xfffffffffffffffff"},1]}]\\n\')',
    "decimal": 'os.write(out(), b\'["v",{"D":"1E+999999999999999999"}]\\n\')',
    "fraction": 'os.write(out(), b\'["v",{"F":["1e4000000"]}]\\n\')',
    "array_of_texts": "os.write(out(), b'[\"v\",{\"a\":[\"<U1\",[\"' + b'x' * 300000 + b'\"' + b',\"\"' * 3000 + b']]}]\\n')",
    "array_of_range": 'os.write(out(), b\'["v",{"a":["int8",{"r":[0,30000000,1]}]}]\\n\')',
    "array_of_structs": 'os.write(out(), b\'["v",{"a":["int8,(30000,30000)int8",[1,2]]}]\\n\')',
}
for _name, _code in _FLOODS.items():
    attack(
        f"record_{_name}",
        "a result that costs its reader more than its writer",
        _RESULT + f"def f(x):\n    {_code}\n",
        cpu=0.3,
        # a job of this size may take 13 s of wall time before its sandbox ends it, and some take it
        seconds=4.0 if _name.startswith(("fraction", "array")) else 30.0,
        peers=False,
        harm=_fits,
    )
attack(
    "record_at_load",
    "an endless message about a failure to load",
    _RESULT + 'os.write(out(), b\'["e","\' + b\'w\' * (15 << 20) + b\'","",""]\\n\')\nos._exit(0)\n',
    peers=False,
    harm=_fits,
)
attack(
    "live_flood",
    "in a conversation: floods the reader while it is itself being told a long argument",
    _RESULT
    + """
import threading
def flood():
    time.sleep(0.05)
    for _ in range(40): os.write(out(), b'x' * (1 << 16))
def f(x):
    if x == 3: threading.Thread(target=flood).start()
    return len(x) if x != 3 else 3
""",
    live=True,
    peers=False,
)
attack(
    "live_lines",
    "in a conversation: a million answers that nobody asked for",
    _RESULT
    + """
def f(x):
    for _ in range(150): os.write(out(), b'[]\\n' * 21000)
    return 1
""",
    live=True,
    cpu=2.0,
    peers=False,
)
attack(
    "live_deaf",
    "in a conversation: does not read what it is told",
    """
import threading, time, os
def f(x):
    for fd in range(3, 64):
        try: os.dup2(0, fd) if 'r' in str(os.fdopen(fd, 'rb', closefd=False).mode) and os.fstat(fd).st_mode else 0
        except OSError: pass
    time.sleep(60)
""",
    live=True,
    peers=False,
)
