//! Replies that score aspects: JSON with `{"aspect": {"reason": ..., "score": ...}}`, as Just-Eval's templates ask.
//!
//! A reply is read where its meaning is certain, and only there. It may stand in prose or in a code fence and have the
//! slips that [`super::object`] lists. An aspect whose score is missing, no score or out of range is excluded, the others
//! are read. The whole reply fails when it is broken, when it gives an aspect two scores, or when prose beside the
//! object contradicts it; a reply that ends too early keeps the aspects that were closed before.

use std::collections::BTreeMap;

use rlrf_method::ParseOutcome;
use rlrf_method::written::Written;
use serde::{Deserialize, Serialize};

use super::object::{self, Failure, Members, Value};
use super::{SCALE, prose};

/// What a reply says about one aspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AspectVerdict {
    /// A score of the scale 1 to 5.
    Score(u8),
    /// "N/A": the judge says that the aspect does not apply.
    NotApplicable,
    /// The reply does not speak of the aspect.
    Missing,
    /// A number that is no score of the scale.
    OutOfRange,
    /// Something that is not a number in ASCII digits.
    Unreadable,
}

impl AspectVerdict {
    /// Whether the judge has decided on the aspect.
    #[must_use]
    pub fn is_read(self) -> bool {
        matches!(self, Self::Score(_) | Self::NotApplicable)
    }
}

/// Why nothing of a reply is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyProblem {
    /// It has no verdict: no object, or none that speaks of a wanted aspect.
    NoVerdict,
    /// It ends before the first verdict does.
    Truncated,
    /// Its JSON is broken in a way that leaves doubt.
    Broken,
    /// It gives more than one verdict.
    Conflict,
}

impl ReplyProblem {
    /// Its name in counts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoVerdict => "no_verdict",
            Self::Truncated => "truncated",
            Self::Broken => "broken",
            Self::Conflict => "conflict",
        }
    }
}

/// What was read of a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AspectReply {
    /// The verdict on every wanted aspect; all missing if the reply failed.
    pub verdicts: BTreeMap<String, AspectVerdict>,
    /// The reasons that the judge gives, by aspect.
    pub reasons: BTreeMap<String, String>,
    /// What became of the reply as a whole.
    pub parse: ParseOutcome,
    /// Why it failed.
    pub problem: Option<ReplyProblem>,
}

impl AspectReply {
    /// Reads `reply` for its verdicts on `aspects` (lower case).
    #[must_use]
    pub fn read(reply: &str, aspects: &[&str]) -> Self {
        let read = Scan::of(reply).and_then(|scan| scan.verdicts(aspects));
        match read {
            Ok((verdicts, reasons, plain)) => {
                let parse = if plain { ParseOutcome::Parsed } else { ParseOutcome::Repaired };
                Self { verdicts, reasons, parse, problem: None }
            }
            Err(problem) => Self {
                verdicts: aspects.iter().map(|aspect| (aspect.to_string(), AspectVerdict::Missing)).collect(),
                reasons: BTreeMap::new(),
                parse: ParseOutcome::Failed(reply.to_string()),
                problem: Some(problem),
            },
        }
    }

    /// Whether the judge has decided on every wanted aspect.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.verdicts.values().all(|verdict| verdict.is_read())
    }

    /// Number of aspects that the judge has decided on.
    #[must_use]
    pub fn read_count(&self) -> usize {
        self.verdicts.values().filter(|verdict| verdict.is_read()).count()
    }
}

/// The objects of a reply, and the prose around them.
struct Scan<'a> {
    objects: Vec<Members>,
    before: Vec<&'a str>,
    after: &'a str,
    strict: bool,
    truncated: bool,
}

type Verdicts = (BTreeMap<String, AspectVerdict>, BTreeMap<String, String>, bool);

impl<'a> Scan<'a> {
    fn of(reply: &'a str) -> Result<Self, ReplyProblem> {
        let mut scan =
            Self { objects: Vec::new(), before: Vec::new(), after: "", strict: true, truncated: false };
        let (mut prose_start, mut at) = (0, 0);
        while let Some(offset) = reply[at..].find('{') {
            let start = at + offset;
            if !object::opens(reply, start) {
                // A formula in prose closes its brace soon; any other is what is left of a verdict.
                let rest = &reply[start + 1..];
                match rest.find(['{', '}', '"', '\n']).map(|end| rest[end..].starts_with('}')) {
                    Some(true) => at = start + 1,
                    _ => return Err(ReplyProblem::Broken),
                }
                continue;
            }
            let found = object::read(reply, start);
            match found.failure {
                Some(Failure::Broken) => return Err(ReplyProblem::Broken),
                // A second verdict that was begun may differ from the first.
                Some(Failure::Truncated) if !scan.objects.is_empty() => return Err(ReplyProblem::Conflict),
                Some(Failure::Truncated) => scan.truncated = true,
                None => {}
            }
            scan.before.push(&reply[prose_start..start]);
            scan.strict &= found.strict;
            scan.objects.push(found.members);
            (prose_start, at) = (found.end, found.end);
        }
        scan.after = &reply[prose_start..];
        Ok(scan)
    }

