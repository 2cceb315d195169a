//! Texts that leave memory, and come back.

use super::super::harness::*;
use super::super::*;
use super::REST_SLICE;
use crate::ids::{CommandId, ConnId, ServerId};

fn none_kept() -> Settings {
    Settings { texts_kept: 0, ..Settings::default() }
}

/// A whole checkpoint; the rows that it copied.
fn checkpoint(rig: &mut Rig) -> Vec<CommandRow> {
    rig.step(Input::CheckpointBegin);
    let rows = export(rig);
    rig.step(Input::CheckpointDone);
    rows
}

fn export(rig: &mut Rig) -> Vec<CommandRow> {
    let mut rows = Vec::new();
    while let Some(part) = rig.shard.export(100) {
        rows.extend(part.live);
        rows.extend(part.ended);
        if part.last {
            break;
        }
    }
    rows
}

/// The texts that were asked for.
fn wanted(out: &[Output]) -> Vec<Seq> {
    let asked = out.iter().filter_map(|output| match output {
        Output::ReadTexts { server: SERVER, seqs } => Some(seqs.clone()),
        _ => None,
    });
    asked.flatten().collect()
}

fn texts(of: &[(CommandId, &str)]) -> Input {
    Input::Texts { server: SERVER, texts: of.iter().map(|(id, text)| (id.seq, (*text).into())).collect() }
}

#[test]
fn what_waits_leaves_its_text_at_rest_and_goes_out_with_it() {
    let mut rig = Rig::with(none_kept());
    let ids: Vec<_> = ["a", "b", "c"].iter().map(|text| rig.publish_one(command(text))).collect();
    assert_eq!(rig.row(ids[0]).text.as_deref(), Some("a"));
    checkpoint(&mut rig);
    assert_eq!(rig.row(ids[0]).text, None);
    let out = rig.connect(1, hello(10));
    assert_eq!(wanted(&out), ids.iter().map(|id| id.seq).collect::<Vec<_>>());
    assert!(delivered(&out, 1).is_empty());
    // What comes meanwhile has its text, and waits for its turn.
    let late = rig.publish_one(command("late"));
    assert_eq!(rig.status(late), Status::Pending);
    // Two fit into the first answer.
    let out = rig.step(texts(&[(ids[0], "a"), (ids[1], "b")]));
    assert_eq!(delivered(&out, 1), [ids[0].seq, ids[1].seq]);
    assert_eq!(wanted(&out), [ids[2].seq]);
    let out = rig.step(texts(&[(ids[2], "c")]));
    let out = deliveries(&out, 1);
    assert_eq!(out.iter().map(|delivery| &*delivery.text).collect::<Vec<_>>(), ["c", "late"]);
}

#[test]
fn a_text_that_has_changed_since_it_was_copied_stays() {
    let mut rig = Rig::with(none_kept());
    let id = rig.publish_one(command("old"));
    rig.step(Input::CheckpointBegin);
    export(&mut rig);
    rig.operate(id, Operation::Edit { text: "new".into() });
    rig.step(Input::CheckpointDone);
    assert_eq!(rig.row(id).text.as_deref(), Some("new"));
    assert_eq!(checkpoint(&mut rig)[0].text.as_deref(), Some("new"));
    assert_eq!(rig.row(id).text, None);
}

#[test]
fn a_text_that_a_later_checkpoint_copies_anew_stays_until_that_is_durable() {
    let mut rig = Rig::with(none_kept());
    // More than the steps between the two checkpoints let go.
    let ids: Vec<_> = (0..4 * REST_SLICE).map(|_| rig.publish_one(command("old"))).collect();
    rig.step(Input::CheckpointBegin);
    export(&mut rig);
    let from = rig.reply_to();
    let edit = Operation::Edit { text: "edited".into() };
    let mut step = |input| rig.shard.handle(crate::time::UnixMs(rig.now), input, &mut Vec::new());
    step(Input::CheckpointDone);
    step(Input::Operate { from, id: ids[0], operation: edit });
    step(Input::CheckpointBegin);
    export(&mut rig);
    rig.step(Input::Tick);
    assert_eq!(rig.row(ids[0]).text.as_deref(), Some("edited"), "the store at rest has the old one");
    assert_eq!(rig.row(ids[1]).text, None);
}

