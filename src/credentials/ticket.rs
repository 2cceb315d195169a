//! The bytes of a resume ticket: what it says, sealed with a key. Whether what it says still holds is not known here.
//!
//! ```text
//! at  0     1    2       6           10          18
//!     ver.  key  server  generation  expires_at  BLAKE3 over bytes 0 to 17, keyed, 16 bytes
//!     1     u8   u32     u32         u64 ms      (numbers are little-endian)
//! ```
//! A client keeps it as it is. It is a bearer's ticket: whoever shows it is let in as its server until it expires or
//! the server's generation rises, as often as it is shown.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::ids::ServerId;
use crate::limits::TICKET_BYTES_MAX;
use crate::time::UnixMs;

/// Bytes of a ticket.
pub const TICKET_BYTES: usize = CLAIM_BYTES + MAC_BYTES;

const CLAIM_BYTES: usize = 18;
const MAC_BYTES: usize = 16;
const _: () = assert!(TICKET_BYTES <= 64 && TICKET_BYTES <= TICKET_BYTES_MAX);
/// The first byte of this form of ticket.
const VERSION: u8 = 1;

/// A ticket to be given out. `Debug` shows nothing of it; it is overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket([u8; TICKET_BYTES]);

impl Ticket {
    /// The bytes to send.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(...)")
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What a ticket says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketClaim {
    /// Who may log in with it.
    pub server: ServerId,
    /// Of the server's token when it was given out.
    pub generation: u32,
    /// It is worth nothing from then on.
    pub expires_at: UnixMs,
}

/// Seals a claim; `number` says later which key it was.
pub(super) fn seal(claim: TicketClaim, number: u8, mac_key: &[u8; 32]) -> Ticket {
    let mut bytes = [0; TICKET_BYTES];
    bytes[0] = VERSION;
    bytes[1] = number;
    bytes[2..6].copy_from_slice(&claim.server.0.to_le_bytes());
    bytes[6..10].copy_from_slice(&claim.generation.to_le_bytes());
    bytes[10..18].copy_from_slice(&claim.expires_at.0.to_le_bytes());
    let mac = mac(&bytes[..CLAIM_BYTES], mac_key);
    bytes[CLAIM_BYTES..].copy_from_slice(&mac);
    Ticket(bytes)
}

/// The number of the key that a presented ticket names; `None` when it has not the form of one.
pub(super) fn key_number(presented: &[u8]) -> Option<u8> {
    (presented.len() == TICKET_BYTES && presented[0] == VERSION).then(|| presented[1])
}

/// What a presented ticket says, if it was sealed with this key; to be called only after [`key_number`] found one.
pub(super) fn open(presented: &[u8], mac_key: &[u8; 32]) -> Option<TicketClaim> {
    let (claim, presented_mac) = presented.split_at_checked(CLAIM_BYTES)?;
    let right: bool = mac(claim, mac_key).as_slice().ct_eq(presented_mac).into();
    let number = |from: usize| u32::from_le_bytes(claim[from..from + 4].try_into().expect("four bytes"));
    right.then(|| TicketClaim {
        server: ServerId(number(2)),
        generation: number(6),
        expires_at: UnixMs(u64::from_le_bytes(claim[10..18].try_into().expect("eight bytes"))),
    })
}

fn mac(claim: &[u8], mac_key: &[u8; 32]) -> [u8; MAC_BYTES] {
    let hash = blake3::keyed_hash(mac_key, claim);
    hash.as_bytes()[..MAC_BYTES].try_into().expect("32 bytes have 16")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: TicketClaim =
        TicketClaim { server: ServerId(7), generation: 3, expires_at: UnixMs(1_700_000_000_000) };

    #[test]
    fn has_the_documented_bytes() {
        let ticket = seal(CLAIM, 9, &[1; 32]);
        let claim = [1, 9, 7, 0, 0, 0, 3, 0, 0, 0, 0x00, 0x68, 0xe5, 0xcf, 0x8b, 0x01, 0, 0];
        assert_eq!(ticket.reveal()[..CLAIM_BYTES], claim);
        assert_eq!(ticket.reveal()[CLAIM_BYTES..], blake3::keyed_hash(&[1; 32], &claim).as_bytes()[..16]);
        assert_eq!(key_number(ticket.reveal()), Some(9));
        assert_eq!(open(ticket.reveal(), &[1; 32]), Some(CLAIM));
        assert_eq!(open(ticket.reveal(), &[2; 32]), None, "another key");
    }

    #[test]
    fn any_other_form_is_refused() {
        let ticket = seal(CLAIM, 9, &[1; 32]);
        for length in 0..TICKET_BYTES {
            assert_eq!(key_number(&ticket.reveal()[..length]), None, "{length} bytes");
        }
        let longer = [ticket.reveal(), &[0]].concat();
        assert_eq!((key_number(&longer), open(&longer, &[1; 32])), (None, None));
        let mut newer = ticket.reveal().to_vec();
        newer[0] = 2;
        assert_eq!(key_number(&newer), None);
    }

    #[test]
    fn nothing_of_it_is_printed() {
        assert_eq!(format!("{:?}", seal(CLAIM, 9, &[1; 32])), "Ticket(...)");
    }
}
