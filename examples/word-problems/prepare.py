#!/usr/bin/env python3
"""Makes data/*.jsonl from the SVAMP repository's files (MIT): mawps-asdiv-a_svamp.train.csv and SVAMP.json.

    python3 prepare.py FOLDER_WITH_THE_TWO_FILES

The training problems are made distinct by question text (numbers out, case ignored: 2,582 remain), shuffled with a
fixed seed, and split into problems for supervised fine-tuning (1,000), instructions for RLRF (1,000) and held-out
problems (582). Problems that differ in punctuation only stay on one side of the split.
"""
import csv
import json
import random
import re
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

OPERATIONS = {"+": "__add__", "-": "__sub__", "*": "__mul__", "/": "__truediv__"}
PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


def number(text):
    value = Fraction(text)
    return str(value.numerator) if value.denominator == 1 else text


def parse(tokens, numbers):
    token = tokens.pop(0)
    if token in OPERATIONS:
        return (token, parse(tokens, numbers), parse(tokens, numbers))
    return numbers[int(token[6:])] if token.startswith("number") else number(token)


def value(tree):
    if isinstance(tree, str):
        return Fraction(tree)
    return getattr(value(tree[1]), OPERATIONS[tree[0]])(value(tree[2]))


def infix(tree, parent=0):
    if isinstance(tree, str):
        return tree
    own = PRECEDENCE[tree[0]]
    text = f"{infix(tree[1], own)} {tree[0]} {infix(tree[2], own + 1)}"
    return f"( {text} )" if own < parent else text


def exact(fraction):
    """A decimal where that is exact, else a quotient."""
    digits = fraction.denominator
    for prime in (2, 5):
        while digits % prime == 0:
            digits //= prime
    if digits != 1:
        return f"{fraction.numerator} / {fraction.denominator}"
    places = 0
    while (fraction * 10**places).denominator != 1:
        places += 1
    scaled = abs(int(fraction * 10**places))
    text = str(scaled).rjust(places + 1, "0")
    text = text[: len(text) - places] + ("." + text[len(text) - places :] if places else "")
    return ("-" if fraction < 0 else "") + text


def problem(identifier, template, numbers, equation):
    numbers = [number(text) for text in numbers]
    tree = parse(equation.split(), numbers)
    question = template
    for index in reversed(range(len(numbers))):
        question = question.replace(f"number{index}", numbers[index])
    return {
        "id": identifier,
        "prompt": question,
        "reference": infix(tree),
        "answer": exact(value(tree)),
        "template": template,
        "numbers": numbers,
        "equation": equation,
    }


def write(path, problems, fields):
    lines = [json.dumps({f: p[f] for f in fields}, ensure_ascii=False) for p in problems]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(lines)}")


def main():
    source, target = Path(sys.argv[1]), Path(__file__).parent / "data"
    distinct = {}
    with open(source / "mawps-asdiv-a_svamp.train.csv", newline="", encoding="utf-8") as file:
        for row, record in enumerate(csv.DictReader(file)):
            distinct.setdefault(record["Question"].lower(), (row, record))
    problems = [
        problem(f"mawps-asdiv-{row}", r["Question"], r["Numbers"].split(), r["Equation"])
        for row, r in distinct.values()
    ]
    random.Random(20240321).shuffle(problems)
    words = [re.sub("[^a-z0-9]+", "", p["template"].lower()) for p in problems]
    twins = {text for text, count in Counter(words).items() if count > 1}
    order = sorted(range(len(problems)), key=lambda index: words[index] not in twins)
    problems = [problems[index] for index in order]
    plain = ["id", "prompt", "reference", "answer"]
    write(target / "sft.jsonl", problems[:1000], plain + ["template", "numbers", "equation"])
    write(target / "instructions.jsonl", problems[1000:2000], plain)
    write(target / "heldout.jsonl", problems[2000:], plain)
    svamp = []
    for record in json.loads((source / "SVAMP.json").read_text(encoding="utf-8")):
        body = record["Body"].strip()
        body += "" if body.endswith((".", "?", "!", ",")) else " ."
        svamp.append({
            "id": record["ID"],
            "prompt": f"{body} {record['Question'].strip()}",
            "answer": exact(Fraction(str(record["Answer"]))),
        })
    write(target / "svamp.jsonl", svamp, ["id", "prompt", "answer"])


if __name__ == "__main__":
    main()
