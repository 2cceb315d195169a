//! Who is online, as a plugin reports it: the whole set for a hello, changes in between.

use std::collections::{BTreeMap, VecDeque};

use super::options::Player;
use super::plugin::PlayersChange;
use crate::limits::{PLAYER_NAME_BYTES_MAX, PLAYERS_MAX};
use crate::protocol::{PlayerRef, PlayersKind};

/// Changes that wait before they are replaced by the whole set.
const CHANGES_MAX: usize = 256;

impl Player {
    pub(super) fn as_ref(&self) -> PlayerRef<'_> {
        PlayerRef { name: &self.name, uuid: self.uuid }
    }
}

impl From<PlayerRef<'_>> for Player {
    fn from(player: PlayerRef<'_>) -> Player {
        Player { name: player.name.to_owned(), uuid: player.uuid }
    }
}

/// The players of one server.
#[derive(Debug)]
pub(super) struct Online {
    /// By name in lower case; `None` = this plugin does not report players.
    known: Option<BTreeMap<String, Player>>,
    unsent: VecDeque<(PlayersKind, Vec<Player>)>,
}

impl Online {
    pub(super) fn new(players: Option<Vec<Player>>) -> Online {
        let mut online = Online { known: players.as_ref().map(|_| BTreeMap::new()), unsent: VecDeque::new() };
        if let Some(players) = players {
            online.apply(PlayersChange::Online(players));
        }
        online
    }

    /// Takes note of a change and keeps it to be sent.
    pub(super) fn apply(&mut self, change: PlayersChange) {
        let first = self.known.is_none();
        let known = self.known.get_or_insert_default();
        let (kind, players) = match change {
            PlayersChange::Online(players) => {
                known.clear();
                (PlayersKind::Online, players)
            }
            PlayersChange::Joined(players) => (PlayersKind::Joined, players),
            PlayersChange::Left(players) => (PlayersKind::Left, players),
        };
        let players: Vec<Player> = players
            .into_iter()
            .filter(|player| (1..=PLAYER_NAME_BYTES_MAX).contains(&player.name.len()))
            .take(PLAYERS_MAX)
            .collect();
        for player in &players {
            let name = player.name.to_ascii_lowercase();
            match kind {
                PlayersKind::Left => drop(known.remove(&name)),
                _ if known.len() < PLAYERS_MAX => drop(known.insert(name, player.clone())),
                _ => {}
            }
        }
        // The first report makes this a plugin that reports players: only a whole set says so.
        if first || kind == PlayersKind::Online || self.unsent.len() >= CHANGES_MAX {
            let all = self.known.iter().flat_map(BTreeMap::values).cloned().collect();
            self.unsent.clear();
            self.unsent.push_back((PlayersKind::Online, all));
        } else if !players.is_empty() {
            self.unsent.push_back((kind, players));
        }
    }

    /// Everybody, for a hello, which makes all changes so far known.
    pub(super) fn for_hello(&mut self) -> Option<Vec<PlayerRef<'_>>> {
        self.unsent.clear();
        self.known.as_ref().map(|known| known.values().map(Player::as_ref).collect())
    }

    /// The next change to send.
    pub(super) fn next_change(&mut self) -> Option<(PlayersKind, Vec<Player>)> {
        self.unsent.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn players(names: &str) -> Vec<Player> {
        names.split_whitespace().map(Player::named).collect()
    }

    fn changes(online: &mut Online) -> String {
        let text = |(kind, players): (PlayersKind, Vec<Player>)| {
            let names: Vec<String> = players.into_iter().map(|player| player.name).collect();
            format!("{} {}", kind.name(), names.join(" "))
        };
        std::iter::from_fn(|| online.next_change()).map(text).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn changes_add_up_to_the_set_of_the_hello() {
        let mut online = Online::new(Some(players("Alex Steve")));
        assert_eq!(online.for_hello().unwrap().len(), 2);
        assert_eq!(changes(&mut online), "", "the hello said it");
        online.apply(PlayersChange::Joined(players("Zoe")));
        online.apply(PlayersChange::Left(players("STEVE")));
        assert_eq!(changes(&mut online), "joined Zoe, left STEVE");
        let names: Vec<&str> = online.for_hello().unwrap().iter().map(|player| player.name).collect();
        assert_eq!(names, ["Alex", "Zoe"]);
    }

    #[test]
    fn the_first_report_is_a_whole_set() {
        let mut online = Online::new(None);
        assert!(online.for_hello().is_none());
        online.apply(PlayersChange::Joined(players("Alex")));
        online.apply(PlayersChange::Joined(players("Steve")));
        assert_eq!(changes(&mut online), "online Alex, joined Steve");
    }

    #[test]
    fn many_changes_become_one_set() {
        let mut online = Online::new(Some(Vec::new()));
        online.for_hello();
        for number in 0..CHANGES_MAX * 3 {
            online.apply(PlayersChange::Joined(players(&format!("p{}", number % 3))));
            assert!(online.unsent.len() <= CHANGES_MAX);
        }
        online.apply(PlayersChange::Online(players("Alex")));
        assert_eq!(changes(&mut online), "online Alex");
    }

    #[test]
    fn names_that_no_frame_carries_are_left_out() {
        let mut online =
            Online::new(Some(vec![Player::named(""), Player::named("x".repeat(65)), Player::named("ok")]));
        assert_eq!(online.for_hello().unwrap().len(), 1);
    }
}
