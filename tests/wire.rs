//! The wire contract: protocol.md against the codec, golden bytes, and what must hold for any bytes.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use fluxrelay::engine;
use fluxrelay::limits::FRAME_BYTES_MAX;
use fluxrelay::protocol::{Code, Flaw, HEADER_BYTES, Outcome, Request, Response, Status};

#[path = "../fuzz/check_frame.rs"]
mod check_frame;
#[path = "../fuzz/corpus.rs"]
mod corpus;
#[path = "wire/random.rs"]
mod random;
#[path = "wire/samples.rs"]
mod samples;

use check_frame::check_frame;
use samples::Frame;

const PROTOCOL_MD: &str = include_str!("../protocol.md");
const GOLDEN: &str = include_str!("golden/frames.txt");

fn encode(frame: &Frame<'_>) -> BytesMut {
    let mut buf = BytesMut::new();
    match frame {
        Frame::Request(request) => request.encode(&mut buf).unwrap(),
        Frame::Response(response) => response.encode(&mut buf).unwrap(),
    }
    buf
}

/// Decodes one whole frame in the direction of `like`.
fn decode<'a>(bytes: &'a [u8], like: &Frame<'_>) -> Frame<'a> {
    let (frame, used) = match like {
        Frame::Request(_) => {
            let (request, used) = Request::decode(bytes, FRAME_BYTES_MAX).unwrap().unwrap();
            (Frame::Request(request), used)
        }
        Frame::Response(_) => {
            let (response, used) = Response::decode(bytes, FRAME_BYTES_MAX).unwrap().unwrap();
            (Frame::Response(response), used)
        }
    };
    assert_eq!(used, bytes.len());
    frame
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn unhex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).expect(pair)).collect()
}

/// The blocks of protocol.md that begin with "```hex NAME", without their comments.
fn examples() -> BTreeMap<&'static str, Vec<u8>> {
    let blocks = PROTOCOL_MD.split("```hex ").skip(1);
    let mut examples = BTreeMap::new();
    for block in blocks {
        let (name, rest) = block.split_once('\n').unwrap();
        let (body, _) = rest.split_once("```").unwrap();
        let bytes: Vec<&str> = body.lines().map(|line| line.split('#').next().unwrap()).collect();
        assert!(examples.insert(name.trim(), unhex(&bytes.join(" "))).is_none(), "{name} is there twice");
    }
    examples
}

#[test]
fn examples_of_the_document_hold_both_ways() {
    let mut examples = examples();
    for (name, frame) in samples::documented() {
        let bytes = examples.remove(name).unwrap_or_else(|| panic!("protocol.md has no example {name}"));
        assert_eq!(decode(&bytes, &frame), frame, "{name}");
        if name != "skipped" {
            assert_eq!(hex(&encode(&frame)), hex(&bytes), "{name}");
        }
    }
    assert!(examples.is_empty(), "examples of protocol.md without a sample: {:?}", examples.keys());
}

#[test]
fn golden_bytes_hold_both_ways() {
    let mut golden: BTreeMap<&str, Vec<u8>> = GOLDEN
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(": "))
        .map(|(name, bytes)| (name, unhex(bytes)))
        .collect();
    for (name, frame) in samples::variants() {
        let encoded = encode(&frame);
        let bytes =
            golden.remove(name).unwrap_or_else(|| panic!("not in frames.txt: {name}: {}", hex(&encoded)));
        assert_eq!(hex(&encoded), hex(&bytes), "{name}");
        assert_eq!(decode(&bytes, &frame), frame, "{name}");
    }
    assert!(golden.is_empty(), "golden bytes without a sample: {:?}", golden.keys());
}

/// The cells of the rows of protocol.md's tables.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    PROTOCOL_MD
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'))
        .map(|row| row.split('|').map(str::trim).collect())
}

#[test]
fn the_table_of_codes_is_the_one_of_the_code() {
    let documented: Vec<String> = rows()
        .filter(|cells| cells.len() == 5 && cells[0].parse::<u16>().is_ok() && cells[1].starts_with('`'))
        .map(|cells| cells.join(" | "))
        .collect();
    let expected: Vec<String> = Code::ALL
        .iter()
        .map(|code| {
            let closes = if code.closes() { "yes" } else { "no" };
            let (number, name, retry) = (code.number(), code.name(), code.retry().name());
            format!("{number} | `{name}` | {closes} | {retry} | {}", code.sentence())
        })
        .collect();
    assert_eq!(documented, expected);
}

