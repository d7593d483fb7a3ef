"""Faking a verdict: objects that equal everything, exits, forged results, tampering with the checker, state."""

from __future__ import annotations

from . import Report, attack


def _answered(report: Report) -> str | None:
    return "an answer was taken that came too late" if report.answers else None


def _several(report: Report) -> str | None:
    return "more answers than calls" if report.answers > 1 else None


# --- objects that claim to be equal --------------------------------------------------------------------------

for _base, _value in (
    ("object", ""),
    ("int", "0"),
    ("float", "0.0"),
    ("str", "''"),
    ("list", "[]"),
    ("tuple", "()"),
    ("dict", "{}"),
    ("set", "()"),
    ("frozenset", "()"),
    ("complex", "0"),
):
    attack(
        f"equal_{_base}",
        f"a subclass of {_base} that compares as wished and has a result for every operator",
        f"""
class E({_base}):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __contains__ = __lt__
    def __hash__(self): return hash(4)
    def __sub__(self, other): return 0
    __rsub__ = __abs__ = __sub__
    def __bool__(self): return True
    def __len__(self): return 1
    def __iter__(self): return iter([self])
    def __getitem__(self, key): return self
def f(x): return E({_value})
""",
    )
attack(
    "equal_class_lie",
    "an object that says its class is int",
    """
class E:
    __class__ = int
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __sub__(self, other): return 0
    __rsub__ = __sub__
    def __hash__(self): return 3
def f(x): return E()
""",
)
attack(
    "equal_metaclass",
    "a class whose metaclass makes it equal to everything",
    """
class M(type):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __sub__(self, other): return 0
    __rsub__ = __sub__
    def __hash__(self): return 3
class E(metaclass=M): pass
def f(x): return E
""",
)
attack(
    "equal_array_protocol",
    "an object that answers NumPy's protocols (comparisons with allclose)",
    """
class E(float):
    def __array__(self, *a, **k):
        import numpy; return numpy.asarray(True)
    def __array_ufunc__(self, *a, **k): return True
    def __array_function__(self, *a, **k): return True
    __array_priority__ = 1e9
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __sub__(self, other): return 0.0
    __rsub__ = __sub__
    __hash__ = float.__hash__
def f(x): return E(0)
""",
)
attack(
    "equal_numpy_subclass",
    "a subclass of ndarray that equals everything",
    """
def f(x):
    import numpy
    class E(numpy.ndarray):
        def __eq__(self, other): return True
        def __ne__(self, other): return False
        def __sub__(self, other): return 0.0
        __rsub__ = __sub__
    return numpy.zeros(()).view(E)
""",
)
attack(
    "equal_list_node",
    "a class that is named as linked lists are and invents its values",
    """
class ListNode:
    @property
    def val(self): return E()
    next = None
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __sub__(self, other): return 0
class E(int):
    def __eq__(self, other): return True
def f(x): return ListNode()
""",
)
attack(
    "not_a_number",
    "NaN and infinity against comparisons with a tolerance",
    """
def f(x): return float('nan') if x % 2 else float('inf')
""",
)
attack("a_type", "a built-in class as the value", "def f(x): return object\n")
attack("generator", "a generator as the value", "def f(x):\n    while True: yield x\n")
attack("coroutine", "a coroutine as the value", "async def f(x): return x\n")
attack(
    "reduce",
    "a value that runs code in whoever unpickles it",
    """
class E:
    def __reduce__(self):
        return (open, (@FOLDER@ + '/unpickled', 'w'))
def f(x): return E()
""",
)
attack(
    "reduce_ex",
    "an int whose pickle is a call of eval",
    """
class E(int):
    def __reduce_ex__(self, version):
        return (eval, ("open(" + repr(@FOLDER@ + '/unpickled') + ", 'w') and 1",))
def f(x): return E(1)
""",
)
attack(
    "answer_from_caller",
    "the comparison itself, asked for by __eq__, tells the expected value",
    """
seen = []
class E(int):
    def __eq__(self, other):
        seen.append(other); return True
    def __ne__(self, other):
        seen.append(other); return False
    __hash__ = int.__hash__
def f(x): return E(0)
""",
)
attack(
    "changed_argument",
    "the argument is changed, so that a test that compares with it agrees",
    """
def f(x):
    import sys
    frame = sys._getframe(1)
    while frame:
        for value in list(frame.f_locals.values()):
            if isinstance(value, list) and 3 in value:
                value.clear()
        frame = frame.f_back
    return None
""",
)
# --- exits -------------------------------------------------------------------------------------------------

