"""The rows of the comparison: what each measures, what bakfs must reach, and the Markdown table."""

import statistics
from dataclasses import dataclass, field

MIB = 1 << 20
# Reads answered by FUSE's page cache, measured on a 2-core machine with Linux 6.18 (4 KiB folios).
FUSE_PAGE_CACHE_MB_PER_SEC = 10_000.0


@dataclass
class Cell:
    """The samples of one row and one tool."""

    samples: list = field(default_factory=list)
    stopped: bool = False
    notes: set = field(default_factory=set)

    @property
    def median(self):
        """Returns the median sample, or None when the row was stopped or never measured."""
        return statistics.median(self.samples) if self.samples and not self.stopped else None


@dataclass(frozen=True)
class Row:
    """One figure: its key on the command line, its title, its unit and the bounds bakfs must keep."""

    key: str
    title: str
    unit: str = "s"
    bounds: tuple = ()
    cold: bool = False

    @property
    def more_is_better(self):
        """Returns whether a larger value wins."""
        return self.unit == "MB/s"


def fixed(value):
    """Returns a bound that is a figure in the row's own unit."""
    return lambda table, row: (value, "")


def times_best(factor):
    """Returns a bound relative to the best peer of the same row."""
    def bound(table, row):
        best = table.best_peer(row)
        name = f"{factor:g} x best" if factor != 1 else "best"
        return (None if best is None else factor * best, name)
    return bound


def times_row(factor, key, tool, name):
    """Returns a bound relative to another row: of one tool, or of the best peer when `tool` is None."""
    def bound(table, row):
        base = table.best_peer(ROWS_BY_KEY[key]) if tool is None else table.cell(key, tool).median
        return (None if base is None else factor * base, name)
    return bound


def share_of_ceiling(factor):
    """Returns a bound relative to what FUSE and zstd allow on all cores, measured in the same run."""
    def bound(table, row):
        ceiling = table.cell("cat-ceiling", "machine").median
        return (None if ceiling is None else factor * ceiling, f"{factor:.0%} of the ceiling")
    return bound


ROWS = [
    Row("mount", "mount ready (warm local cache)", bounds=(fixed(0.03),)),
    Row("cp-small", "`cp` of one small file right after mounting", bounds=(fixed(0.02),)),
    Row("cat-cold", "`cat` of the dump in the mount, cold", "MB/s", (times_best(1.2), share_of_ceiling(0.85)), True),
    Row("cat-warm", "the same, warm", "MB/s", (fixed(0.9 * FUSE_PAGE_CACHE_MB_PER_SEC),)),
    Row("find", "`find -printf` over one snapshot, cold", bounds=(fixed(0.4),), cold=True),
    Row("cp-all", "`cp -a` of one whole snapshot, cold",
        bounds=(times_row(1, "restore", None, "fastest peer's restore"),), cold=True),
    Row("diff-mount", "`diff -rq` of two snapshots in the mount, cold", bounds=(fixed(0.8),), cold=True),
    Row("memory", "memory of the mount after all that", "MiB", (fixed(64),)),
    Row("restore", "`restore`, cold", bounds=(times_best(0.7),), cold=True),
    Row("restore-rss", "`restore`: memory", "MiB", (fixed(150),), True),
    Row("backup-cpu", "first backup: CPU seconds", bounds=(times_best(0.5),)),
    Row("backup", "first backup, source cached: wall time", bounds=(times_best(0.45),)),
    Row("backup-cold", "first backup, source on disk: wall time",
        bounds=(times_row(1, "copy-cold", "machine", "plain `cp -a`, cold"),), cold=True),
    Row("backup-rss", "first backup: memory", "MiB"),
    Row("size", "repository size after the first backup", "MiB", (times_best(1),)),
    Row("unchanged-warm", "backup of the unchanged tree, warm",
        bounds=(times_row(1.2, "walk-warm", "machine", "1.2 x `find -printf`, warm"),)),
    Row("unchanged-cold", "backup of the unchanged tree, cold",
        bounds=(times_row(1.2, "walk-cold", "machine", "1.2 x `find -printf`, cold"),), cold=True),
    Row("changed", "backup after a few changes, warm"),
    Row("added", "repository growth by those changes", "MiB"),
    Row("diff", "`diff` command", bounds=(fixed(0.05),)),
    Row("check", "`check --read-data`, cold", bounds=(times_best(0.7),), cold=True),
]

