//! What a client's first message tells before the handshake: the ticket of a session that it wants to resume. Looks only;
//! decides nothing, and whatever it cannot read has no ticket: the handshake itself will say what is wrong with it.

/// The record type and the message type that a handshake begins with.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The extension with a ticket of TLS 1.2.
const SESSION_TICKET: u16 = 35;
/// The extension with tickets of TLS 1.3, each with four bytes of age.
const PRE_SHARED_KEY: u16 = 41;

/// The first ticket in a client's first record. The message has to be in it as a whole.
pub(super) fn ticket(record: &[u8]) -> Option<&[u8]> {
    let mut record = Reader(record);
    (record.u8()? == HANDSHAKE).then_some(())?;
    record.skip(2)?;
    let length = record.u16()?;
    let mut message = Reader(record.take(length.into())?);
    (message.u8()? == CLIENT_HELLO).then_some(())?;
    let (high, low) = (message.u8()?, message.u16()?);
    let mut hello = Reader(message.take(usize::from(high) << 16 | usize::from(low))?);
    // Version and random; then the session's id, suites and compressions.
    hello.skip(2 + 32)?;
    let session_id = hello.u8()?;
    hello.skip(session_id.into())?;
    let suites = hello.u16()?;
    hello.skip(suites.into())?;
    let compressions = hello.u8()?;
    hello.skip(compressions.into())?;
    let extensions = hello.u16()?;
    let mut extensions = Reader(hello.take(extensions.into())?);
    loop {
        let (kind, length) = (extensions.u16()?, extensions.u16()?);
        let data = extensions.take(length.into())?;
        match kind {
            SESSION_TICKET if !data.is_empty() => return Some(data),
            PRE_SHARED_KEY => {
                let mut identities = Reader(data);
                identities.skip(2)?;
                let length = identities.u16()?;
                return identities.take(length.into());
            }
            _ => {}
        }
    }
}

/// Takes bytes off the front; big-endian, as TLS is.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, length: usize) -> Option<()> {
        self.take(length).map(drop)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}
