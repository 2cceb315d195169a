//! Tests of the timer wheel: edges by hand, everything else against a sorted map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const ALL: usize = usize::MAX;
/// A present day, in no way aligned to a slot.
const NOW: u64 = 1_795_440_792_123;
const SPAN: u64 = 1 << 36;

fn fired(wheel: &mut Wheel<u64>, now: u64) -> Vec<u64> {
    let mut out = Vec::new();
    assert!(!wheel.advance(UnixMs(now), ALL, &mut out));
    out
}

#[test]
fn a_timer_fires_at_its_tick_and_not_before() {
    for base in [0, 1, 63, NOW, SPAN - 1, SPAN * 3 - 2] {
        for delay in (0..36).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]) {
            let mut wheel = Wheel::new(UnixMs(base));
            wheel.insert(UnixMs(base + delay), delay);
            if delay > 0 {
                assert_eq!(fired(&mut wheel, base + delay - 1), [0u64; 0], "{base} + {delay}");
            }
            assert_eq!(fired(&mut wheel, base + delay), [delay], "{base} + {delay}");
            assert!(wheel.is_empty());
        }
    }
}

#[test]
fn what_is_due_already_fires_at_the_next_advance() {
    let mut wheel = Wheel::new(UnixMs(NOW));
    wheel.insert(UnixMs(0), 1);
    wheel.insert(UnixMs(NOW), 2);
    assert_eq!(wheel.next_due(), Some(UnixMs(NOW)));
    assert_eq!(fired(&mut wheel, NOW), [1, 2]);
    wheel.insert(UnixMs(NOW), 3);
    assert_eq!(fired(&mut wheel, NOW), [3], "the clock may stand still");
}

#[test]
fn a_clock_that_goes_back_fires_nothing() {
    let mut wheel = Wheel::new(UnixMs(NOW));
    wheel.insert(UnixMs(NOW + 1), 1);
    wheel.insert(UnixMs(NOW - 5), 0);
    assert_eq!(fired(&mut wheel, NOW - 1), [0u64; 0]);
    assert_eq!(fired(&mut wheel, NOW + 1), [0, 1]);
}

#[test]
fn a_jump_over_years_fires_everything_in_order_of_tick() {
    let mut wheel = Wheel::new(UnixMs(NOW));
    let delays = [SPAN * 5, 90, SPAN + 1, 5, SPAN - 1, 70_000, 1, SPAN];
    for delay in delays {
        wheel.insert(UnixMs(NOW + delay), delay);
    }
    let mut sorted = delays;
    sorted.sort_unstable();
    assert_eq!(fired(&mut wheel, NOW + SPAN * 9), sorted);
}

#[test]
fn the_end_of_time_is_a_point_like_any_other() {
    let mut wheel = Wheel::new(UnixMs(u64::MAX - SPAN * 3));
    wheel.insert(UnixMs(u64::MAX), 1);
    wheel.insert(UnixMs(u64::MAX - 1), 0);
    assert_eq!(fired(&mut wheel, u64::MAX - 2), [0u64; 0]);
    assert_eq!(fired(&mut wheel, u64::MAX), [0, 1]);
    wheel.insert(UnixMs(u64::MAX), 2);
    assert_eq!(wheel.next_due(), Some(UnixMs(u64::MAX)));
    assert_eq!(fired(&mut wheel, u64::MAX), [2]);
}

#[test]
fn a_name_reaches_only_its_own_timer() {
    let mut wheel = Wheel::new(UnixMs(NOW));
    let first = wheel.insert(UnixMs(NOW + 10), 1);
    assert!(wheel.cancel(first));
    assert!(!wheel.cancel(first));
    let second = wheel.insert(UnixMs(NOW + 20), 2);
    assert_ne!(first, second);
    assert!(!wheel.cancel(first), "the place is used again, the name is not");
    assert_eq!(fired(&mut wheel, NOW + 20), [2]);
    assert!(!wheel.cancel(second), "it has fired");
    assert_eq!(wheel.next_due(), None);
}

#[test]
fn cancelling_any_timer_of_a_slot_leaves_the_others() {
    // One that is fired from where it stands, and one that moves down first.
    for (gone, at) in (0..3).flat_map(|gone| [(gone, 5), (gone, 500)]) {
        let mut wheel = Wheel::new(UnixMs(0));
        let ids = [0, 1, 2].map(|n| wheel.insert(UnixMs(at), n));
        assert!(wheel.cancel(ids[gone as usize]));
        let left: Vec<u64> = (0..3).filter(|n| *n != gone).collect();
        assert_eq!(fired(&mut wheel, at), left);
    }
}