#[test]
fn a_text_that_is_read_while_it_changes_is_the_old_one() {
    let mut rig = Rig::with(none_kept());
    let id = rig.publish_one(command("old"));
    checkpoint(&mut rig);
    let out = rig.connect(1, hello(10));
    assert_eq!(wanted(&out), [id.seq]);
    rig.operate(id, Operation::Edit { text: "new".into() });
    // A checkpoint overtakes the reading: the text must not leave for the old one to come.
    checkpoint(&mut rig);
    let out = rig.step(texts(&[(id, "old")]));
    assert_eq!(deliveries(&out, 1).first().map(|delivery| &*delivery.text), Some("new"));
}

#[test]
fn what_ends_without_its_text_is_copied_without_it() {
    let mut rig = Rig::with(none_kept());
    let id = rig.publish_one(command("a"));
    checkpoint(&mut rig);
    rig.operate(id, Operation::Cancel);
    let rows = checkpoint(&mut rig);
    assert_eq!((rows[0].status, &rows[0].text), (Status::Cancelled, &None));
}

#[test]
fn a_poll_waits_for_texts() {
    let mut rig = Rig::with(none_kept());
    let id = rig.publish_one(command("a"));
    checkpoint(&mut rig);
    let from = rig.reply_to();
    let out = rig.step(Input::Poll { from, server: SERVER });
    assert_eq!(wanted(&out), [id.seq]);
    assert!(replies(&out, from).is_empty());
    let out = rig.step(texts(&[(id, "a")]));
    match &replies(&out, from)[..] {
        [Reply::Polled { commands, .. }] => assert_eq!(&*commands[0].text, "a"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn polls_that_wait_are_refused_when_their_server_is_removed() {
    let mut rig = Rig::with(none_kept());
    rig.publish_one(command("a"));
    checkpoint(&mut rig);
    let from = rig.reply_to();
    rig.step(Input::Poll { from, server: SERVER });
    let out = rig.step(Input::ServerRemoved { server: SERVER });
    let refused = replies(&out, from);
    assert!(matches!(refused[..], [Reply::Refused(Refusal::UnknownServer(SERVER))]), "{refused:?}");
    // The texts come for nobody.
    rig.step(Input::Texts { server: SERVER, texts: Vec::new() });
    rig.step(Input::Texts { server: ServerId(9), texts: Vec::new() });
}

#[test]
fn a_poll_that_waits_is_answered_when_its_server_connects_or_polls_again() {
    let mut rig = Rig::with(none_kept());
    let id = rig.publish_one(command("a"));
    checkpoint(&mut rig);
    let (first, second) = (rig.reply_to(), rig.reply_to());
    rig.step(Input::Poll { from: first, server: SERVER });
    let out = rig.step(Input::Poll { from: second, server: SERVER });
    assert!(matches!(&replies(&out, first)[..], [Reply::Polled { commands, .. }] if commands.is_empty()));
    let out = rig.connect(1, hello(10));
    assert!(matches!(&replies(&out, second)[..], [Reply::Polled { commands, .. }] if commands.is_empty()));
    let out = rig.step(texts(&[(id, "a")]));
    assert_eq!(delivered(&out, 1), [id.seq]);
}

#[test]
fn what_was_read_and_has_not_gone_out_leaves_again() {
    let mut rig = Rig::with(none_kept());
    let ids: Vec<_> = (0..3).map(|_| rig.publish_one(command("a"))).collect();
    checkpoint(&mut rig);
    rig.connect(1, hello(1));
    let out = rig.step(texts(&[(ids[0], "a"), (ids[1], "a"), (ids[2], "a")]));
    assert_eq!(delivered(&out, 1), [ids[0].seq]);
    assert!(rig.row(ids[1]).text.is_some());
    rig.step(Input::Disconnect { conn: ConnId(1) });
    assert_eq!(rig.row(ids[1]).text, None);
    assert!(rig.row(ids[0]).text.is_some(), "it has changed since, and the next checkpoint takes it");
}

#[test]
fn what_is_out_keeps_its_text() {
    let mut rig = Rig::with(none_kept());
    rig.connect(1, hello(10));
    let id = rig.publish_one(command("a"));
    checkpoint(&mut rig);
    let out = rig.step(Input::Disconnect { conn: ConnId(1) });
    assert!(wanted(&out).is_empty());
    let out = rig.connect(2, hello(10));
    assert_eq!(delivered(&out, 2), [id.seq]);
}

#[test]
fn a_few_texts_stay_in_memory_and_of_more_none() {
    for (kept, stay) in [(12, true), (11, false)] {
        let mut rig = Rig::with(Settings { texts_kept: kept, ..Settings::default() });
        let ids: Vec<_> = (0..3).map(|_| rig.publish_one(command("four"))).collect();
        checkpoint(&mut rig);
        assert!(ids.iter().all(|id| rig.row(*id).text.is_some() == stay), "{kept}");
    }
}
