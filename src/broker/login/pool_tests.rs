//! Tests of the hashing threads.

use std::sync::mpsc;

use super::*;
use crate::credentials::{DataKey, Sealer, Subject};
use crate::ids::{KeyId, ServerId};
use crate::limits::LOGINS_WAITING_PER_SUBJECT_MAX;

const LONG: Duration = Duration::from_secs(30);

fn presented_by(server: u32) -> Presented {
    let sealer = Sealer::new(&DataKey::generate());
    let subject = Subject::Server(ServerId(server));
    sealer.open(sealer.seal(subject, &RandomPart::generate()).reveal()).unwrap()
}

/// Occupies the only thread until the returned end is dropped.
fn occupy(pool: &LoginPool) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (busy, is_busy) = mpsc::channel();
    let make: Make = Box::new(move |_| {
        busy.send(()).unwrap();
        let _ = released.recv();
    });
    pool.shared.state.lock().makes.push_back(make);
    pool.shared.more.notify_one();
    is_busy.recv().unwrap();
    release
}

fn pool(timeout: Duration) -> LoginPool {
    let clock: Clock = Arc::new(|| UnixMs(1_700_000_000_000));
    LoginPool::start(PoolOptions { threads: 1, timeout, cost: HashCost::TINY, clock }).unwrap()
}

/// Puts logins of `count` other servers into the queue; they wait as long as the answers are kept.
fn fill(pool: &LoginPool, count: usize) -> Vec<oneshot::Receiver<bool>> {
    let waits = |number: usize| {
        let (answer, answered) = oneshot::channel();
        let presented = presented_by(1_000_000 + number as u32);
        let hash = SecretHash::dummy(HashCost::TINY);
        let login = Login { presented, generation: 1, hash, answers: vec![answer] };
        pool.shared.state.lock().logins.push(login, Share::Whole).unwrap();
        answered
    };
    (0..count).map(waits).collect()
}

async fn check(pool: &LoginPool, presented: Presented, within: Duration) -> Result<bool, Busy> {
    pool.check(presented, 1, SecretHash::dummy(HashCost::TINY), within, false).await
}

/// Until the thread has done all logins that wait.
async fn until_idle(pool: &LoginPool) {
    while pool.counts().waiting > 0 {
        tokio::task::yield_now().await;
    }
    // The same thread makes this, so it is done with the last login.
    pool.make(RandomPart::generate()).await;
}

#[tokio::test]
async fn full_is_answered_at_once_with_a_time_to_come_back_and_costs_no_hash() {
    let pool = pool(LONG);
    let release = occupy(&pool);
    let waiting = fill(&pool, LOGINS_WAITING_PER_THREAD_MAX);
    let mut moments = Vec::new();
    for server in 1..=100 {
        moments.push(check(&pool, presented_by(server), LONG).await.unwrap_err().retry_after_ms);
    }
    let queue_ms = (LOGINS_WAITING_PER_THREAD_MAX as u64 * HASH_US / 1000) as u32;
    assert!((queue_ms / 2..queue_ms / 2 + 250).contains(&moments[0]), "{moments:?}");
    let rising = moments.windows(2).all(|pair| (16..=18).contains(&(pair[1] - pair[0])));
    assert!(rising, "each has a moment of its own: {moments:?}");
    assert_eq!(pool.counts().waiting, LOGINS_WAITING_PER_THREAD_MAX as u64);
    drop(waiting);
    drop(release);
    until_idle(&pool).await;
    assert_eq!((pool.counts().hashed, pool.counts().busy), (0, 100));
}

#[tokio::test]
async fn the_time_to_come_back_is_bounded_however_many_are_sent_away() {
    let pool = pool(LONG);
    let release = occupy(&pool);
    let _waiting = fill(&pool, LOGINS_WAITING_PER_THREAD_MAX);
    let mut late = Vec::new();
    for server in 0..10_000 {
        let presented = presented_by(1 + server);
        let busy = pool.shared.busy(presented.subject, presented.digest.bits());
        late.push(u64::from(busy.retry_after_ms));
    }
    assert!(late.iter().all(|wait| (RETRY_AFTER_MS_MIN..=LOGIN_RETRY_AFTER_MS_MAX).contains(wait)));
    let last = &late[9_000..];
    let first_quarter = last.iter().filter(|wait| **wait < LOGIN_RETRY_AFTER_MS_MAX * 5 / 8).count();
    assert!((100..400).contains(&first_quarter), "{first_quarter} of 1000 in a quarter of the later half");
    drop(release);
}

