//! What the broker may ask of the disk: the two traits, and the plain data that they take and give.
//!
//! Owns no behaviour; `journal/` and `rest/` implement the traits.

use std::sync::Arc;

use super::error::StorageError;
use super::journal::Room;
use crate::engine::{Change, CommandRow, ImagePart, KeyRow, OrderRow, ServerRow, Status};
use crate::ids::{CommandId, FrameNo, OrderId, Seq, ServerId, ShardNo};
use crate::time::UnixMs;

/// The number of a group commit, from 1, rising without a gap over all shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommitNo(pub u64);

/// A sealed, encoded frame: the changes of one step or more of one shard.
#[derive(Debug, Clone)]
pub struct EncodedFrame {
    /// Whose.
    pub shard: ShardNo,
    /// Its number.
    pub no: FrameNo,
    /// Header and archived changes, as on disk.
    pub bytes: Vec<u8>,
}

/// The ordered, durable changes.
pub trait Journal: Send {
    /// Stores the frames of one group commit, all or none, and returns once they are durable.
    ///
    /// # Errors
    /// Any: the journal must not be used again; what was appended may or may not be found at the next start.
    fn append(&mut self, frames: &[EncodedFrame]) -> Result<CommitNo, StorageError>;

    /// Forgets all commits up to and including this one. Durable with the next append at the latest.
    ///
    /// # Errors
    /// As [`Journal::append`].
    fn trim(&mut self, upto: CommitNo) -> Result<(), StorageError>;

    /// Nothing came for a while: what was put off is done, and space that is not needed is given back.
    ///
    /// # Errors
    /// As [`Journal::append`].
    fn idle(&mut self) -> Result<(), StorageError>;

    /// Whether [`Journal::claim_room`] would give something to do.
    fn wants_room(&self) -> bool {
        false
    }

    /// Room for commits to come that somebody should [make](Room::make) beside them, and then bring back; one at a time.
    fn claim_room(&mut self) -> Option<Room> {
        None
    }

    /// What was claimed, made or not.
    fn bring_room(&mut self, _: Room) {}
}

/// A frame as found at start-up.
#[derive(Debug)]
pub struct RecoveredFrame {
    /// The group commit that held it.
    pub commit: CommitNo,
    /// Whose.
    pub shard: ShardNo,
    /// Its number.
    pub no: FrameNo,
    /// What happened.
    pub changes: Vec<Change>,
}

/// One checkpoint of all shards.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// All parts of all shards.
    pub parts: Vec<ImagePart>,
    /// For each shard, the frame at which its totals are exact.
    pub totals: Vec<(ShardNo, FrameNo)>,
}

/// What comes next in a checkpoint.
#[derive(Debug)]
pub enum NextPart {
    /// A part.
    Part(Box<ImagePart>),
    /// All parts were given.
    Complete,
    /// There will be no more although some are missing: store nothing.
    Abandoned,
}

/// A page of ended commands.
#[derive(Debug, Default)]
pub struct EndedPage {
    /// Newest checkpoint first, within it by rising seq.
    pub commands: Vec<CommandRow>,
    /// Where the next page starts.
    pub next: Option<EndedCursor>,
}

/// A place in the ended commands of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedCursor {
    /// The index row (a checkpoint's number).
    pub checkpoint: u64,
    /// The command within it after which to go on.
    pub after: Seq,
}

/// What the journal amounts to, kept apart so that the journal can be trimmed.
pub trait Rest: Send + Sync {
    /// Stores a checkpoint, all or nothing, and returns true once it is durable. `next` gives its parts one by
    /// one, those of a shard in order; when it gives up, nothing is stored and false is returned. `totals`: for
    /// each shard, the frame at which its totals are exact.
    ///
    /// # Errors
    /// Any: the process must stop.
    fn write_parts(
        &self,
        totals: &[(ShardNo, FrameNo)],
        next: &mut dyn FnMut() -> NextPart,
    ) -> Result<bool, StorageError>;

    /// Stores a checkpoint whose parts are all there.
    ///
    /// # Errors
    /// As [`Rest::write_parts`].
    fn write(&self, checkpoint: Checkpoint) -> Result<(), StorageError> {
        let mut parts = checkpoint.parts.into_iter();
        let mut next = || parts.next().map_or(NextPart::Complete, |part| NextPart::Part(Box::new(part)));
        self.write_parts(&checkpoint.totals, &mut next).map(drop)
    }

    /// A command, live or ended.
    ///
    /// # Errors
    /// Damage, or a failed read.
    fn command(&self, id: CommandId) -> Result<Option<CommandRow>, StorageError>;

    /// Gives these rows, which were in memory a moment ago, the texts that only the store has. One that has changed at rest
    /// since becomes what it is there.
    ///
    /// # Errors
    /// Damage, or a failed read.
    fn complete(&self, rows: &mut [CommandRow]) -> Result<(), StorageError>;

    /// Reads the texts of a server's live commands, by rising seq: from the first on, until they are `bytes_max` together, one
    /// at the least. Those that have ended are left out.
    ///
    /// # Errors
    /// Damage, or a failed read.
    fn texts(
        &self,
        server: ServerId,
        seqs: &[Seq],
        bytes_max: usize,
    ) -> Result<Vec<(Seq, Arc<str>)>, StorageError>;

    /// An order.
    ///
    /// # Errors
    /// Damage, or a failed read.
    fn order(&self, id: OrderId) -> Result<Option<OrderRow>, StorageError>;

    /// Ended commands of a server.
    ///
    /// # Errors
    /// Damage, or a failed read.
    fn ended(
        &self,
        server: ServerId,
        status: Option<Status>,
        from: Option<EndedCursor>,
        limit: usize,
    ) -> Result<EndedPage, StorageError>;

    /// Removes what ended (and orders accepted) before `ended_before`, keys accepted before `keys_before`; at most
    /// `rows_max` rows in one transaction. Returns how many went; fewer than `rows_max` = all done.
    ///
    /// # Errors
    /// As [`Rest::write`].
    fn expire(
        &self,
        ended_before: UnixMs,
        keys_before: UnixMs,
        rows_max: usize,
    ) -> Result<usize, StorageError>;
}

/// What recovery hands to the shards, piece by piece, in this order: servers' totals, live commands, keys, then
/// changes in commit order.
#[derive(Debug)]
pub enum Recovered {
    /// A server's totals.
    Server(ServerRow),
    /// A live command at rest.
    Live(Box<CommandRow>),
    /// A remembered key.
    Key(KeyRow),
    /// A frame of the journal. `count` = its ended commands are not in the totals yet.
    Frame {
        /// The frame.
        frame: RecoveredFrame,
        /// See above.
        count: bool,
    },
}
