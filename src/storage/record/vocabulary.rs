//! The small words that several records share: statuses, notes, rules, players, labels. Ordinals never change.

use std::sync::Arc;

use rkyv::boxed::ArchivedBox;
use rkyv::niche::niched_option::NichedOption;
use rkyv::niche::option_box::ArchivedOptionBox;
use rkyv::option::ArchivedOption;
use rkyv::rend::unaligned::u64_ule;
use rkyv::with::{DefaultNiche, InlineAsBox, MapNiche};
use rkyv::{Archive, Serialize};

use super::Flaw;
use crate::engine::{Labels, Note, OnDoubt, Player, Status};
use crate::time::UnixMs;

/// The status with this number.
pub(super) fn status(number: u8) -> Result<Status, Flaw> {
    Ok(match number {
        1 => Status::Pending,
        2 => Status::Delivered,
        3 => Status::AwaitingPlayer,
        4 => Status::Completed,
        5 => Status::Failed,
        6 => Status::InDoubt,
        7 => Status::Cancelled,
        8 => Status::Expired,
        other => return Err(Flaw::new(format!("{other} is not a status"))),
    })
}

/// The note with this number.
pub(super) fn note(number: u8) -> Result<Note, Flaw> {
    Ok(match number {
        0 => Note::None,
        1 => Note::RetryScheduled,
        2 => Note::RetriesExhausted,
        3 => Note::Unanswered,
        4 => Note::ConnectionLost,
        5 => Note::AckDeadline,
        6 => Note::PlayerAbsent,
        7 => Note::PlayerJoined,
        8 => Note::Operator,
        9 => Note::ServerRemoved,
        10 => Note::Rerun,
        11 => Note::StillHeld,
        12 => Note::LateResult,
        13 => Note::BrokerRestarted,
        14 => Note::PluginInDoubt,
        other => return Err(Flaw::new(format!("{other} is not a note"))),
    })
}

/// The rule with this number.
pub(super) fn on_doubt(number: u8) -> Result<OnDoubt, Flaw> {
    Ok(match number {
        0 => OnDoubt::Hold,
        1 => OnDoubt::Rerun,
        other => return Err(Flaw::new(format!("{other} is not an on_doubt rule"))),
    })
}

/// An optional text in four bytes plus its own.
pub(super) type ArchivedText = NichedOption<ArchivedBox<str>, DefaultNiche>;

/// An optional text, copied out.
pub(super) fn text(archived: &ArchivedText) -> Option<Arc<str>> {
    archived.as_ref().map(|text| Arc::from(&**text))
}

/// An optional instant.
pub(super) fn instant(archived: &ArchivedOption<u64_ule>) -> Option<UnixMs> {
    archived.as_ref().map(|ms| UnixMs(ms.to_native()))
}

/// A player.
#[derive(Archive, Serialize)]
pub(super) struct PlayerRecord<'a> {
    #[rkyv(with = InlineAsBox)]
    name: &'a str,
    uuid: Option<u128>,
}

impl<'a> PlayerRecord<'a> {
    pub(super) fn new(player: Option<&'a Player>) -> Option<Box<PlayerRecord<'a>>> {
        player.map(|player| Box::new(PlayerRecord { name: &player.name, uuid: player.uuid }))
    }
}

/// An optional player, copied out.
pub(super) fn player(archived: &ArchivedOptionBox<ArchivedPlayerRecord<'_>>) -> Option<Player> {
    archived.as_ref().map(|player| Player {
        name: Arc::from(&*player.name),
        uuid: player.uuid.as_ref().map(|uuid| uuid.to_native()),
    })
}

/// Labels.
#[derive(Archive, Serialize)]
pub(super) struct LabelsRecord<'a> {
    #[rkyv(with = MapNiche<InlineAsBox>)]
    stage: Option<&'a str>,
    #[rkyv(with = MapNiche<InlineAsBox>)]
    metadata: Option<&'a str>,
}

impl<'a> LabelsRecord<'a> {
    pub(super) fn new(labels: Option<&'a Labels>) -> Option<Box<LabelsRecord<'a>>> {
        labels.map(|labels| {
            Box::new(LabelsRecord { stage: labels.stage.as_deref(), metadata: labels.metadata.as_deref() })
        })
    }
}

/// Optional labels, copied out.
pub(super) fn labels(archived: &ArchivedOptionBox<ArchivedLabelsRecord<'_>>) -> Option<Box<Labels>> {
    archived
        .as_ref()
        .map(|labels| Box::new(Labels { stage: text(&labels.stage), metadata: text(&labels.metadata) }))
}

/// The instants and the predecessor of a command: most commands have none of them.
#[derive(Archive, Serialize)]
pub(super) struct ScheduleRecord {
    pub(super) next_at: Option<u64>,
    pub(super) after: Option<u64>,
    pub(super) not_before: Option<u64>,
    pub(super) expires_at: Option<u64>,
}

impl ScheduleRecord {
    /// Boxed when there is anything to keep.
    pub(super) fn compact(self) -> Option<Box<ScheduleRecord>> {
        let any = self.next_at.is_some()
            || self.after.is_some()
            || self.not_before.is_some()
            || self.expires_at.is_some();
        any.then(|| Box::new(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_others_are_refused() {
        for number in 0..=255u8 {
            assert!(status(number).map_or(!(1..=8).contains(&number), |status| status as u8 == number));
            assert!(note(number).map_or(number > 14, |note| note as u8 == number));
            assert!(on_doubt(number).map_or(number > 1, |rule| rule as u8 == number));
        }
    }

    #[test]
    fn a_schedule_without_anything_takes_no_room() {
        let nothing = ScheduleRecord { next_at: None, after: None, not_before: None, expires_at: None };
        assert!(nothing.compact().is_none());
    }
}
