"""What the arms cost: a record of experiments/bench.py as a table, and in words what was measured on what."""

from math import nan
from pathlib import Path

import pandas as pd

from mhc_repro.analysis import labels, printed
from mhc_repro.analysis.tables import cells
from mhc_repro.bench.records import ALL_ARMS, MONITOR, Record, by_place, machine_text, newest
from mhc_repro.evidence.styles import BASELINE, rank, style

EMPTY = "No bench yet: `make bench` makes one."
CAPTION = (
    "Step: median (smallest to largest) over rounds of the arm's step over the baseline's beside it. Extra: the "
    "same as a difference. Peak memory: of the process, the baseline's for comparison. First step: with an empty "
    "compiler cache, and again with a filled one."
)
MONITOR_CAPTION = (
    "Watching a model of one's own, in processor time. Look: a step that a `GainMonitor` looks at over a plain one "
    "beside it, median (smallest to largest). Cost: of a training that is looked at every {every} steps. "
    "*Measure anew: `make bench ARGS=--monitor`.*"
)


def part(root: Path) -> str:
    """Write a page's part."""
    found = newest(root)
    if not found:
        return EMPTY
    tables = [
        piece for record in found for piece in (cells.markdown(arms(record)), f"*{provenance(record)}*")
    ]
    return "\n\n".join([*tables, f"{CAPTION} *Measure anew: `make bench`.*", *_monitor(root)])


def _monitor(root: Path) -> list[str]:
    pieces = []
    for record in newest(root, MONITOR)[:1]:
        caption = MONITOR_CAPTION.format(every=record["setting"]["every"])
        pieces += [cells.markdown(monitored(record)), f"*{provenance(record)}*", caption]
    return pieces


def costs(root: Path) -> tuple[dict[str, Record], list[str]]:
    """Read what each arm costs by the newest record of many arms that has it, and in words which these are.

    Every ratio is to a baseline beside it, so arms of two records stand in one table.
    """
    records = next(iter(by_place(root, ALL_ARMS) or by_place(root)), [])
    found = {arm: numbers for record in records for arm, numbers in record["connections"].items()}
    used = [each for each in records if any(found[arm] is of for arm, of in each["connections"].items())]
    return found, [f"*{provenance(record)}*" for record in used]


def times_baseline(arm: str, costs: dict[str, Record], key: str) -> str:
    """Print one of an arm's costs as a factor on the baseline's."""
    return printed.number(1.0 if arm == BASELINE else costs.get(arm, {}).get(key, nan), decimals=2)


def arms(record: Record) -> pd.DataFrame:
    """Lay a record out as a table of finished text, the baseline first."""
    base = record["baseline"]
    rows = [
        {
            "arm": style(BASELINE).label,
            "step (× baseline)": "1",
            "extra (ms)": printed.DASH,
            "peak memory (× baseline)": f"1 ({base['peak_memory_bytes'] / 2**20:,.0f} MiB)",
            "first step (s)": _first(base),
            "parameters": f"{base['parameters']:,}",
        }
    ]
    for arm in sorted(record["connections"], key=rank):
        numbers = record["connections"][arm]
        rows.append(
            {
                "arm": style(arm).label,
                "step (× baseline)": _spread(numbers, "step_ratio", 1, 2),
                "extra (ms)": _spread(numbers, "extra_seconds", 1000, 0),
                "peak memory (× baseline)": f"{numbers['peak_memory_ratio']:.2f}",
                "first step (s)": _first(numbers),
                "parameters": f"+{numbers['params_added']:,}",
            }
        )
    return pd.DataFrame(rows, dtype=object)


def points(record: Record) -> pd.DataFrame:
    """Lay a scaling record out as a table of finished text."""
    return pd.DataFrame(
        [
            {
                "arm": style(row["connection"]).label,
                "dim": str(row["dim"]),
                "n": str(row["n"]),
                "tokens": f"{row['tokens']:,}",
                "step (× baseline)": _spread(row, "step_ratio", 1, 2),
                "counted": f"{row['floor_ratio']:.2f}",
                "extra GFLOP": f"{row['extra_flops'] / 1e9:,.1f}",
                "extra GB": f"{row['extra_bytes'] / 1e9:,.2f}",
                "peak memory (× baseline)": f"{row['peak_memory_ratio']:.2f}",
            }
            for row in record["points"]
        ],
        dtype=object,
    )


def monitored(record: Record) -> pd.DataFrame:
    """Lay a record of what watching costs out as a table of finished text."""
    return pd.DataFrame(
        [
            {
                "arm": f"`{arm}`",
                "look (× plain step)": _spread(numbers, "look_ratio", 1, 2),
                "cost (%)": f"{numbers['cost_percent']:.1f}",
            }
            for arm, numbers in record["monitored"].items()
        ],
        dtype=object,
    )


def frame(record: Record) -> pd.DataFrame:
    """Lay a record of any kind out as a table of finished text."""
    lay_out = points if "points" in record else monitored if "monitored" in record else arms
    return lay_out(record)


def provenance(record: Record) -> str:
    """Say what was measured, on what, and by which code."""
    made = record["fingerprint"]
    compiled = "compiled" if made["compile"] else "uncompiled"
    return (
        f"Bench of {record['date']}: {_what(record)}; {record['rounds']} rounds, {machine_text(record)}, "
        f"{compiled}, load before {record['load']:g}, commit {labels.code(record)}."
    )


def _what(record: Record) -> str:
    setting = record["setting"]
    if "monitored" in record:
        packages = ", ".join(f"{name} {release}" for name, release in record["versions"].items())
        return "{layers} sub-layers × {dim}, {batch} × {sequence} tokens, ".format(**setting) + packages
    model, data = setting["model"], setting["data"]
    what = f"protocol `{record['protocol']}`"
    if record["overrides"]:
        what += f" with {' '.join(record['overrides'])}"
    if "points" not in record:
        base = record["baseline"]
        what += (
            f" ({model['blocks']} blocks × {model['dim']}, {data['batch']} × {data['sequence']} tokens)"
            f", baseline {_spread(base, 'step_seconds', 1000, 0)} ms a step, "
            f"{base['tokens_per_second']:,.0f} tokens/s, utilisation {_spread(base, 'utilisation', 1, 2)} of "
            f"{base['sgemm_flops_per_second'] / 1e9:,.0f} GFLOP/s"
        )
    return what


def _spread(numbers: Record, key: str, scale: float, decimals: int) -> str:
    middle, low, high = (f"{scale * numbers[key + end]:.{decimals}f}" for end in ("", "_min", "_max"))
    return f"{middle} ({low} to {high})"


def _first(numbers: Record) -> str:
    return f"{numbers['first_step_seconds']:.1f} / {numbers['first_step_seconds_warm']:.1f}"