#[test]
fn a_crowd_due_in_one_tick_is_worked_off_within_the_budget() {
    const CROWD: u64 = 1_000_000;
    const BUDGET: usize = 4096;
    let mut wheel = Wheel::new(UnixMs(NOW));
    for n in 0..CROWD {
        wheel.insert(UnixMs(NOW + 3_600_000), n);
    }
    let (mut out, mut all, mut steps) = (Vec::new(), Vec::new(), 0);
    loop {
        let more = wheel.advance(UnixMs(NOW + 3_600_000), BUDGET, &mut out);
        assert!(out.len() <= BUDGET);
        all.append(&mut out);
        steps += 1;
        if !more {
            break;
        }
        assert!(wheel.next_due().is_some_and(|due| due.0 <= NOW + 3_600_000));
    }
    assert_eq!(all, (0..CROWD).collect::<Vec<_>>());
    assert!(steps <= 5 * CROWD as usize / BUDGET + 5, "moving down is bounded too: {steps}");
}

#[test]
fn a_cascade_cut_short_by_the_budget_keeps_the_order() {
    let mut wheel = Wheel::new(UnixMs(0));
    // All three stand in one slot of level 1; only the last-moved one is due first.
    for at in [66, 65, 64] {
        wheel.insert(UnixMs(at), at);
    }
    let mut out = Vec::new();
    assert!(wheel.advance(UnixMs(100), 2, &mut out));
    wheel.insert(UnixMs(64), 640);
    wheel.insert(UnixMs(70), 70);
    assert!(out.is_empty());
    assert_eq!(fired(&mut wheel, 100), [640, 64, 65, 66, 70]);
}

#[test]
fn no_budget_does_nothing_and_says_whether_there_is_work() {
    let mut wheel = Wheel::new(UnixMs(NOW));
    let mut out = Vec::new();
    assert!(!wheel.advance(UnixMs(NOW), 0, &mut out));
    wheel.insert(UnixMs(NOW + 1), 1);
    assert!(!wheel.advance(UnixMs(NOW), 0, &mut out));
    assert!(wheel.advance(UnixMs(NOW + 1), 0, &mut out));
    assert!(out.is_empty());
}

#[test]
fn freed_places_are_used_again() {
    let mut wheel = Wheel::new(UnixMs(0));
    for now in 0..10_000 {
        let id = wheel.insert(UnixMs(now + 40), now);
        wheel.insert(UnixMs(now + 5), now);
        wheel.cancel(id);
        fired(&mut wheel, now);
    }
    assert!(wheel.names.places() <= 7, "{}", wheel.names.places());
}

/// Timers that stand in slots, cancelled ones among them.
fn standing<T: Copy>(wheel: &Wheel<T>) -> usize {
    let mut place = Place::FIRST;
    let mut standing = 0;
    loop {
        standing += wheel.levels[place.level()].len(place);
        place = place.next();
        if place == Place::FIRST {
            return standing;
        }
    }
}

#[test]
fn cancelled_timers_do_not_pile_up() {
    let mut wheel = Wheel::new(UnixMs(NOW));
    let kept: Vec<u64> = (0..100).map(|n| NOW + 1 + n * 7919).collect();
    for at in &kept {
        wheel.insert(UnixMs(*at), *at);
    }
    let bound = 2 * kept.len() + CANCELLED_SPARE + kept.len() / TIDIED_FOR_ONE + 64;
    for n in 0..20_000 {
        let id = wheel.insert(UnixMs(NOW + 1 + n * 104_729 % (1 << 30)), 0);
        assert!(wheel.cancel(id));
        if n % 13 == 0 {
            assert!(standing(&wheel) <= bound, "{} after {n}", standing(&wheel));
            assert_eq!(standing(&wheel), wheel.len() + wheel.cancelled);
        }
    }
    assert_eq!(fired(&mut wheel, NOW + (1 << 31)), kept);
    assert_eq!((standing(&wheel), wheel.cancelled), (0, 0));
}

