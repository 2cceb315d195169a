//! What a group commit answers, and to whom; and that no message is left behind by threads that come at the same time.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::*;
use crate::broker::inbox::{Inbox, Outlet, inbox};
use crate::broker::mailbox::Mailbox;
use crate::broker::stats::JournalStats;
use crate::broker::texts_thread::Wanted;
use crate::engine::Event;
use crate::ids::OrderId;
use crate::storage::Rest;
use crate::time::UnixMs;

/// A journal in memory that fails from a commit on.
struct Memory {
    commits: Arc<Mutex<Vec<Vec<FrameNo>>>>,
    fails_at: usize,
    wants_room: bool,
    /// What comes while the first commit is under way.
    meanwhile: Option<Box<dyn FnOnce() + Send>>,
}

impl Journal for Memory {
    fn append(&mut self, frames: &[EncodedFrame]) -> Result<CommitNo, StorageError> {
        self.meanwhile.take().into_iter().for_each(|happens| happens());
        let mut commits = self.commits.lock();
        if commits.len() == self.fails_at {
            return Err(StorageError::Full { file: "journal".into() });
        }
        commits.push(frames.iter().map(|frame| frame.no).collect());
        Ok(CommitNo(commits.len() as u64))
    }

    fn trim(&mut self, _: CommitNo) -> Result<(), StorageError> {
        Ok(())
    }

    fn idle(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn wants_room(&self) -> bool {
        self.wants_room
    }
}

/// Two shards and nothing else.
#[derive(Default)]
struct Shards {
    inboxes: Vec<Inbox>,
    stats: JournalStats,
    /// How often more room was asked for.
    rooms: AtomicU64,
}

impl Lines for Shards {
    fn shards(&self) -> &[Inbox] {
        &self.inboxes
    }

    fn journal_stats(&self) -> &JournalStats {
        &self.stats
    }

    fn nanos(&self) -> u64 {
        0
    }

    fn to_journal(&self, _: ToJournal) -> bool {
        unreachable!("tests send by themselves")
    }

    fn commit(&self, _: Option<ShardNo>) -> Option<FrameNo> {
        unreachable!("tests commit by themselves")
    }

    fn rest(&self) -> &dyn Rest {
        unreachable!("a commit reads nothing")
    }

    fn is_followed(&self) -> bool {
        false
    }

    fn publish(&self, _: Vec<Event>) {}

    fn find_order(&self, _: OrderId, _: Arc<Mailbox>, _: u64) {}

    fn read_texts(&self, _: Wanted) {}

    fn make_room(&self) {
        self.rooms.fetch_add(1, Ordering::Relaxed);
    }

    fn expire_audit(&self, _: UnixMs) -> Result<(), StorageError> {
        Ok(())
    }
}

struct Fixture {
    journal: Arc<SharedJournal<Memory>>,
    commits: Arc<Mutex<Vec<Vec<FrameNo>>>>,
    shards: Shards,
    outlets: Vec<Outlet>,
}

impl Fixture {
    fn new(fails_at: usize) -> Fixture {
        let commits = Arc::<Mutex<Vec<_>>>::default();
        let memory = Memory { commits: Arc::clone(&commits), fails_at, wants_room: false, meanwhile: None };
        let journal = Arc::new(SharedJournal::new(GroupCommit::new(memory, CommitNo(0))));
        let (inboxes, outlets) = [(), ()].iter().map(|()| inbox()).unzip();
        Fixture { journal, commits, shards: Shards { inboxes, ..Shards::default() }, outlets }
    }