_EXITS = {
    "sys_exit": "import sys; sys.exit(0)",
    "os_exit": "import os; os._exit(0)",
    "posix_exit": "import posix; posix._exit(0)",
    "libc_exit": "import ctypes; ctypes.CDLL(None).exit(0)",
    "libc_quick_exit": "import ctypes; ctypes.CDLL(None)._exit(0)",
    "keyboard_interrupt": "raise KeyboardInterrupt",
    "generator_exit": "raise GeneratorExit",
    "base_exception": "raise type('Passed', (BaseException,), {})('passed')",
    "system_exit_class": "raise type('Quiet', (SystemExit,), {'code': 0})",
}
for _name, _code in _EXITS.items():
    attack(f"{_name}_at_import", "ends before any test, with success", f"{_code}\n")
    attack(f"{_name}_in_call", "ends within the call, with success", f"def f(x):\n    {_code}\n")
attack(
    "exit_in_atexit",
    "success as the exit code of handlers",
    """
import atexit, os
atexit.register(os._exit, 0)
def f(x): return None
""",
)
attack(
    "exit_in_thread",
    "a thread ends the process while the call runs",
    """
import os, threading, time
def f(x):
    threading.Thread(target=os._exit, args=(0,)).start()
    time.sleep(5)
""",
)
attack(
    "exit_in_stdin",
    "a program for standard input that ends with success",
    "import os\nos._exit(0)\n",
    kind="stdin",
    peers=False,
)
# --- forged results ----------------------------------------------------------------------------------------

attack(
    "success_markers",
    "prints what harnesses print",
    """
import sys
for text in ('passed', 'PASSED', 'OK', '1 passed', 'All tests passed', '["l"]', '["v",true]', '{"passed": true}'):
    print(text, flush=True); print(text, file=sys.stderr, flush=True)
def f(x):
    print('passed', flush=True)
    return 'passed'
""",
)
attack(
    "success_names",
    "raises exceptions with names that the harness uses itself",
    """
class CannotCrossError(BaseException): pass
class AssertionError(BaseException): pass
class DiedError(BaseException): pass
def f(x): raise CannotCrossError('passed')
""",
)
_SPRAY = """
import os, posix
def spray(*texts):
    for fd in range(1024):
        for text in texts:
            try: posix.write(fd, text)
            except OSError: break
"""
attack(
    "spray_records",
    "writes results to every descriptor there is",
    _SPRAY
    + """
def f(x):
    spray(b'["v",true]\\n', b'passed\\n', b'\\n["l"]\\n["v",{"o":"x"}]\\n["v",{"T":"object"}]\\n')
    os._exit(0)
""",
)
attack(
    "spray_frames",
    "writes frames of the control protocol to every descriptor",
    _SPRAY
    + """
import json, struct
def frame(kind, body): return struct.pack('<cI', kind, len(body)) + body
def f(x):
    end = json.dumps({'reason': 'exit', 'status': 0, 'cpu': 0, 'wall': 0, 'rss': 0, 'outcomes': [None]}).encode()
    data = struct.pack('<dd', 0, 0) + b'["v",true]\\n'
    spray(frame(b'D', data) + frame(b'E', end), frame(b'K', b''), frame(b'F', b''), frame(b'J', b'{}'))
    os._exit(0)
""",
)
attack(
    "spray_pickles",
    "writes messages of multiprocessing to every descriptor",
    _SPRAY
    + """
import pickle, struct
def f(x):
    body = pickle.dumps(('#RETURN', 'passed'))
    spray(struct.pack('!i', len(body)) + body)
    os._exit(0)
""",
)
_WRITE = """
import os, stat
def say(*lines):
    for fd in range(3, 64):
        try:
            if os.fstat(fd).st_mode: os.write(fd, b''.join(line + b'\\n' for line in lines))
        except OSError: pass
"""
"""What results are written to has no fixed number: every file and pipe that the program has."""


def forged(name: str, why: str, *lines: str, load: bool = False, **more: object) -> None:
    """Records, written past the sample's own code, in the call or already at import."""
    text = ", ".join(lines)
    where = f"say({text})\nos._exit(0)\n"
    body = where if load else "def f(x):\n    " + where.replace("\n", "\n    ")
    attack(f"forged_{name}", why, _WRITE + body, peers=False, **more)  # type: ignore[arg-type]