#[test]
fn cancelling_nearly_all_leaves_little_behind() {
    let mut wheel = Wheel::new(UnixMs(NOW));
    let ids: Vec<TimerId> = (0..10_000).map(|n| wheel.insert(UnixMs(NOW + 1 + n), n)).collect();
    let cancelled = ids.iter().enumerate().filter(|(n, _)| n % 100 != 7).map(|(_, id)| *id);
    for id in cancelled {
        assert!(wheel.cancel(id));
        assert!(
            wheel.cancelled <= 2 * wheel.len() + 2 * CANCELLED_SPARE,
            "{} of {}",
            wheel.cancelled,
            wheel.len()
        );
    }
    assert!(standing(&wheel) <= 400, "{}", standing(&wheel));
    assert_eq!(fired(&mut wheel, NOW + 10_000), (0..100).map(|n| n * 100 + 7).collect::<Vec<_>>());
}

#[test]
fn cancelling_all_of_a_few_ends() {
    for count in 1..20 {
        let mut wheel = Wheel::new(UnixMs(NOW));
        let ids: Vec<TimerId> = (0..count).map(|n| wheel.insert(UnixMs(NOW + 1 + n * 100), n)).collect();
        assert!(ids.iter().all(|id| wheel.cancel(*id)));
        assert!(wheel.cancelled <= CANCELLED_SPARE + 1, "{} of {count}", wheel.cancelled);
    }
}

#[test]
fn what_stays_cancelled_when_the_others_have_fired_is_cleared_away() {
    let mut wheel = Wheel::new(UnixMs(NOW));
    let later: Vec<TimerId> = (0..1000).map(|n| wheel.insert(UnixMs(NOW + (1 << 30)), n)).collect();
    let soon: Vec<u64> = (0..1000).map(|n| NOW + 1 + n / 2).collect();
    for at in &soon {
        wheel.insert(UnixMs(*at), *at);
    }
    assert!(later.iter().all(|id| wheel.cancel(*id)));
    assert_eq!(wheel.cancelled, 1000);
    assert_eq!(fired(&mut wheel, NOW + 500), soon);
    for _ in 0..1000 / BLOCK {
        assert_eq!(fired(&mut wheel, NOW + 500), [0u64; 0]);
    }
    assert!(wheel.cancelled <= CANCELLED_SPARE, "{}", wheel.cancelled);
}

#[test]
fn a_slot_that_was_worked_off_while_it_was_tidied_holds_nothing_up() {
    const TURN: u64 = 64 * 64;
    let mut wheel = Wheel::new(UnixMs(0));
    // A crowd in one slot, a small part of which is looked at; then it fires.
    let crowd: Vec<TimerId> = (0..1000).map(|n| wheel.insert(UnixMs(100), n)).collect();
    for id in &crowd[..510] {
        assert!(wheel.cancel(*id));
    }
    assert!(wheel.tidied.0 == Place::of(0, 100) && wheel.tidied.1 > 400, "{:?}", wheel.tidied);
    assert_eq!(fired(&mut wheel, TURN).len(), 490);
    // One that stands in that slot again, and others that come and go.
    assert_eq!(Place::of(TURN, TURN + 100), Place::of(0, 100));
    wheel.insert(UnixMs(TURN + 100), 1);
    for _ in 0..100 {
        let id = wheel.insert(UnixMs(TURN + (1 << 20)), 0);
        assert!(wheel.cancel(id));
    }
    assert!(wheel.cancelled <= 3 * CANCELLED_SPARE, "{}", wheel.cancelled);
}

#[test]
fn a_cancelled_timer_wakes_nobody_once_it_was_met() {
    let mut wheel = Wheel::new(UnixMs(NOW));
    wheel.insert(UnixMs(NOW + 3_600_000), 1);
    let id = wheel.insert(UnixMs(NOW + 5), 0);
    assert!(wheel.cancel(id));
    let (mut wakes, mut last) = (0, Vec::new());
    while let Some(due) = wheel.next_due() {
        last = fired(&mut wheel, due.0);
        wakes += 1;
    }
    assert_eq!(last, [1]);
    assert!(wakes <= LEVELS + 1, "{wakes}");
}

#[test]
fn whoever_sleeps_until_next_due_is_never_late() {
    let mut wheel = Wheel::new(UnixMs(NOW));
    let delays: Vec<u64> = (0..400).map(|n| (n * n * n * 7919) % (40 * 24 * 3_600_000)).collect();
    for delay in &delays {
        wheel.insert(UnixMs(NOW + delay), NOW + delay);
    }
    let mut wakes = 0;
    while let Some(due) = wheel.next_due() {
        for at in fired(&mut wheel, due.0) {
            assert_eq!(at, due.0);
        }
        wakes += 1;
    }
    assert!(wakes <= delays.len() * LEVELS, "{wakes}");
}