# What the machine does without any backup tool, in the same run.
CEILINGS = [
    Row("walk-warm", "`find -printf` over the source, warm"),
    Row("walk-cold", "`find -printf` over the source, cold", cold=True),
    Row("read-warm", "`cat` of the source dump, warm", "MB/s"),
    Row("read-cold", "`cat` of the source dump, cold", "MB/s", cold=True),
    Row("copy-warm", "`cp -a` of the source to where the mount is copied to, warm"),
    Row("copy-cold", "`cp -a` of the source to the repositories' disk, cold", cold=True),
    Row("cat-ceiling", "FUSE + zstd on all cores: reader's CPU and zstd's CPU, shared by the cores", "MB/s"),
]

ROWS_BY_KEY = {row.key: row for row in ROWS + CEILINGS}


class Table:
    """The samples of a run by row and tool."""

    def __init__(self, tools):
        self.tools = list(tools)
        self.cells = {}

    def cell(self, key, tool):
        """Returns the cell of a row and a tool, empty when nothing was measured."""
        return self.cells.setdefault((key, tool), Cell())

    def best_peer(self, row):
        """Returns the best median among the peers whose samples carry no remark, or None."""
        cells = [self.cell(row.key, tool) for tool in self.tools if tool != "bakfs"]
        medians = [cell.median for cell in cells if cell.median is not None and not cell.notes]
        if not medians:
            return None
        return max(medians) if row.more_is_better else min(medians)

    def verdict(self, row):
        """Returns (target as text, verdict): "met", "missed", "-" where unknown, "see remark" for a doubtful sample."""
        ours = self.cell(row.key, "bakfs")
        texts, met = [], []
        for bound in row.bounds:
            limit, name = bound(self, row)
            figure = "" if limit is None else shown(limit, row.unit) if name else f"{limit:g} {row.unit}"
            text = " = ".join(part for part in (name, figure) if part)
            texts.append(("≥ " if row.more_is_better else "≤ ") + text)
            if ours.stopped:
                met.append(False)
            elif limit is not None and ours.median is not None:
                met.append(ours.median >= limit if row.more_is_better else ours.median <= limit)
        if met and not all(met):
            word = "missed"
        elif met and ours.notes:
            word = "see remark"
        else:
            word = "met" if row.bounds and len(met) == len(row.bounds) else "-"
        return ("; ".join(texts) or "-", word)

    def markdown(self, keys, limit_secs):
        """Returns the comparison as Markdown; rows nobody measured are left out."""
        heads = ["figure", *self.tools]
        compared = "bakfs" in self.tools and len(self.tools) > 1
        if compared:
            heads += ["bakfs / best peer"]
        heads += ["target for bakfs", "verdict"]
        lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
        for row in ROWS:
            cells = [self.cell(row.key, tool) for tool in self.tools]
            if row.key not in keys or not any(c.samples or c.stopped or c.notes for c in cells):
                continue
            texts = [self._text(cell, row, limit_secs) for cell in cells]
            if compared:
                ours, best = self.cell(row.key, "bakfs").median, self.best_peer(row)
                texts.append(f"{ours / best:.2f}" if ours is not None and best else "-")
            target, word = self.verdict(row)
            lines.append("| " + " | ".join([row.title, *texts, target, word]) + " |")
        return "\n".join(lines)

    def ceilings(self):
        """Returns what the machine itself does, as Markdown."""
        lines = ["| the machine itself | median |", "|---|---|"]
        for row in CEILINGS:
            median = self.cell(row.key, "machine").median
            if median is not None:
                lines.append(f"| {row.title} | {shown(median, row.unit)} |")
        return "\n".join(lines)

    def _text(self, cell, row, limit_secs):
        mark = " (!)" if cell.notes else ""
        if cell.stopped:
            return f"> {limit_secs:g} s{mark}"
        return ("-" if cell.median is None else shown(cell.median, row.unit)) + mark


def shown(value, unit):
    """Returns a value with three significant digits and its unit."""
    if value >= 100:
        return f"{value:.0f} {unit}"
    digits = 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f} {unit}"
