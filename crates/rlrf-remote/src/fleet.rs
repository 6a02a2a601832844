//! The servers of one model: who gets the next request, and who is left alone for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng;
use reqwest::Url;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// A server that fails so often in a row without a success between is left alone, whatever the failures are.
const FAILURES_IN_A_ROW: u32 = 3;

/// How a request failed, as far as the server's load is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server did not take the request, or broke it off.
    Unreachable,
    /// The server wants fewer requests.
    Overloaded,
    /// Something else that may pass.
    Other,
}

/// Servers that all answer alike.
pub(crate) struct Fleet {
    servers: Vec<Url>,
    states: Mutex<Vec<State>>,
    changed: Notify,
    limit: usize,
    waits: Waits,
}

/// How long to wait after failures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// After the first one.
    pub(crate) first: Duration,
    /// At most.
    pub(crate) longest: Duration,
}

impl Waits {
    /// Doubles with each failure; between half of it and the whole, so that many waiting requests do not return at once.
    pub(crate) fn after(self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        doubled.min(self.longest).mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[derive(Debug, Clone)]
struct State {
    /// Requests under way.
    in_flight: usize,
    /// Requests that it may have under way now: shrinks when the server is overloaded, grows with every success.
    capacity: usize,
    /// No request before this time.
    aside_until: Option<Instant>,
    /// What was sent before this time tells nothing new: its failures belong to one and the same event.
    aside_since: Option<Instant>,
    failures_in_a_row: u32,
    /// How often in a row it was set aside.
    times_aside: u32,
    successes: u64,
}

/// A request's place at a server; given back when dropped.
pub(crate) struct Place<'a> {
    fleet: &'a Fleet,
    pub(crate) server: usize,
    since: Instant,
}

impl Place<'_> {
    pub(crate) fn url(&self) -> &Url {
        &self.fleet.servers[self.server]
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.fleet.states()[self.server].in_flight -= 1;
        self.fleet.changed.notify_waiters();
    }
}

impl Fleet {
    pub(crate) fn new(servers: Vec<Url>, limit: usize, waits: Waits) -> Self {
        let state = State {
            in_flight: 0,
            capacity: limit,
            aside_until: None,
            aside_since: None,
            failures_in_a_row: 0,
            times_aside: 0,
            successes: 0,
        };
        let states = Mutex::new(vec![state; servers.len()]);
        Self { servers, states, changed: Notify::new(), limit, waits }
    }

    pub(crate) fn servers(&self) -> &[Url] {
        &self.servers
    }

    /// Requests that all servers together may have under way.
    pub(crate) fn limit(&self) -> usize {
        self.limit.saturating_mul(self.servers.len())
    }

