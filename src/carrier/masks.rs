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
    let (words, rest) = payload.as_chunks_mut::<MASK_BYTES>();
    let number = u32::from_ne_bytes(mask);
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ number).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
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
    fn each_byte_has_its_byte_of_the_mask() {
        let mask = [1, 2, 4, 8];
        for length in 0..70 {
            let mut payload: Vec<u8> = (0..length).collect();
            apply(mask, &mut payload);
            let masked = (0..length).map(|place| place ^ mask[usize::from(place) % MASK_BYTES]);
            assert!(masked.eq(payload), "{length} bytes");
        }
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