#[tokio::test]
async fn keys_do_not_wait_for_the_moments_of_servers_and_have_their_own() {
    let pool = pool(LONG);
    let wait = |subject| u64::from(pool.shared.busy(subject, 0).retry_after_ms);
    for server in 0..5_000 {
        wait(Subject::Server(ServerId(1 + server)));
    }
    assert!((RETRY_AFTER_MS_MIN..RETRY_AFTER_MS_MIN + 250).contains(&wait(Subject::Admin)));
    let waits: Vec<u64> = (0..500).map(|key| wait(Subject::Key(KeyId(key)))).collect();
    let last = 500 * 2 * HASH_US / 1000;
    assert!((last * 9 / 10..last + 2 * RETRY_AFTER_MS_MIN).contains(&waits[499]), "{waits:?}");
}

#[tokio::test]
async fn a_machine_that_slept_through_a_hash_lets_in_all_the_same() {
    let pool = pool(LONG);
    (0..100).for_each(|_| pool.shared.state.lock().on_hash(600_000, Duration::from_secs(600), 1));
    let within = Duration::from_secs(5);
    assert_eq!(check(&pool, presented_by(1), within).await, Ok(false));
}

#[test]
fn a_thread_rests_for_its_share_of_the_time_for_which_it_kept_others_waiting() {
    let clock: Clock = Arc::new(|| UnixMs(1_700_000_000_000));
    let options = PoolOptions { threads: 3, timeout: LONG, cost: HashCost::TINY, clock };
    let shared = Shared::new(options);
    shared.state.lock().makes.push_back(Box::new(|_| {}));
    shared.state.lock().closed = true;
    let kept = std::cell::Cell::new(Duration::ZERO);
    let began = tokio::time::Instant::now();
    shared.hash_until_closed(|| kept.replace(kept.get() + Duration::from_millis(40)));
    assert!(began.elapsed() >= Duration::from_millis(20), "40 ms, with one other");
    assert_eq!(shared.state.lock().resting, 0);
}

#[tokio::test]
async fn who_cannot_have_a_hash_in_time_is_sent_away_at_once() {
    let pool = pool(LONG);
    let release = occupy(&pool);
    let waiting = fill(&pool, 100);
    let needed = Duration::from_micros(101 * HASH_US);
    let busy = check(&pool, presented_by(1), needed - Duration::from_millis(1)).await;
    assert!(busy.is_err());
    assert_eq!(pool.counts().waiting, 100, "it never was in the queue");
    let (result, ()) = tokio::join!(check(&pool, presented_by(2), needed), async { drop(release) });
    assert_eq!(result, Ok(false));
    drop(waiting);
}

#[tokio::test]
async fn a_login_past_its_time_is_sent_away_and_costs_no_hash() {
    let pool = pool(Duration::from_millis(20));
    let release = occupy(&pool);
    assert!(check(&pool, presented_by(1), LONG).await.is_err(), "the pool's own bound holds too");
    drop(release);
    until_idle(&pool).await;
    assert_eq!((pool.counts().hashed, pool.counts().busy), (0, 1));
}

#[tokio::test]
async fn one_credential_presented_many_times_at_once_costs_one_hash() {
    let pool = pool(LONG);
    let release = occupy(&pool);
    let presented = presented_by(1);
    let hash = Hasher::default().make(&presented.random, HashCost::TINY);
    let checks = (0..50).map(|_| pool.check(presented.clone(), 1, hash.clone(), LONG, false));
    let checks = futures_util::future::join_all(checks);
    let (results, ()) = tokio::join!(checks, async {
        assert_eq!(pool.counts().waiting, 1);
        drop(release);
    });
    assert!(results.iter().all(|result| *result == Ok(true)));
    assert_eq!(pool.counts().hashed, 1);
}

