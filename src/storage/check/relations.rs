//! What rows of the store at rest say of each other, and of the journal. Reads what has been found whole before.
//!
//! An order and its commands leave at the end of their own time, and not together: of what is older than the shortest
//! retention before the youngest instant on disk, the other half may be gone. No clock is read for that.

use std::collections::{HashMap, HashSet};

use redb::{ReadOnlyTable, ReadTransaction, TableDefinition};

use super::Inspection;
use super::journal::{JournalFacts, ended_place};
use crate::engine::{CommandRow, OrderRow};
use crate::ids::{CommandId, FrameNo, Seq, ServerId};
use crate::limits::RETENTION_DAYS_MIN;
use crate::storage::blocks::{Blocks, Place, command_at, place};
use crate::storage::error::{DbFile, StorageError};
use crate::storage::record::{
    EndedIndex, Flaw, OrderIndex, ServerEntry, StoreMeta, decode_command, decode_keys, decode_order,
};
use crate::storage::tables::{ENDED, ENDED_BY_SERVER, KEYS, LIVE, ORDERS, ORDERS_BY_CHECKPOINT, SERVERS};
use crate::time::UnixMs;

const RETENTION_MS: u64 = RETENTION_DAYS_MIN * 24 * 3600 * 1000;

type Rows<K> = ReadOnlyTable<K, &'static [u8]>;

/// The tables that are looked up in, and what is known by now.
struct Related<'a> {
    file: &'a DbFile,
    facts: &'a JournalFacts,
    live: Rows<(u32, u64)>,
    ended: Rows<(u32, u64)>,
    orders: Rows<u64>,
    lists: Rows<(u64, u32)>,
    /// What was accepted before may have lost its other half.
    complete_since: UnixMs,
    /// Ended rows by server.
    totals: HashMap<ServerId, [u64; 3]>,
}

/// A set of numbers as a sum over their digests: two sets with the same count and sum are the same.
#[derive(Default, PartialEq)]
struct Tally {
    count: u64,
    sum: u64,
}

impl Tally {
    fn add(&mut self, seq: u64) {
        let digest = twox_hash::XxHash3_64::oneshot(&seq.to_le_bytes());
        self.count += 1;
        self.sum = self.sum.wrapping_add(digest);
    }
}

/// Checks all of it.
pub(super) fn check(
    look: &mut Inspection<'_>,
    reader: &ReadTransaction,
    file: &DbFile,
    meta: &StoreMeta,
    facts: &JournalFacts,
) -> Result<(), StorageError> {
    frames(look, meta, facts);
    let latest = latest(look, reader, file)?.max(facts.latest);
    let mut related = Related {
        file,
        facts,
        live: open(reader, file, LIVE.table)?,
        ended: open(reader, file, ENDED.table)?,
        orders: open(reader, file, ORDERS.table)?,
        lists: open(reader, file, ENDED_BY_SERVER)?,
        complete_since: UnixMs(latest.0.saturating_sub(RETENTION_MS)),
        totals: HashMap::new(),
    };
    let counted = std::mem::take(&mut look.report.tables);
    let ended = related.commands(look, reader)?;
    let by_server = related.lists(look, reader, meta, &ended)?;
    related.servers(look, reader, &by_server)?;
    related.orders(look, reader, meta)?;
    related.keys(look, reader)?;
    look.report.tables = counted;
    Ok(())
}

fn open<K: redb::Key + 'static>(
    reader: &ReadTransaction,
    file: &DbFile,
    table: TableDefinition<'static, K, &'static [u8]>,
) -> Result<Rows<K>, StorageError> {
    reader.open_table(table).map_err(file.redb("open a table of"))
}

/// Frames that were forgotten must be contained in the store.
fn frames(look: &mut Inspection<'_>, meta: &StoreMeta, facts: &JournalFacts) {
    let Some(journal) = &facts.meta else { return };
    for base in &journal.bases {
        let contained = meta.total(base.shard);
        if contained < base.no {
            let FrameNo(first) = FrameNo(contained.0 + 1);
            let flaw = format!(
                "frames {first} to {} of shard {} are in neither file: the store is older than the journal",
                base.no.0, base.shard.0
            );
            look.damage("meta/store", flaw);
        }
    }
}

