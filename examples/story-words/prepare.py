#!/usr/bin/env python3
"""Makes data/ from the first 4 MB of the TinyStories training text (CDLA-Sharing-1.0) in lower case: a line ends a story,
an empty line a paragraph.

    python3 prepare.py FILE

Stories are shuffled with a fixed seed and split: those that demonstrations are written from, those of the RLRF
instructions, and those held out. A passage is a few whole sentences in a row, without direct speech, of common words; its
instruction asks for three of them. The demonstrations are as loose as found text is: three in ten passages are longer than
the two sentences that their instruction allows.

The faults that critiques and refinements are about are made on purpose, so that the program knows them:

- completeness: a word that was asked for is exchanged for another, or the sentence with it is;
- conciseness: a third and a fourth sentence;
- readability: a word spliced from pieces of two others, a word written twice, or an end that is cut off.
"""
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

SEED = 20240321
ANSWERS, REFINEMENTS, FEEDBACK = 3600, 1200, 6000  # the last one for each aspect
INSTRUCTIONS, HELDOUT = 400, 300
MOST_SENTENCES = 2
ASKED_FOR = 200  # so many of the most frequent content words are asked for
COMMON = 30  # the words of passages are at least so frequent in the sample
SENTENCE = re.compile(r"[^.!?]+[.!?]")
PLAIN = re.compile(r"[a-z][a-z,' ]*[.!?]")
WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
# Too plain to be asked for.
DULL = set(
    (
        "about after again all also always and any anything are around asked away back because been before began being "
        "bit both but came can come could day did does done down each else end even ever every everyone everything far "
        "felt few first for from full gave get gets getting give gives goes going gone good had has have having heard "
        "held hello her here hers herself him himself his how into its just keep kept knew know last later left let "
        "like liked lived long look looked looking lot lots loved made make makes many me more most much must my named "
        "near need never new next nice not nothing now off once one only other others our ours out over own please put "
        "ran real really right said same sat saw say says see seen she should some someone something soon started still "
        "stopped such sure take takes tell than that the their them themselves then there these they thing things think "
        "this those thought three through time told too took tried try turned two until upon us used very want wanted "
        "wants was way we well went were what when where which while who whole why will with without would yes yet you "
        "your "
    ).split()
)


def is_content(word):
    return len(word) >= 3 and word not in DULL and "'" not in word


def words(text):
    return WORD.findall(text)


def sentences(text):
    """Whole sentences, and what is left at the end."""
    return [part.strip() for part in re.findall(r"[^.!?]+(?:[.!?]+|$)", text) if part.strip()]


def passages(story, known, rng):
    """Passages of two to four plain sentences that follow each other in one paragraph, each sentence in one of them."""
    for paragraph in story.split("\n"):
        run = []
        for sentence in [s.strip() for s in SENTENCE.findall(paragraph)] + [""]:
            if PLAIN.fullmatch(sentence) and 3 <= len(sentence.split()) <= 12 and known.issuperset(words(sentence)):
                run.append(sentence)
                continue
            while len(run) >= 2:
                length = min(rng.choices([2, 3, 4], [30, 40, 30])[0], len(run))
                yield run[:length]
                run = run[length:]
            run = []


def keywords(passage, asked_for, rng):
    """Three words of the first two sentences, in the order in which they come; none if there are no three."""
    found = []
    for word in words(" ".join(passage[:MOST_SENTENCES])):
        if word in asked_for and word not in found:
            found.append(word)
    if len(found) < 3:
        return None
    chosen = set(rng.sample(found, 3))
    return [word for word in found if word in chosen]


def instruction(wanted):
    return f"at most two sentences with: {', '.join(wanted)}."


# The aspects as checkers decide them; the rubric is that of aspects.toml in short.
CHECKERS = """\
# Written by prepare.py: what decides the aspects exactly.

[[aspect]]
name = "completeness"
criterion = "Are all words that were asked for in the text?"
levels = ["Two or more are missing.", "One is missing.", "All are there."]
checker = { kind = "contains", answer = true, whole_words = true }

[[aspect]]
name = "conciseness"
criterion = "Does the text keep to two sentences?"
levels = ["It has four or more.", "It has three.", "It has one or two."]
# Three sentences break one of the two demands, four or more break both.
checker.kind = "regex"
checker.must_not_match = '^(?:[^.!?]*[.!?]+){2,}\\s*[^.!?\\s]'
checker.must_match = '^(?:[^.!?]+[.!?]*){0,3}$'

[[aspect]]
name = "readability"
criterion = "Is the text whole sentences of English words?"
levels = ["It has two or more faults.", "It has one fault.", "It has none."]
checker.kind = "prose"
checker.words = '''
LEXICON
'''
"""


