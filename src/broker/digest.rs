//! The canonical bytes of an order, so that "the same key with another body" can be told.
//!
//! Everything that the publisher gave counts, the key itself apart; each part carries its length, so that no two
//! orders share their bytes.

use super::request::{OrderRequest, RequestedCommand, Target};
use crate::engine::{Labels, Player};

/// Bytes of an order with one short command and nothing else: most need no second allocation.
const USUAL_BYTES: usize = 384;

/// The order's canonical bytes, whole: a hash of one piece costs a fraction of one of many.
pub(super) fn canonical(order: &OrderRequest) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    let out = &mut bytes;
    text(order.reference.as_deref(), out);
    player(order.player.as_ref(), out);
    out.extend_from_slice(&[u8::from(order.ordered)]);
    number(order.commands.len() as u64, out);
    for command in &order.commands {
        requested(command, out);
    }
    bytes
}

fn requested(requested: &RequestedCommand, out: &mut Vec<u8>) {
    let command = &requested.command;
    match requested.target {
        Target::All => number(0, out),
        Target::One(server) => number(u64::from(server.0), out),
    }
    text(Some(&command.text), out);
    player(command.player.as_ref(), out);
    out.extend_from_slice(&[u8::from(command.require_online), command.on_doubt as u8]);
    optional(requested.delay.map(|delay| delay.0), out);
    optional(command.not_before.map(|at| at.0), out);
    optional(command.expires_at.map(|at| at.0), out);
    let none = Labels::default();
    let labels = command.labels.as_deref().unwrap_or(&none);
    text(labels.stage.as_deref(), out);
    text(labels.metadata.as_deref(), out);
}

fn player(player: Option<&Player>, out: &mut Vec<u8>) {
    text(player.map(|player| &*player.name), out);
    out.extend_from_slice(&player.and_then(|player| player.uuid).map_or([0; 17], |uuid| {
        let mut bytes = [1; 17];
        bytes[1..].copy_from_slice(&uuid.to_le_bytes());
        bytes
    }));
}

fn text(text: Option<&str>, out: &mut Vec<u8>) {
    optional(text.map(|text| text.len() as u64), out);
    out.extend_from_slice(text.unwrap_or_default().as_bytes());
}

fn optional(value: Option<u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[u8::from(value.is_some())]);
    number(value.unwrap_or(0), out);
}

fn number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{NewCommand, OnDoubt};
    use crate::ids::ServerId;
    use crate::time::{Millis, UnixMs};

    fn order() -> OrderRequest {
        let command = NewCommand {
            server: ServerId(0),
            text: "say hi".into(),
            player: None,
            require_online: false,
            not_before: None,
            expires_at: None,
            on_doubt: OnDoubt::Hold,
            labels: None,
        };
        let commands = vec![RequestedCommand { target: Target::One(ServerId(1)), delay: None, command }];
        OrderRequest { key: Some("k".into()), reference: None, player: None, ordered: false, commands }
    }

    #[test]
    fn every_field_but_the_key_counts() {
        let base = order();
        let changes: [fn(&mut OrderRequest); 12] = [
            |o| o.reference = Some("r".into()),
            |o| o.player = Some(Player { name: "Steve".into(), uuid: None }),
            |o| o.player = Some(Player { name: "Steve".into(), uuid: Some(0) }),
            |o| o.ordered = true,
            |o| o.commands.push(o.commands[0].clone()),
            |o| o.commands[0].target = Target::All,
            |o| o.commands[0].delay = Some(Millis(1)),
            |o| o.commands[0].command.text = "say ho".into(),
            |o| o.commands[0].command.require_online = true,
            |o| o.commands[0].command.not_before = Some(UnixMs(0)),
            |o| o.commands[0].command.on_doubt = OnDoubt::Rerun,
            |o| {
                o.commands[0].command.labels =
                    Some(Box::new(Labels { stage: None, metadata: Some("{}".into()) }))
            },
        ];
        let mut seen = vec![canonical(&base)];
        for change in changes {
            let mut changed = order();
            change(&mut changed);
            let changed = canonical(&changed);
            assert!(!seen.contains(&changed), "{changed:?}");
            seen.push(changed);
        }
        let other_key = OrderRequest { key: None, ..base.clone() };
        assert_eq!(canonical(&other_key), canonical(&base));
    }
}
