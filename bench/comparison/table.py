"""Results for people: aligned columns, or Markdown."""

import json

HEADER = ["workload", "peer", "unit", "ours", "theirs", "ratio", "goal", "MiB ours", "theirs", "ratio", "goal"]
LEFT = 3  # columns of text


def read(path):
    """The rows of a file of results; of a workload measured several times, the last."""
    with open(path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return list({row["workload"]: row for row in rows}.values())


def plain(rows):
    cells = [HEADER, *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in cells
    )


def markdown(rows):
    line = ["---"] * LEFT + ["---:"] * (len(HEADER) - LEFT)
    return "\n".join("| " + " | ".join(row) + " |" for row in [HEADER, line, *map(_cells, rows)])


def _cells(row):
    return [
        row["workload"],
        row["peer"],
        row["unit"],
        _number(row["ours"]),
        _number(row["theirs"]),
        _against(row["ratio"], row["goal"], lambda ratio, goal: ratio >= goal),
        _goal(row["goal"], "at least"),
        _number(row["memory_ours_mib"]),
        _number(row["memory_theirs_mib"]),
        _against(row["memory_ratio"], row["memory_goal"], lambda ratio, goal: ratio <= goal),
        _goal(row["memory_goal"], "at most"),
    ]


def _number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _against(ratio, goal, reached):
    """A ratio that misses its goal is marked."""
    if ratio is None:
        return "-"
    return f"{ratio:.2f}" + ("" if goal is None or reached(ratio, goal) else " *")


def _goal(goal, word):
    return "-" if goal is None else f"{word} {goal:g}"