#[test]
fn every_frame_type_has_its_row_section_and_example() {
    let in_table: BTreeSet<u8> =
        rows().filter_map(|cells| u8::from_str_radix(cells[0].strip_prefix("0x")?, 16).ok()).collect();
    let in_examples: BTreeSet<u8> =
        examples().iter().filter(|(name, _)| **name != "skipped").map(|(_, bytes)| bytes[0]).collect();
    assert_eq!(in_table, in_examples);
    for kind in in_table {
        let section = PROTOCOL_MD
            .lines()
            .any(|line| line.starts_with("###") && line.contains(&format!("0x{kind:02x}")));
        assert!(section, "0x{kind:02x} has no section");
        let empty = [kind, 0, 0, 0];
        let known = |flaw| flaw != Flaw::UnknownType;
        let request = Request::decode(&empty, 100).map_or_else(|error| known(error.flaw), |_| true);
        let response = Response::decode(&empty, 100).map_or_else(|error| known(error.flaw), |_| true);
        assert!(request || response, "0x{kind:02x} is not in the codec");
    }
}

#[test]
fn every_other_type_is_unknown_or_skipped() {
    let known: BTreeSet<u8> = examples().values().map(|bytes| bytes[0]).collect();
    for kind in (0..=255).filter(|kind| !known.contains(kind)) {
        let frame = [kind, 1, 0, 0, 0];
        if kind < 0x80 {
            assert_eq!(Request::decode(&frame, 100).unwrap_err().flaw, Flaw::UnknownType);
            assert_eq!(Response::decode(&frame, 100).unwrap_err().flaw, Flaw::UnknownType);
        } else {
            assert_eq!(Request::decode(&frame, 100), Ok(Some((Request::Skipped { kind }, 5))));
            assert_eq!(Response::decode(&frame, 100), Ok(Some((Response::Skipped { kind }, 5))));
        }
    }
}

/// The engine counts statuses, notes and outcomes for the disk; the wire's numbers are the same ones.
#[test]
fn statuses_notes_and_outcomes_have_the_engine_s_numbers() {
    use engine::{Note, Outcome as EngineOutcome, Status as EngineStatus};
    let statuses = [
        EngineStatus::Pending,
        EngineStatus::Delivered,
        EngineStatus::AwaitingPlayer,
        EngineStatus::Completed,
        EngineStatus::Failed,
        EngineStatus::InDoubt,
        EngineStatus::Cancelled,
        EngineStatus::Expired,
    ];
    let outcomes = [
        EngineOutcome::Completed,
        EngineOutcome::Failed,
        EngineOutcome::AwaitingPlayer,
        EngineOutcome::InDoubt,
    ];
    let notes = [
        Note::None,
        Note::RetryScheduled,
        Note::RetriesExhausted,
        Note::Unanswered,
        Note::ConnectionLost,
        Note::AckDeadline,
        Note::PlayerAbsent,
        Note::PlayerJoined,
        Note::Operator,
        Note::ServerRemoved,
        Note::Rerun,
        Note::StillHeld,
        Note::LateResult,
        Note::BrokerRestarted,
        Note::PluginInDoubt,
    ];
    let snake = |text: String| {
        let words = text
            .char_indices()
            .map(|(at, c)| if at > 0 && c.is_uppercase() { format!("_{c}") } else { c.into() });
        words.collect::<String>().to_lowercase()
    };
    assert_eq!(statuses.len(), Status::ALL.len());
    for (engine, wire) in statuses.iter().zip(Status::ALL) {
        assert_eq!((*engine as u8, snake(format!("{engine:?}"))), (wire.number(), wire.name().to_owned()));
        assert!(PROTOCOL_MD.contains(&format!("| {} | `{}` |", wire.number(), wire.name())), "{wire:?}");
    }
    assert_eq!(outcomes.len(), Outcome::ALL.len());
    for (engine, wire) in outcomes.iter().zip(Outcome::ALL) {
        assert_eq!((*engine as u8, snake(format!("{engine:?}"))), (wire.number(), wire.name().to_owned()));
        assert!(PROTOCOL_MD.contains(&format!("| {} {} |", wire.number(), wire.name())), "{wire:?}");
    }
    for note in notes {
        let row = format!("| {} | `{}` |", note as u8, snake(format!("{note:?}")));
        assert!(PROTOCOL_MD.contains(&row), "protocol.md lacks {row}");
    }
}