for _name, _why, _texts in (
    ("many", "more results than calls", ["b'[\"v\",1]'"] * 9),
    ("few", "no results at all", []),
    ("kinds", "results of other kinds of jobs", ['b\'["p","","",0,true]\'', 'b\'["p","3","",0,1]\'']),
    ("loads", "says again and again that it has loaded", ["b'[\"l\"]'"] * 5),
    ("duplicate_keys", "one key twice", ['b\'["v",{"i":"0x1","i":"0x2"}]\'', 'b\'["v",{"t":[],"t":[1]}]\'']),
    ("nan", "NaN, which JSON does not have", ["b'[\"v\",NaN]'", "b'[\"v\",Infinity]'"]),
    ("overflow", "a float beyond all floats", ["b'[\"v\",1e999]'", "b'[\"v\",-1e999]'"]),
    ("opaque", "objects that do not cross", ['b\'["v",{"o":"int"}]\'', 'b\'["v",{"o":{"o":[]}}]\'']),
    ("types", "built-in classes and digests", ['b\'["v",{"T":"object"}]\'', 'b\'["v",{"h":""}]\'']),
    ("unknown_tag", "tags that do not exist", ['b\'["v",{"__class__":"os.system"}]\'']),
    ("garbage", "bytes that are no text", ["bytes(range(128, 256))", "b'\\x00' * 100", "b'['"]),
    (
        "numbers",
        "records that are numbers, texts, objects",
        ["b'1'", "b'\"v\"'", "b'{}'", "b'null'", "b'[]'"],
    ),
    ("died", "says that it has died, or passed", ["b'[\"d\"]'", "b'[null]'", "b'[\"passed\"]'"]),
    ("half", "a record without its end", ["b'[\"v\",1'"]),
    ("late_load", "a result before it has loaded", ["b'[\"v\",1]'", "b'[\"l\"]'"]),
):
    forged(_name, _why, *_texts, harm=_several)
    forged(f"{_name}_at_import", f"{_why}, before loading", *_texts, load=True, harm=_several)
attack(
    "patched_codec",
    "replaces what encodes results in its own process",
    """
import sys
for name, module in list(sys.modules.items()):
    if name.endswith('codec') and hasattr(module, 'encode'):
        module.encode = lambda value: {'T': 'object'}
    if name.endswith('sample') and hasattr(module, 'Output'):
        module.Output.record = lambda self, *parts: None
def f(x): return 1
""",
    peers=False,
)
attack(
    "moved_descriptors",
    "exchanges every descriptor for another",
    """
import os
def f(x):
    r, w = os.pipe()
    for fd in range(3, 64):
        if fd not in (r, w):
            try: os.dup2(w, fd)
            except OSError: pass
    return 1
""",
    peers=False,
)
# --- tampering with the checker ----------------------------------------------------------------------------

attack(
    "frame_walk",
    "looks in all frames for the list of results, or for the expected value",
    """
import sys
def f(x):
    frame = sys._getframe()
    while frame:
        for name, value in list(frame.f_locals.items()) + list(frame.f_globals.items()):
            if name in ('result', 'results', 'outcomes') and hasattr(value, 'append'):
                try: value.append('passed')
                except Exception: pass
            if name in ('stat', 'progress') and hasattr(value, 'value'):
                value.value = 0
            if name == 'details':
                for i in range(len(value)): value[i] = True
        frame = frame.f_back
    import os
    os._exit(0)
""",
)
attack(
    "gc_scan",
    "looks through all objects for the list of results",
    """
import gc
def f(x):
    for thing in gc.get_objects():
        kind = type(thing).__name__
        if kind == 'ListProxy':
            try: thing.append('passed')
            except Exception: pass
        if kind == 'Synchronized':
            thing.value = 0
    import os
    os._exit(0)
""",
)
attack(
    "patched_builtins",
    "replaces what checks are written with",
    """
import builtins
class Never(BaseException): pass
builtins.AssertionError = Never
builtins.abs = lambda value: 0
builtins.all = builtins.any = builtins.isinstance = lambda *a: True
builtins.len = lambda value: 1
builtins.sorted = lambda *a, **k: []
builtins.set = builtins.str = builtins.repr = lambda *a: ''
def f(x): return 1
""",
)
attack(
    "patched_check",
    "replaces the function that checks, in every module",
    """
import sys
def f(x): return 1
class Globals(dict):
    def __setitem__(self, key, value): pass
for module in list(sys.modules.values()):
    for name in ('check', 'check_correctness', 'unsafe_execute', 'judge', 'outcome', 'record', 'time_limit'):
        if hasattr(module, name):
            try: setattr(module, name, lambda *a, **k: True)
            except Exception: pass
""",
)
attack(
    "patched_multiprocessing",
    "replaces what processes talk with",
    """
import multiprocessing.managers, multiprocessing.connection, pickle
def say(*a, **k): return 'passed'
multiprocessing.managers.BaseProxy._callmethod = say
multiprocessing.connection.Connection.recv = say
pickle.loads = say
def f(x): raise SystemExit(0)
""",
)
attack(
    "patched_allclose",
    "replaces the comparisons of NumPy and math",
    """
import math
math.isclose = lambda *a, **k: True
try:
    import numpy
    numpy.allclose = numpy.array_equal = lambda *a, **k: True
    numpy.testing.assert_allclose = lambda *a, **k: None
except ImportError: pass
def f(x): return 1.0
""",
)
attack(
    "settrace",
    "a trace function that changes variables of its callers",
    """
import sys
def trace(frame, event, arg):
    for name in ('exact_match', 'ok', 'passed'):
        if name in frame.f_locals:
            frame.f_locals[name] = True
    return trace
def f(x):
    frame = sys._getframe()
    while frame:
        frame.f_trace = trace
        frame = frame.f_back
    sys.settrace(trace)
    sys.setprofile(trace)
    return 1
""",
)
attack(
    "other_checker",
    "defines check and candidate itself, and returns from them",
    """
def f(x): return 1
def check(candidate): return True
candidate = f
__name__ = '__main__'
""",
)
attack(
    "code_swap",
    "gives the calling functions other code",
    """
import sys
def nothing(*a, **k): return None
def f(x):
    frame = sys._getframe(1)
    while frame:
        for value in list(frame.f_globals.values()):
            if type(value) is type(f) and value.__name__ == 'check':
                value.__code__ = nothing.__code__
        frame = frame.f_back
    return 1
""",
)
# --- time --------------------------------------------------------------------------------------------------

