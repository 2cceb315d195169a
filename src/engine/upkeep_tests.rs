//! Polls, removal, bounds, sweep, other shards, restart.

use super::harness::*;
use super::*;
use crate::ids::{ConnId, OrderId, ServerId, StoreId, mix};
use crate::time::{Millis, UnixMs};

#[test]
fn polls_lease_and_pace() {
    let mut rig = Rig::new();
    let ids: Vec<_> = (0..2).map(|n| rig.publish_one(command(&n.to_string()))).collect();
    let poll = |rig: &mut Rig| match rig.ask(|from| Input::Poll { from, server: SERVER }) {
        Reply::Polled { commands, next_check_seconds } => (commands.len(), next_check_seconds),
        other => panic!("{other:?}"),
    };
    assert_eq!(poll(&mut rig), (2, 15));
    assert_eq!(poll(&mut rig), (0, 15), "out, not handed out twice");
    let done = vec![result(ids[0].seq, Outcome::Completed), result(Seq(5), Outcome::Completed)];
    let reply = rig.ask(|from| Input::PollResults { from, server: SERVER, results: done });
    assert!(matches!(reply, Reply::Accepted { accepted: 1 }));
    rig.wait(60_000);
    assert_eq!(rig.status(ids[1]), Status::Pending);
    assert_eq!(poll(&mut rig), (1, 15));
    let done = vec![result(ids[1].seq, Outcome::Completed)];
    rig.ask(|from| Input::PollResults { from, server: SERVER, results: done });
    assert_eq!(poll(&mut rig), (0, 15));
    let (_, second) = poll(&mut rig);
    assert!((27..=33).contains(&second), "{second}");
    let out = rig.wait(64_000);
    assert!(out.iter().any(|o| matches!(o, Output::Event(Event { what: EventKind::Offline, .. }))));
    let unknown = rig.ask(|from| Input::Poll { from, server: ServerId(77) });
    assert!(matches!(unknown, Reply::Refused(Refusal::UnknownServer(_))));
}

#[test]
fn a_removed_server_is_emptied() {
    let mut rig = Rig::new();
    rig.connect(1, hello(1));
    let ids: Vec<_> = (0..3).map(|n| rig.publish_one(command(&n.to_string()))).collect();
    let out = rig.step(Input::ServerRemoved { server: SERVER });
    assert_eq!(said(&out, 1), ["close ServerRemoved"]);
    assert!(ids.iter().all(|id| rig.status(*id) == Status::Cancelled));
    let refused = rig.ask(|from| Input::Publish { from, order: Box::new(order(vec![command("x")])) });
    assert!(matches!(refused, Reply::Refused(Refusal::UnknownServer(SERVER))));
    rig.step(Input::CheckpointBegin);
    while rig.shard.export(1).is_some() {}
    rig.step(Input::CheckpointDone);
    assert_eq!(rig.shard.counters().in_memory, 0);
}

#[test]
fn a_checkpoint_ends_while_orders_keep_coming() {
    let mut rig = Rig::new();
    let old: Vec<_> = (0..20).map(|n| rig.publish_one(command(&n.to_string()))).collect();
    rig.step(Input::CheckpointBegin);
    let (mut parts, mut orders) = (0, Vec::new());
    while let Some(part) = rig.shard.export(2) {
        parts += 1;
        orders.extend(part.orders.iter().flat_map(|row| row.commands.clone()));
        for n in 0..3 {
            rig.publish_one(command(&n.to_string()));
        }
        assert!(parts < 1000, "it does not end");
    }
    assert!(old.iter().all(|id| orders.contains(id)), "the orders of before are all in it");
}

#[test]
fn a_checkpoint_keeps_ahead_of_commands_for_servers_that_are_not_copied_yet() {
    const PART: usize = 2;
    let mut rig = Rig::new();
    let publish = |rig: &mut Rig, server| {
        rig.step(Input::ServerAdded { server: ServerId(server), store: StoreId(1) });
        rig.publish_one(NewCommand { server: ServerId(server), ..command("one") });
    };
    (1..=64).for_each(|server| publish(&mut rig, server));
    rig.step(Input::CheckpointBegin);
    for turn in 0.. {
        assert!(turn < 100, "it does not end");
        let parts = rig.shard.rows_to_export(PART) / PART;
        if (0..parts).any(|_| rig.shard.export(PART).is_none_or(|part| part.last)) {
            break;
        }
        // Ten times what a part has: a slow disk.
        (0..20).for_each(|n| publish(&mut rig, 1 + (turn * 20 + n) % 64));
    }
}

