"""The workloads of benches/workloads, in the order of the files."""

import glob
import os
import tomllib

from .peers import HERE, Variant


def load(only=None, quick=False):
    """All of them; those whose names begin so; without the slow ones."""
    found = []
    for path in sorted(glob.glob(os.path.join(HERE, "workloads", "*.toml"))):
        with open(path, "rb") as file:
            found += tomllib.load(file)["workload"]
    if only:
        unknown = [start for start in only if not any(workload["name"].startswith(start) for workload in found)]
        if unknown:
            raise SystemExit(f"no workload begins with {unknown[0]}: see --list")
        return [workload for workload in found if workload["name"].startswith(tuple(only))]
    return [workload for workload in found if not (quick and workload.get("slow"))]


def variant(workload):
    """How the pooler has to be set up for it."""
    flags = (workload.get(feature, False) for feature in ("tls", "scram", "metrics"))
    return Variant(workload.get("workers", 1), *flags)
