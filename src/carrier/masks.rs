//! The masks of a WebSocket client's messages: unpredictable, as RFC 6455 section 5.3 wants them, and no system call each.

use rand::Rng;

/// Bytes of a mask.
pub(super) const MASK_BYTES: usize = 4;

/// A mask of the thread's generator, which is seeded by the system and cryptographically secure.
pub(super) fn draw() -> [u8; MASK_BYTES] {
    rand::rng().next_u32().to_ne_bytes()
}

/// Applies a mask to the whole payload of one message.
pub(super) fn apply(mask: [u8; MASK_BYTES], payload: &mut [u8]) {
    let mut words = payload.chunks_exact_mut(MASK_BYTES);
    for word in &mut words {
        word.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
    words.into_remainder().iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mask_comes_twice() {
        let mut drawn: Vec<_> = (0..128).map(|_| draw()).collect();
        drawn.sort_unstable();
        drawn.dedup();
        // 128 draws out of 2^32 meet with 2^-19.
        assert!(drawn.len() >= 127);
    }

    #[test]
    fn the_example_of_the_rfc() {
        let mut payload = *b"Hello";
        apply([0x37, 0xfa, 0x21, 0x3d], &mut payload);
        assert_eq!(payload, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        apply([0x37, 0xfa, 0x21, 0x3d], &mut payload);
        assert_eq!(&payload, b"Hello");
    }
}
