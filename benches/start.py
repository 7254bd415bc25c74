"""Start-up: `lode --version`, `lode up` to ready on an empty project, idle memory and CPU. Bar: 500 ms, 120 MB."""

import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

import measure

LODE = os.environ["LODE_BIN"]


def rss_mb(pid):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def up(idle_seconds):
    project = tempfile.mkdtemp()
    with open(os.path.join(project, "lode.yml"), "w") as config:
        config.write("ingest:\n  - name: t\n    files: {path: landing}\n    format: csv\n    table: bronze.t\n")
    os.makedirs(os.path.join(project, "landing"))
    socket = os.path.join(project, ".lode", "run", "addresses.json")
    began = time.perf_counter()
    child = subprocess.Popen([LODE, "up", "--project-dir", project], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not os.path.exists(socket):
        if child.poll() is not None or time.perf_counter() - began > 30:
            raise SystemExit("lode up did not become ready")
        time.sleep(0.001)
    ready_ms = (time.perf_counter() - began) * 1000
    before = cpu_seconds(child.pid)
    time.sleep(idle_seconds)
    idle_mb, idle_cpu = rss_mb(child.pid), (cpu_seconds(child.pid) - before) / idle_seconds * 100
    child.send_signal(signal.SIGTERM)
    child.wait(timeout=30)
    shutil.rmtree(project)
    return ready_ms, idle_mb, idle_cpu


print(f"machine: {measure.machine()}")
print(f"binary: {os.path.getsize(LODE) / 1e6:.0f} MB, {measure.run([LODE, '--version'])[3].strip()}")
versions = [measure.run([LODE, "--version"])[0] * 1000 for _ in range(20)]
print(f"lode --version: median {statistics.median(versions):.1f} ms (min {min(versions):.1f})")
up(0.5)
runs = [up(5) for _ in range(5)]
for name, at, unit in (("ready after lode up", 0, "ms"), ("idle RSS", 1, "MB"), ("idle CPU", 2, "% of a core")):
    values = [run[at] for run in runs]
    print(f"{name}: median {statistics.median(values):.1f} {unit} ({min(values):.1f}-{max(values):.1f})")