    /// What the shards were told, by shard.
    fn told(&mut self) -> Vec<Vec<FrameNo>> {
        let told = |outlet: &mut Outlet| {
            std::iter::from_fn(|| match outlet.next(Duration::ZERO)? {
                Envelope::Durable { frame } => Some(frame),
                _ => panic!("only durable frames are told"),
            })
            .collect()
        };
        self.outlets.iter_mut().map(told).collect()
    }
}

fn frame(shard: u16, no: u64) -> ToJournal {
    ToJournal::Append(EncodedFrame { shard: ShardNo(shard), no: FrameNo(no), bytes: vec![0; 100] })
}

#[test]
fn all_that_waits_is_one_commit_and_who_makes_it_is_not_told() {
    let mut at = Fixture::new(usize::MAX);
    assert!(at.journal.send(frame(0, 1)), "nobody is at it");
    assert!(!at.journal.send(frame(1, 7)));
    assert!(!at.journal.send(frame(0, 2)));
    let Committed { own, all, failed } = at.journal.commit(Some(ShardNo(0)), &at.shards);
    assert_eq!((own, all), (Some(FrameNo(2)), true));
    assert!(failed.is_none());
    assert_eq!(at.told(), [vec![], vec![FrameNo(7)]]);
    assert_eq!(*at.commits.lock(), [[FrameNo(1), FrameNo(7), FrameNo(2)]]);
    assert!(at.journal.send(frame(1, 8)), "nobody is at it again");
    let keeper = at.journal.commit(None, &at.shards);
    assert_eq!((keeper.own, keeper.all), (None, true));
    assert_eq!(at.told(), [vec![], vec![FrameNo(8)]]);
}

#[test]
fn what_comes_during_a_commit_is_left_to_who_made_it() {
    let mut at = Fixture::new(usize::MAX);
    let journal = Arc::clone(&at.journal);
    let comes = move || assert!(!journal.send(frame(1, 1)), "somebody is at it");
    at.journal.commit.lock().open().unwrap().journal.meanwhile = Some(Box::new(comes));
    assert!(at.journal.send(frame(0, 1)));
    assert!(!at.journal.commit(Some(ShardNo(0)), &at.shards).all);
    assert_eq!(at.told(), [vec![], vec![]]);
    assert!(at.journal.commit(Some(ShardNo(0)), &at.shards).all);
    assert_eq!(at.told(), [vec![], vec![FrameNo(1)]]);
}

#[test]
fn a_commit_after_which_the_journal_wants_room_asks_for_it() {
    let at = Fixture::new(usize::MAX);
    for wants_room in [false, true] {
        at.journal.commit.lock().open().unwrap().journal.wants_room = wants_room;
        assert!(at.journal.send(frame(0, 1)));
        at.journal.commit(Some(ShardNo(0)), &at.shards);
        assert_eq!(at.shards.rooms.load(Ordering::Relaxed), u64::from(wants_room));
    }
}

#[test]
fn a_barrier_is_answered_once_what_came_before_it_is_durable() {
    let mut at = Fixture::new(usize::MAX);
    let (sender, answer) = bounded(1);
    assert!(at.journal.send(frame(0, 1)));
    assert!(!at.journal.send(ToJournal::Barrier(sender)));
    assert!(!at.journal.send(frame(0, 2)));
    assert_eq!(at.journal.commit(Some(ShardNo(0)), &at.shards).own, Some(FrameNo(2)));
    assert_eq!(answer.try_recv(), Ok(CommitNo(1)));
    assert_eq!(*at.commits.lock(), [[FrameNo(1)], [FrameNo(2)]]);
    assert_eq!(at.told(), [vec![], vec![]]);
}

#[test]
fn after_an_error_nobody_is_answered_any_more() {
    let mut at = Fixture::new(1);
    assert!(at.journal.send(frame(0, 1)));
    assert!(at.journal.commit(None, &at.shards).failed.is_none());
    let barrier = || bounded(1);
    let (sender, with_it) = barrier();
    assert!(at.journal.send(frame(1, 1)));
    assert!(!at.journal.send(ToJournal::Barrier(sender)));
    let failed = at.journal.commit(Some(ShardNo(1)), &at.shards);
    assert!(failed.failed.is_some() && failed.own.is_none() && failed.all);
    let (sender, after) = barrier();
    assert!(at.journal.send(ToJournal::Barrier(sender)));
    assert!(!at.journal.send(frame(0, 2)));
    let later = at.journal.commit(Some(ShardNo(0)), &at.shards);
    assert!(later.failed.is_none() && later.own.is_none() && later.all, "the first error is the only one");
    assert!(with_it.recv().is_err() && after.recv().is_err());
    assert_eq!(at.told(), [vec![FrameNo(1)], vec![]]);
    assert!(
        at.journal.commit.lock().commit.is_some(),
        "its file is nobody else's while room may be made in it"
    );
    assert!(at.journal.end(&at.shards).is_none());
    assert!(at.journal.commit.lock().commit.is_none(), "it is closed");
}

#[test]
fn the_end_commits_what_nobody_came_to_commit() {
    let at = Fixture::new(usize::MAX);
    assert!(at.journal.send(frame(0, 1)), "and then its thread ends");
    assert!(at.journal.end(&at.shards).is_none());
    assert_eq!(*at.commits.lock(), [[FrameNo(1)]]);
    assert!(at.journal.commit.lock().commit.is_none(), "it is closed");
}

#[test]
fn threads_that_come_together_leave_nothing_behind() {
    const FRAMES: u64 = 2_000;
    let Fixture { journal, commits, shards, outlets } = Fixture::new(usize::MAX);
    let finished = AtomicU64::new(0);
    let durable = std::thread::scope(|scope| {
        let (journal, shards, finished) = (&journal, &shards, &finished);
        let threads = (0..).zip(outlets).map(|(no, mut outlet)| {
            // As a shard's thread: the next frame is sent once the one before it is durable.
            let bring = move || {
                let (mut sent, mut durable) = (0, 0);
                // When all of its own is done, the other one may still rely on it.
                while finished.load(Ordering::Relaxed) < 2 {
                    let mut commits = false;
                    if durable == sent && sent < FRAMES {
                        sent += 1;
                        commits = journal.send(frame(no, sent));
                    }
                    let before = durable;
                    if commits | outlet.must_commit() {
                        let committed = journal.commit(Some(ShardNo(no)), shards);
                        durable = committed.own.map_or(durable, |frame| frame.0);
                        if !committed.all {
                            shards.inboxes[usize::from(1 - no)].commit();
                        }
                    } else if durable < sent {
                        match outlet.next(Duration::from_secs(20)).expect("somebody commits it") {
                            Envelope::Durable { frame } => durable = durable.max(frame.0),
                            Envelope::Commit => {}
                            _ => unreachable!(),
                        }
                    } else {
                        let _ = outlet.next(Duration::from_millis(1));
                    }
                    finished.fetch_add(u64::from(before < durable && durable == FRAMES), Ordering::Relaxed);
                }
                durable
            };
            scope.spawn(bring)
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<u64>>()
    });
    assert_eq!(durable, [FRAMES, FRAMES]);
    assert_eq!(commits.lock().iter().map(Vec::len).sum::<usize>() as u64, 2 * FRAMES);
}
