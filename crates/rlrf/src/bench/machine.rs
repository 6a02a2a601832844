//! What the operating system knows: processor, memory, and who was busy. Linux only; elsewhere nothing is known.

use std::fs;
use std::time::Instant;

/// Unit of the times in `/proc`, on every architecture that Linux shows to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Name of the processor.
pub(crate) fn cpu_model() -> Option<String> {
    field(&fs::read_to_string("/proc/cpuinfo").ok()?, "model name")
}

/// Most memory that this process has had in use, in MiB.
pub(crate) fn peak_rss_mib() -> Option<f64> {
    let value = field(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM")?;
    let kib: f64 = value.strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// The value of a `name: value` line.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    })
}

/// A moment from which on to watch the cores.
pub(crate) struct Load {
    at: Instant,
    ticks: Option<Ticks>,
}

#[derive(Clone, Copy)]
struct Ticks {
    all: f64,
    own: f64,
}

impl Load {
    /// From now on.
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), ticks: read_ticks() }
    }

    /// Cores that other processes kept busy since then, on average.
    pub(crate) fn others_cores(&self) -> Option<f64> {
        let (before, after) = (self.ticks?, read_ticks()?);
        let others = (after.all - before.all) - (after.own - before.own);
        Some((others / TICKS_PER_SECOND / self.at.elapsed().as_secs_f64().max(1e-9)).max(0.0))
    }
}

fn read_ticks() -> Option<Ticks> {
    let (machine, own) =
        (fs::read_to_string("/proc/stat").ok()?, fs::read_to_string("/proc/self/stat").ok()?);
    Some(Ticks { all: busy_ticks(&machine)?, own: own_ticks(&own)? })
}

/// From the line `cpu user nice system idle iowait irq softirq steal ...`: all but idle and iowait. Guests are in user.
fn busy_ticks(stat: &str) -> Option<f64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line.split_whitespace().take(8).map_while(|value| value.parse().ok()).collect();
    (ticks.len() == 8).then(|| ticks.iter().sum::<f64>() - ticks[3] - ticks[4])
}

/// User and system time of all threads; they stand 12 and 13 fields behind the program's name, which is in parentheses.
fn own_ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_from_the_right_fields() {
        assert_eq!(busy_ticks("cpu  1 2 3 1000 2000 4 5 6 7 8\ncpu0 9"), Some(21.0));
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 100 0 0 0 250 31 7 7 20 0 3 0 12";
        assert_eq!(own_ticks(stat), Some(281.0));
        assert_eq!(field("model name\t: A CPU @ 2: x\n", "model name").as_deref(), Some("A CPU @ 2: x"));
    }
}
