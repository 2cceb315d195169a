//! The masks of a WebSocket client's messages: unpredictable, as RFC 6455 section 5.3 wants them, and one system call for
//! many.

/// Bytes of a mask.
pub(super) const MASK_BYTES: usize = 4;
/// Masks drawn at once.
const DRAWN: usize = 32;

/// Masks that were drawn and not used.
#[derive(Debug)]
pub(super) struct Masks {
    drawn: [[u8; MASK_BYTES]; DRAWN],
    used: usize,
}

impl Masks {
    pub(super) fn new() -> Masks {
        Masks { drawn: [[0; MASK_BYTES]; DRAWN], used: DRAWN }
    }

    /// The next mask; each is given out once.
    pub(super) fn take(&mut self) -> [u8; MASK_BYTES] {
        if self.used == DRAWN {
            getrandom::fill(self.drawn.as_flattened_mut()).expect("the system's random source works");
            self.used = 0;
        }
        self.used += 1;
        self.drawn[self.used - 1]
    }
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
        let mut masks = Masks::new();
        let mut taken: Vec<_> = (0..4 * DRAWN).map(|_| masks.take()).collect();
        taken.sort_unstable();
        taken.dedup();
        // 128 draws out of 2^32 meet with 2^-19.
        assert!(taken.len() >= 4 * DRAWN - 1);
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