#[test]
fn documented_limits_are_the_ones_of_the_code() {
    use fluxrelay::limits::*;
    let with_commas = |number: u64| {
        let digits = number.to_string();
        let groups: Vec<&str> =
            digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap()).collect();
        groups.join(",")
    };
    let expected = [
        ("before login is complete", FRAME_BYTES_MAX_BEFORE_LOGIN as u64),
        ("WebSocket message, otherwise", FRAME_BYTES_MAX as u64),
        ("window", u64::from(WINDOW_MAX)),
        ("commands in one `Deliver`", DELIVER_COMMANDS_MAX as u64),
        ("commands in one `Deliver`", DELIVER_BYTES_MAX as u64 / 1024),
        ("results in one `Results`", RESULTS_MAX as u64),
        ("ids in one list", HELLO_IDS_MAX as u64),
        ("players in one list", PLAYERS_MAX as u64),
        ("player's name", PLAYER_NAME_BYTES_MAX as u64),
        ("command's text", COMMAND_BYTES_MAX as u64),
        ("commands in one order", ORDER_COMMANDS_MAX as u64),
        ("idempotency key, reference", IDEMPOTENCY_KEY_BYTES_MAX as u64),
        ("idempotency key, reference", REFERENCE_BYTES_MAX as u64),
        ("stage", STAGE_BYTES_MAX as u64),
        ("metadata", METADATA_BYTES_MAX as u64),
        ("`expires_at`", AHEAD_MS_MAX / 86_400_000),
        ("error text", ERROR_BYTES_MAX as u64),
        ("output of", OUTPUT_BYTES_MAX as u64),
    ];
    let (_, limits) = PROTOCOL_MD.split_once("## 12. Limits").unwrap();
    for (what, number) in expected {
        let row = limits.lines().find(|line| line.starts_with("| ") && line.contains(what)).expect(what);
        assert!(row.contains(&with_commas(number)), "{what}: {row}");
    }
}

fn all_samples() -> impl Iterator<Item = (&'static str, Frame<'static>, Vec<u8>)> {
    let skipped = |name: &str| name == "skipped";
    let all =
        samples::documented().into_iter().chain(samples::variants()).filter(move |(name, _)| !skipped(name));
    all.map(|(name, frame)| (name, frame, encode(&frame).to_vec()))
}

#[test]
fn every_truncation_is_incomplete_or_an_error() {
    for (name, frame, bytes) in all_samples() {
        for len in 0..bytes.len() {
            let cut = &bytes[..len];
            let none = match frame {
                Frame::Request(_) => Request::decode(cut, FRAME_BYTES_MAX).unwrap().is_none(),
                Frame::Response(_) => Response::decode(cut, FRAME_BYTES_MAX).unwrap().is_none(),
            };
            assert!(none, "{name} cut to {len} bytes of the message");
            if let Some(payload) = len.checked_sub(HEADER_BYTES) {
                let mut shorter = cut.to_vec();
                shorter[1..4].copy_from_slice(&(payload as u32).to_le_bytes()[..3]);
                let error = match frame {
                    Frame::Request(_) => Request::decode(&shorter, FRAME_BYTES_MAX).unwrap_err(),
                    Frame::Response(_) => Response::decode(&shorter, FRAME_BYTES_MAX).unwrap_err(),
                };
                assert_eq!(error.flaw, Flaw::CutShort, "{name} with a payload of {payload} bytes: {error}");
            }
        }
    }
}

#[test]
fn bytes_after_the_last_field_are_an_error_except_in_hellos() {
    for (name, frame, mut bytes) in all_samples() {
        bytes.push(0);
        let len = (bytes.len() - HEADER_BYTES) as u32;
        bytes[1..4].copy_from_slice(&len.to_le_bytes()[..3]);
        let flaw = match frame {
            Frame::Request(_) => Request::decode(&bytes, FRAME_BYTES_MAX).err().map(|error| error.flaw),
            Frame::Response(_) => Response::decode(&bytes, FRAME_BYTES_MAX).err().map(|error| error.flaw),
        };
        let hello = matches!(frame, Frame::Request(Request::PluginHello(_) | Request::PublisherHello(_)));
        assert_eq!(flaw, if hello { None } else { Some(Flaw::TrailingBytes) }, "{name}");
    }
}

#[test]
fn every_changed_byte_keeps_the_promises_of_the_codec() {
    for (_, _, bytes) in all_samples() {
        check_frame(&bytes);
        for at in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                check_frame(&changed);
            }
        }
    }
}

#[test]
fn the_fuzzer_s_corpus_keeps_the_promises_of_the_codec() {
    corpus::replay("frame", check_frame);
}
