"""Both sides, made ready: the peers by `bench/peers/setup`, ours by cargo."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LLAMA = "llama_cpp_python-0.3.36"
# Keeps freed blocks mapped, and uses huge pages: PyTorch trains 1.4 times faster with it.
TUNED_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


@dataclass(frozen=True)
class Installation:
    peers: Path
    threads: int

    def prepare(self):
        """Installs what is missing and builds; the progress of both goes to standard error."""
        subprocess.run([ROOT / "bench/peers/setup", self.peers], check=True, stdout=2)
        build_rlrf(ROOT)

    def our_command(self, workload, options):
        side = workload.ours
        given = {"model": self.peers / workload.model, "precision": workload.precision, **options}
        return [binary(ROOT), "--threads", self.threads, "bench", side.program, "--json", *arguments(given)]

    def their_command(self, workload, options):
        script = ROOT / f"bench/peers/{workload.theirs.program}.py"
        given = {"model": self.peers / workload.model, "precision": workload.precision, "threads": self.threads}
        return [self.peers / "venv/bin/python", script, *arguments({**given, **options})]

    def their_environment(self):
        llama = self.peers / LLAMA
        libraries = llama / "vendor/llama.cpp/build/bin"
        python = {"PYTHONPATH": str(llama), "LLAMA_CPP_LIB_PATH": str(libraries), "PYTHONDONTWRITEBYTECODE": "1"}
        return {**os.environ, **TUNED_ALLOCATOR, **python}


def build_rlrf(source, target=None):
    """Builds the sources of a folder, into its own target folder unless another is given."""
    command = ["cargo", "build", "--release", "--locked", "--quiet"]
    environment = {**os.environ, **({"CARGO_TARGET_DIR": str(target)} if target else {})}
    subprocess.run(command, cwd=source, check=True, env=environment)


def binary(source, target=None):
    return (target or Path(os.environ.get("CARGO_TARGET_DIR", source / "target"))) / "release/rlrf"


def arguments(options):
    """`{"steps": 3, "compile": True}` as `--steps 3 --compile`."""
    return [
        part
        for name, value in options.items()
        for part in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]
