//! What a data directory promises over restarts, and over being made anew.

use std::fs;
use std::path::Path;

use fluxrelay::broker::{self, DEFAULT_STORE, Running, Settings};
use fluxrelay::credentials::HashCost;
use fluxrelay::ids::ServerId;
use fluxrelay::time::Millis;

use inside::{order, server};
use patience::eventually;

#[path = "support/inside.rs"]
mod inside;
#[path = "support/patience.rs"]
mod patience;

/// Checkpoints by time are far away.
fn start(dir: &Path) -> Running {
    let settings = Settings {
        checkpoint_every: Millis::seconds(3600),
        hash_cost: HashCost::TINY,
        ..Settings::new(dir.to_owned())
    };
    broker::start(settings).expect("the broker starts")
}

/// The files as a kill would leave them: nothing is on its way when they are copied, but for room in the journal.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("a copy");
    }
}

/// A broker that is killed again and again must not replay an ever longer journal.
#[tokio::test(flavor = "multi_thread")]
async fn what_recovery_replays_is_checkpointed_at_once() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let running = start(first.path());
    let server = server(&running, "survival").await;
    running.handle().publish(DEFAULT_STORE, order(server, "say hi")).await.unwrap();
    assert_eq!(running.handle().stats().checkpoints, 0);
    copy(first.path(), second.path());

    let recovered = start(second.path());
    assert!(recovered.recovery().frames > 0, "the order is in the journal alone");
    eventually("a checkpoint at once", async || recovered.handle().stats().checkpoints > 0).await;
    recovered.stop().await.unwrap();
    running.stop().await.unwrap();

    let again = start(second.path());
    assert_eq!((again.recovery().frames, again.recovery().live), (0, 1), "it is at rest, and there alone");
    again.stop().await.unwrap();
}

/// A plugin's ledger may hold outcomes of a directory that is no more: they must not be taken for those of new commands.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_directory_gives_out_no_number_of_an_earlier_one() {
    let mut highest = 0;
    for _ in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let running = start(dir.path());
        let server = server(&running, "survival").await;
        assert_eq!(server, ServerId(1), "the same server, as far as a ledger can tell");
        for _ in 0..3 {
            let published = running.handle().publish(DEFAULT_STORE, order(server, "say hi")).await.unwrap();
            let seq = published.commands[0].seq.0;
            assert!(seq > highest, "{seq} after {highest}");
            highest = seq;
        }
        running.stop().await.unwrap();
    }
}

/// A commit that has to make the journal longer takes many times as long as one that finds room.
#[tokio::test(flavor = "multi_thread")]
async fn room_in_the_journal_is_made_ahead_of_commits() {
    const SEGMENT: u64 = 1024 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let server = server(&running, "survival").await;
    running.handle().publish(DEFAULT_STORE, order(server, "say hi")).await.unwrap();
    let segments =
        || (fs::metadata(dir.path().join("journal.log")).expect("a journal").len() - 4096) / SEGMENT;
    eventually("four segments beside the one that is written", async || segments() >= 5).await;
    running.stop().await.unwrap();
    assert_eq!(segments(), 5, "and these are kept");
}
