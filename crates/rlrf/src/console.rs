//! What the user sees while work goes on, and the user's wish to stop.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use rlrf_method::seam::Progress;

/// Without a terminal, a line this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Progress on standard error: a bar on a terminal, else a line now and then.
pub(crate) struct Console {
    quiet: bool,
    terminal: bool,
    stage: RefCell<Option<Stage>>,
    timings: RefCell<Vec<(String, f64)>>,
}

struct Stage {
    name: String,
    started: Instant,
    last_line: Instant,
    total: u64,
    first: u64,
    done: u64,
    tokens: u64,
    bar: Option<ProgressBar>,
}

impl Stage {
    fn rate(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-3);
        match self.tokens {
            0 => format!("{:.0}/s", (self.done - self.first) as f64 / seconds),
            tokens => format!("{:.0} tokens/s", tokens as f64 / seconds),
        }
    }

    fn left(&self) -> String {
        let finished = (self.done - self.first).max(1) as f64;
        let seconds =
            self.started.elapsed().as_secs_f64() * (self.total.saturating_sub(self.done)) as f64 / finished;
        HumanDuration(Duration::from_secs_f64(seconds)).to_string()
    }
}

impl Console {
    /// For a command with progress to report and results to keep.
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            quiet,
            terminal: std::io::stderr().is_terminal(),
            stage: RefCell::new(None),
            timings: RefCell::new(Vec::new()),
        }
    }

    /// Seconds of each stage that has ended since the last call.
    pub(crate) fn take_timings(&self) -> Vec<(String, f64)> {
        self.timings.take()
    }

    /// Leaves the terminal as it was.
    pub(crate) fn close(&self) {
        if let Some(Stage { bar: Some(bar), .. }) = self.stage.borrow_mut().take() {
            bar.abandon();
        }
    }

    /// A line of information.
    pub(crate) fn say(&self, message: &str) {
        if !self.quiet {
            tell(message);
        }
    }
}

impl Progress for Console {
    fn begin(&self, stage: &str, total: u64, done: u64) {
        let bar = (!self.quiet && self.terminal).then(|| {
            let bar = ProgressBar::new(total);
            if let Ok(style) = ProgressStyle::with_template("{prefix:<24} {wide_bar} {pos}/{len} {msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(stage.to_string());
            bar.set_position(done);
            bar
        });
        let now = Instant::now();
        let stage = Stage {
            name: stage.to_string(),
            started: now,
            last_line: now,
            total,
            first: done,
            done,
            tokens: 0,
            bar,
        };
        *self.stage.borrow_mut() = Some(stage);
    }

    fn advance(&self, items: u64, tokens: u64) {
        let mut guard = self.stage.borrow_mut();
        let Some(stage) = guard.as_mut() else { return };
        stage.done += items;
        stage.tokens += tokens;
        match &stage.bar {
            Some(bar) => {
                bar.set_position(stage.done);
                bar.set_message(format!("{}, {} left", stage.rate(), stage.left()));
            }
            None if !self.quiet && stage.last_line.elapsed() >= LINE_EVERY => {
                stage.last_line = Instant::now();
                let Stage { name, done, total, .. } = &*stage;
                tell(&format!("{name}: {done}/{total}, {}, {} left", stage.rate(), stage.left()));
            }
            None => {}
        }
    }

    fn end(&self) {
        let Some(stage) = self.stage.borrow_mut().take() else { return };
        let seconds = stage.started.elapsed().as_secs_f64();
        if let Some(bar) = &stage.bar {
            bar.finish_and_clear();
        }
        if stage.done > stage.first {
            self.timings.borrow_mut().push((stage.name.clone(), seconds));
        }
        let reused = if stage.first > 0 { format!(", {} there already", stage.first) } else { String::new() };
        self.say(&format!(
            "{}: {}/{} in {seconds:.1} s, {}{reused}",
            stage.name,
            stage.done,
            stage.total,
            stage.rate()
        ));
    }

    fn notice(&self, message: &str) {
        self.say(&format!("note: {message}"));
    }

    fn interrupted(&self) -> bool {
        interrupted()
    }
}

/// Takes over Ctrl-C and the other signals that end a process: the first asks to stop at the next safe point, the second stops at
/// once. A hang-up stays ignored where it was when the program was started (`nohup`).
pub(crate) fn take_signals() {
    #[cfg(unix)]
    // SAFETY: a signal that nobody handles yet is ignored for a moment; what it was before goes back, if it is not to be handled.
    let hang_up = unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    let handled = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        tell("\nstopping at the next safe point; press Ctrl-C again to stop at once");
    });
    if let Err(error) = handled {
        tell(&format!("warning: Ctrl-C will stop at once: {error}"));
    }
    #[cfg(unix)]
    if hang_up == libc::SIG_IGN {
        // SAFETY: as above.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    }
}

/// A line on standard error. Nobody has to read it: work goes on where it cannot be written.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether the user wants to stop.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Prints a result on standard output. A reader that has seen enough (`rlrf ... | head`) is no error.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Whether a command ended because the user asked for it.
pub(crate) fn is_interruption(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<rlrf_method::Error>(), Some(rlrf_method::Error::Interrupted))
}