/// The youngest instant at which something happened to a command at rest.
fn latest(
    look: &mut Inspection<'_>,
    reader: &ReadTransaction,
    file: &DbFile,
) -> Result<UnixMs, StorageError> {
    let mut latest = UnixMs(0);
    let counted = look.report.tables.len();
    look.walk(reader, file, (ENDED_BY_SERVER, "ended_by_server"), |(checkpoint, server), row| {
        latest =
            latest.max(EndedIndex::decode(checkpoint, ServerId(server), row).map_err(at(server))?.latest);
        Ok(())
    })?;
    look.walk(reader, file, (ORDERS_BY_CHECKPOINT, "orders_by_checkpoint"), |(checkpoint, chunk), row| {
        latest = latest.max(OrderIndex::decode(checkpoint, chunk, row).map_err(at(chunk))?.latest);
        Ok(())
    })?;
    look.report.tables.truncate(counted);
    Ok(latest)
}

/// An error of a look-up as a flaw of the row that led to it.
fn in_words(error: StorageError) -> Flaw {
    Flaw::new(error.to_string())
}

/// The key of a row with its flaw.
fn at(key: impl ToString) -> impl Fn(Flaw) -> (String, Flaw) {
    move |flaw| (key.to_string(), flaw)
}

impl Related<'_> {
    /// A command that has not ended; what cannot be read was told of by whoever walked over it.
    fn live(&self, id: CommandId) -> Result<Option<CommandRow>, Flaw> {
        LIVE.get(self.file, &self.live, place(id), |row| decode_command(id, row)).map_err(in_words)
    }

    /// Likewise, one that has.
    fn ended(&self, id: CommandId) -> Result<Option<CommandRow>, Flaw> {
        ENDED.get(self.file, &self.ended, place(id), |row| decode_command(id, row)).map_err(in_words)
    }

    /// Likewise, an order.
    fn order(&self, seq: Seq) -> Result<Option<OrderRow>, Flaw> {
        ORDERS.get(self.file, &self.orders, seq.0, |row| decode_order(seq, row)).map_err(in_words)
    }

    /// A command's order, unless it may be gone.
    fn order_of(&self, command: &CommandRow) -> Result<(), Flaw> {
        match self.order(command.order.seq)? {
            Some(order) if order.id == command.order && order.commands.contains(&command.id) => Ok(()),
            Some(_) => Err(Flaw::new(format!("its order, {}, does not name it", command.order))),
            None if self.facts.orders.contains(&command.order) => Ok(()),
            None if command.accepted_at < self.complete_since => Ok(()),
            None => Err(Flaw::new(format!("its order, {}, is missing", command.order))),
        }
    }

    /// Live commands have not ended; every command belongs to its order. The tally of ended ones.
    fn commands(
        &mut self,
        look: &mut Inspection<'_>,
        reader: &ReadTransaction,
    ) -> Result<Tally, StorageError> {
        let file = self.file;
        look.walk_blocks(reader, file, &LIVE, |at, row| {
            let command = decode_command(command_at(at), row)?;
            match self.ended(command.id)? {
                Some(_) => Err(Flaw::new("the same number is in ended_blocks too")),
                None => self.order_of(&command),
            }
        })?;
        let mut tally = Tally::default();
        let mut totals: HashMap<ServerId, [u64; 3]> = HashMap::new();
        look.walk_blocks(reader, file, &ENDED, |at, row| {
            let command = decode_command(command_at(at), row)?;
            tally.add(at.1);
            if let Some(place) = ended_place(command.status) {
                totals.entry(command.id.server).or_default()[place] += 1;
            }
            self.order_of(&command)
        })?;
        self.totals = totals;
        Ok(tally)
    }

    /// Lists name commands that have ended on their server, and every such command once. Rows of the lists by server.
    fn lists(
        &self,
        look: &mut Inspection<'_>,
        reader: &ReadTransaction,
        meta: &StoreMeta,
        ended: &Tally,
    ) -> Result<HashMap<u32, u64>, StorageError> {
        let (mut listed, mut by_server) = (Tally::default(), HashMap::new());
        look.walk(reader, self.file, (ENDED_BY_SERVER, "ended_by_server"), |(checkpoint, server), row| {
            let flawed = at(format!("{checkpoint},{server}"));
            *by_server.entry(server).or_default() += 1;
            let list = EndedIndex::decode(checkpoint, ServerId(server), row).map_err(&flawed)?;
            if checkpoint > meta.checkpoint || list.before >= checkpoint {
                return Err(flawed(Flaw::new("it does not come after the list before it")));
            }
            for seq in list.seqs {
                listed.add(seq.0);
                let id = CommandId { server: ServerId(server), seq };
                match self.ended(id).map_err(&flawed)? {
                    Some(_) => {}
                    None => return Err(flawed(Flaw::new(format!("{} is not in ended_blocks", seq.0)))),
                }
            }
            Ok(())
        })?;
        if listed != *ended {
            self.unlisted(look, reader, &ENDED, "ended_by_server")?;
        }
        Ok(by_server)
    }

    /// Names the rows of a table that no list names, or says that one is named twice.
    fn unlisted<K: Place>(
        &self,
        look: &mut Inspection<'_>,
        reader: &ReadTransaction,
        blocks: &Blocks<K>,
        lists: &str,
    ) -> Result<(), StorageError> {
        let (before, mut seen, mut twice) = (look.report.damaged, HashSet::new(), None);
        let mut note = |seqs: Vec<Seq>| {
            seqs.into_iter().for_each(|seq| {
                if !seen.insert(seq.0) {
                    twice = Some(seq.0);
                }
            })
        };
        if lists == "orders_by_checkpoint" {
            look.walk(reader, self.file, (ORDERS_BY_CHECKPOINT, "orders_by_checkpoint"), |(c, n), row| {
                note(OrderIndex::decode(c, n, row).map_err(at(n))?.seqs);
                Ok(())
            })?;
        } else {
            look.walk(reader, self.file, (ENDED_BY_SERVER, "ended_by_server"), |(c, n), row| {
                note(EndedIndex::decode(c, ServerId(n), row).map_err(at(n))?.seqs);
                Ok(())
            })?;
        }
        look.walk_blocks(reader, self.file, blocks, |at, _| match seen.contains(&at.seq().0) {
            true => Ok(()),
            false => Err(Flaw::new(format!("no row of {lists} names it"))),
        })?;
        if let Some(seq) = twice.filter(|_| look.report.damaged == before) {
            look.damage(lists, format!("{seq} is named twice"));
        }
        Ok(())
    }

    /// Totals are not below what is there, and the list of a server leads to all its rows.
    fn servers(
        &self,
        look: &mut Inspection<'_>,
        reader: &ReadTransaction,
        by_server: &HashMap<u32, u64>,
    ) -> Result<(), StorageError> {
        let mut known = HashSet::new();
        look.walk(reader, self.file, (SERVERS, "servers"), |server, row| {
            let flawed = at(server);
            known.insert(server);
            let entry = ServerEntry::decode(ServerId(server), row).map_err(&flawed)?;
            let there = self.totals.get(&ServerId(server)).copied().unwrap_or_default();
            let newer = self.facts.endings.get(&ServerId(server)).copied().unwrap_or_default();
            for (place, what) in ["completed", "cancelled", "expired"].into_iter().enumerate() {
                if there[place] > entry.ended[place] + newer[place] {
                    let (rows, total) = (there[place], entry.ended[place]);
                    return Err(flawed(Flaw::new(format!("{rows} {what} where {total} were counted"))));
                }
            }
            let reached = self.reached(server, entry.newest).map_err(&flawed)?;
            let rows = by_server.get(&server).copied().unwrap_or_default();
            if reached != rows {
                let flaw = format!("its list leads to {reached} of its {rows} rows in ended_by_server");
                return Err(flawed(Flaw::new(flaw)));
            }
            Ok(())
        })?;
        let mut unknown: Vec<&u32> = by_server.keys().filter(|server| !known.contains(server)).collect();
        unknown.sort_unstable();
        for server in unknown {
            look.damage(
                &format!("servers/{server}"),
                "the row is missing, and ended_by_server has some of it",
            );
        }
        Ok(())
    }

    /// Rows of a server's list from its newest on.
    fn reached(&self, server: u32, newest: u64) -> Result<u64, Flaw> {
        let (mut checkpoint, mut reached) = (newest, 0);
        loop {
            let row = self.lists.get((checkpoint, server)).map_err(|error| Flaw::new(error.to_string()))?;
            let Some(row) = row else { return Ok(reached) };
            let before = EndedIndex::decode(checkpoint, ServerId(server), row.value())?.before;
            reached += 1;
            if before >= checkpoint {
                return Ok(reached);
            }
            checkpoint = before;
        }
    }

    /// Orders have their commands, and are listed once.
    fn orders(
        &self,
        look: &mut Inspection<'_>,
        reader: &ReadTransaction,
        meta: &StoreMeta,
    ) -> Result<(), StorageError> {
        let mut tally = Tally::default();
        look.walk_blocks(reader, self.file, &ORDERS, |seq, row| {
            tally.add(seq);
            self.commands_of(&decode_order(Seq(seq), row)?)
        })?;
        let mut listed = Tally::default();
        let lists = (ORDERS_BY_CHECKPOINT, "orders_by_checkpoint");
        look.walk(reader, self.file, lists, |(checkpoint, chunk), row| {
            let flawed = at(format!("{checkpoint},{chunk}"));
            if checkpoint > meta.checkpoint {
                return Err(flawed(Flaw::new("its checkpoint is yet to come")));
            }
            for seq in OrderIndex::decode(checkpoint, chunk, row).map_err(&flawed)?.seqs {
                listed.add(seq.0);
                if self.order(seq).map_err(&flawed)?.is_none() {
                    return Err(flawed(Flaw::new(format!("{} is not in order_blocks", seq.0))));
                }
            }
            Ok(())
        })?;
        if listed != tally {
            self.unlisted(look, reader, &ORDERS, "orders_by_checkpoint")?;
        }
        Ok(())
    }

    fn commands_of(&self, order: &OrderRow) -> Result<(), Flaw> {
        for id in &order.commands {
            let found = match self.live(*id)? {
                Some(command) => Some(command),
                None => self.ended(*id)?,
            };
            match found {
                Some(command) if command.id == *id && command.order == order.id => {}
                Some(_) => return Err(Flaw::new(format!("its command {id} belongs to another order"))),
                None if self.facts.commands.contains(&id.seq) => {}
                None if order.accepted_at < self.complete_since => {}
                None => return Err(Flaw::new(format!("its command {id} is missing"))),
            }
        }
        Ok(())
    }

    /// Idempotency keys stand for orders that are there.
    fn keys(&self, look: &mut Inspection<'_>, reader: &ReadTransaction) -> Result<(), StorageError> {
        look.walk(reader, self.file, (KEYS, "keys"), |(checkpoint, chunk), row| {
            let flawed = at(format!("{checkpoint},{chunk}"));
            let (_, keys) = decode_keys(checkpoint, chunk, row).map_err(&flawed)?;
            for key in keys {
                let key = key.map_err(&flawed)?;
                let order = self.order(key.order.seq).map_err(&flawed)?;
                let known = match order {
                    Some(order) => order.id == key.order,
                    None => self.facts.orders.contains(&key.order) || key.at < self.complete_since,
                };
                if !known {
                    let flaw = format!("a key's order, {}, is missing or another one's", key.order);
                    return Err(flawed(Flaw::new(flaw)));
                }
            }
            Ok(())
        })
    }
}
