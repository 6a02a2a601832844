"""The whole word-problems example as it was before the engine's kernels for bf16, LoRA and 8-bit weights: run by rlrf as it is
now, in bf16, against rlrf as it was then."""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from comparison.installation import ROOT, binary, build_rlrf
from comparison.measurement import QUIET, Failure, make_row, say

BEFORE = "cb7f446"
# As its page had it: 5.5 to 6 minutes and 0.8 GB on 2 cores (AMD EPYC, Zen 5).
BEFORE_SECONDS = 345.0
BEFORE_PEAK_MIB = 800.0
GOAL = 3.0
# The example has grown since: both sides run the configuration of that commit.
NOW = [f"{stage}.training.precision=bf16" for stage in ("policy.sft", "feedback.sft", "dpo")] + ["generation.weights=bf16"]
QUICK = [
    "iterations=1",
    "instructions.limit=4",
    "policy.sft.training.max_steps=2",
    "feedback.sft.training.max_steps=2",
    "evaluation.sets=[]",
]


def row(settings, threads, baseline):
    """Runs it once a side (it takes minutes); the side before is as recorded unless it is to be built."""
    ours, theirs = [], []
    try:
        with _worktree() as source:
            ours.append(_measure(settings, "rlrf", source, binary(ROOT), threads, NOW))
            if baseline:
                # Kept between comparisons.
                target = ROOT / "target/bench/baseline"
                build_rlrf(source, target)
                theirs.append(_measure(settings, BEFORE, source, binary(source, target), threads, []))
            elif not settings.quick:
                theirs.append(_measurement(BEFORE_SECONDS, BEFORE_PEAK_MIB))
    except (Failure, subprocess.CalledProcessError) as failure:
        say(f"example: {failure}")
    peer = f"rlrf at {BEFORE}" + ("" if baseline else ", as recorded")
    return make_row("example", peer, "bf16", "runs/h", ours, theirs, GOAL, None)


class _worktree:
    """The sources at that commit, in a folder that goes again."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        source = Path(self.folder.name) / "source"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", source, BEFORE], cwd=ROOT, check=True)
        return source

    def __exit__(self, *_):
        source = Path(self.folder.name) / "source"
        subprocess.run(["git", "worktree", "remove", "--force", source], cwd=ROOT, check=True)
        self.folder.cleanup()


def _measure(settings, side, source, program, threads, changes):
    configuration = source / "examples/word-problems/rlrf.toml"
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--threads", threads, "--quiet", "run", configuration, "--out", f"{folder}/run"]
        for setting in [*changes, *(QUICK if settings.quick else [])]:
            command += ["--set", setting]
        measurement = _run([str(part) for part in command])
    others = measurement["others_cores"]
    say(f"example: {side}: {measurement['seconds_median']:.0f} s, {measurement['peak_rss_mib']:.0f} MiB, "
        f"others {others:.2f} cores" + (": not to be trusted" if others > QUIET else ""))  # fmt: skip
    settings.raw.write(json.dumps({"compared": "example", "side": side, **measurement}) + "\n")
    return measurement


def _run(command):
    """Time and memory of a process and nothing of what it prints."""
    with tempfile.TemporaryFile() as errors:
        start, busy = time.perf_counter(), _busy_seconds()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds, busy = time.perf_counter() - start, _busy_seconds() - busy
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise Failure(f"{said[-1]} (status {process.returncode})")
    others = max(0.0, busy - usage.ru_utime - usage.ru_stime) / seconds
    return {**_measurement(seconds, usage.ru_maxrss / 1024), "others_cores": others}


def _busy_seconds():
    """Seconds that all cores were busy."""
    with open("/proc/stat") as stat:
        ticks = [int(value) for value in stat.readline().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _measurement(seconds, peak_rss_mib):
    return {"rate": 3600 / seconds, "seconds_median": seconds, "peak_rss_mib": peak_rss_mib}
