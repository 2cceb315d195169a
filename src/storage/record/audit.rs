//! A record of the audit trail as it lies on disk, and both conversions.

use std::net::SocketAddr;

use rkyv::{Archive, Serialize};

use super::{Flaw, Kind, access, seal, unseal};
use crate::credentials::Scope;
use crate::ids::{AuditId, CommandId, KeyId, Seq, ServerId, StoreId};
use crate::limits::NAME_BYTES_MAX;
use crate::storage::registry::{Actor, AuditAction, AuditOutcome, AuditRecord, AuditTarget, Who};
use crate::time::UnixMs;

/// `who` of a record that no key made; the others are the ordinals of `Scope`.
const WHO_LOCAL: u8 = 0;

/// Ids that are not there are 0, texts are empty.
#[derive(Archive, Serialize)]
pub(crate) struct AuditV1 {
    at: u64,
    action: u8,
    outcome: u8,
    who: u8,
    by_key: u32,
    by_store: u32,
    address: String,
    store: u32,
    server: u32,
    key: u32,
    command: u64,
    /// 1 when `commands` and `digest` mean something.
    many: u8,
    commands: u32,
    digest: [u8; 16],
    name: String,
}

/// A record as a sealed row.
pub(crate) fn encode_audit(record: &AuditRecord) -> Vec<u8> {
    let AuditRecord { id, at, action, outcome, by, on } = record;
    let (who, by_key, by_store) = match by.who {
        Who::Local => (WHO_LOCAL, 0, 0),
        Who::Admin => (Scope::Admin as u8, 0, 0),
        Who::Key { id, scope, store } => (scope as u8, id.0, store.0),
    };
    let (commands, digest) = on.commands.unwrap_or_default();
    let row = AuditV1 {
        at: at.0,
        action: *action as u8,
        outcome: *outcome as u8,
        who,
        by_key,
        by_store,
        address: by.address.map(|address| address.to_string()).unwrap_or_default(),
        store: on.store.map_or(0, |id| id.0),
        server: on.command.map(|command| command.server).or(on.server).map_or(0, |id| id.0),
        key: on.key.map_or(0, |id| id.0),
        command: on.command.map_or(0, |command| command.seq.0),
        many: u8::from(on.commands.is_some()),
        commands,
        digest,
        name: on.name.as_deref().unwrap_or_default().to_owned(),
    };
    seal(Kind::Audit, id.0, &row)
}

/// The record in a sealed row.
pub(crate) fn decode_audit(id: AuditId, row: &[u8]) -> Result<AuditRecord, Flaw> {
    let row: &ArchivedAuditV1 = access(unseal(Kind::Audit, id.0, row)?)?;
    let (by_key, by_store) = (KeyId(row.by_key.to_native()), StoreId(row.by_store.to_native()));
    let who = match (row.who, Scope::from_ordinal(row.who)) {
        (WHO_LOCAL, _) => Who::Local,
        (_, Some(Scope::Admin)) => Who::Admin,
        (_, Some(scope)) => Who::Key { id: by_key, scope, store: by_store },
        (_, None) => return Err(Flaw::new("an unknown scope")),
    };
    let address = match row.address.as_str() {
        "" => None,
        text => Some(text.parse::<SocketAddr>().map_err(|_| Flaw::new("an address that is none"))?),
    };
    let name = match row.name.as_str() {
        "" => None,
        name if name.len() > NAME_BYTES_MAX => return Err(Flaw::new("a name out of range")),
        name => Some(name.into()),
    };
    let server = some(row.server.to_native()).map(ServerId);
    let seq = row.command.to_native();
    let on = AuditTarget {
        store: some(row.store.to_native()).map(StoreId),
        server,
        key: some(row.key.to_native()).map(KeyId),
        command: server.filter(|_| seq != 0).map(|server| CommandId { server, seq: Seq(seq) }),
        commands: (row.many != 0).then(|| (row.commands.to_native(), row.digest)),
        name,
    };
    Ok(AuditRecord {
        id,
        at: UnixMs(row.at.to_native()),
        action: AuditAction::from_ordinal(row.action).ok_or_else(|| Flaw::new("an unknown action"))?,
        outcome: AuditOutcome::from_ordinal(row.outcome).ok_or_else(|| Flaw::new("an unknown outcome"))?,
        by: Actor { who, address },
        on,
    })
}

/// An id, unless it is 0.
fn some(id: u32) -> Option<u32> {
    (id != 0).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cancelled() -> AuditRecord {
        let by = Actor {
            who: Who::Key { id: KeyId(3), scope: Scope::Publish, store: StoreId(2) },
            address: Some("192.0.2.7:50514".parse().unwrap()),
        };
        let command = CommandId { server: ServerId(7), seq: Seq(640) };
        let on = AuditTarget {
            store: Some(StoreId(2)),
            server: Some(ServerId(7)),
            command: Some(command),
            ..AuditTarget::default()
        };
        AuditRecord {
            id: AuditId(9),
            at: UnixMs(1_700_000_000_000),
            action: AuditAction::CommandCancelled,
            outcome: AuditOutcome::Done,
            by,
            on,
        }
    }

    #[test]
    fn records_read_back() {
        let key = Who::Key { id: KeyId(4), scope: Scope::Read, store: StoreId(1) };
        for who in [Who::Local, Who::Admin, key] {
            for address in [None, Some("[2001:db8::1]:443".parse().unwrap())] {
                let record = AuditRecord { by: Actor { who, address }, ..cancelled() };
                assert_eq!(decode_audit(AuditId(9), &encode_audit(&record)), Ok(record));
            }
        }
        let many = AuditTarget { commands: Some((0, [7; 16])), ..AuditTarget::default() };
        let key = AuditTarget { key: Some(KeyId(3)), name: Some("läden".into()), ..AuditTarget::default() };
        for on in [AuditTarget::default(), many, key] {
            for &action in AuditAction::ALL {
                let outcome = AuditOutcome::Unknown;
                let record = AuditRecord { on: on.clone(), action, outcome, ..cancelled() };
                assert_eq!(decode_audit(AuditId(9), &encode_audit(&record)), Ok(record));
            }
        }
    }

    /// The bytes in `docs/registry.md`; another layout needs another version.
    #[test]
    fn bytes_are_those_of_the_document() {
        let document = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/registry.md"));
        let row = encode_audit(&cancelled());
        let hex: Vec<String> =
            row.chunks(32).map(|line| line.iter().map(|b| format!("{b:02x}")).collect()).collect();
        let hex = hex.join("\n");
        assert!(document.contains(&format!("```\n{hex}\n```")), "docs/registry.md should have:\n{hex}");
    }

    #[test]
    fn the_document_has_every_action() {
        let document = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/registry.md"));
        for action in AuditAction::ALL {
            let entry = format!("{} `{}`", *action as u8, action.name());
            assert!(document.contains(&entry), "docs/registry.md should have {entry}");
            assert_eq!(AuditAction::read(action.name()), Some(*action));
        }
    }

    #[test]
    fn damage_is_noticed() {
        let row = encode_audit(&cancelled());
        assert!(decode_audit(AuditId(8), &row).is_err(), "a row of another number");
        for at in 0..row.len() {
            let mut damaged = row.clone();
            damaged[at] ^= 1;
            assert!(decode_audit(AuditId(9), &damaged).is_err(), "byte {at}");
        }
    }
}