    /// A place at the least loaded server, as soon as there is one; rather not at `avoid`, which has just failed.
    pub(crate) async fn place(&self, avoid: Option<usize>) -> Place<'_> {
        loop {
            // Registered before looking: a change in between is then not missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let wake = match self.try_place(avoid) {
                Ok(place) => return place,
                Err(wake) => wake,
            };
            match wake {
                Some(wake) => tokio::select! { () = changed => {}, () = sleep_until(wake) => {} },
                None => changed.await,
            }
        }
    }

    /// A place now, or when a server that is left alone comes back.
    fn try_place(&self, avoid: Option<usize>) -> Result<Place<'_>, Option<Instant>> {
        let mut states = self.states();
        let now = Instant::now();
        let free = |state: &State| {
            state.in_flight < state.capacity && state.aside_until.is_none_or(|until| until <= now)
        };
        let best = (0..states.len())
            .filter(|&server| free(&states[server]))
            .min_by_key(|&server| (avoid == Some(server), states[server].in_flight));
        let Some(server) = best else {
            return Err(states
                .iter()
                .filter_map(|state| state.aside_until)
                .filter(|until| *until > now)
                .min());
        };
        states[server].in_flight += 1;
        Ok(Place { fleet: self, server, since: now })
    }

    /// The server answered.
    pub(crate) fn succeeded(&self, place: &Place<'_>) {
        let state = &mut self.states()[place.server];
        state.successes += 1;
        (state.failures_in_a_row, state.times_aside) = (0, 0);
        state.capacity = (state.capacity + 1).min(self.limit);
    }

    /// The server failed; `wait` is what it asks for.
    pub(crate) fn failed(&self, place: &Place<'_>, failure: Failure, wait: Option<Duration>) {
        let mut states = self.states();
        let state = &mut states[place.server];
        state.failures_in_a_row += 1;
        let now = Instant::now();
        let mut aside = wait.map(|wait| now + wait);
        let told_before = state.aside_since.is_some_and(|since| place.since <= since);
        let grave = failure != Failure::Other || state.failures_in_a_row >= FAILURES_IN_A_ROW;
        if !told_before && (grave || wait.is_some()) {
            state.times_aside += 1;
            state.aside_since = Some(now);
            state.capacity = match failure {
                Failure::Overloaded => (state.capacity / 2).max(1),
                Failure::Unreachable | Failure::Other => 1,
            };
            aside = aside.max(Some(now + self.waits.after(state.times_aside)));
        }
        state.aside_until = state.aside_until.max(aside);
    }

    /// Whether some server takes requests now.
    pub(crate) fn has_healthy_server_besides(&self, server: usize) -> bool {
        let now = Instant::now();
        self.states()
            .iter()
            .enumerate()
            .any(|(other, state)| other != server && state.aside_until.is_none_or(|until| until <= now))
    }

    /// Answers of all servers so far.
    pub(crate) fn successes(&self) -> u64 {
        self.states().iter().map(|state| state.successes).sum()
    }

    fn states(&self) -> MutexGuard<'_, Vec<State>> {
        // Counters stay meaningful whatever a thread that panicked was about to do.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(servers: usize, limit: usize) -> Fleet {
        let urls = (0..servers).map(|server| Url::parse(&format!("http://s{server}/v1")).unwrap()).collect();
        Fleet::new(urls, limit, Waits { first: Duration::from_secs(1), longest: Duration::from_secs(30) })
    }

    #[test]
    fn waits_double_up_to_a_limit_with_jitter() {
        let waits = Waits { first: Duration::from_secs(1), longest: Duration::from_secs(30) };
        for (failures, low, high) in
            [(1, 0.5, 1.0), (2, 1.0, 2.0), (4, 4.0, 8.0), (9, 15.0, 30.0), (u32::MAX, 15.0, 30.0)]
        {
            let seconds = waits.after(failures).as_secs_f64();
            assert!((low..=high).contains(&seconds), "{failures}: {seconds}");
        }
    }

    #[test]
    fn the_least_loaded_server_is_next_and_a_failing_one_is_left_alone() {
        let fleet = fleet(3, 2);
        let place = |avoid| fleet.try_place(avoid).map_err(|_| "none");
        let first = place(None).unwrap();
        let second = place(None).unwrap();
        let third = place(Some(2)).unwrap();
        assert_eq!((first.server, second.server), (0, 1));
        assert_eq!(third.server, 0, "rather a loaded one than the one that has just failed");
        drop(first);
        assert_eq!(place(None).unwrap().server, 2);

        fleet.failed(&second, Failure::Unreachable, None);
        drop((second, third));
        let servers: Vec<usize> = std::iter::from_fn(|| place(None).ok())
            .map(|place| {
                let server = place.server;
                std::mem::forget(place);
                server
            })
            .collect();
        assert_eq!(servers, [0, 2, 0, 2], "two each, none at the one that failed");
    }

    #[test]
    fn failures_of_one_event_count_once_and_success_restores() {
        let fleet = fleet(1, 8);
        let places: Vec<Place<'_>> = std::iter::from_fn(|| fleet.try_place(None).ok()).collect();
        assert_eq!(places.len(), 8);
        for place in &places {
            fleet.failed(place, Failure::Overloaded, None);
        }
        let state = fleet.states()[0].clone();
        assert_eq!((state.capacity, state.times_aside), (4, 1));
        fleet.succeeded(&places[0]);
        let state = fleet.states()[0].clone();
        assert_eq!((state.capacity, state.times_aside, state.failures_in_a_row), (5, 0, 0));
    }
}
