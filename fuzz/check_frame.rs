//! What must hold for any bytes; run by the fuzzer and, over its corpus and random bytes, by `tests/wire.rs`.

use bytes::BytesMut;
use fluxrelay::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_BEFORE_LOGIN};
use fluxrelay::protocol::{Request, Response, check};
use fluxrelay::time::UnixMs;

/// Panics if decoding `data` in either direction breaks a promise of the codec.
pub(crate) fn check_frame(data: &[u8]) {
    for max in [FRAME_BYTES_MAX_BEFORE_LOGIN, FRAME_BYTES_MAX] {
        request(data, max);
        response(data, max);
        let frames = Request::decode_all(data, max).count();
        assert!(frames <= data.len().div_ceil(4), "a frame has at least 4 bytes");
        assert!(Response::decode_all(data, max).count() <= data.len().div_ceil(4));
    }
}

fn request(data: &[u8], max: usize) {
    let Ok(Some((request, used))) = Request::decode(data, max) else { return };
    assert!(used <= data.len() && used <= max);
    if let Request::Publish(publish) = &request
        && let Err(invalid) = check::publish(UnixMs(1_800_000_000_000), publish)
    {
        assert!(invalid.to_string().len() < 200, "an error never holds what the peer sent");
    }
    if let Request::Skipped { kind } = request {
        return assert!(kind >= 0x80);
    }
    let mut again = BytesMut::new();
    request.encode(&mut again).expect("what was decoded fits in a frame");
    if matches!(request, Request::PluginHello(_) | Request::PublisherHello(_)) {
        assert!(again.len() <= used, "a hello may have unknown bytes at its end");
    } else {
        assert_eq!(again[..], data[..used], "each frame has one form");
    }
    assert_eq!(Request::decode(&again, max), Ok(Some((request, again.len()))));
}

fn response(data: &[u8], max: usize) {
    let Ok(Some((response, used))) = Response::decode(data, max) else { return };
    assert!(used <= data.len() && used <= max);
    if let Response::Skipped { kind } = response {
        return assert!(kind >= 0x80);
    }
    let mut again = BytesMut::new();
    response.encode(&mut again).expect("what was decoded fits in a frame");
    assert_eq!(again[..], data[..used], "each frame has one form");
    assert_eq!(Response::decode(&again, max), Ok(Some((response, used))));
}