    fn verdicts(self, aspects: &[&str]) -> Result<Verdicts, ReplyProblem> {
        let mut said: BTreeMap<&str, Vec<Said>> = BTreeMap::new();
        let mut plain = self.strict && self.objects.len() == 1 && !self.truncated;
        for members in &self.objects {
            // A score without its aspect may belong to any: the reply has lost its outer braces.
            if members.iter().any(|(name, _)| name.trim().eq_ignore_ascii_case("score")) {
                return Err(ReplyProblem::Broken);
            }
            for (index, (name, value)) in members.iter().enumerate() {
                // A reply that was said twice is one; a member that has a namesake in its object is half of something.
                if members[..index].iter().any(|(other, before)| other == name && before != value) {
                    return Err(ReplyProblem::Conflict);
                }
                let wanted = aspects.iter().find(|aspect| name.trim().eq_ignore_ascii_case(aspect));
                plain &= wanted.is_some_and(|aspect| aspect == name);
                if let Some(aspect) = wanted {
                    said.entry(aspect).or_default().extend(Said::of(value)?);
                }
            }
        }
        let (mut verdicts, mut reasons) = (BTreeMap::new(), BTreeMap::new());
        for aspect in aspects {
            let said = said.remove(aspect).unwrap_or_default();
            if said.iter().any(|other| other.verdict != said[0].verdict) {
                return Err(ReplyProblem::Conflict);
            }
            plain &= said.len() == 1 && said[0].plain;
            let verdict = said.first().map_or(AspectVerdict::Missing, |said| said.verdict);
            verdicts.insert(aspect.to_string(), verdict);
            reasons.extend(said.into_iter().next().and_then(|said| Some((aspect.to_string(), said.reason?))));
        }
        if verdicts.values().all(|verdict| *verdict == AspectVerdict::Missing) {
            return Err(if self.truncated { ReplyProblem::Truncated } else { ReplyProblem::NoVerdict });
        }
        let prose = self.before.iter().copied().chain([self.after]);
        if prose.clone().any(|text| prose::contradicts(text, &verdicts))
            || prose::corrects(self.after, &verdicts)
        {
            return Err(ReplyProblem::Conflict);
        }
        plain &= prose.into_iter().all(|text| text.trim().is_empty());
        Ok((verdicts, reasons, plain))
    }
}

/// What one member says about its aspect.
struct Said {
    verdict: AspectVerdict,
    reason: Option<String>,
    plain: bool,
}

impl Said {
    /// None for the prompt's own placeholder.
    fn of(value: &Value) -> Result<Option<Self>, ReplyProblem> {
        let Value::Object(members) = value else {
            return Ok(Self::score(value, None, false));
        };
        let named = |wanted: &'static str| {
            members
                .iter()
                .filter(move |(name, _)| name.trim().eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value)
        };
        let reason = named("reason").find_map(|value| match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        });
        let scores: Vec<&Value> = named("score").collect();
        let Some(first) = scores.first() else {
            return Ok(Some(Self { verdict: AspectVerdict::Missing, reason, plain: false }));
        };
        let said = Self::score(first, reason, scores.len() == 1);
        let verdict = said.as_ref().map(|said| said.verdict);
        let differs = |value: &&Value| Self::score(value, None, false).map(|said| said.verdict) != verdict;
        if scores.iter().any(differs) { Err(ReplyProblem::Conflict) } else { Ok(said) }
    }

    fn score(value: &Value, reason: Option<String>, alone: bool) -> Option<Self> {
        let (Value::Text(text) | Value::Bare(text)) = value else {
            return Some(Self { verdict: AspectVerdict::Unreadable, reason, plain: false });
        };
        let (verdict, plain) = match Written::read(text, &SCALE) {
            Written::Score(score, plain) => (AspectVerdict::Score(score), plain),
            Written::NotApplicable(plain) => (AspectVerdict::NotApplicable, plain),
            Written::OutOfRange => (AspectVerdict::OutOfRange, false),
            Written::Unreadable => (AspectVerdict::Unreadable, false),
            Written::Placeholder => return None,
        };
        Some(Self { verdict, reason, plain: plain && alone })
    }
}