class Judge:
    """Writes critiques: first what is found, part by part, then advice, then the level.

    Every part is decided where it stands: a word that was asked for is looked up in the text and told with what follows
    it there, and the text is told again with every fault marked behind it.
    """

    def __init__(self, lexicon):
        self.lexicon = lexicon

    def completeness(self, wanted, text):
        # The word, and the next one or the punctuation that follows it; "tom's" has "tom", as the checker has it, too.
        places = {word: re.search(rf"(?<![a-z]){word}(?![a-z])(?:'[a-z]*)?(?: [a-z']+|[,.!?])?", text) for word in wanted}
        missing = [word for word in wanted if not places[word]]
        found = " | ".join(place.group() if place else f"{word} none" for word, place in places.items())
        advice = f"add {', '.join(missing)}" if missing else "all there"
        return f"words: {found}; {advice}", max(1, 3 - len(missing))

    def conciseness(self, wanted, text):
        first = [part.split()[0].strip(",") for part in sentences(text)]
        over = len(first) - MOST_SENTENCES
        advice = f"take {over} away" if over > 0 else "short enough"
        return f"begin: {', '.join(first)}; {advice}", max(1, 3 - max(0, over))

    def readability(self, wanted, text):
        told, faults = [], []
        for part in sentences(text):
            before = ""
            for piece in part.split():
                word = (words(piece) or [""])[0]
                told.append(piece)
                if word not in self.lexicon:
                    told.append("(mend)")
                    faults.append(f"mend {word}")
                elif word == before:
                    told.append("(once)")
                    faults.append(f"once {word}")
                before = word
            if part[-1] not in ".!?":
                told.append("(end)")
                faults.append("end the sentence")
        return f"{' '.join(told)}; {', '.join(faults) or 'well written'}", max(1, 3 - len(faults))


ASPECTS = ["completeness", "conciseness", "readability"]
# Levels 1, 2 and 3 among the feedback on each aspect. Where two words of three are missing, "yes" and "no" are balanced.
SHARES = {
    "completeness": [0.46, 0.3, 0.24],
    "conciseness": [0.25, 0.32, 0.43],
    "readability": [0.3, 0.33, 0.37],
}


class Damage:
    """Puts faults into passages, which are lists of sentences."""

    def __init__(self, lexicon, known, contents, rng):
        self.lexicon, self.known, self.contents, self.rng = lexicon, known, contents, rng

    def fake(self):
        """Begins as one word, whole perhaps, and ends as another, and is none: a policy puts pieces of words together so."""
        while True:
            head, tail = self.rng.choice(self.known), self.rng.choice(self.contents)
            kept = self.rng.randint(1, len(head)), self.rng.randint(2, max(2, len(tail) - 1))
            fake = head[: kept[0]] + tail[-kept[1] :]
            if fake not in self.lexicon and 4 <= len(fake) <= 12:
                return fake

    def misspelt(self, passage):
        place = self.rng.randrange(len(passage))
        parts = passage[place].split(" ")
        choices = [i for i, part in enumerate(parts) if i and len(words(part)[0]) >= 3]
        if not choices:
            return passage
        choice = self.rng.choice(choices)
        parts[choice] = parts[choice].replace(WORD.search(parts[choice]).group(), self.fake(), 1)
        return passage[:place] + [" ".join(parts)] + passage[place + 1 :]

    def doubled(self, passage):
        place = self.rng.randrange(len(passage))
        parts = passage[place].split(" ")
        choice = self.rng.randrange(1, len(parts) - 1)
        twice = parts[:choice] + [parts[choice].strip(",")] + parts[choice:]
        return passage[:place] + [" ".join(twice)] + passage[place + 1 :]

    def cut(self, passage):
        parts = passage[-1].split(" ")
        kept = parts[: self.rng.randint(1, len(parts) - 1)]
        return passage[:-1] + [" ".join(kept).rstrip(",")]

    def without(self, passage, word, other):
        """Lacks the word: another stands in its place, or another sentence."""
        place = next(i for i, sentence in enumerate(passage) if word in words(sentence))
        if other and self.rng.random() < 0.5:
            sentence = self.rng.choice(other)
        else:
            sentence = re.sub(rf"\b{word}\b", self.rng.choice(self.contents), passage[place])
        return passage[:place] + [sentence] + passage[place + 1 :]

    def draft(self, passage, wanted, more):
        """A fault or a few."""
        draft = list(passage)
        kinds = ["without", "longer", "misspelt", "misspelt", "doubled", "cut"]
        kinds = self.rng.sample(kinds, self.rng.choice([1, 1, 2]))
        for word in self.rng.sample(wanted, self.rng.choice([1, 1, 2])) if "without" in kinds else []:
            if word in words(" ".join(draft)):
                draft = self.without(draft, word, more)
        if "longer" in kinds:
            draft += more[: self.rng.choice([1, 1, 2])]
        for _ in range(self.rng.choice([1, 1, 2]) if "misspelt" in kinds else 0):
            draft = self.misspelt(draft)
        if "doubled" in kinds:
            draft = self.doubled(draft)
        return self.cut(draft) if "cut" in kinds else draft


