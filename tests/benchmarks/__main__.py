"""``python -m tests.benchmarks``: measure, print the table, write the figures."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tests.benchmarks.machine import describe_machine
from tests.benchmarks.parts import PARTS, ROOT, JobFailed, Runner
from tests.benchmarks.table import as_markdown, as_text, replace_section, table_rows

RESULTS = Path(__file__).parent / "results" / "benchmark.json"


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure the course's recipe against the guide's: some thirty-five minutes on two quiet cores.",
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART",
                        help=f"measure these parts ({', '.join(PARTS)}); keep the other parts' figures of this machine")
    parser.add_argument("--quick", action="store_true", help="a few minutes, to see that it works; no figures to quote")
    parser.add_argument("--threads", type=int, help="PyTorch threads (default: its own choice)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON file of the figures")
    parser.add_argument("--readme", action="store_true", help="measure nothing: print the file's table as Markdown")
    parser.add_argument("--update-readme", action="store_true", help="measure nothing: put that table into README.md")
    return parser.parse_args(arguments)


def load_results(file: Path) -> dict:
    """The figures of an earlier run.

    Raises:
        SystemExit: there are none; the message says how to make them.
    """
    if not file.is_file():
        raise SystemExit(f"There are no figures in {file.name}: measure them with python -m tests.benchmarks.")
    return json.loads(file.read_text(encoding="utf-8"))


def starting_point(file: Path, machine: dict, quick: bool, only: list[str] | None) -> dict:
    """Results to add to: earlier ones, if only some parts are measured again, on the same machine in the same way."""
    fresh = {"machine": machine, "quick": quick, "parts": {}}
    if not only or not file.is_file():
        return fresh
    earlier = load_results(file)
    return earlier if (earlier["machine"], earlier["quick"]) == (machine, quick) else fresh


def measure(arguments: argparse.Namespace) -> dict:
    """Run the chosen parts, and write the file after each, so that an interruption loses one part at most."""
    results = starting_point(arguments.output, describe_machine(arguments.threads), arguments.quick, arguments.only)
    run = Runner(arguments.threads)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for name in arguments.only or PARTS:
        print(name, flush=True)
        begun, load = time.perf_counter(), psutil.getloadavg()[0]
        figures = PARTS[name](run, arguments.quick)
        results["parts"][name] = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "minutes": round((time.perf_counter() - begun) / 60, 1),
            "load_before": round(load, 2),
            "figures": figures,
        }
        arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


def main(arguments: list[str]) -> None:
    options = parse_arguments(arguments)
    if options.readme or options.update_readme:
        results = load_results(options.output)
        if results["quick"]:
            raise SystemExit(f"{options.output.name} holds the figures of a quick run, which prove nothing: measure "
                             "without --quick.")
        if options.readme:
            print(as_markdown(results))
        else:
            readme = ROOT / "README.md"
            text = replace_section(readme.read_text(encoding="utf-8"), as_markdown(results))
            readme.write_text(text, encoding="utf-8")
        return
    try:
        results = measure(options)
    except JobFailed as error:
        raise SystemExit(str(error)) from None
    print("\n" + as_text(table_rows(results)))


if __name__ == "__main__":
    main(sys.argv[1:])