#[test]
fn a_checkpoint_copies_server_by_server() {
    let mut rig = Rig::new();
    for n in 0..12 {
        let server = ServerId(1 + n % 2);
        rig.publish_one(NewCommand { server, ..command(&n.to_string()) });
    }
    rig.step(Input::CheckpointBegin);
    let mut parts = std::iter::from_fn(|| rig.shard.export(5));
    let mut servers: Vec<ServerId> =
        parts.by_ref().flat_map(|part| part.live).map(|row| row.id.server).collect();
    assert_eq!(servers.len(), 12);
    servers.dedup();
    assert_eq!(servers.len(), 2, "each server's rows lie together at rest, so they are written together");
}

#[test]
fn a_full_queue_refuses() {
    let mut rig = Rig::with(Settings { queue_max: 2, ..Settings::default() });
    let publish =
        |rig: &mut Rig| rig.ask(|from| Input::Publish { from, order: Box::new(order(vec![command("x")])) });
    publish(&mut rig);
    publish(&mut rig);
    assert!(matches!(publish(&mut rig), Reply::Refused(Refusal::QueueFull(SERVER))));
}

#[test]
fn many_servers_take_turns() {
    let mut rig = Rig::with(Settings { step_budget: 100, ..Settings::default() });
    let other = |n: usize| NewCommand { server: ServerId(2), ..command(&n.to_string()) };
    rig.publish(order((0..1000).map(|n| command(&n.to_string())).collect()));
    rig.publish(order((0..10).map(other).collect()));
    rig.auto = false;
    rig.connect(1, hello(4096));
    let mut out = Vec::new();
    let connect = Input::Connect { conn: ConnId(2), server: ServerId(2), hello: Box::new(hello(4096)) };
    rig.shard.handle(UnixMs(rig.now), connect, &mut out);
    assert!(rig.shard.has_work() || delivered(&out, 2).len() == 10);
    rig.settle(&mut out);
    assert_eq!(delivered(&out, 2).len(), 10);
}

#[test]
fn the_sweep_finds_nothing() {
    let mut rig = Rig::new();
    rig.connect(1, Hello { players: Some(vec![]), ..hello(2) });
    for n in 0..20 {
        rig.publish_one(command("x"));
        rig.publish_one(for_player("y", "Steve"));
        rig.publish_one(NewCommand { not_before: Some(UnixMs(rig.now + n * 7000)), ..command("z") });
    }
    rig.wait(400_000);
    assert_eq!(rig.shard.counters().swept, 0);
}

#[test]
fn history_keeps_the_first_and_the_latest() {
    let mut rig = Rig::new();
    let id = rig.publish_one(command("0"));
    rig.connect(1, hello(1));
    rig.step(Input::Disconnect { conn: ConnId(1) });
    for n in 0..100 {
        rig.operate(id, Operation::Edit { text: n.to_string().into() });
    }
    let row = rig.row(id);
    assert_eq!(row.history.len(), crate::limits::HISTORY_MAX);
    assert_eq!((row.history[0].note, row.history[0].at), (Note::None, row.accepted_at));
    assert!(row.history[1..].iter().all(|entry| entry.note == Note::Operator));
}

#[test]
fn time_never_goes_back_and_keys_are_forgotten() {
    let mut rig = Rig::new();
    rig.publish(keyed(9, 9));
    rig.step(Input::CheckpointBegin);
    while rig.shard.export(100).is_some() {}
    rig.step(Input::CheckpointDone);
    let again = rig.ask(|from| Input::Publish { from, order: Box::new(keyed(9, 9)) });
    assert!(matches!(again, Reply::PublishedAtRest { .. }));
    rig.now += 10 * 24 * 3600 * 1000;
    rig.step(Input::Tick);
    let again = rig.ask(|from| Input::Publish { from, order: Box::new(keyed(9, 9)) });
    assert!(matches!(again, Reply::Published { replayed: false, .. }), "{again:?}");
    rig.now -= 5000;
    rig.step(Input::Tick);
}

