//! Who is online on one server, and which commands wait for whom. Must never change a command.
//!
//! Names compare without regard to ASCII case. A player is recognised by name, or by UUID under a new name.
//! Lists of waiting commands may hold some that do not wait any longer: whoever takes a list checks each.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::io::{Player, PlayerNews};
use crate::limits::PLAYERS_MAX;

/// What is known of one player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Online,
    Offline,
    /// The plugin does not say.
    Unknown,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Players {
    /// A full set was reported: whoever is not in it is offline.
    complete: bool,
    /// Anything was reported.
    reported: bool,
    /// By lower-cased name.
    seen: BTreeMap<Box<str>, Seen>,
    online: u32,
    /// Names (lower-cased) of those online, by UUID; no more than `seen` holds.
    names: BTreeMap<u128, Box<str>>,
    waiting_by_name: BTreeMap<Box<str>, Vec<u32>>,
    waiting_by_uuid: BTreeMap<u128, Vec<u32>>,
    /// Commands that wait now.
    waiting: usize,
    /// Entries in both lists of those waiting.
    entries: usize,
}

/// One player of whom something was reported.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Came, or else left.
    online: bool,
    uuid: Option<u128>,
}

/// The form under which names compare.
pub(super) fn folded(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into_boxed_str()
}

/// Whether a command for `wanted` is meant by news of `seen`.
pub(super) fn is_same(wanted: &Player, seen: &Player) -> bool {
    wanted.name.eq_ignore_ascii_case(&seen.name) || (wanted.uuid.is_some() && wanted.uuid == seen.uuid)
}

impl Players {
    /// What is known of a player.
    pub(super) fn presence(&self, player: &Player) -> Presence {
        if player.uuid.is_some_and(|uuid| self.names.contains_key(&uuid)) {
            return Presence::Online;
        }
        match self.seen.get(&folded(&player.name)) {
            Some(Seen { online: true, .. }) => Presence::Online,
            Some(Seen { online: false, .. }) => Presence::Offline,
            None if self.complete => Presence::Offline,
            None => Presence::Unknown,
        }
    }

    /// How many are online; `None` = never reported.
    pub(super) fn online(&self) -> Option<u32> {
        self.reported.then_some(self.online)
    }

    /// Nothing is known any more; who waits goes on waiting.
    pub(super) fn forget_presence(&mut self) {
        self.complete = false;
        self.reported = false;
        self.seen.clear();
        self.names.clear();
        self.online = 0;
    }

    /// Notes news; returns those who are online now by these news.
    pub(super) fn on_news(&mut self, news: &PlayerNews) -> Arc<[Player]> {
        self.reported = true;
        match news {
            PlayerNews::Online(players) => {
                self.forget_presence();
                self.complete = true;
                self.reported = true;
                players.iter().for_each(|player| self.on_joined(player));
                players.as_slice().into()
            }
            PlayerNews::Joined(players) => {
                players.iter().for_each(|player| self.on_joined(player));
                players.as_slice().into()
            }
            PlayerNews::Left(players) => {
                players.iter().for_each(|player| self.on_left(player));
                Arc::from([])
            }
        }
    }

    fn on_joined(&mut self, player: &Player) {
        // More than the game can hold is a faulty plugin: the rest counts as unknown or offline.
        if self.seen.len() >= PLAYERS_MAX {
            self.seen.retain(|_, seen| seen.online);
            if self.seen.len() >= PLAYERS_MAX {
                return;
            }
        }
        let name = folded(&player.name);
        self.forget_player(&name);
        if let Some(uuid) = player.uuid {
            self.names.insert(uuid, name.clone());
        }
        self.seen.insert(name, Seen { online: true, uuid: player.uuid });
        self.online += 1;
    }

    fn on_left(&mut self, player: &Player) {
        let known = player.uuid.and_then(|uuid| self.names.get(&uuid).cloned());
        let name = known.unwrap_or_else(|| folded(&player.name));
        self.forget_player(&name);
        if !self.complete && self.seen.len() < PLAYERS_MAX {
            self.seen.insert(name, Seen { online: false, uuid: None });
        }
    }

    fn forget_player(&mut self, name: &str) {
        let Some(seen) = self.seen.remove(name) else { return };
        self.online -= u32::from(seen.online);
        if let Some(uuid) = seen.uuid
            && self.names.get(&uuid).is_some_and(|known| **known == *name)
        {
            self.names.remove(&uuid);
        }
    }

    // ------------------------------------------------------------ those waiting

    /// A command waits for a player.
    pub(super) fn on_waiting(&mut self, player: &Player, slot: u32) {
        self.waiting += 1;
        self.entries += 1;
        self.waiting_by_name.entry(folded(&player.name)).or_default().push(slot);
        if let Some(uuid) = player.uuid {
            self.entries += 1;
            self.waiting_by_uuid.entry(uuid).or_default().push(slot);
        }
    }

    /// A command does not wait any longer; true when the lists hold so many of these that they should be
    /// compacted by [`Players::retain_waiting`].
    pub(super) fn on_released(&mut self) -> bool {
        self.waiting -= 1;
        self.entries > 4 * self.waiting + 1024
    }

    /// Takes the lists of those who may wait for a player.
    pub(super) fn take_waiting(&mut self, player: &Player) -> Vec<u32> {
        let mut slots = self.waiting_by_name.remove(&folded(&player.name)).unwrap_or_default();
        if let Some(uuid) = player.uuid {
            slots.extend(self.waiting_by_uuid.remove(&uuid).unwrap_or_default());
        }
        self.entries -= slots.len();
        slots
    }

    /// Keeps only what still waits.
    pub(super) fn retain_waiting(&mut self, waits: impl Fn(u32) -> bool) {
        let mut entries = 0;
        let mut keep = |slots: &mut Vec<u32>| {
            slots.retain(|slot| waits(*slot));
            entries += slots.len();
            !slots.is_empty()
        };
        self.waiting_by_name.retain(|_, slots| keep(slots));
        self.waiting_by_uuid.retain(|_, slots| keep(slots));
        self.entries = entries;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn player(name: &str, uuid: Option<u128>) -> Player {
        Player { name: name.into(), uuid }
    }

    #[test]
    fn presence_follows_the_news() {
        let mut players = Players::default();
        let steve = player("Steve", None);
        assert_eq!(players.presence(&steve), Presence::Unknown);
        players.on_news(&PlayerNews::Joined(vec![player("sTEVE", Some(7))]));
        assert_eq!(players.presence(&steve), Presence::Online);
        assert_eq!(players.presence(&player("Alex", None)), Presence::Unknown);
        assert_eq!(players.presence(&player("Renamed", Some(7))), Presence::Online);
        players.on_news(&PlayerNews::Left(vec![player("STEVE", None)]));
        assert_eq!(players.presence(&steve), Presence::Offline);
        assert_eq!(players.presence(&player("Renamed", Some(7))), Presence::Unknown);
        players.on_news(&PlayerNews::Online(vec![player("Alex", None)]));
        assert_eq!(players.presence(&steve), Presence::Offline);
        assert_eq!(players.online(), Some(1));
        players.forget_presence();
        assert_eq!(players.online(), None);
    }

    #[test]
    fn those_waiting_are_found_by_name_or_uuid() {
        let mut players = Players::default();
        players.on_waiting(&player("Steve", Some(7)), 1);
        players.on_waiting(&player("steve", None), 2);
        assert_eq!(players.take_waiting(&player("Other", Some(7))), [1]);
        assert_eq!(players.take_waiting(&player("STEVE", None)), [1, 2]);
        assert!(players.take_waiting(&player("STEVE", Some(7))).is_empty());
    }
}