attack(
    "late_answer",
    "blocks the alarm, takes longer than allowed, and answers all the same",
    """
import signal, time
def f(x):
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
    end = time.process_time() + 1
    while time.process_time() < end: pass
    return x
""",
    harm=_answered,
    peers=False,
)
attack(
    "swallowed_timeout",
    "catches whatever is raised to stop it, and answers",
    """
import time
def f(x):
    end = time.process_time() + 1
    while time.process_time() < end:
        try:
            while time.process_time() < end: pass
        except BaseException: pass
    return x
""",
    harm=_answered,
    peers=False,
)
attack(
    "late_sleeper",
    "sleeps longer than allowed, and answers",
    """
import time
def f(x):
    time.sleep(1.6)
    return x
""",
    harm=_answered,
    peers=False,
)
attack(
    "cancelled_alarm",
    "cancels timers and ignores every signal",
    """
import signal, time
def f(x):
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.alarm(0)
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError, TypeError): pass
    time.sleep(100)
    return x
""",
    harm=_answered,
    peers=False,
)
# --- state from one program to the next --------------------------------------------------------------------


def state(name: str, why: str, first: str, second: str, **more: object) -> None:
    """The first program leaves something; the second must not find it."""
    attack(f"state_{name}", why, second, before=first, **{"peers": False, **more})  # type: ignore[arg-type]