def write(path, records):
    lines = [json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(lines)} records, {path.stat().st_size:,} bytes")


def main():
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    stories = re.split(r"(?<!\n)\n(?!\n)", text)[:-1]  # the last one is cut off
    counts = Counter(word for story in stories for word in words(story))
    lexicon = {word for word, count in counts.items() if count >= 2}
    known = {word for word, count in counts.items() if count >= COMMON}
    contents = [word for word, _ in counts.most_common() if is_content(word) and word in known]
    asked_for = set(contents[:ASKED_FOR])
    rng = random.Random(SEED)
    rng.shuffle(stories)

    seen, sets, target = set(), {"train": [], "instructions": [], "heldout": []}, Path(__file__).parent / "data"
    for number, story in enumerate(stories):
        part = "heldout" if number % 8 == 0 else "instructions" if number % 8 == 1 else "train"
        for passage in passages(story, known, rng):
            wanted = keywords(passage, asked_for, rng)
            asked = tuple(sorted(wanted or []))
            if wanted and asked not in seen:
                seen.add(asked)
                sets[part].append((passage, wanted))
    for part in sets.values():
        rng.shuffle(part)

    def instructions(part, count):
        return [
            {
                "id": f"{part}-{number}",
                "prompt": instruction(wanted),
                "reference": " ".join(passage[:MOST_SENTENCES]),
                "answer": ", ".join(wanted),
            }
            for number, (passage, wanted) in enumerate(sets[part][:count], 1)
        ]

    train = sets["train"]
    judge = Judge(lexicon)
    damage = Damage(lexicon, sorted(known), contents, rng)

    def more():
        return rng.choice(train)[0]

    answers = [{"prompt": instruction(w), "completion": " ".join(p)} for p, w in train[:ANSWERS]]
    refinements = []
    for passage, wanted in rng.sample(train, len(train)):
        good = passage[:MOST_SENTENCES]
        draft = " ".join(damage.draft(good, wanted, passage[MOST_SENTENCES:] or more()))
        critiques = [getattr(judge, aspect)(wanted, draft) for aspect in ASPECTS]
        advice = "\n".join(critique.split("; ")[-1] for critique, level in critiques if level < 3)
        if not advice or len(refinements) == REFINEMENTS:
            continue
        messages = [("user", instruction(wanted)), ("assistant", draft), ("user", advice)]
        refinements.append({
            "prompt": [{"role": role, "content": content} for role, content in messages],
            "completion": " ".join(good),
        })
    def feedback(rng, damage):
        records = []
        for aspect in ASPECTS:
            levels = Counter()
            while sum(levels.values()) < FEEDBACK:
                passage, wanted = rng.choice(train)
                if rng.random() < 0.4:
                    passage = rng.choice(train)[0]
                given = passage if rng.random() < 0.3 else damage.draft(passage, wanted, rng.choice(train)[0])
                response = " ".join(given)
                critique, level = getattr(judge, aspect)(wanted, response)
                if levels[level] < FEEDBACK * SHARES[aspect][level - 1]:
                    levels[level] += 1
                    prompt = f"{instruction(wanted)}\ntext: {response}\n{aspect}"
                    records.append({"prompt": prompt, "completion": f"{critique}\nLevel: {level}"})
        rng.shuffle(records)
        return records


    write(target / "answers.jsonl", answers)
    write(target / "refinements.jsonl", refinements)
    write(target / "feedback.jsonl", feedback(rng, damage))
    # For a second feedback model, which has no part in the loop.
    rng = random.Random(SEED + 1)
    write(target / "feedback-second.jsonl", feedback(rng, Damage(lexicon, sorted(known), contents, rng)))
    write(target / "instructions.jsonl", instructions("instructions", INSTRUCTIONS))
    write(target / "heldout.jsonl", instructions("heldout", HELDOUT))
    checkers = CHECKERS.replace("LEXICON", "\n".join(sorted(lexicon)))
    (target / "checkers.toml").write_text(checkers, encoding="utf-8")


if __name__ == "__main__":
    main()
