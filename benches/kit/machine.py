"""What Linux tells of processes and of the machine: /proc, and perf for syscalls."""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass

CPUS = os.cpu_count() or 1


def stat_fields(pid):
    """/proc/PID/stat behind the name, which may hold anything: [0] is the state, [1] the parent."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()


def cpu_by_thread(pid):
    """Seconds that each thread has run: the scheduler's own account, in ns, where /proc/PID/stat has hundredths of a second."""
    used = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/schedstat") as account:
                used[thread] = int(account.read().split()[0]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            pass
    return used


def sockets(pid):
    """How many it has open."""
    count = 0
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            count += os.readlink(f"/proc/{pid}/fd/{entry}").startswith("socket:")
        except FileNotFoundError:
            pass
    return count


def rss_kib(pid):
    """Resident memory. Raises `OSError` where the process has ended."""
    return memory_kib(pid, "VmRSS")


def peak_kib(pid):
    """The most of it that there was."""
    return memory_kib(pid, "VmHWM")


def memory_kib(pid, name):
    with open(f"/proc/{pid}/status") as lines:
        for line in lines:
            if line.startswith(name):
                return int(line.split()[1])
    raise OSError("the process has ended")


def threads_named(pid, name):
    """Their ids."""
    return {thread for thread in os.listdir(f"/proc/{pid}/task") if comm(pid, thread) == name}


def comm(pid, thread):
    with open(f"/proc/{pid}/task/{thread}/comm") as name:
        return name.read().strip()


def switches(pid):
    """Context switches of all its threads: those it wanted (it slept), and those it did not."""
    wanted = forced = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/status") as lines:
                for line in lines:
                    if line.startswith("voluntary_ctxt"):
                        wanted += int(line.split()[1])
                    elif line.startswith("nonvoluntary_ctxt"):
                        forced += int(line.split()[1])
        except FileNotFoundError:
            pass
    return wanted, forced


@dataclass
class Usage:
    """What one process used up to now."""

    threads: dict
    wanted: int
    forced: int

    @classmethod
    def of(cls, pid):
        return cls(cpu_by_thread(pid), *switches(pid))

    def cpu_since(self, before, without=()):
        """In seconds. What a thread used that has ended meanwhile is not in it: the poolers here end none that carry data."""
        return sum(used - before.threads.get(thread, 0) for thread, used in self.threads.items() if thread not in without)


class Others:
    """How much of the machine was used by processes that are not of this run, and how much the hypervisor took.

    Ours are this process and all its descendants. What a parent has waited for is in its own figure, so that the sum
    only grows. Interrupts are left out on both sides."""

    def __init__(self):
        self.start = self.now()

    @staticmethod
    def now():
        with open("/proc/stat") as stat:
            # user nice system idle iowait irq softirq steal
            columns = [int(value) for value in stat.readline().split()[1:9]]
        busy, steal = sum(columns[:3]), columns[7]
        return busy, steal, sum(columns), own_ticks()

    def share(self):
        """(of others, stolen): shares of all the time that the machine's cores had."""
        busy, steal, total, own = (after - before for after, before in zip(self.now(), self.start))
        return (max(0.0, (busy - own) / total), steal / total) if total > 0 else (0.0, 0.0)


def own_ticks():
    children, used = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = stat_fields(entry)
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry))
            used[int(entry)] = sum(int(value) for value in fields[11:15])
    total, queue = 0, [os.getpid()]
    while queue:
        pid = queue.pop()
        total += used.get(pid, 0)
        queue.extend(children.get(pid, ()))
    return total


class Syscalls:
    """Counts the syscalls of a process from `begin` to `stop`, if perf is there and may."""

    def __init__(self, pid, out):
        self.out, self.perf = out, None
        if not pid or not shutil.which("perf"):
            return
        # It is told by a pipe when to begin, and says that it has: to attach takes it long.
        read, self.control = os.pipe()
        self.answers, answer = os.pipe()
        arguments = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-D", "-1", "--control", f"fd:{read},{answer}"]
        arguments += ["-p", str(pid), "-o", out]
        self.perf = subprocess.Popen(arguments, pass_fds=(read, answer), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(read)
        os.close(answer)
        # It has attached; where it may not, this is the end of the pipe.
        self.tell(b"ping")

    def begin(self):
        if self.perf:
            self.tell(b"enable")

    def stop(self):
        """How many; `None` where perf could not count."""
        if self.perf is None:
            return None
        self.tell(b"disable")
        self.perf.send_signal(signal.SIGINT)
        self.perf.wait(10)
        os.close(self.control)
        os.close(self.answers)
        try:
            with open(self.out) as lines:
                for line in lines:
                    if "sys_enter" in line and line.split(",")[0].isdigit():
                        return int(line.split(",")[0])
        except FileNotFoundError:
            pass
        return None

    def tell(self, word):
        try:
            os.write(self.control, word + b"\n")
            os.read(self.answers, 16)
        except BrokenPipeError:
            pass
