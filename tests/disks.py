"""Small file systems, mounted as root; tests that use them are skipped if that is not permitted."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager

import pytest


def _call(*words):
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"not permitted here: {' '.join(map(str, words))}: {done.stderr.strip()[:200]}")


@contextmanager
def small_disk(folder, *, size, files=None):
    """Yield the folder of a new disk with a size in bytes and a maximal number of files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = f",nr_inodes={files}" if files else ""
    _call("mount", "-t", "tmpfs", "-o", f"size={size}{files}", "none", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def enlarge(folder, size=500_000_000, files=100_000):
    """Enlarge such a disk."""
    options = f"remount,size={size},nr_inodes={files}"
    subprocess.run(["mount", "-o", options, folder], check=True)


def make_read_only(folder):
    """Make such a disk read-only."""
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)


@contextmanager
def with_quota(folder, size):
    """Yield a folder with a quota in bytes, on a larger disk."""
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("no mkfs.btrfs here (Debian: btrfs-progs)")
    image = folder.with_name(f"{folder.name}.image")
    with image.open("wb") as file:
        file.truncate(200_000_000)
    folder.mkdir()
    _call("mkfs.btrfs", "-q", image)
    _call("mount", "-o", "loop", image, folder)
    try:
        _call("btrfs", "quota", "enable", folder)
        _call("btrfs", "subvolume", "create", folder / "mine")
        limit_quota(folder / "mine", size)
        yield folder / "mine"
    finally:
        subprocess.run(["umount", folder], check=True)


def limit_quota(folder, size):
    """Change the quota of such a folder."""
    _call("btrfs", "qgroup", "limit", size, folder)
