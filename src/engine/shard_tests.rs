//! The rules of a shard, one test each.

use super::harness::*;
use super::*;
use crate::ids::{CommandId, ConnId, FrameNo};
use crate::time::UnixMs;

#[test]
fn a_command_is_published_delivered_and_completed() {
    let mut rig = Rig::new();
    rig.connect(1, hello(10));
    let from = rig.reply_to();
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
fn while_nobody_follows_events_none_are_made() {
    let mut rig = Rig::new();
    rig.shard.set_followed(false);
    let mut out = rig.connect(1, hello(10));
    let from = rig.reply_to();
    out.extend(rig.step(Input::Publish { from, order: Box::new(order(vec![command("a")])) }));
    assert_eq!(delivered(&out, 1).len(), 1);
    assert!(!out.iter().any(|output| matches!(output, Output::Event(_))), "{out:?}");
    rig.shard.set_followed(true);
    let out = rig.step(Input::Publish { from, order: Box::new(order(vec![command("b")])) });
    assert_eq!(announced(&out), [Status::Pending, Status::Delivered]);
}

#[test]
fn nothing_is_answered_before_it_is_durable() {
    let mut rig = Rig::new();
    rig.auto = false;
    rig.connect(1, hello(10));
    let from = rig.reply_to();
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

#[test]
fn a_key_gives_the_same_order_again() {
    let mut rig = Rig::new();
    rig.auto = false;
    let (first, second, third) = (rig.reply_to(), rig.reply_to(), rig.reply_to());
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

/// A command that awaits its player because one delivery was answered so, while another one of the same attempt is out.
fn awaited(rig: &mut Rig) -> CommandId {
    rig.connect(1, Hello { players: Some(vec![player("Alex")]), ..hello(10) });
    let id = rig.publish_one(NewCommand { require_online: false, ..for_player("a", "Steve") });
    rig.results(1, vec![result(id.seq, Outcome::AwaitingPlayer)]);
    assert_eq!(rig.status(id), Status::AwaitingPlayer);
    id
}

fn named(seq: Seq, outcome: Outcome) -> CommandResult {
    CommandResult { attempt: Some(1), ..result(seq, outcome) }
}

#[test]
fn what_a_second_delivery_came_to_counts_although_the_first_found_the_player_absent() {
    let mut rig = Rig::new();
    let id = awaited(&mut rig);
    rig.results(1, vec![named(id.seq, Outcome::Failed)]);
    let row = rig.row(id);
    assert_eq!((row.status, row.attempt), (Status::Pending, 2), "confirmed, so the plugin forgets attempt 1");
    let mut rig = Rig::new();
    let id = awaited(&mut rig);
    rig.results(1, vec![named(id.seq, Outcome::InDoubt)]);
    assert_eq!(rig.status(id), Status::InDoubt);
    let mut rig = Rig::new();
    let id = awaited(&mut rig);
    rig.connect(2, Hello { in_doubt: vec![id.seq], ..hello(10) });
    assert_eq!(
        rig.status(id),
        Status::InDoubt,
        "after the welcome the plugin's ledger has no entry any more"
    );
}

#[test]
fn an_attempt_that_the_broker_has_forgotten_in_a_crash_still_counts() {
    let mut rig = Rig::new();
    rig.connect(1, hello(10));
    let id = rig.publish_one(command("a"));
    let second = CommandResult { attempt: Some(2), ..result(id.seq, Outcome::Failed) };
    rig.results(1, vec![second]);
    let row = rig.row(id);
    assert_eq!((row.status, row.attempt, row.retries), (Status::Pending, 3, 2), "neither 1 nor 2 runs again");
}

#[test]
fn a_late_failure_of_an_unanswered_command_is_an_answer() {
    let mut rig = Rig::with(Settings { unanswered_max: 0, ..Settings::default() });
    rig.connect(1, hello(10));
    let id = rig.publish_one(command("a"));
    rig.wait(60_000);
    assert_eq!(rig.story(id).last(), Some(&(Status::Failed, Note::Unanswered)));
    rig.results(1, vec![named(id.seq, Outcome::Failed)]);
    assert_eq!(rig.row(id).attempt, 2);
    assert_eq!(rig.story(id).last(), Some(&(Status::Pending, Note::RetryScheduled)));
}

#[test]
fn the_next_of_an_ordered_order_goes_once_the_end_before_it_is_durable() {
    let mut rig = Rig::new();
    rig.connect(1, hello(10));
    let ordered = NewOrder { ordered: true, ..order(vec![command("a"), command("b"), command("c")]) };
    let (_, ids) = rig.publish(ordered);
    rig.auto = false;
    let from = rig.reply_to();
    let out = rig.results(1, vec![result(ids[0].seq, Outcome::Completed)]);
    let cancel = Input::Operate { from, id: ids[1], operation: Operation::Cancel };
    let cancelled = rig.step(cancel);
    let waited = rig.wait(40_000);
    for out in [&out, &cancelled, &waited] {
        assert!(delivered(out, 1).is_empty(), "a crash would undo what is not durable");
    }
    rig.auto = true;
    assert_eq!(delivered(&rig.step(Input::Tick), 1), [ids[2].seq]);
}

#[test]
fn that_its_player_was_absent_is_no_news_of_a_command_in_doubt() {
    let mut rig = Rig::new();
    let id = rig.publish_one(for_player("a", "Steve"));
    rig.connect(1, hello(10));
    rig.connect(2, Hello { in_doubt: vec![id.seq], ..hello(10) });
    assert_eq!(rig.status(id), Status::InDoubt);
    let absent = CommandResult { attempt: Some(1), ..result(id.seq, Outcome::AwaitingPlayer) };
    rig.results(2, vec![absent]);
    assert_eq!(rig.status(id), Status::InDoubt, "told late, of a delivery before");
    rig.results(2, vec![CommandResult { attempt: Some(1), ..result(id.seq, Outcome::Completed) }]);
    assert_eq!(rig.status(id), Status::Completed);
}

#[test]
fn news_over_rest_do_not_outlive_a_connection_that_tells_who_is_online() {
    let mut rig = Rig::new();
    let left = |rig: &mut Rig| {
        let news = vec![PlayerNews::Left(vec![player("Steve")])];
        rig.ask(|from| Input::PollPlayers { from, server: SERVER, news })
    };
    rig.connect(1, Hello { players: Some(vec![player("Steve")]), ..hello(10) });
    assert!(matches!(left(&mut rig), Reply::Released { released: 0 }));
    let id = rig.publish_one(for_player("a", "Steve"));
    assert_eq!(rig.status(id), Status::Delivered, "asked before the hello, answered after it");
    // One that does not tell leaves it to REST.
    rig.connect(2, hello(10));
    left(&mut rig);
    let id = rig.publish_one(for_player("b", "Steve"));
    assert_eq!(rig.status(id), Status::AwaitingPlayer);
    rig.step(Input::Players { conn: ConnId(2), news: PlayerNews::Joined(vec![player("Steve")]) });
    left(&mut rig);
    let id = rig.publish_one(for_player("c", "Steve"));
    assert_eq!(rig.status(id), Status::Delivered);
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
    assert_eq!((row.text.as_deref(), row.rev, row.status), (Some("new"), 2, Status::Pending));
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
