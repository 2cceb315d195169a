//! `Change::Order`: an accepted order with all its commands.

use std::sync::Arc;

use rkyv::with::{AsBox, InlineAsBox, MapNiche, Niche};
use rkyv::{Archive, Serialize};

use super::Flaw;
use super::vocabulary::{
    LabelsRecord, PlayerRecord, ScheduleRecord, instant, labels, on_doubt, player, text,
};
use crate::engine::{AcceptedRow, Few, KeyDigest, OrderAccepted, OrderRow};
use crate::ids::{CommandId, OrderId, Seq, ServerId, StoreId};
use crate::time::UnixMs;

/// The order; the ids of its commands are those of `commands`.
#[derive(Archive, Serialize)]
pub(super) struct AcceptedRecord<'a> {
    store: u32,
    seq: u64,
    accepted_at: u64,
    #[rkyv(with = MapNiche<AsBox>)]
    key: Option<DigestRecord>,
    #[rkyv(with = MapNiche<InlineAsBox>)]
    reference: Option<&'a str>,
    #[rkyv(with = Niche)]
    player: Option<Box<PlayerRecord<'a>>>,
    ordered: bool,
    commands: Vec<AcceptedCommandRecord<'a>>,
}

/// Fingerprints of an idempotency key.
#[derive(Archive, Serialize)]
pub(super) struct DigestRecord {
    pub(super) key: u64,
    pub(super) body: u64,
}

#[derive(Archive, Serialize)]
struct AcceptedCommandRecord<'a> {
    server: u32,
    seq: u64,
    #[rkyv(with = InlineAsBox)]
    text: &'a str,
    #[rkyv(with = Niche)]
    player: Option<Box<PlayerRecord<'a>>>,
    require_online: bool,
    on_doubt: u8,
    #[rkyv(with = Niche)]
    schedule: Option<Box<ScheduleRecord>>,
    #[rkyv(with = Niche)]
    labels: Option<Box<LabelsRecord<'a>>>,
}

impl<'a> AcceptedRecord<'a> {
    pub(super) fn new(accepted: &'a OrderAccepted) -> AcceptedRecord<'a> {
        let row = &accepted.row;
        AcceptedRecord {
            store: row.id.store.0,
            seq: row.id.seq.0,
            accepted_at: row.accepted_at.0,
            key: row.key.map(|digest| DigestRecord { key: digest.key, body: digest.body }),
            reference: row.reference.as_deref(),
            player: PlayerRecord::new(row.player.as_ref()),
            ordered: row.ordered,
            commands: accepted.commands.iter().map(AcceptedCommandRecord::new).collect(),
        }
    }
}

impl<'a> AcceptedCommandRecord<'a> {
    fn new(row: &'a AcceptedRow) -> AcceptedCommandRecord<'a> {
        AcceptedCommandRecord {
            server: row.id.server.0,
            seq: row.id.seq.0,
            text: &row.text,
            player: PlayerRecord::new(row.player.as_ref()),
            require_online: row.require_online,
            on_doubt: row.on_doubt as u8,
            schedule: ScheduleRecord {
                next_at: None,
                after: row.after.map(|seq| seq.0),
                not_before: row.not_before.map(|at| at.0),
                expires_at: row.expires_at.map(|at| at.0),
            }
            .compact(),
            labels: LabelsRecord::new(row.labels.as_deref()),
        }
    }
}

impl ArchivedAcceptedRecord<'_> {
    pub(super) fn read(&self) -> Result<OrderAccepted, Flaw> {
        let commands =
            self.commands.iter().map(ArchivedAcceptedCommandRecord::read).collect::<Result<Few<_>, _>>()?;
        let row = OrderRow {
            id: OrderId { store: StoreId(self.store.to_native()), seq: Seq(self.seq.to_native()) },
            accepted_at: UnixMs(self.accepted_at.to_native()),
            key: self.key.as_ref().map(|digest| digest.read()),
            reference: text(&self.reference),
            player: player(&self.player),
            ordered: self.ordered,
            commands: commands.iter().map(|command| command.id).collect(),
        };
        Ok(OrderAccepted { row, commands })
    }
}

impl ArchivedDigestRecord {
    pub(super) fn read(&self) -> KeyDigest {
        KeyDigest { key: self.key.to_native(), body: self.body.to_native() }
    }
}

impl ArchivedAcceptedCommandRecord<'_> {
    fn read(&self) -> Result<AcceptedRow, Flaw> {
        let schedule = self.schedule.as_ref();
        Ok(AcceptedRow {
            id: CommandId { server: ServerId(self.server.to_native()), seq: Seq(self.seq.to_native()) },
            after: schedule.and_then(|schedule| schedule.after.as_ref()).map(|seq| Seq(seq.to_native())),
            text: Arc::from(&*self.text),
            player: player(&self.player),
            require_online: self.require_online,
            not_before: schedule.and_then(|schedule| instant(&schedule.not_before)),
            expires_at: schedule.and_then(|schedule| instant(&schedule.expires_at)),
            on_doubt: on_doubt(self.on_doubt)?,
            labels: labels(&self.labels),
        })
    }
}
