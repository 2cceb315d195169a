//! The bytes of the log: golden, and every changed one is noticed.

use super::*;
use crate::storage::record::assert_golden;

const FILE: FileHead = FileHead { segment_bytes: 1024 * 1024, salt: 0x1122_3344_5566_7788 };

fn segment() -> SegmentHead {
    SegmentHead { no: 2 << 20, slot: 3, boot: 5, previous: 1 << 20, after: 9, parts: 0 }
}

/// The record of commit 10 at the first place of the segment.
fn record(body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; RECORD_HEAD];
    bytes.extend_from_slice(body);
    let length = body.len() as u32;
    let head = RecordHead { kind: RecordKind::Commit, last: true, part: 0, commit: 10, length };
    head.finish(&mut bytes, 0, &FILE, segment().no, SECTOR);
    bytes
}

#[test]
fn heads_and_the_mark_read_back_and_their_bytes_are_golden() {
    let sector = FILE.encode();
    assert_eq!(FileHead::decode(&sector), Ok(FILE));
    assert_golden("log_head", &sector[..32]);
    let mark = Mark { slots: 4, commit: 10, segment: segment().no, end: 1024 };
    assert_eq!(Mark::decode(&mark.encode(&FILE), &FILE), Ok(mark));
    assert_golden("log_mark", &mark.encode(&FILE)[..36]);
    assert_eq!(SegmentHead::decode(&segment().encode(&FILE), 3, &FILE), Some(segment()));
    assert_golden("log_segment", &segment().encode(&FILE)[..44]);
    let bytes = [vec![0; SECTOR], record(b"frames")].concat();
    let Found::Whole(head, body) = record_at(&bytes, SECTOR, segment().no, &FILE) else {
        panic!("no record")
    };
    assert_eq!((head.commit, head.part, head.last, body), (10, 0, true, &b"frames"[..]));
    assert_golden("log_record", &bytes[SECTOR..SECTOR + RECORD_HEAD + 6]);
}

#[test]
fn every_changed_byte_of_a_sector_is_noticed() {
    let mark = Mark { slots: 4, commit: 10, segment: 7, end: 1024 };
    for at in 0..SECTOR {
        let changed = |mut sector: Sector| {
            sector[at] ^= 0x10;
            sector
        };
        assert!(FileHead::decode(&changed(FILE.encode())).is_err(), "byte {at}");
        assert!(Mark::decode(&changed(mark.encode(&FILE)), &FILE).is_err(), "byte {at}");
        assert_eq!(SegmentHead::decode(&changed(segment().encode(&FILE)), 3, &FILE), None, "byte {at}");
    }
}

#[test]
fn every_changed_byte_of_a_record_is_noticed_and_a_copy_elsewhere_is_none() {
    let sound = [vec![0; SECTOR], record(b"frames"), vec![0; 2 * SECTOR]].concat();
    for at in SECTOR..SECTOR + RECORD_HEAD + 6 {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        let found = record_at(&bytes, SECTOR, segment().no, &FILE);
        let torn = matches!(found, Found::Torn(_));
        assert!(found == Found::Nothing || torn && at >= SECTOR + RECORD_HEAD, "byte {at}: {found:?}");
    }
    let mut copied = sound.clone();
    copied.copy_within(SECTOR..2 * SECTOR, 2 * SECTOR);
    assert_eq!(record_at(&copied, 2 * SECTOR, segment().no, &FILE), Found::Nothing, "another place");
    assert_eq!(record_at(&sound, SECTOR, segment().no + 1, &FILE), Found::Nothing, "another segment");
    let other = FileHead { salt: 1, ..FILE };
    assert_eq!(record_at(&sound, SECTOR, segment().no, &other), Found::Nothing, "another file");
    assert_eq!(SegmentHead::decode(&segment().encode(&FILE), 2, &FILE), None, "another slot");
    for cut in 0..SECTOR + RECORD_HEAD + 6 {
        assert!(!matches!(record_at(&sound[..cut], SECTOR, segment().no, &FILE), Found::Whole(..)), "{cut}");
    }
}

#[test]
fn a_newer_version_is_named_and_one_that_is_no_version_is_not() {
    for (version, expected) in [(7, Some(7)), (1, None)] {
        let mut sector = FILE.encode();
        put(&mut sector, 16, &u32::to_le_bytes(version));
        finish(&mut sector, 0);
        let found = FileHead::decode(&sector).unwrap_err();
        assert_eq!(if let NoHead::TooNew(found) = found { Some(found) } else { None }, expected);
    }
}
