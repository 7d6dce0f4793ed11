"""Read a CSV of systems: a line each, with the columns system, wer, spider, memory_gb, latency_s and others."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from evaluator.board.measurement import Measurement, Value
from evaluator.errors import Problem, ResultError
from evaluator.wording import counted, nearest, shown

_EMPTY = ("", "-")


def read_table(file: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> list[Measurement]:
    """Read the systems of a CSV, in its order.

    Args:
        file: UTF-8, with a line of column names; a cell that is empty or "-" is no value.
        columns: those that are read; others are left alone, unless their name is nearly one of these.
        optional: those of them that may be absent without a remark.

    Raises:
        ResultError: with every problem, each with line and column.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ResultError(f"{file} is not UTF-8: save it as CSV UTF-8.") from error
    except OSError as error:
        raise ResultError(f"{file} cannot be read: {error.strerror or error}.") from error
    try:
        lines = [(number, row) for number, row in _rows(text) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ResultError(f"{file} is no CSV: {error}.") from error
    header = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    problems = _header_problems(file, header, columns, optional)
    if not lines[1:] and not problems:
        problems.append(Problem(str(file), "has no systems: expected a line each below the column names"))
    found: dict[str, Measurement] = {}
    for number, row in [] if problems else lines[1:]:
        if len(row) != len(header):
            problems.append(Problem(f"{file}:{number}", f"has {len(row)} cells, and the header {len(header)}"))
            continue
        cells = dict(zip(header, (cell.strip() for cell in row), strict=True))
        system = cells["system"]
        if not system:
            problems.append(Problem(f"{file}:{number}: system", "is empty: name the system"))
        elif not system.isprintable():
            problems.append(Problem(f"{file}:{number}: system", f"{shown(system)} has characters that nothing shows"))
        elif system in found:
            problems.append(Problem(f"{file}:{number}: system", f"{shown(system)} is there twice: name each only once"))
        values = {
            column: Value(number_of, f"{file}:{number}: {column}")
            for column in columns
            if (number_of := _number(cells.get(column, ""), f"{file}:{number}: {column}", problems)) is not None
        }
        absent = {column: "the cell is empty" for column in columns if column in cells and cells[column] in _EMPTY}
        found.setdefault(system, Measurement(system, f"{file}:{number}", values, absent))
    if problems:
        raise ResultError(f"{file} has {counted(problems)}:", problems)
    return list(found.values())


def _rows(text: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    for row in reader:
        rows.append((reader.line_num, row))
    return rows


def _header_problems(
    file: Path, header: Sequence[str], columns: Sequence[str], optional: Sequence[str]
) -> list[Problem]:
    """Columns that are missing, misspelt or there twice."""
    problems = []
    if not header:
        return [Problem(str(file), f"is empty: expected the columns system,{','.join(columns)}")]
    for name in dict.fromkeys(header):
        if header.count(name) > 1 and (name in columns or name == "system"):
            problems.append(Problem(f"{file}:1", f'the column "{name}" is there twice'))
    if len(header) == 1 and (separator := next((sign for sign in ";\t" if sign in header[0]), None)) is not None:
        return [Problem(f"{file}:1", f"separates its columns by {shown(separator)}: separate them by commas")]
    others = [name for name in header if name not in columns and name != "system"]
    missing = [name for name in ("system", *columns) if name not in header]
    near = {name: other for name in missing if (other := nearest(name, others)) is not None}
    problems += [
        Problem(f"{file}:1", f'the column "{name}" is missing; rename "{other}" if it is meant')
        for name, other in near.items()
    ]
    absent = [name for name in missing if name not in near and name not in optional]
    if "system" in absent:
        problems.append(Problem(f"{file}:1", 'the column "system" is missing: add it, with the systems\' names'))
        absent.remove("system")
    if absent:
        columns_are = f'column "{absent[0]}" is' if len(absent) == 1 else f"columns {', '.join(absent)} are"
        it = "it" if len(absent) == 1 else "them"
        problems.append(Problem(f"{file}:1", f"the {columns_are} missing: add {it}, or rank without {it} (--criteria)"))
    return problems


def _number(cell: str, where: str, problems: list[Problem]) -> float | None:
    """The number of a cell; None where there is none, or none that a criterion can have."""
    if cell in _EMPTY:
        return None
    try:
        value = float(cell)
    except ValueError:
        problems.append(Problem(where, f"{shown(cell)} is no number: write it plainly, as 0.0634"))
        return None
    if not math.isfinite(value) or value < 0:
        problems.append(Problem(where, f"{cell} cannot be: give a number that is finite and not negative"))
        return None
    return value
