//! An order as a publisher builds it, and its frame.

use std::time::Duration;

use bytes::BytesMut;
use rand::Rng;

use super::options::Player;
use crate::ids::{CommandId, OrderId, ServerId};
use crate::protocol::{EncodeError, OrderHead, PublishCommand, encode_publish};
use crate::time::UnixMs;

/// Which servers run a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Servers {
    /// This one.
    One(ServerId),
    /// Every server of the store.
    All,
}

/// One command of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderCommand {
    /// Who runs it.
    pub servers: Servers,
    /// 1 to `COMMAND_BYTES_MAX` bytes, no CR, LF or NUL.
    pub text: String,
    /// Whom it is for; `None` = the order's player.
    pub player: Option<Player>,
    /// Only while the player is online.
    pub require_online: bool,
    /// It may be run again when nobody can say whether it ran; otherwise it is held as `in_doubt`.
    pub rerun: bool,
    /// Not before so long after acceptance.
    pub delay: Option<Duration>,
    /// Not before this instant.
    pub not_before: Option<UnixMs>,
    /// Not after this instant.
    pub expires_at: Option<UnixMs>,
    /// A label.
    pub stage: Option<String>,
    /// A JSON object as text.
    pub metadata: Option<String>,
}

impl OrderCommand {
    /// A command without conditions.
    pub fn new(servers: Servers, text: impl Into<String>) -> OrderCommand {
        OrderCommand {
            servers,
            text: text.into(),
            player: None,
            require_online: false,
            rerun: false,
            delay: None,
            not_before: None,
            expires_at: None,
            stage: None,
            metadata: None,
        }
    }
}

/// What is accepted whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// The idempotency key; a random one is made when it is absent, so that sending again after a lost connection is
    /// safe. Give your own to be safe across restarts of your process too.
    pub key: Option<String>,
    /// Your own name for it.
    pub reference: Option<String>,
    /// The player of every command that names none.
    pub player: Option<Player>,
    /// Each command waits until the one before it on the same server has ended.
    pub ordered: bool,
    /// 1 to `ORDER_COMMANDS_MAX`.
    pub commands: Vec<OrderCommand>,
}

impl Order {
    /// An order of one command.
    pub fn one(servers: Servers, text: impl Into<String>) -> Order {
        Order { commands: vec![OrderCommand::new(servers, text)], ..Order::default() }
    }

    /// Its publish frame.
    pub(super) fn frame(&self, request: u64) -> Result<BytesMut, EncodeError> {
        let mut random = [0; 32];
        let head = OrderHead {
            key: Some(match &self.key {
                Some(key) => key,
                None => random_key(&mut random),
            }),
            reference: self.reference.as_deref(),
            player: self.player.as_ref().map(Player::as_ref),
            ordered: self.ordered,
        };
        let mut frame = BytesMut::with_capacity(
            128 + self.commands.iter().map(|each| each.text.len() + 32).sum::<usize>(),
        );
        encode_publish(&mut frame, request, &head, self.commands.iter().map(OrderCommand::as_ref))?;
        Ok(frame)
    }
}

impl OrderCommand {
    fn as_ref(&self) -> PublishCommand<'_> {
        PublishCommand {
            server: match self.servers {
                Servers::One(server) => server.0,
                Servers::All => 0,
            },
            text: &self.text,
            player: self.player.as_ref().map(Player::as_ref),
            require_online: self.require_online,
            rerun: self.rerun,
            delay_ms: self.delay.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            not_before: self.not_before.map(|at| at.0),
            expires_at: self.expires_at.map(|at| at.0),
            stage: self.stage.as_deref(),
            metadata: self.metadata.as_deref(),
        }
    }
}

/// 128 random bits in hexadecimal.
fn random_key(text: &mut [u8; 32]) -> &str {
    let mut bits = [0; 16];
    rand::rng().fill_bytes(&mut bits);
    for (pair, byte) in text.chunks_exact_mut(2).zip(bits) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    std::str::from_utf8(text).expect("hexadecimal digits")
}

/// The answer to an order that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The order.
    pub order: OrderId,
    /// It had been accepted before under the same key; nothing was added.
    pub replayed: bool,
    /// In the order of the commands, "all servers" expanded.
    pub commands: Vec<CommandId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FRAME_BYTES_MAX;
    use crate::protocol::Request;

    fn key(order: &Order) -> String {
        let frame = order.frame(9).unwrap();
        let Some((Request::Publish(publish), _)) = Request::decode(&frame, FRAME_BYTES_MAX).unwrap() else {
            panic!()
        };
        assert_eq!(publish.request, 9);
        publish.order.key.unwrap().to_owned()
    }

    #[test]
    fn an_order_without_a_key_gets_a_random_one() {
        let mut order = Order::one(Servers::All, "say hi");
        let (first, second) = (key(&order), key(&order));
        assert_eq!(first.len(), 32);
        assert_ne!(first, second);
        order.key = Some("mine".into());
        assert_eq!(key(&order), "mine");
    }
}
