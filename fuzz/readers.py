"""A fuzzing campaign: the readers open damaged files in child processes, which may crash.

Run as ``python -m fuzz.readers --seconds 60 --format all``. The exit code is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from fuzz.execution import Outcome, execute
from fuzz.mutations import mutate
from fuzz.seeds import FORMATS, PICKS, Files, seeds, write_files

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A child process does this many executions.
BATCH = 2000
#: A child without progress is killed after this time, because native code ignores other signals.
STUCK_SECONDS = 60.0
#: Address space that a child process may use in addition to its address space at the start.
MEMORY_BYTES = 2 * 2**30
#: This many inputs of each finding are kept.
KEPT = 3
#: Damaged files are cut to this size.
MAX_BYTES = 2**20

_FORK = get_context("fork")


def damaged_files(form: str, seed: int, number: int) -> Files:
    """Return the input of an execution. It depends only on the arguments."""
    random = Random(f"{form} {seed} {number}")
    valid = seeds_of[form]
    files = dict(random.choice(valid))
    names = list(files)
    # In a group, the first file (the text) is damaged more often than the others.
    name = names[0] if random.random() < 0.7 else random.choice(names)
    other = next(iter(random.choice(valid).values()))
    kind = form if name == names[0] else "npy" if files[name].startswith(b"\x93") else "csdat"
    files[name] = mutate(kind, files[name], other, random)[:MAX_BYTES]
    return files


seeds_of: dict[str, list[Files]] = {form: seeds(form) for form in FORMATS}


def _work(
    form: str, seed: int, first: int, stop: int, folder: Path, progress: Any, pipe: Any
) -> None:
    """Do some executions in a child process, and send the outcomes to the parent."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.disable()  # a crash is noted by the parent
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("error")
    counts: Counter[str] = Counter()
    findings: list[tuple[int, Outcome]] = []
    for number in range(first, stop):
        progress.value = number
        own = folder / str(number)
        scratch = own / "out"
        scratch.mkdir(parents=True)
        files = damaged_files(form, seed, number)
        write_files(files, own)
        outcome = execute(own / next(iter(files)), scratch)
        counts[outcome.kind] += 1
        if outcome.is_finding:
            findings.append((number, outcome))
        shutil.rmtree(own)
    pipe.send((counts, findings))
    pipe.close()


class Campaign:
    """Executions of one format, and their findings."""

    def __init__(self, form: str, seed: int, findings: Path, scratch: Path) -> None:
        self.form, self.seed, self.findings, self.scratch = form, seed, findings, scratch
        self.counts: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.next = 0

    def batch(self, size: int) -> None:
        """Do some executions in child processes. Continue after an execution that crashes a process."""
        stop = self.next + size
        while self.next < stop:
            progress = _FORK.Value("q", self.next, lock=False)
            receiver, sender = _FORK.Pipe(duplex=False)
            folder = Path(tempfile.mkdtemp(dir=self.scratch))
            child = _FORK.Process(
                target=_work,
                args=(self.form, self.seed, self.next, stop, folder, progress, sender),
                daemon=True,
            )
            child.start()
            sender.close()
            result = self._result(child, receiver, progress)
            shutil.rmtree(folder, ignore_errors=True)
            if result is None:
                number = progress.value
                kind = "stuck" if child.exitcode == -signal.SIGKILL else "crash"
                self.counts["accepted or refused before a crash"] += number - self.next
                self._note(number, Outcome(kind, f"exit code {child.exitcode}"))
                self.counts[kind] += 1
                self.next = number + 1
            else:
                counts, findings = result
                self.counts += counts
                for number, outcome in findings:
                    self._note(number, outcome)
                self.next = stop

    def _result(self, child: Any, receiver: Any, progress: Any) -> Any:
        last, since = -1, time.monotonic()
        while True:
            try:
                if receiver.poll(1.0):
                    result = receiver.recv()
                    child.join()
                    return result
            except EOFError:
                child.join()
                return None
            if progress.value != last:
                last, since = progress.value, time.monotonic()
            elif time.monotonic() - since > STUCK_SECONDS:
                child.kill()

    def _note(self, number: int, outcome: Outcome) -> None:
        key = f"{outcome.kind} {outcome.where}"
        self.found[key] += 1
        if self.found[key] > KEPT:
            return
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        folder = self.findings / f"{self.form}-{digest}-{self.seed}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        write_files(damaged_files(self.form, self.seed, number), folder)
        (folder / "outcome.txt").write_text(f"{key}\n\n{outcome.text}\n")

    def line(self, seconds: float) -> str:
        """Return a line of text about the progress."""
        total = sum(self.counts.values())
        counted = ", ".join(f"{kind} {count:,}" for kind, count in self.counts.most_common())
        return f"{self.form}: {total:,} executions, {total / seconds:.0f}/s ({counted})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run campaigns until the time is over or the executions are done."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.readers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--executions", type=int, help="of all formats together")
    parser.add_argument("--format", choices=[*FORMATS, "picks", "all"], default="all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    options = parser.parse_args(arguments)
    os.nice(10)
    # A background process may ignore SIGINT.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    memory = Path("/dev/shm")
    scratch = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
    groups = {"all": FORMATS, "picks": tuple(PICKS)}
    forms = groups.get(options.format, (options.format,))
    campaigns = [Campaign(form, options.seed, options.findings, scratch) for form in forms]
    spent = dict.fromkeys(forms, 1e-9)
    began = reported = time.monotonic()
    try:
        while time.monotonic() - began < options.seconds:
            done = sum(sum(campaign.counts.values()) for campaign in campaigns)
            if options.executions is not None and done >= options.executions:
                break
            # Each format gets the same time.
            campaign = min(campaigns, key=lambda campaign: spent[campaign.form])
            before = time.monotonic()
            size = BATCH
            if options.executions is not None:
                size = min(BATCH, -(-options.executions // len(forms)), options.executions - done)
            campaign.batch(size)
            spent[campaign.form] += time.monotonic() - before
            if time.monotonic() - reported > 60:
                reported = time.monotonic()
                for campaign in campaigns:
                    print(campaign.line(spent[campaign.form]), flush=True)
    except KeyboardInterrupt:
        print("interrupted; the executions until then:")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for campaign in campaigns:
        print(campaign.line(spent[campaign.form]))
    for campaign in campaigns:
        for key, count in campaign.found.most_common():
            print(f"FOUND {campaign.form}: {count} x {key}")
    total = sum(sum(campaign.counts.values()) for campaign in campaigns)
    found = sum(sum(campaign.found.values()) for campaign in campaigns)
    print(f"{total:,} executions in {time.monotonic() - began:.0f} s, {found:,} with a finding")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
