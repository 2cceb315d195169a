//! What a console's output says: lines out of bytes, joins, leaves and readiness out of lines.
//!
//! Pure. A chat message must never be taken for a join: defaults match only what a server says by itself.

use regex::Regex;

#[cfg(any(test, fuzzing))]
#[path = "../../../fuzz/check_console.rs"]
pub(super) mod check_console;

/// What Minecraft servers print before a message: anything up to the first `]: `, without chat's `<` and `>`.
const PREFIX: &str = r"^(?:> )*(?:(?:[^\]<>]|\][^:\]])*\]: )?";
/// A player's name: Java's, and Bedrock's with the marks that proxies put before it.
const NAME: &str = r"(?P<player>[A-Za-z0-9_.*+~-]{1,64})";
/// Minecraft's lines for a join, after prefix and name.
const JOINS: &[&str] = &[
    r"(?: \(formerly known as [^)]*\))? joined the game\.?$",
    r"\[[^\]]*\] logged in with entity id -?\d+(?: at .*)?$",
];
/// Minecraft's line for a leave, after prefix and name.
const LEAVE: &str = r" left the game\.?$";

/// Bytes of a line at most; the rest of a longer one is not looked at.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// The program takes commands now.
    Ready,
    /// A player came.
    Joined(String),
    /// A player went.
    Left(String),
}

/// What to look for in lines.
#[derive(Debug)]
pub(super) struct Patterns {
    joins: Vec<Regex>,
    leaves: Vec<Regex>,
    ready: Option<Regex>,
}

impl Patterns {
    /// From the flags' texts; an empty list means Minecraft's lines. The error names the flag and what is wrong.
    pub(super) fn new(joins: &[String], leaves: &[String], ready: Option<&str>) -> Result<Patterns, String> {
        let default_joins = || JOINS.iter().map(|rest| format!("{PREFIX}{NAME}{rest}")).collect();
        let joins = if joins.is_empty() { default_joins() } else { joins.to_vec() };
        let leaves = if leaves.is_empty() { vec![format!("{PREFIX}{NAME}{LEAVE}")] } else { leaves.to_vec() };
        Ok(Patterns {
            joins: joins.iter().map(|text| player_regex(text, "--join-regex")).collect::<Result<_, _>>()?,
            leaves: leaves
                .iter()
                .map(|text| player_regex(text, "--leave-regex"))
                .collect::<Result<_, _>>()?,
            ready: ready.map(|text| compile(text, "--ready-regex")).transpose()?,
        })
    }

    /// True when the program says by itself when it takes commands.
    pub(super) fn wait_for_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// What this line says, if anything.
    pub(super) fn read(&self, line: &str) -> Option<Notice> {
        if self.ready.as_ref().is_some_and(|ready| ready.is_match(line)) {
            return Some(Notice::Ready);
        }
        let find = |patterns: &[Regex]| patterns.iter().find_map(|pattern| player(pattern, line));
        find(&self.joins).map(Notice::Joined).or_else(|| find(&self.leaves).map(Notice::Left))
    }
}

fn compile(text: &str, flag: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("{flag}: {error}"))
}

fn player_regex(text: &str, flag: &str) -> Result<Regex, String> {
    let regex = compile(text, flag)?;
    if regex.captures_len() < 2 {
        return Err(format!("{flag}: expected a group for the player's name, for example '(\\S+) joined'"));
    }
    Ok(regex)
}

fn player(pattern: &Regex, line: &str) -> Option<String> {
    let captures = pattern.captures(line)?;
    let name = captures.name("player").or_else(|| captures.get(1))?.as_str();
    let fits = (1..=crate::limits::PLAYER_NAME_BYTES_MAX).contains(&name.len());
    (fits && !name.chars().any(char::is_control)).then(|| name.to_owned())
}

/// Cuts a byte stream into lines, without line ends and terminal colours.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes more bytes and hands each line that they complete to `each`.
    pub(super) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                each(without_escapes(&String::from_utf8_lossy(&self.partial)).trim());
                self.partial.clear();
            }
        }
    }
}

