"""A campaign: spoilt files without end for the readers, in child processes that may die of them.

Run as ``python -m fuzz.readers --seconds 60 --format all``. Ends with exit code 1 if anything was found.
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
from fuzz.seeds import FORMATS, Files, seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A child is replaced after so many executions.
BATCH = 2000
#: Wall time after which a child that does not go on is killed: native code does not heed a signal.
STUCK_SECONDS = 60.0
#: What a child may have of address space beyond what it begins with.
MEMORY_BYTES = 2 * 2**30
#: So many inputs of a finding are kept.
KEPT = 3
#: The mutations make no file larger than this.
MAX_BYTES = 2**20

_FORK = get_context("fork")


def spoilt(form: str, seed: int, number: int) -> Files:
    """Make the input of an execution: the same for the same arguments."""
    random = Random(f"{form} {seed} {number}")
    sound = seeds_of[form]
    files = dict(random.choice(sound))
    names = list(files)
    # A group has several files: most often its text is spoilt.
    name = names[0] if random.random() < 0.7 else random.choice(names)
    other = random.choice(sound)[names[0]]
    kind = form if name == names[0] else "npy" if files[name].startswith(b"\x93") else "csdat"
    files[name] = mutate(kind, files[name], other, random)[:MAX_BYTES]
    return files


seeds_of: dict[str, list[Files]] = {form: seeds(form) for form in FORMATS}


def _work(
    form: str, seed: int, first: int, stop: int, folder: Path, progress: Any, pipe: Any
) -> None:
    """Do some executions in a child process, and send what came of them."""
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
        place = folder / str(number)
        place.mkdir()
        scratch = place / "out"
        scratch.mkdir()
        files = spoilt(form, seed, number)
        for name, content in files.items():
            (place / name).write_bytes(content)
        outcome = execute(place / next(iter(files)), scratch)
        counts[outcome.kind] += 1
        if outcome.is_finding:
            findings.append((number, outcome))
        shutil.rmtree(place)
    pipe.send((counts, findings))
    pipe.close()


class Campaign:
    """Executions of one format, and what was found."""

    def __init__(self, form: str, seed: int, findings: Path, scratch: Path) -> None:
        self.form, self.seed, self.findings, self.scratch = form, seed, findings, scratch
        self.counts: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.next = 0

    def batch(self, size: int) -> None:
        """Do some executions in a child process; go on behind one that ends it."""
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
        mark = hashlib.sha256(key.encode()).hexdigest()[:8]
        place = self.findings / f"{self.form}-{mark}-{self.seed}-{number}"
        place.mkdir(parents=True, exist_ok=True)
        for name, content in spoilt(self.form, self.seed, number).items():
            (place / name).write_bytes(content)
        (place / "outcome.txt").write_text(f"{key}\n\n{outcome.text}\n")

    def line(self, seconds: float) -> str:
        """Say how far it is."""
        total = sum(self.counts.values())
        counted = ", ".join(f"{kind} {count:,}" for kind, count in self.counts.most_common())
        return f"{self.form}: {total:,} executions, {total / seconds:.0f}/s ({counted})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run campaigns until the time is over or the executions are done."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.readers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--executions", type=int, help="of all formats together")
    parser.add_argument("--format", choices=[*FORMATS, "all"], default="all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    options = parser.parse_args(arguments)
    os.nice(10)
    # In the background SIGINT may be ignored.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    memory = Path("/dev/shm")
    scratch = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
    forms = FORMATS if options.format == "all" else (options.format,)
    campaigns = [Campaign(form, options.seed, options.findings, scratch) for form in forms]
    spent = dict.fromkeys(forms, 1e-9)
    began = told = time.monotonic()
    try:
        while time.monotonic() - began < options.seconds:
            done = sum(sum(campaign.counts.values()) for campaign in campaigns)
            if options.executions is not None and done >= options.executions:
                break
            # The same time for each format.
            campaign = min(campaigns, key=lambda campaign: spent[campaign.form])
            before = time.monotonic()
            size = BATCH
            if options.executions is not None:
                size = min(BATCH, -(-options.executions // len(forms)), options.executions - done)
            campaign.batch(size)
            spent[campaign.form] += time.monotonic() - before
            if time.monotonic() - told > 60:
                told = time.monotonic()
                for campaign in campaigns:
                    print(campaign.line(spent[campaign.form]), flush=True)
    except KeyboardInterrupt:
        print("interrupted; what was done until then:")
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
