"""Runs both sides in turn, one process per measurement."""

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass

QUIET = 0.05  # cores that others may keep busy
ATTEMPTS = 3  # for a quiet measurement
LIMIT_SECONDS = 1800


class Failure(Exception):
    """A side could not do the work; the message says why."""


def say(message):
    print(message, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Settings:
    repeat: int
    quick: bool
    # Where every single measurement is kept, as JSON lines.
    raw: object


@dataclass
class Comparison:
    workload: object
    installation: object
    settings: Settings

    def row(self):
        """Both sides, measured alternately; ours is null where it cannot do the work."""
        label, ours, theirs = "", [], []
        try:
            ours.append(self.our_measurement())
            label, options = self.fastest_variant()
            while len(theirs) < self.settings.repeat:
                theirs.append(self.their_measurement(label, options))
                if len(ours) < self.settings.repeat:
                    ours.append(self.our_measurement())
        except Failure as failure:
            say(f"{self.workload.name}: {failure}")
            ours, theirs = ([], theirs) if not ours else (ours, [])
        workload = self.workload
        peer = f"{workload.peer} ({label})" if label else workload.peer
        return make_row(
            workload.name, peer, workload.precision, workload.unit, ours, theirs, workload.goal,
            workload.memory_goal,
        )  # fmt: skip

    def our_measurement(self):
        side = self.workload.ours
        options = {**side.options, **(side.quick if self.settings.quick else {})}
        command = self.installation.our_command(self.workload, options)
        return self.measure("rlrf", command, None)

    def their_measurement(self, label, options):
        side = self.workload.theirs
        options = {**side.options, **options, **(side.quick if self.settings.quick else {})}
        command = self.installation.their_command(self.workload, options)
        name = f"{self.workload.peer} {label}".strip()
        return self.measure(name, command, self.installation.their_environment())

    def fastest_variant(self):
        """Label and options of the peer's best way, one measurement each."""
        variants = self.workload.variants
        if len(variants) == 1 or self.settings.quick:
            return variants[0]
        rates, failures = {}, []
        for label, options in variants:
            try:
                rates[label] = self.their_measurement(label, {**options, **self.workload.probe})["rate"]
            except Failure as failure:
                say(f"{self.workload.name}: {label}: {failure}")
                failures.append(f"{label}: {failure}")
        if not rates:
            raise Failure("; ".join(failures))
        best = max(rates, key=rates.get)
        say(f"{self.workload.name}: the peer is fastest with {best}")
        return best, dict(variants)[best]

    def measure(self, side, command, environment):
        """The quietest of at most three attempts."""
        best = None
        for _ in range(1 if self.settings.quick else ATTEMPTS):
            measurement = run(command, environment)
            others = measurement["others_cores"] or 0.0
            say(f"{self.workload.name}: {side}: {measurement['rate']:.4g} {measurement['unit']}, "
                f"{measurement['peak_rss_mib']:.0f} MiB, others {others:.2f} cores")  # fmt: skip
            self.settings.raw.write(json.dumps({"compared": self.workload.name, "side": side, **measurement}) + "\n")
            self.settings.raw.flush()
            if best is None or others < (best["others_cores"] or 0.0):
                best = measurement
            if others <= QUIET:
                break
        else:
            say(f"warning: {self.workload.name}: {side}: other processes kept "
                f"{best['others_cores']:.2f} cores busy: the figures are not to be trusted")  # fmt: skip
        return best


def run(command, environment):
    """The JSON that a measurement prints last."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"no result after {LIMIT_SECONDS} s: {' '.join(command)}") from error
    except OSError as error:
        raise Failure(str(error)) from error
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"')]
    if done.returncode != 0 or not lines:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise Failure(f"{said[-1].strip()} (status {done.returncode})")
    return json.loads(lines[-1])


def make_row(workload, peer, precision, unit, ours, theirs, goal, memory_goal):
    """A line of the result: medians of both sides' measurements."""
    our_rate, their_rate = (_median(side, "rate") for side in (ours, theirs))
    our_memory, their_memory = (_median(side, "peak_rss_mib") for side in (ours, theirs))
    return {
        "workload": workload,
        "peer": peer,
        "precision": precision,
        "unit": unit,
        "ours": our_rate,
        "theirs": their_rate,
        "ratio": _ratio(our_rate, their_rate),
        "goal": goal,
        "memory_ours_mib": our_memory,
        "memory_theirs_mib": their_memory,
        "memory_ratio": _ratio(our_memory, their_memory),
        "memory_goal": memory_goal,
    }


def _median(measurements, field):
    values = [measurement[field] for measurement in measurements if measurement[field] is not None]
    return round(statistics.median(values), 4) if values else None


def _ratio(ours, theirs):
    return round(ours / theirs, 3) if ours is not None and theirs else None


