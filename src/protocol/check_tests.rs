//! Tests of `check`: every edge of every range.

use super::*;

const NOW: UnixMs = UnixMs(1_800_000_000_000);

fn said<T: fmt::Debug>(result: Result<T, Invalid>) -> String {
    let invalid = result.unwrap_err();
    format!("{}: {invalid}", invalid.code)
}

#[test]
fn command_texts() {
    assert_eq!(command_text("say hello"), Ok(()));
    assert_eq!(command_text(&"x".repeat(4096)), Ok(()));
    assert_eq!(said(command_text("")), "invalid_command: command: has 0 bytes, must have 1 to 4096");
    assert_eq!(
        said(command_text(&"x".repeat(4097))),
        "invalid_command: command: has 4097 bytes, must have 1 to 4096"
    );
    for (text, name) in [("a\rb", "CR"), ("a\nb", "LF"), ("a\0b", "NUL")] {
        let expected = format!("invalid_command: command: holds {name} at byte 1, which is not allowed");
        assert_eq!(said(command_text(text)), expected);
    }
    assert_eq!(said(command_text("  ")), "invalid_command: command: is blank");
}

#[test]
fn labels() {
    assert_eq!(idempotency_key(&"k".repeat(255)), Ok(()));
    assert!(idempotency_key(&"k".repeat(256)).is_err());
    assert!(reference("").is_err());
    assert!(player_name(&"p".repeat(65)).is_err());
    assert_eq!(
        said(stage("a\tb")),
        "invalid_field: stage: holds a control character at byte 1, which is not allowed"
    );
    for character in (0..0x180).filter_map(char::from_u32) {
        let text = format!("a\u{e9}{character}");
        assert_eq!(stage(&text).is_err(), character.is_control(), "{character:?}");
    }
    assert_eq!(metadata("{\"payment\":9}"), Ok(()));
    assert!(metadata(&format!("{{\"m\":\"{}\"}}", "m".repeat(2041))).is_err());
    assert_eq!(
        said(metadata("[1]")),
        "invalid_field: metadata: is not a JSON object of at most 32 levels that any parser reads"
    );
}

#[test]
fn spans_and_instants() {
    let later = |ms| Some(UnixMs(NOW.0 + ms));
    let check = |delay, not_before, expires_at| times(NOW, delay, not_before, expires_at);
    assert_eq!(check(None, None, None), Ok(()));
    assert_eq!(check(Some(AHEAD_MS_MAX), later(AHEAD_MS_MAX - 1), later(AHEAD_MS_MAX)), Ok(()));
    assert_eq!(
        check(Some(10), Some(UnixMs(0)), Some(UnixMs(5))),
        Ok(()),
        "a repeat comes when all has passed"
    );
    assert!(said(check(Some(u64::MAX), None, None)).starts_with("invalid_field: delay: is more than"));
    assert!(
        said(check(None, Some(UnixMs(u64::MAX)), None)).starts_with("invalid_field: not_before: is more")
    );
    assert!(
        said(check(None, None, later(AHEAD_MS_MAX + 1))).starts_with("invalid_field: expires_at: is more")
    );
    assert_eq!(said(check(None, later(10), later(10))), "invalid_field: expires_at: is not after not_before");
}

#[test]
fn whole_publishes() {
    let good = PublishCommand { server: 1, text: "say hi", ..Default::default() };
    let check = |order, commands: &[PublishCommand<'_>]| {
        publish(NOW, &Publish { request: 1, order, commands: commands.into() })
    };
    assert_eq!(check(OrderHead::default(), &[good]), Ok(()));
    assert_eq!(
        said(check(OrderHead::default(), &[])),
        "invalid_field: commands: has 0 entries, must have 1 to 10000"
    );
    assert!(said(check(OrderHead::default(), &[good; 10_001])).starts_with("too_many_commands"));
    let bad = PublishCommand { text: "", ..good };
    assert!(said(check(OrderHead::default(), &[good, bad])).contains("commands[1].command: has 0 bytes"));
    let online = PublishCommand { require_online: true, ..good };
    assert!(said(check(OrderHead::default(), &[online])).contains("require_online: needs a player"));
    let player = Some(PlayerRef { name: "Steve", uuid: None });
    assert_eq!(
        check(OrderHead { player, ..Default::default() }, &[online]),
        Ok(()),
        "the order's player counts"
    );
    let key = Some("");
    assert!(said(check(OrderHead { key, ..Default::default() }, &[good])).contains("idempotency_key"));
}

#[test]
fn cuts_fall_between_characters() {
    assert_eq!(cut("abc", 5), "abc");
    assert_eq!(cut("a\u{e9}b", 2), "a");
    assert_eq!(cut("\u{e9}", 0), "");
}