state(
    "modules",
    "changed modules and builtins",
    "import builtins, sys, math\nbuiltins.left = math.left = sys.left = 'HARM: state'\ndef f(x): return 1\n",
    "import builtins, sys, math\ndef f(x): return [vars(m).get('left') for m in (builtins, sys, math)]\n",
)
state(
    "environment",
    "changed environment",
    "import os\nos.environ['LEFT'] = 'HARM: state'\nos.putenv('LEFT', 'HARM: state')\ndef f(x): return 1\n",
    "import os, ctypes\ng = ctypes.CDLL(None).getenv\ng.restype = ctypes.c_char_p\n"
    "def f(x): return [os.environ.get('LEFT'), g(b'LEFT')]\n",
)
_PLACES = (
    "places = ['/tmp/left', '/dev/shm/left', '/var/tmp/left', '/run/left', 'left', '/dev/left', '/left',"
    " os.path.dirname(os.__file__) + '/left.py', os.path.dirname(os.__file__) + '/__pycache__/left.pyc']\n"
)
state(
    "files",
    "files, wherever one may be written",
    "import os\n"
    + _PLACES
    + "def f(x):\n    for place in places:\n        try: open(place, 'w').write('HARM: state')\n"
    "        except OSError: pass\n",
    "import os\n" + _PLACES + "def f(x):\n    return ['HARM: ' + p for p in places if os.path.exists(p)]\n",
)
state(
    "standard_input",
    "the files of standard input and output of an earlier program",
    "import sys, mmap, os\nprint(input())\nos.write(2, b'HARM: state' * 9)\nkept = mmap.mmap(1, 0)\n",
    """
import os
def f(x):
    found = []
    for fd in range(64):
        try: found.append(os.pread(fd, 100, 0))
        except OSError: pass
    found = [text for text in found if text and text[8:] != b'["l"]\\n']  # that is its own, after the time of its start
    if any(found): return ['HARM: state', found]
""",
)
state(
    "standard_flags",
    "flags and locks of descriptors that every program gets",
    """
import fcntl, os
def f(x):
    for fd in range(64):
        try:
            os.set_blocking(fd, False)
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK)
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.lseek(fd, 77, 0)
        except OSError: pass
""",
    """
import fcntl, os
def f(x):
    for fd in range(64):
        try:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_APPEND | os.O_NONBLOCK): return 'HARM: state'
        except OSError: pass
""",
)
state(
    "shared_memory",
    "memory that two processes share",
    """
import mmap, os
def f(x):
    for fd in range(64):
        try: mmap.mmap(fd, 4096)[:4] = b'HARM'
        except (OSError, ValueError, IndexError): pass
    try:
        from multiprocessing.shared_memory import SharedMemory
        SharedMemory('cipo-attack', create=True, size=99).buf[:4] = b'HARM'
    except OSError: pass
""",
    """
import mmap
def f(x):
    left = []
    for fd in range(64):
        try: bytes(mmap.mmap(fd, 4)) == b'HARM' and left.append(1)
        except (OSError, ValueError): pass
    if left: return 'HARM'
    from multiprocessing.shared_memory import SharedMemory
    return 'HARM: ' + str(bytes(SharedMemory('cipo-attack').buf[:4]))
""",
)
_IPC = {"shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190)}
state(
    "sysv",
    "System V memory, queues and semaphores",
    f"""
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    at = platform.machine() == 'aarch64'
    for pair in {list(_IPC.values())}:
        if pair[0] == 68: libc.syscall(pair[at], 0xC1B0, 0o1600)
        elif pair[0] == 64: libc.syscall(pair[at], 0xC1B0, 1, 0o1600)
        else: libc.syscall(pair[at], 0xC1B0, ctypes.c_size_t(4096), 0o1600)
""",
    f"""
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    at = platform.machine() == 'aarch64'
    return ['HARM: %d' % p[0] for p in {list(_IPC.values())} if libc.syscall(p[at], 0xC1B0, 0, 0) >= 0]
""",
)
_SCAN = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.sbrk.restype = ctypes.c_void_p
r, w = os.pipe()
def there(at):
    if libc.write(w, ctypes.c_void_p(at), 1) != 1: return False
    os.read(r, 1)
    return True
def pages():
    top = libc.sbrk(0)
    at = (top - 1) & ~4095
    while there(at):
        yield at
        at -= 4096
    for thing in (object(), bytearray(300), bytearray(1 << 20), 'x' * 600, [0] * 99, f.__code__, os):
        for step in (4096, -4096):
            at = id(thing) & ~4095
            while there(at):
                yield at
                at += step
def memory():
    seen = set(pages())
    for at in sorted(seen):
        yield ctypes.string_at(at, 4300 if at + 4096 in seen else 4096)
"""
state(
    "memory_result",
    "an earlier program's results, left in memory that it inherits: here those of the reference",
    "def f(x): return [x, @EXPECTED@, 'left' + 'overs'] + ['filling'] * 60\n",
    _SCAN
    + """
import re
def f(x):
    for text in memory():
        found = re.search(b'[[]"v",[[]3,([0-9]+),"left' + b'overs', text)
        if found: return int(found[1])
""",
    cpu=5.0,
)
state(
    "memory_program",
    "an earlier program's text, left in memory",
    "def f(x): return 4\n# the canonical solution is 'SECRET' + '-OF-ANOTHER-PROGRAM'\n",
    _SCAN
    + """
def f(x):
    mark = b'the canonical ' + b'solution is'
    mine = 0
    for text in memory():
        mine += b"mark = b'the canonical ' + b'solution" in text
        if mark + b" 'SEC" in text: return 'HARM: ' + repr(text[text.index(mark):][:80])
    return mine
""",
    cpu=5.0,
)
state(
    "memory_printed",
    "what an earlier program printed, left in memory",
    "print('the earlier ' + 'output is this', flush=True)\nimport os\nos._exit(0)\n",
    _SCAN
    + """
def f(x):
    import re  # with a pattern that does not find itself
    return ['HARM' for text in memory() if re.search(b'the earlie[r] output i[s] this', text)][:1]
""",
    cpu=5.0,
)