/// A text without terminal escapes (`ESC [ ... letter`) and other control characters.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            // Parameters and intermediates end with one byte from '@' to '~'.
            while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
        } else if !c.is_control() {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minecraft() -> Patterns {
        Patterns::new(&[], &[], Some("Done \\(")).expect("good patterns")
    }

    #[test]
    fn joins_and_leaves_of_minecraft_servers() {
        for line in [
            "[12:00:00] [Server thread/INFO]: Steve joined the game",
            "[12:00:00 INFO]: Steve joined the game",
            "[23Nov2026 12:00:00.123] [Server thread/INFO] [net.minecraft.server.MinecraftServer/]: Steve joined the game",
            "Steve joined the game",
            "> [12:00:00 INFO]: Steve (formerly known as Stev3) joined the game",
            "[12:00:00 INFO]: Steve[/127.0.0.1:50312] logged in with entity id 134 at ([world]0.5, 64.0, 0.5)",
            "[12:00:00] [Server thread/INFO]: Steve[local:E:1] logged in with entity id 7 at (1, 2, 3)",
        ] {
            assert_eq!(minecraft().read(line), Some(Notice::Joined("Steve".into())), "{line}");
        }
        let left = "[12:00:00] [Server thread/INFO]: Steve left the game";
        assert_eq!(minecraft().read(left), Some(Notice::Left("Steve".into())));
        let bedrock = "[12:00:00 INFO]: .Steve_the_2nd joined the game";
        assert_eq!(minecraft().read(bedrock), Some(Notice::Joined(".Steve_the_2nd".into())));
        assert_eq!(minecraft().read("[12:00:00 INFO]: Done (3.2s)! For help"), Some(Notice::Ready));
    }

    #[test]
    fn chat_is_not_taken_for_a_join() {
        for line in [
            "[12:00:00] [Server thread/INFO]: <Eve> Steve joined the game",
            "[12:00:00] [Server thread/INFO]: <Eve> x]: Steve joined the game",
            "[12:00:00] [Server thread/INFO]: [Eve] Steve joined the game",
            "[12:00:00] [Server thread/INFO]: [Eve]: Steve joined the game",
            "[12:00:00] [Server thread/INFO]: * Eve Steve joined the game",
            "[12:00:00] [Server thread/INFO]: [Not Secure] <Eve> Steve joined the game",
            "[12:00:00] [Server thread/INFO]: Eve: Steve joined the game",
            "[12:00:00] [Server thread/INFO]: Steve joined the game with a bang",
        ] {
            assert_eq!(minecraft().read(line), None, "{line}");
        }
    }

    #[test]
    fn own_patterns_need_a_group() {
        assert!(Patterns::new(&["joined".into()], &[], None).is_err_and(|e| e.contains("--join-regex")));
        assert!(Patterns::new(&[], &["(".into()], None).is_err_and(|e| e.contains("--leave-regex")));
        let own = Patterns::new(&["^in (\\S+) as (?P<player>\\S+)".into()], &["^out (\\S+)".into()], None);
        let own = own.expect("good patterns");
        assert_eq!(own.read("in x as Alex"), Some(Notice::Joined("Alex".into())));
        assert_eq!(own.read("out Alex"), Some(Notice::Left("Alex".into())));
    }

    #[test]
    fn lines_come_out_of_pieces_without_colours() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in
            ["\u{1b}[2K\u{1b}[1G[\u{1b}[32mINFO\u{1b}[39m]: Ste", "ve joined the game\r", "\nnext\npart"]
        {
            lines.feed(piece.as_bytes(), |line| seen.push(line.to_owned()));
        }
        assert_eq!(seen, ["[INFO]: Steve joined the game", "next"]);
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let mut lines = Lines::default();
        for _ in 0..64 {
            lines.feed(&[b'a'; 4096], |_| panic!("no line has ended"));
        }
        assert!(lines.partial.len() <= LINE_BYTES_MAX);
        let mut ends = 0;
        lines.feed(b"b\nc\n", |_| ends += 1);
        assert_eq!(ends, 2);
    }
}
