//! The rules of a shard, one test each.

use super::harness::*;
use super::*;
use crate::ids::{ConnId, FrameNo, ServerId, StoreId};
use crate::time::{Millis, UnixMs};

#[test]
fn a_command_is_published_delivered_and_completed() {
    let mut rig = Rig::new();
    rig.connect(1, hello(10));
    let from = rig.from();
    let out = rig.step(Input::Publish { from, order: Box::new(order(vec![command("a")])) });
    let id = match &replies(&out, from)[..] {
        [Reply::Published { order, replayed: false, commands }] => {
            assert_eq!(order.seq, commands[0].seq);
            commands[0]
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(delivered(&out, 1), [id.seq]);
    assert_eq!(announced(&out), [Status::Pending, Status::Delivered]);
    let out = rig.results(1, vec![result(id.seq, Outcome::Completed)]);
    assert_eq!(said(&out, 1), ["confirm 1"]);
    let row = rig.row(id);
    assert_eq!(row.rev, 3);
    let story: Vec<Status> = row.history.iter().map(|entry| entry.status).collect();
    assert_eq!(story, [Status::Pending, Status::Delivered, Status::Completed]);
}

#[test]
fn nothing_is_answered_before_it_is_durable() {
    let mut rig = Rig::new();
    rig.auto = false;
    rig.connect(1, hello(10));
    let from = rig.from();
    let out = rig.step(Input::Publish { from, order: Box::new(order(vec![command("a")])) });
    assert!(out.is_empty(), "{out:?}");
    assert_eq!(rig.seal(), Some(FrameNo(1)));
    assert_eq!(rig.seal(), None);
    let out = rig.step(Input::Durable(FrameNo(1)));
    assert_eq!(replies(&out, from).len(), 1);
    // The delivery does not wait for its own change; the event of it does.
    let seq = delivered(&out, 1)[0];
    assert_eq!(announced(&out), [Status::Pending]);
    let out = rig.results(1, vec![result(seq, Outcome::Completed)]);
    assert!(out.is_empty(), "{out:?}");
    let frame = rig.seal().unwrap();
    let out = rig.step(Input::Durable(frame));
    assert_eq!(said(&out, 1), ["confirm 1"]);
    assert_eq!(announced(&out), [Status::Delivered, Status::Completed]);
    // A batch that changes nothing rests on nothing, and is confirmed at once.
    let out = rig.results(1, vec![result(seq, Outcome::Completed)]);
    assert_eq!(said(&out, 1), ["confirm 1"]);
    assert_eq!(rig.shard.counters().stale_results, 1);
}

fn keyed(key: u64, body: u64) -> NewOrder {
    NewOrder { key: Some(KeyDigest { key, body }), ..order(vec![command("a")]) }
}

#[test]
fn a_key_gives_the_same_order_again() {
    let mut rig = Rig::new();
    rig.auto = false;
    let (first, second, third) = (rig.from(), rig.from(), rig.from());
    let publish = |from, order| Input::Publish { from, order: Box::new(order) };
    assert!(rig.step(publish(first, keyed(5, 1))).is_empty());
    assert!(rig.step(publish(second, keyed(5, 1))).is_empty(), "waits for the same frame");
    let out = rig.step(publish(third, keyed(5, 2)));
    assert!(matches!(replies(&out, third)[..], [Reply::Refused(Refusal::KeyConflict)]));
    let frame = rig.seal().unwrap();
    let out = rig.step(Input::Durable(frame));
    let ids = |from| match &replies(&out, from)[..] {
        [Reply::Published { commands, replayed, .. }] => (commands.clone(), *replayed),
        other => panic!("{other:?}"),
    };
    assert_eq!(ids(first).0, ids(second).0);
    assert_eq!((ids(first).1, ids(second).1), (false, true));
    assert_eq!(rig.shard.counters().accepted, 1);
}

#[test]
fn the_window_is_kept_and_commands_go_in_order() {
    let mut rig = Rig::new();
    let ids: Vec<_> = (0..10).map(|n| rig.publish_one(command(&n.to_string()))).collect();
    let out = rig.connect(1, hello(3));
    assert_eq!(delivered(&out, 1), [ids[0].seq, ids[1].seq, ids[2].seq]);
    let out = rig.results(1, vec![result(ids[1].seq, Outcome::Completed)]);
    assert_eq!(delivered(&out, 1), [ids[3].seq]);
    let out = rig.step(Input::Credit { conn: ConnId(1), window: 5 });
    assert_eq!(delivered(&out, 1), [ids[4].seq, ids[5].seq]);
    let out = rig.step(Input::Credit { conn: ConnId(1), window: 0 });
    assert!(out.is_empty());
    let out = rig.results(1, vec![result(ids[0].seq, Outcome::Completed)]);
    assert!(delivered(&out, 1).is_empty());
}

#[test]
fn a_reported_failure_is_retried_and_then_failed() {
    let mut rig = Rig::new();
    rig.connect(1, hello(10));
    let id = rig.publish_one(command("a"));
    for (attempt, delay) in [(1, 30_000), (2, 60_000), (3, 120_000)] {
        let fail = CommandResult {
            attempt: Some(attempt),
            error: Some("no".into()),
            ..result(id.seq, Outcome::Failed)
        };
        rig.results(1, vec![fail.clone()]);
        let row = rig.row(id);
        assert_eq!((row.status, row.attempt, row.retries), (Status::Pending, attempt + 1, attempt));
        assert_eq!(row.next_at, Some(UnixMs(rig.now + delay)));
        // The same report again changes nothing.
        rig.results(1, vec![fail]);
        assert_eq!(rig.row(id).rev, row.rev);
        assert!(rig.wait(delay - 1).is_empty());
        let out = rig.wait(1);
        assert_eq!(deliveries(&out, 1)[0].attempt, attempt + 1);
    }
    rig.results(1, vec![result(id.seq, Outcome::Failed)]);
    let row = rig.row(id);
    assert_eq!((row.status, row.attempt), (Status::Failed, 4));
    assert_eq!(row.history.last().unwrap().note, Note::RetriesExhausted);
    let Reply::Command(row) = rig.operate(id, Operation::Resend) else { panic!() };
    assert_eq!((row.status, row.attempt, row.retries), (Status::Pending, 5, 0));
    assert_eq!(rig.status(id), Status::Delivered);
}

#[test]
fn a_lost_connection_offers_again() {
    let mut rig = Rig::new();
    rig.connect(1, hello(10));
    let id = rig.publish_one(command("a"));
    rig.step(Input::Disconnect { conn: ConnId(1) });
    assert_eq!(rig.status(id), Status::Pending);
    let out = rig.connect(2, hello(10));
    assert_eq!(said(&out, 2), ["welcome 0", "deliver 1"]);
    assert_eq!(deliveries(&out, 2)[0].attempt, 1);
    assert_eq!(rig.shard.counters().redelivered, 1);
}

#[test]
fn what_the_plugin_holds_is_not_sent_again() {
    let mut rig = Rig::new();
    rig.connect(1, hello(10));
    let ids: Vec<_> = (0..5).map(|n| rig.publish_one(command(&n.to_string()))).collect();
    let out = rig.connect(
        2,
        Hello {
            held: vec![ids[0].seq, Seq(999_999)],
            started: vec![ids[1].seq],
            finished: vec![ids[2].seq],
            in_doubt: vec![ids[3].seq],
            ..hello(10)
        },
    );
    assert_eq!(said(&out, 1), ["close Replaced"]);
    assert_eq!(delivered(&out, 2), [ids[4].seq]);
    assert_eq!(said(&out, 2), ["welcome 1", "deliver 1"]);
    let statuses: Vec<Status> = ids.iter().map(|id| rig.status(*id)).collect();
    use Status::{Delivered, InDoubt};
    assert_eq!(statuses, [Delivered, Delivered, Delivered, InDoubt, Delivered]);
    // The old connection is nobody now.
    rig.results(1, vec![result(ids[0].seq, Outcome::Completed)]);
    assert_eq!(rig.status(ids[0]), Delivered);
    assert_eq!(rig.shard.counters().stale_inputs, 1);
    rig.results(2, vec![result(ids[3].seq, Outcome::Completed)]);
    assert_eq!(rig.story(ids[3]).last(), Some(&(Status::Completed, Note::LateResult)));
    let Reply::Servers(states) = rig.ask(|from| Input::Read { from, query: Query::Servers(vec![SERVER]) })
    else {
        panic!()
    };
    assert_eq!(states[0].counts, [0, 4, 0, 1, 0, 0, 0, 0]);
}

#[test]
fn forgetting_waits_until_the_end_is_durable() {
    let mut rig = Rig::new();
    rig.connect(1, hello(1));
    let id = rig.publish_one(command("a"));
    rig.publish_one(command("b"));
    rig.auto = false;
    rig.results(1, vec![result(id.seq, Outcome::Completed)]);
    let out = rig.connect(2, Hello { finished: vec![id.seq], ..hello(1) });
    assert!(said(&out, 2).is_empty(), "{out:?}");
    let frame = rig.seal().unwrap();
    let out = rig.step(Input::Durable(frame));
    assert_eq!(said(&out, 2), ["welcome 1", "deliver 1"]);
}

#[test]
fn a_doubt_is_durable_before_the_plugin_drops_it() {
    let mut rig = Rig::new();
    rig.connect(1, hello(1));
    let id = rig.publish_one(command("a"));
    rig.auto = false;
    let out = rig.connect(2, Hello { in_doubt: vec![id.seq], ..hello(1) });
    assert!(said(&out, 2).is_empty(), "{out:?}");
    let frame = rig.seal().unwrap();
    let out = rig.step(Input::Durable(frame));
    assert_eq!(said(&out, 2), ["welcome 0"]);
}

#[test]
fn the_ack_deadline_offers_again_and_parks_in_the_end() {
    let mut rig = Rig::with(Settings { unanswered_max: 2, ..Settings::default() });
    rig.connect(1, hello(10));
    let id = rig.publish_one(command("a"));
    rig.wait(30_000);
    rig.step(Input::Started { conn: ConnId(1), seqs: vec![id.seq] });
    assert!(delivered(&rig.wait(59_999), 1).is_empty(), "started anew");
    assert_eq!(delivered(&rig.wait(1), 1), [id.seq]);
    assert_eq!(delivered(&rig.wait(60_000), 1), [id.seq]);
    assert!(delivered(&rig.wait(60_000), 1).is_empty());
    assert_eq!(rig.story(id).last(), Some(&(Status::Failed, Note::Unanswered)));
    assert_eq!(rig.row(id).attempt, 1);
    rig.results(1, vec![result(id.seq, Outcome::Completed)]);
    assert_eq!(rig.status(id), Status::Completed);
}

#[test]
fn a_late_result_after_the_deadline_counts() {
    let mut rig = Rig::new();
    rig.connect(1, hello(1));
    let id = rig.publish_one(command("a"));
    rig.step(Input::Credit { conn: ConnId(1), window: 0 });
    rig.wait(60_000);
    assert_eq!(rig.story(id).last(), Some(&(Status::Pending, Note::AckDeadline)));
    rig.results(1, vec![result(id.seq, Outcome::Completed)]);
    assert_eq!(rig.story(id).last(), Some(&(Status::Completed, Note::LateResult)));
    let out = rig.step(Input::Credit { conn: ConnId(1), window: 5 });
    assert!(out.is_empty());
}

#[test]
fn absent_players_are_waited_for_and_released_in_order() {
    let mut rig = Rig::new();
    rig.connect(1, Hello { players: Some(vec![player("Alex")]), ..hello(10) });
    let ids: Vec<_> = (0..3).map(|n| rig.publish_one(for_player(&n.to_string(), "Steve"))).collect();
    let other = rig.publish_one(for_player("x", "alex"));
    assert_eq!(rig.status(other), Status::Delivered);
    assert!(ids.iter().all(|id| rig.status(*id) == Status::AwaitingPlayer));
    let news = PlayerNews::Joined(vec![player("STEVE")]);
    let out = rig.step(Input::Players { conn: ConnId(1), news });
    assert_eq!(delivered(&out, 1), ids.iter().map(|id| id.seq).collect::<Vec<_>>());
    rig.step(Input::Players { conn: ConnId(1), news: PlayerNews::Left(vec![player("Steve")]) });
    let late = rig.publish_one(for_player("y", "Steve"));
    assert_eq!(rig.status(late), Status::AwaitingPlayer);
    rig.step(Input::Players { conn: ConnId(1), news: PlayerNews::Online(vec![player("steve")]) });
    assert_eq!(rig.status(late), Status::Delivered);
}

#[test]
fn a_plugin_that_calls_an_online_player_absent_is_not_asked_in_a_loop() {
    let mut rig = Rig::new();
    rig.connect(1, Hello { players: Some(vec![player("Steve")]), ..hello(10) });
    let id = rig.publish_one(for_player("a", "Steve"));
    let out = rig.results(1, vec![result(id.seq, Outcome::AwaitingPlayer)]);
    assert_eq!(delivered(&out, 1), [id.seq], "joined while the answer was under way");
    let out = rig.results(1, vec![result(id.seq, Outcome::AwaitingPlayer)]);
    assert!(delivered(&out, 1).is_empty());
    assert!(delivered(&rig.wait(14_999), 1).is_empty());
    assert_eq!(delivered(&rig.wait(1), 1), [id.seq]);
}

#[test]
fn delays_and_expiry() {
    let mut rig = Rig::new();
    rig.connect(1, hello(10));
    let at = |ms: u64| Some(UnixMs(1_000_000 + ms));
    let later = rig.publish_one(NewCommand { not_before: at(500), ..command("later") });
    let dies = rig.publish_one(NewCommand { not_before: at(900), expires_at: at(800), ..command("dies") });
    let now = rig.publish_one(command("now"));
    assert_eq!(rig.status(now), Status::Delivered, "what waits holds nobody up");
    assert_eq!(rig.row(later).next_at, at(500));
    assert!(delivered(&rig.wait(499), 1).is_empty());
    assert_eq!(delivered(&rig.wait(1), 1), [later.seq]);
    rig.wait(300);
    assert_eq!(rig.status(dies), Status::Expired);
    let waits = rig.publish_one(NewCommand { expires_at: at(2000), ..command("out") });
    rig.wait(5000);
    assert_eq!(rig.status(waits), Status::Delivered, "what is out may still run");
    rig.step(Input::Disconnect { conn: ConnId(1) });
    assert_eq!(rig.status(waits), Status::Expired);
}

#[test]
fn ordered_orders_wait_for_the_one_before() {
    let mut rig = Rig::new();
    rig.connect(1, hello(10));
    let new = NewOrder { ordered: true, ..order(vec![command("1"), command("2"), command("3")]) };
    let (_, ids) = rig.publish(new);
    let free = rig.publish_one(command("free"));
    assert_eq!(rig.status(free), Status::Delivered);
    assert_eq!(rig.status(ids[1]), Status::Pending);
    let out = rig.results(1, vec![result(ids[0].seq, Outcome::Failed)]);
    assert!(delivered(&out, 1).is_empty(), "a retry is left");
    rig.wait(30_000);
    let out = rig.results(1, vec![result(ids[0].seq, Outcome::Completed)]);
    assert_eq!(delivered(&out, 1), [ids[1].seq]);
    rig.step(Input::Disconnect { conn: ConnId(1) });
    rig.operate(ids[1], Operation::Cancel);
    assert_eq!(rig.status(ids[1]), Status::Cancelled);
    let out = rig.connect(2, hello(10));
    assert!(delivered(&out, 2).contains(&ids[2].seq));
}

#[test]
fn operators_cancel_edit_and_resend() {
    let mut rig = Rig::new();
    let id = rig.publish_one(command("old"));
    let Reply::Command(row) = rig.operate(id, Operation::Edit { text: "new".into() }) else { panic!() };
    assert_eq!((&*row.text, row.rev, row.status), ("new", 2, Status::Pending));
    assert_eq!(rig.story(id), [(Status::Pending, Note::None), (Status::Pending, Note::Operator)]);
    rig.connect(1, hello(10));
    let refused = rig.operate(id, Operation::Cancel);
    assert!(matches!(refused, Reply::Refused(Refusal::WrongStatus(Status::Delivered))));
    rig.results(1, vec![result(id.seq, Outcome::InDoubt)]);
    assert_eq!(rig.status(id), Status::InDoubt);
    rig.operate(id, Operation::Resend);
    assert_eq!(rig.row(id).attempt, 1, "no failure was reported");
    rig.results(1, vec![result(id.seq, Outcome::InDoubt)]);
    rig.operate(id, Operation::Cancel);
    let row = rig.row(id);
    assert_eq!(row.status, Status::Cancelled);
    for _ in 0..2 {
        rig.results(1, vec![result(id.seq, Outcome::Completed)]);
    }
    let last = rig.row(id);
    assert_eq!((last.status, last.rev, last.status_at), (Status::Cancelled, row.rev + 1, row.status_at));
    assert_eq!(last.history.last().unwrap().note, Note::LateResult);
    let unknown = rig.operate(crate::ids::CommandId { server: SERVER, seq: Seq(7) }, Operation::Cancel);
    assert!(matches!(unknown, Reply::Refused(Refusal::UnknownCommand)));
}

#[test]
fn a_bulk_resend_takes_what_has_not_changed() {
    let mut rig = Rig::with(Settings { retry_delays: vec![], ..Settings::default() });
    rig.connect(1, hello(10));
    let ids: Vec<_> = (0..4).map(|n| rig.publish_one(command(&n.to_string()))).collect();
    rig.results(1, ids.iter().map(|id| result(id.seq, Outcome::Failed)).collect());
    let filter = CollectFilter {
        store: STORE,
        server: None,
        from: UnixMs(0),
        to: UnixMs(rig.now + 1),
        statuses: vec![Status::Failed],
    };
    let Reply::Collected(found) = rig.ask(|from| Input::Collect { from, filter: filter.clone() }) else {
        panic!()
    };
    assert_eq!(found.len(), 4);
    rig.operate(ids[2], Operation::Cancel);
    let out = rig.ask(|from| Input::ResendMany { from, commands: found.clone() });
    assert!(matches!(out, Reply::Resent { commands } if commands == found));
    let statuses: Vec<Status> = ids.iter().map(|id| rig.status(*id)).collect();
    use Status::{Cancelled, Delivered};
    assert_eq!(statuses, [Delivered, Delivered, Cancelled, Delivered]);
    assert_eq!(rig.row(ids[0]).attempt, 2);
}

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

#[test]
fn a_restart_offers_again_what_was_out() {
    let mut rig = Rig::new();
    rig.connect(1, hello(1));
    let ids: Vec<_> = (0..2).map(|n| rig.publish_one(command(&n.to_string()))).collect();
    let mut shard = Shard::new(Settings::default(), crate::ids::ShardNo(0), 1, 2, UnixMs(rig.now));
    shard.restore_server(SERVER, STORE);
    for (no, changes) in &rig.journal {
        changes.iter().for_each(|change| shard.restore_change(change, true));
        shard.restore_frame_no(*no);
    }
    let mut out = Vec::new();
    shard.restore_done(UnixMs(rig.now + 5), &mut out);
    rig.shard = shard;
    rig.now += 5;
    rig.settle(&mut out);
    assert_eq!(announced(&out), [Status::Pending]);
    assert_eq!(rig.story(ids[0]).last(), Some(&(Status::Pending, Note::BrokerRestarted)));
    let out = rig.connect(2, Hello { held: vec![ids[0].seq], ..hello(5) });
    assert_eq!(delivered(&out, 2), [ids[1].seq]);
    let next = rig.publish_one(command("after"));
    assert!(next.seq > ids[1].seq);
    assert!(rig.wait(Millis::seconds(1).0).is_empty());
}
