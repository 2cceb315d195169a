//! When reports go out: the first at once, those that follow soon after it together. Must never hold back more than a share
//! of the window, nor for longer than a few spans, nor one that none follows for longer than one.
//!
//! A message costs two system calls and two wake-ups, whatever it carries; a server that runs a hundred commands a second
//! would pay that for each. One whose next command waits for the report on this one pays a span, as if there were no other.

use std::time::Duration;

use tokio::time::Instant;

/// One part in so many of the window may wait: the broker goes on delivering meanwhile.
const WINDOW_SHARE: u32 = 4;
/// The longest span.
const SPAN_MAX: Duration = Duration::from_secs(3600);
/// Spans after which reports go out although more of them come.
const SPANS_MAX: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Gathering {
    span: Duration,
    /// Until when what comes waits, and the latest that this can become; `None` = nothing went out on this connection.
    until: Option<(Instant, Instant)>,
}

impl Gathering {
    pub(super) fn new(span: Duration) -> Gathering {
        Gathering { span: span.min(SPAN_MAX), until: None }
    }

    /// A new connection: what waits goes out at once.
    pub(super) fn begin_anew(&mut self) {
        self.until = None;
    }

    /// Reports went out.
    pub(super) fn on_sent(&mut self, now: Instant) {
        self.until = Some((now + self.span, now + SPANS_MAX * self.span));
    }

    /// Reports came: what is held waits for those that may follow these.
    pub(super) fn on_joined(&mut self, now: Instant) {
        if let Some((until, latest)) = &mut self.until
            && now < *until
        {
            *until = (now + self.span).min(*latest);
        }
    }

    /// Until when so many reports have to wait for others; `None` = they may go.
    pub(super) fn held_until(&self, waiting: usize, window: u32, now: Instant) -> Option<Instant> {
        if waiting == 0 || waiting >= (window / WINDOW_SHARE) as usize {
            return None;
        }
        self.until.map(|(until, _)| until).filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_millis(50);

    #[test]
    fn the_first_goes_at_once_and_those_after_it_together() {
        let mut gathering = Gathering::new(SPAN);
        let now = Instant::now();
        assert_eq!(gathering.held_until(1, 256, now), None);
        gathering.on_sent(now);
        assert_eq!(gathering.held_until(1, 256, now), Some(now + SPAN));
        assert_eq!(gathering.held_until(1, 256, now + SPAN), None);
        assert_eq!(gathering.held_until(0, 256, now), None, "nothing waits");
        gathering.begin_anew();
        assert_eq!(gathering.held_until(1, 256, now), None);
    }

    #[test]
    fn as_long_as_more_come_they_wait_for_those() {
        let mut gathering = Gathering::new(SPAN);
        let sent = Instant::now();
        gathering.on_sent(sent);
        let mut now = sent;
        for _ in 0..6 {
            now += SPAN / 2;
            gathering.on_joined(now);
            assert_eq!(gathering.held_until(1, 256, now), Some(now + SPAN));
        }
        now += SPAN / 2;
        gathering.on_joined(now);
        assert_eq!(gathering.held_until(1, 256, now), Some(sent + SPANS_MAX * SPAN), "but not for ever");
        assert_eq!(gathering.held_until(1, 256, sent + SPANS_MAX * SPAN), None);
    }

    #[test]
    fn one_that_comes_after_a_pause_waits_for_nothing() {
        let mut gathering = Gathering::new(SPAN);
        let sent = Instant::now();
        gathering.on_sent(sent);
        let now = sent + SPAN + SPAN / 2;
        gathering.on_joined(now);
        assert_eq!(gathering.held_until(1, 256, now), None);
    }

    #[test]
    fn no_more_than_a_share_of_the_window_waits() {
        let mut gathering = Gathering::new(SPAN);
        let now = Instant::now();
        gathering.on_sent(now);
        assert!(gathering.held_until(63, 256, now).is_some());
        assert_eq!(gathering.held_until(64, 256, now), None);
        assert_eq!(gathering.held_until(1, 7, now), None, "a small window needs every answer");
        assert_eq!(gathering.held_until(1, 0, now), None);
    }

    #[test]
    fn without_a_span_nothing_waits() {
        let mut gathering = Gathering::new(Duration::ZERO);
        let now = Instant::now();
        gathering.on_sent(now);
        assert_eq!(gathering.held_until(1, 256, now), None);
    }
}
