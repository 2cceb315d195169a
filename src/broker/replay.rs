//! From what lay on disk to shards that can go on. Must never hand out a shard of which a part is missing. Three threads share the
//! replay, each with a part of the work that no other touches, so that two cores are busy to the end.

use std::mem;
use std::thread;

use crossbeam_channel::bounded;

use super::inbox::Outlet;
use super::lines::Lines;
use super::numbers::first_seq;
use super::shard_thread::ShardThread;
use super::start::Settings;
use crate::engine::{self, Change, LentDesk, Output, Shard};
use crate::ids::{FrameNo, ServerId, ShardNo, StoreId};
use crate::storage::{
    FrameEncoder, FrameHash, LogJournal, Recovered, Recovery, RecoveryReport, RedbRest, StorageError,
};
use crate::time::UnixMs;

/// Recovered pieces that are handed over at once, frames apart.
const PIECES_PER_BATCH: usize = 1024;
/// Batches that are read ahead of the restoring.
const BATCHES_AHEAD: usize = 8;

/// The journal, which can go on, and the shards as they were, but for [`Shard::restore_done`].
pub(super) fn recover(
    settings: &Settings,
    recovery: Recovery,
    rest: &RedbRest,
    servers: impl IntoIterator<Item = (ServerId, StoreId)>,
    now: UnixMs,
) -> Result<(LogJournal, Vec<Shard>, RecoveryReport), StorageError> {
    let (count, boot) = (settings.shards, recovery.boot());
    // What is for all of them.
    let texts_kept = settings.engine.texts_kept / u64::from(count);
    let each = engine::Settings { texts_kept, ..settings.engine.clone() };
    let mut shards: Vec<Shard> =
        (0..count).map(|no| Shard::new(each.clone(), ShardNo(no), count, boot, now)).collect();
    for (server, store) in servers {
        shards[usize::from(server.shard(count).0)].restore_server(server, store);
    }
    let (journal, report) = replay(recovery, rest, &mut shards, count)?;
    Ok((journal, shards, report))
}

/// Restores the shards: one thread reads and checks, one restores the desks, this one restores the queues.
fn replay(
    recovery: Recovery,
    rest: &RedbRest,
    shards: &mut [Shard],
    count: u16,
) -> Result<(LogJournal, RecoveryReport), StorageError> {
    let mut desks: Vec<LentDesk> = shards.iter_mut().map(Shard::lend_desk).collect();
    let (to_desks, read) = bounded::<Vec<Recovered>>(BATCHES_AHEAD);
    let (to_queues, left) = bounded::<Vec<Recovered>>(BATCHES_AHEAD);
    // The other end of a channel goes away only after this one, or with a panic, which comes up in a join.
    let replayed = thread::scope(|scope| {
        let desks = &mut desks;
        let reading = scope.spawn(move || {
            let mut batch = Vec::with_capacity(PIECES_PER_BATCH);
            let replayed = recovery.replay(rest, &mut |piece| {
                // A frame is a batch by itself.
                let full = batch.len() + 1 >= PIECES_PER_BATCH || matches!(piece, Recovered::Frame { .. });
                batch.push(piece);
                if full {
                    let _ = to_desks.send(mem::replace(&mut batch, Vec::with_capacity(PIECES_PER_BATCH)));
                }
            })?;
            let _ = to_desks.send(batch);
            Ok(replayed)
        });
        let restoring = scope.spawn(move || {
            for mut batch in read {
                batch.retain(|piece| restore_desks(desks, count, piece));
                let _ = to_queues.send(batch);
            }
            desks.iter_mut().for_each(LentDesk::settle);
        });
        left.into_iter().flatten().for_each(|piece| restore_queues(shards, count, piece));
        restoring.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    shards.iter_mut().zip(desks).for_each(|(shard, desk)| shard.take_back(desk));
    replayed
}

/// Gives the desks what is theirs of a recovered piece; true = there is something in it for the queues.
fn restore_desks(desks: &mut [LentDesk], count: u16, recovered: &Recovered) -> bool {
    let place = |store: StoreId| usize::from(store.shard(count).0);
    match recovered {
        Recovered::Key(row) => {
            desks[place(row.order.store)].restore_key(*row);
            return false;
        }
        Recovered::Frame { frame, .. } => {
            for change in &frame.changes {
                if let Change::Order(order) = change {
                    desks[place(order.row.id.store)].restore_order(&order.row);
                }
            }
        }
        Recovered::Server(_) | Recovered::Live(_) => {}
    }
    true
}

/// Gives the queues what is left of a recovered piece.
fn restore_queues(shards: &mut [Shard], count: u16, recovered: Recovered) {
    match recovered {
        Recovered::Server(row) => shards[usize::from(row.server.shard(count).0)].restore_totals(row),
        Recovered::Live(row) => shards[usize::from(row.id.server.shard(count).0)].restore_live(*row),
        Recovered::Key(_) => unreachable!("keys are the desks'"),
        Recovered::Frame { frame, count: ended } => {
            for change in frame.changes {
                let Some(last) = shards.iter().rposition(|shard| shard.concerns(&change)) else { continue };
                for shard in shards[..last].iter_mut().filter(|shard| shard.concerns(&change)) {
                    shard.restore_change(change.clone(), ended);
                }
                shards[last].restore_change(change, ended);
            }
        }
    }
}

/// The recovered shards, each with what a thread needs to go on.
pub(super) fn shard_threads<L: Lines + Clone>(
    shards: Vec<Shard>,
    outlets: Vec<Outlet>,
    report: &RecoveryReport,
    now: UnixMs,
    lines: &L,
) -> Vec<ShardThread<L>> {
    let next_seq = report.next_seq.max(first_seq(now));
    let mut threads = Vec::with_capacity(shards.len());
    for (mut shard, outlet) in shards.into_iter().zip(outlets) {
        let no = ShardNo(u16::try_from(threads.len()).expect("there are at most SHARDS_MAX shards"));
        let end = report.shards.iter().find(|end| end.shard == no);
        let (last_frame, last_hash) = end.map_or((FrameNo(0), FrameHash([0; 16])), |end| (end.no, end.hash));
        let encoder = FrameEncoder::new(no, report.boot, last_frame, last_hash);
        let mut outputs: Vec<Output> = Vec::new();
        shard.restore_next_seq(next_seq);
        shard.restore_frame_no(last_frame);
        shard.restore_done(now, &mut outputs);
        threads.push(ShardThread::new(no, shard, (encoder, last_frame), outlet, lines.clone(), outputs));
    }
    threads
}
