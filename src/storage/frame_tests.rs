//! Frames: what is encoded reads back, anything else is a flaw, chains have no gap.

use super::*;
use crate::engine::EditedChange;
use crate::ids::{CommandId, Seq, ServerId};
use crate::storage::record::assert_golden;
use crate::time::UnixMs;

fn change(rev: u32) -> Change {
    let id = CommandId { server: ServerId(3), seq: Seq(64) };
    Change::Edited(Box::new(EditedChange { id, rev, at: UnixMs(7), text: "say hi".into() }))
}

fn encoder(epoch: u32, last: Option<&FrameView<'_>>) -> FrameEncoder {
    let (no, hash) = last.map_or((FrameNo(0), FrameHash::default()), |last| (last.no, last.hash));
    FrameEncoder::new(ShardNo(2), epoch, no, hash)
}

fn view(frame: &EncodedFrame) -> FrameView<'_> {
    let (view, rest) = FrameView::split(&frame.bytes).unwrap();
    assert!(rest.is_empty());
    view
}

#[test]
fn frames_read_back_one_after_the_other() {
    let mut encoder = encoder(1, None);
    let first = encoder.encode(FrameNo(1), &[change(1), change(2)]);
    let second = encoder.encode(FrameNo(2), &[]);
    let bytes = [first.bytes.clone(), second.bytes.clone()].concat();
    let (a, rest) = FrameView::split(&bytes).unwrap();
    let (b, rest) = FrameView::split(rest).unwrap();
    assert!(rest.is_empty());
    assert_eq!(a.changes(), Ok(vec![change(1), change(2)]));
    assert_eq!(b.changes(), Ok(vec![]));
    assert_eq!((a.shard, a.no, a.epoch), (ShardNo(2), FrameNo(1), 1));
    assert_eq!(a.follows(None), Ok(()));
    assert_eq!(b.follows(Some(&a.base())), Ok(()));
}

#[test]
fn bytes_are_golden() {
    let mut encoder = FrameEncoder::new(ShardNo(2), 5, FrameNo(8), FrameHash([9; 16]));
    assert_golden("frame", &encoder.encode(FrameNo(9), &[change(1)]).bytes);
}

#[test]
fn every_changed_byte_and_every_cut_is_noticed() {
    let frame = encoder(1, None).encode(FrameNo(1), &[change(1)]);
    for at in 0..frame.bytes.len() {
        let mut damaged = frame.bytes.clone();
        damaged[at] ^= 4;
        let read = FrameView::split(&damaged).and_then(|(view, _)| view.changes());
        assert!(read.is_err(), "byte {at}");
    }
    for length in 0..frame.bytes.len() {
        assert!(FrameView::split(&frame.bytes[..length]).is_err(), "cut to {length}");
    }
}

#[test]
fn gaps_repeats_other_pasts_and_older_owners_are_flaws() {
    let mut encoder = encoder(2, None);
    let frames: Vec<EncodedFrame> = (1..=3).map(|no| encoder.encode(FrameNo(no), &[change(1)])).collect();
    let [a, b, c] = [view(&frames[0]), view(&frames[1]), view(&frames[2])];
    assert!(c.follows(Some(&a.base())).is_err(), "a gap");
    assert!(b.follows(Some(&b.base())).is_err(), "a repeat");
    assert!(b.follows(None).is_err(), "nothing before it");
    assert!(a.follows(Some(&b.base())).is_err(), "back to the start");

    let mut other = FrameEncoder::new(ShardNo(2), 2, FrameNo(1), FrameHash([1; 16]));
    let fork = other.encode(FrameNo(2), &[change(1)]);
    assert!(view(&fork).follows(Some(&a.base())).is_err(), "another past");

    let mut older = FrameEncoder::new(ShardNo(2), 1, a.no, a.hash);
    let stale = older.encode(FrameNo(2), &[change(1)]);
    assert!(view(&stale).follows(Some(&a.base())).is_err(), "an older owner");
}

#[test]
fn a_chain_starts_anew_only_in_a_later_run_and_only_forward() {
    let mut encoder = encoder(2, None);
    let frames: Vec<EncodedFrame> = (1..=5).map(|no| encoder.encode(FrameNo(no), &[])).collect();
    let last = view(&frames[4]).base();
    let anew = |epoch, after| {
        let mut encoder = FrameEncoder::new(ShardNo(2), epoch, FrameNo(after), FrameHash::default());
        let frame = encoder.encode(FrameNo(after + 1), &[]);
        view(&frame).follows(Some(&last))
    };
    assert_eq!(anew(3, 100), Ok(()));
    assert!(anew(2, 100).is_err(), "the same run");
    assert!(anew(3, 2).is_err(), "back");
}

#[test]
#[should_panic(expected = "no gap")]
fn an_encoder_refuses_a_gap() {
    encoder(1, None).encode(FrameNo(2), &[]);
}