/// A delay whose size, not whose value, is spread evenly, so that all levels and what lies beyond are met.
fn delay() -> impl Strategy<Value = u64> {
    (0_u32..40, any::<u64>()).prop_map(|(bits, random)| random & ((1 << bits) - 1))
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u64),
    InsertPast(u64),
    Cancel(usize),
    Advance { by: u64, budget: usize },
    Drain { by: u64, budget: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => delay().prop_map(Step::Insert),
        1 => delay().prop_map(Step::InsertPast),
        3 => any::<usize>().prop_map(Step::Cancel),
        1 => (delay(), 0_usize..6).prop_map(|(by, budget)| Step::Advance { by, budget }),
        1 => (delay(), 1_usize..6).prop_map(|(by, budget)| Step::Drain { by, budget }),
    ]
}

/// What a wheel should do, as a sorted map from (tick, number) to the name given.
struct Model {
    now: u64,
    drained: bool,
    timers: BTreeMap<(u64, u64), TimerId>,
    dead: Vec<TimerId>,
}

impl Model {
    /// Takes over what the wheel fired: known, due, and in order when nothing was put in between.
    fn fire(&mut self, now: u64, values: &[(u64, u64)]) {
        let mut last = 0;
        for value in values {
            let id = self.timers.remove(value).expect("fires only what is there, once");
            self.dead.push(id);
            assert!(value.0 <= now, "{} fired early, at {now}", value.0);
            let tick = value.0.max(self.now);
            assert!(!self.drained || tick >= last, "out of order");
            last = tick;
        }
    }
}

fn follows_the_model(start: u64, steps: Vec<Step>) {
    let mut wheel = Wheel::new(UnixMs(start));
    let mut model = Model { now: start, drained: true, timers: BTreeMap::new(), dead: Vec::new() };
    for (number, step) in (0_u64..).zip(steps) {
        let mut out = Vec::new();
        match step {
            Step::Insert(_) | Step::InsertPast(_) => {
                let at = match step {
                    Step::Insert(delay) => model.now + delay,
                    Step::InsertPast(delay) => model.now.saturating_sub(delay),
                    _ => unreachable!(),
                };
                let id = wheel.insert(UnixMs(at), (at, number));
                model.timers.insert((at, number), id);
            }
            Step::Cancel(pick) => {
                if let Some(key) = model.timers.keys().nth(pick % (model.timers.len() + 1)).copied() {
                    let id = model.timers.remove(&key).expect("just seen");
                    assert!(wheel.cancel(id));
                    model.dead.push(id);
                }
            }
            Step::Advance { by, budget } => {
                let now = model.now + by;
                let more = wheel.advance(UnixMs(now), budget, &mut out);
                assert!(out.len() <= budget);
                model.fire(now, &out);
                model.now = now;
                model.drained = !more;
            }
            Step::Drain { by, budget } => {
                let now = model.now + by;
                // Many years may have piled up undrained, and each is half a lap for every timer beyond the span.
                let calls = (1..=1_000_000).find(|_| !wheel.advance(UnixMs(now), budget, &mut out));
                assert!(calls.is_some(), "ends");
                model.fire(now, &out);
                model.now = now;
                model.drained = true;
            }
        }
        agrees(&mut wheel, &model);
    }
}

fn agrees(wheel: &mut Wheel<(u64, u64)>, model: &Model) {
    assert_eq!(wheel.len(), model.timers.len());
    let first = model.timers.first_key_value().map(|((at, _), _)| (*at).max(model.now));
    match (wheel.next_due(), first) {
        (Some(due), Some(first)) => assert!(due.0 <= first, "next_due {} is late for {first}", due.0),
        (due, first) => assert_eq!(due.map(|due| due.0), first),
    }
    if model.drained
        && let Some((at, _)) = model.timers.keys().next()
    {
        assert!(*at >= model.now || wheel.next_due() == Some(UnixMs(model.now)), "{at} was lost");
    }
    for id in &model.dead {
        assert!(!wheel.cancel(*id), "a dead name");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_steps_follow_the_model(
        start in prop_oneof![Just(0), Just(NOW), delay(), delay().prop_map(|d| SPAN * 2 - d % SPAN)],
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        follows_the_model(start, steps);
    }
}