#[test]
fn another_shards_servers_are_reached_through_the_driver() {
    let settings = Settings { queue_max: 1, ..Settings::default() };
    let mut desk = Shard::new(settings.clone(), crate::ids::ShardNo(1), 2, 1, UnixMs(5));
    let mut owner = Shard::new(settings, crate::ids::ShardNo(0), 2, 1, UnixMs(5));
    owner.restore_server(ServerId(2), StoreId(1));
    let from = ReplyTo { port: ConnId(1), request: 1 };
    let new = || Box::new(order(vec![NewCommand { server: ServerId(2), ..command("x") }]));
    let mut out = Vec::new();
    desk.handle(UnixMs(5), Input::Publish { from, order: new() }, &mut out);
    assert!(out.is_empty());
    let (frame, _) = desk.seal().unwrap();
    desk.handle(UnixMs(5), Input::Durable(frame), &mut out);
    let forward = out.into_iter().find_map(|output| match output {
        Output::Forward { shard: crate::ids::ShardNo(0), input } => Some(*input),
        _ => None,
    });
    let mut out = Vec::new();
    owner.handle(UnixMs(6), forward.unwrap(), &mut out);
    assert_eq!(owner.counters().by_status[0], 1);
    assert!(!owner.has_changes(), "the desk has stored it");
    let full = out.into_iter().find_map(|output| match output {
        Output::Forward { shard: crate::ids::ShardNo(1), input } => Some(*input),
        _ => None,
    });
    let mut out = Vec::new();
    desk.handle(UnixMs(7), full.unwrap(), &mut out);
    desk.handle(UnixMs(7), Input::Publish { from, order: new() }, &mut out);
    let refusal = Refusal::QueueFull(ServerId(2));
    assert!(matches!(replies(&out, from)[..], [Reply::Refused(found)] if found == refusal));
}

/// The broker starts anew, 5 ms later, with the first `frames` of its journal.
fn restart(rig: &mut Rig, frames: usize) -> Vec<Output> {
    let mut shard = Shard::new(Settings::default(), crate::ids::ShardNo(0), 1, 2, UnixMs(rig.now));
    shard.restore_server(SERVER, STORE);
    rig.journal.truncate(frames);
    let mut desk = shard.lend_desk();
    for (no, changes) in &rig.journal {
        for change in changes {
            if let Change::Order(order) = change {
                desk.restore_order(&order.row);
            }
            shard.restore_change(change.clone(), true);
        }
        shard.restore_frame_no(*no);
    }
    shard.take_back(desk);
    let mut out = Vec::new();
    rig.now += 5;
    shard.restore_done(UnixMs(rig.now), &mut out);
    rig.shard = shard;
    rig.settle(&mut out);
    out
}

#[test]
fn a_retry_that_went_out_and_was_forgotten_in_a_crash_may_be_in_doubt() {
    let mut rig = Rig::new();
    rig.connect(1, hello(1));
    let id = rig.publish_one(command("a"));
    rig.results(1, vec![result(id.seq, Outcome::Failed)]);
    let durable = rig.journal.len();
    assert_eq!(delivered(&rig.wait(30_000), 1), [id.seq], "attempt 2");
    restart(&mut rig, durable);
    let out = rig.connect(2, Hello { in_doubt: vec![id.seq], ..hello(1) });
    assert!(delivered(&out, 2).is_empty(), "the plugin may have run attempt 2");
    assert_eq!(rig.status(id), Status::InDoubt);
}

#[test]
fn a_restart_offers_again_what_was_out() {
    let mut rig = Rig::new();
    rig.connect(1, hello(1));
    let ids: Vec<_> = (0..2).map(|n| rig.publish_one(command(&n.to_string()))).collect();
    let all = rig.journal.len();
    let out = restart(&mut rig, all);
    assert_eq!(announced(&out), [Status::Pending]);
    assert_eq!(rig.story(ids[0]).last(), Some(&(Status::Pending, Note::BrokerRestarted)));
    let out = rig.connect(2, Hello { held: vec![ids[0].seq], ..hello(5) });
    assert_eq!(delivered(&out, 2), [ids[1].seq]);
    let next = rig.publish_one(command("after"));
    assert!(next.seq > ids[1].seq);
    assert!(rig.wait(Millis::seconds(1).0).is_empty());
}

#[test]
fn keys_whose_time_is_over_leave_memory() {
    let mut rig = Rig::new();
    let mut desk = rig.shard.lend_desk();
    for key in 0..100_000 {
        let order = OrderId { store: STORE, seq: Seq(64) };
        let digest = KeyDigest { key: mix(key), body: 1 };
        desk.restore_key(KeyRow { digest, order, at: UnixMs(rig.now) });
    }
    rig.shard.take_back(desk);
    let before = rig.shard.counters();
    assert!(before.keys == 100_000 && before.keys_bytes > 1_600_000, "{before:?}");
    rig.now += 10 * 24 * 3600 * 1000;
    rig.step(Input::Tick);
    let after = rig.shard.counters();
    assert_eq!((after.keys, after.keys_bytes), (0, 0), "in as many steps as it takes");
}