#[tokio::test]
async fn old_tokens_of_a_server_delay_its_right_one_by_few_hashes() {
    let pool = pool(LONG);
    let release = occupy(&pool);
    let right = presented_by(1);
    let hash = Hasher::default().make(&right.random, HashCost::TINY);
    let _others = fill(&pool, 50);
    // A suspect network's, as many as it likes: they get half of the server's places.
    let old = (0..20).map(|_| pool.check(presented_by(1), 1, hash.clone(), LONG, true));
    let old = futures_util::future::join_all(old);
    let owner = async {
        assert_eq!(pool.counts().waiting, 50 + LOGINS_WAITING_PER_SUBJECT_MAX as u64 / 2);
        let check = pool.check(right.clone(), 1, hash.clone(), LONG, false);
        tokio::join!(check, async { drop(release) }).0
    };
    let (old, owner) = tokio::join!(old, owner);
    assert_eq!(owner, Ok(true));
    assert_eq!(old.iter().filter(|result| **result == Ok(false)).count(), 2);
    assert_eq!(old.iter().filter(|result| result.is_err()).count(), 18);
}

#[tokio::test]
async fn waiting_logins_do_not_keep_new_credentials_out() {
    let pool = pool(LONG);
    let release = occupy(&pool);
    let waiting = fill(&pool, LOGINS_WAITING_PER_THREAD_MAX);
    let random = RandomPart::generate();
    let many = (0..3 * HASHES_MAKING_MAX).map(|_| pool.make(random.clone()));
    let (hashes, ()) = tokio::join!(futures_util::future::join_all(many), async { drop(release) });
    assert!(hashes.iter().all(|hash| Hasher::default().is_right(&random, hash)));
    drop(waiting);
}

#[tokio::test]
async fn new_credentials_and_logins_take_turns() {
    let pool = pool(LONG);
    let release = occupy(&pool);
    let _waiting = fill(&pool, 3);
    let mut state = pool.shared.state.lock();
    for _ in 0..3 {
        state.makes.push_back(Box::new(|_| {}));
    }
    state.make_is_next = false;
    let mut order = String::new();
    while let Some(work) = state.take_next() {
        order.push(if matches!(work, Work::Login(_)) { 'l' } else { 'm' });
    }
    drop(state);
    drop(release);
    assert_eq!(order, "lmlmlm");
}

#[tokio::test]
async fn a_maker_that_goes_away_leaves_its_place() {
    let pool = pool(LONG);
    let release = occupy(&pool);
    for _ in 0..3 {
        let many = (0..HASHES_MAKING_MAX).map(|_| pool.make(RandomPart::generate()));
        let gone = futures_util::future::join_all(many);
        let _ = futures_util::future::select(std::pin::pin!(gone), std::future::ready(())).await;
    }
    drop(release);
    pool.make(RandomPart::generate()).await;
}

#[test]
fn what_a_hash_takes_is_measured() {
    let pool = pool(LONG);
    let mut state = pool.shared.state.lock();
    for _ in 0..200 {
        state.on_hash(40, Duration::ZERO, 1);
    }
    assert!((39_900..=40_000).contains(&state.hash_us), "{}", state.hash_us);
    assert_eq!(state.calm_hash_us, HASH_US, "nobody waited: a thread may have been idle");
    for _ in 0..200 {
        state.on_hash(40, Duration::from_millis(60), 1);
    }
    assert!((99_900..=100_000).contains(&state.hash_us), "{}", state.hash_us);
}

#[test]
fn moments_are_as_far_apart_as_hashes_without_a_storm() {
    let pool = pool(LONG);
    let release = occupy(&pool);
    let waiting = fill(&pool, 2);
    let mut state = pool.shared.state.lock();
    let hash = |state: &mut State, ms, times| {
        (0..times).for_each(|_| state.on_hash(ms, Duration::from_millis(70), 2));
        state.calm_hash_us
    };
    let calm = hash(&mut state, 16, 50);
    assert!((16_000..16_100).contains(&calm), "{calm}");
    // A storm's first seconds.
    let calm = hash(&mut state, 50, 20);
    assert!(state.hash_us > 80_000, "{}", state.hash_us);
    assert!((16_000..26_000).contains(&calm), "{calm}");
    // A machine that has become slower for good, and one that is quick again.
    let calm = hash(&mut state, 50, 500);
    assert!((49_000..=50_000).contains(&calm), "{calm}");
    let calm = hash(&mut state, 16, 100);
    assert!((16_000..17_000).contains(&calm), "{calm}");
    drop(state);
    drop((waiting, release));
}
