"""Times whole processes: wall, CPU of the process tree, peak RSS; interleaved repeats; medians and ratios."""

import os
import platform
import random
import statistics
import subprocess
import time


def run(argv, cwd=None, env=None):
    """Runs argv to its end. Returns (wall seconds, CPU seconds, peak RSS MB, stdout). Raises on a non-zero exit."""
    began = time.perf_counter()
    child = subprocess.Popen(argv, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out = child.stdout.read()
    err = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if child.returncode != 0:
        raise SystemExit(f"{argv} failed with {child.returncode}:\n{err.decode()[-2000:]}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.decode()


def interleave(jobs, repeats):
    """jobs: name -> function that does one run and returns (wall, cpu, rss, answer). One discarded warm-up each, then
    `repeats` rounds A B C A B C. Returns name -> list of results."""
    for job in jobs.values():
        job()
    results = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            results[name].append(job())
    return results


def interval(ours, theirs, seed=1):
    """Bootstrap 95 % interval of median(theirs) / median(ours): above 1 means we are faster."""
    rng = random.Random(seed)
    ratios = sorted(
        statistics.median(rng.choices(theirs, k=len(theirs))) / statistics.median(rng.choices(ours, k=len(ours)))
        for _ in range(2000)
    )
    return ratios[50], ratios[-51]


def machine():
    model = "unknown CPU"
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo") as info:
        memory_gb = int(info.readline().split()[1]) / 1e6
    return f"{os.cpu_count()} x {model}, {memory_gb:.0f} GB, {platform.system()} {platform.release()}"


def report(title, results, ours="lode", size_mb=None):
    print(f"\n## {title}\n")
    print("| | wall s, median (min-max) | CPU s | peak RSS MB |" + (" MB/s |" if size_mb else ""))
    print("|---|---|---|---|" + ("---|" if size_mb else ""))
    for name, runs in results.items():
        walls = [r[0] for r in runs]
        wall = statistics.median(walls)
        row = f"| {name} | {wall:.2f} ({min(walls):.2f}-{max(walls):.2f}) | {statistics.median(r[1] for r in runs):.2f} | {max(r[2] for r in runs):.0f} |"
        print(row + (f" {size_mb / wall:.0f} |" if size_mb else ""))
    print()
    for name, runs in results.items():
        if name == ours:
            continue
        for what, at in (("wall", 0), ("CPU", 1)):
            a, b = [r[at] for r in results[ours]], [r[at] for r in runs]
            low, high = interval(a, b)
            print(f"{ours} against {name}, {what}: {statistics.median(b) / statistics.median(a):.2f}x (95 %: {low:.2f}-{high:.2f})")
