//! Tests of the hashing threads.

use std::sync::mpsc;

use super::*;
use crate::credentials::{DataKey, Sealer, Subject};

fn presented() -> Presented {
    let sealer = Sealer::new(&DataKey::generate());
    sealer.open(sealer.seal(Subject::Admin, &RandomPart::generate()).reveal()).unwrap()
}

/// Occupies the only thread until the returned end is dropped.
fn occupy(pool: &LoginPool) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (busy, is_busy) = mpsc::channel();
    let work: Work = Box::new(move |_| {
        busy.send(()).unwrap();
        let _ = released.recv();
    });
    pool.logins.try_send(work).unwrap();
    is_busy.recv().unwrap();
    release
}

fn pool(timeout: Duration) -> LoginPool {
    LoginPool::start(1, timeout, HashCost::TINY).unwrap()
}

#[tokio::test]
async fn full_is_answered_at_once_with_a_time_to_come_back() {
    let pool = pool(Duration::from_secs(30));
    let release = occupy(&pool);
    for _ in 0..LOGINS_WAITING_PER_THREAD_MAX {
        pool.logins.try_send(Box::new(|_| {})).unwrap();
    }
    let busy = pool.check(presented(), 1, SecretHash::dummy(HashCost::TINY)).await.unwrap_err();
    let least = RETRY_AFTER_MS + LOGINS_WAITING_PER_THREAD_MAX as u64 * HASH_MS;
    assert!((least..2 * least).contains(&u64::from(busy.retry_after_ms)), "{busy:?}");
    assert_eq!(pool.counts().waiting, LOGINS_WAITING_PER_THREAD_MAX as u64);
    drop(release);
}

#[tokio::test]
async fn a_login_past_its_time_is_sent_away_and_costs_no_hash() {
    let pool = pool(Duration::from_millis(1));
    let release = occupy(&pool);
    assert!(pool.check(presented(), 1, SecretHash::dummy(HashCost::TINY)).await.is_err());
    drop(release);
    while pool.counts().waiting > 0 {
        tokio::task::yield_now().await;
    }
    // The same thread makes this, so it is done with the login.
    pool.make(RandomPart::generate()).await;
    assert_eq!((pool.counts().hashed, pool.counts().busy), (0, 1));
}

#[tokio::test]
async fn one_credential_presented_many_times_at_once_costs_one_hash() {
    let pool = pool(Duration::from_secs(30));
    let release = occupy(&pool);
    let presented = presented();
    let hash = Hasher::default().make(&presented.random, HashCost::TINY);
    let checks = (0..50).map(|_| pool.check(presented.clone(), 1, hash.clone()));
    let checks = futures_util::future::join_all(checks);
    let (results, ()) = tokio::join!(checks, async { drop(release) });
    assert!(results.iter().all(|result| *result == Ok(true)));
    assert_eq!(pool.counts().hashed, 1);
}

#[tokio::test]
async fn waiting_logins_do_not_keep_new_credentials_out() {
    let pool = pool(Duration::from_secs(30));
    let release = occupy(&pool);
    for _ in 0..LOGINS_WAITING_PER_THREAD_MAX {
        pool.logins.try_send(Box::new(|_| {})).unwrap();
    }
    let random = RandomPart::generate();
    let many = (0..3 * HASHES_MAKING_MAX).map(|_| pool.make(random.clone()));
    let (hashes, ()) = tokio::join!(futures_util::future::join_all(many), async { drop(release) });
    assert!(hashes.iter().all(|hash| Hasher::default().is_right(&random, hash)));
}

#[tokio::test]
async fn a_maker_that_goes_away_leaves_its_place() {
    let pool = pool(Duration::from_secs(30));
    let release = occupy(&pool);
    for _ in 0..3 {
        let many = (0..HASHES_MAKING_MAX).map(|_| pool.make(RandomPart::generate()));
        let gone = futures_util::future::join_all(many);
        let _ = futures_util::future::select(std::pin::pin!(gone), std::future::ready(())).await;
    }
    drop(release);
    pool.make(RandomPart::generate()).await;
}
