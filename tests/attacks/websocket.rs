//! WebSocket below its messages, byte by byte: frames that no client library would send, and pages of other sites.

use std::time::Duration;

use bytes::BytesMut;
use fluxrelay::protocol::{Code, PLUGIN_PATH, PUBLISHER_PATH, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::raw::{Raw, plugin_hello};
use crate::relay::{ANY_LOGINS, Answer, Relay, Server, eventually, soon};

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const CONTINUATION: u8 = 0x0;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const MASKED: u8 = 0x80;

/// An upgraded connection whose frames are made by hand.
struct Socket {
    read: ReadHalf<TcpStream>,
    write: WriteHalf<TcpStream>,
}

fn handshake(relay: &Relay, path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n",
        relay.address
    )
}

/// A frame with a mask of zeros, which is one.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(MASKED | short as u8),
        long => {
            frame.push(MASKED | 126);
            frame.extend(u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fn encoded(request: Request<'_>) -> BytesMut {
    let mut frame = BytesMut::new();
    request.encode(&mut frame).unwrap();
    frame
}

impl Socket {
    /// An upgrade with these header lines, and what was answered.
    async fn open(relay: &Relay, lines: &str) -> (Answer, Socket) {
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        stream.write_all(handshake(relay, PLUGIN_PATH, lines).as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon("the head", stream.read_u8()).await.unwrap());
        }
        let (read, write) = tokio::io::split(stream);
        (Answer::of(&head).unwrap(), Socket { read, write })
    }

    /// A plugin that is logged in.
    async fn plugin(relay: &Relay, server: &Server) -> Socket {
        let (_, mut socket) = Socket::open(relay, "").await;
        socket.login(&server.token).await;
        socket
    }

    async fn login(&mut self, token: &str) {
        self.send(&masked(FIN | BINARY, &encoded(Request::PluginHello(plugin_hello(token))))).await;
        let (_, welcome) = self.frame().await.unwrap();
        assert!(matches!(response(&welcome), Response::PluginWelcome(_)), "{:?}", response(&welcome));
    }

    /// The broker may have closed already; what it said before is what a test looks at.
    async fn send(&mut self, bytes: &[u8]) {
        let _ = soon("a write", self.write.write_all(bytes)).await;
    }

    /// First byte and payload of the next frame; `None` when the connection is closed.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let reading = async {
            let first = self.read.read_u8().await.ok()?;
            let length = match self.read.read_u8().await.ok()? {
                126 => self.read.read_u16().await.ok()?.into(),
                127 => self.read.read_u64().await.ok()?,
                short => u64::from(short),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.read.read_exact(&mut payload).await.ok()?;
            Some((first, payload))
        };
        soon("a frame", reading).await
    }

    /// Reads on to the error frame and the close, and nothing after it.
    async fn ended(&mut self) -> (Code, u16) {
        let mut code = None;
        while let Some((first, payload)) = self.frame().await {
            match first & 0xf {
                BINARY => {
                    if let Response::Error { code: number, .. } = response(&payload) {
                        code = Code::from_number(number);
                    }
                }
                CLOSE => {
                    let close = u16::from_be_bytes([payload[0], payload[1]]);
                    self.send(&masked(FIN | CLOSE, &payload[..2])).await;
                    assert!(self.frame().await.is_none(), "nothing comes after the close");
                    return (code.expect("an error frame before the close"), close);
                }
                _ => {}
            }
        }
        panic!("it was closed without a close frame; the error frame: {code:?}");
    }

    /// Shows that it still works.
    async fn answers(&mut self) {
        self.send(&masked(FIN | BINARY, &encoded(Request::Ping { nonce: 77 }))).await;
        while let Some((first, payload)) = self.frame().await {
            if first & 0xf == BINARY && response(&payload) == (Response::Pong { nonce: 77 }) {
                return;
            }
        }
        panic!("it was closed");
    }
}

fn response(payload: &[u8]) -> Response<'_> {
    Response::decode(payload, 1 << 20).unwrap().unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn unmasked_frames_end_the_connection() {
    let relay = Relay::start(&[]);
    let server = relay.server("lobby").await;
    let hello = encoded(Request::PluginHello(plugin_hello(&server.token)));
    let unmasked = [&[FIN | BINARY, hello.len() as u8][..], &hello].concat();
    let (_, mut stranger) = Socket::open(&relay, "").await;
    stranger.send(&unmasked).await;
    assert_eq!(stranger.ended().await, (Code::ProtocolViolation, 1008));
    let mut plugin = Socket::plugin(&relay, &server).await;
    plugin.send(&[FIN | PING, 0]).await;
    assert_eq!(plugin.ended().await, (Code::ProtocolViolation, 1008));
    relay.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_2_to_the_63_bytes_is_refused_by_its_header() {
    let relay = Relay::start(&[]);
    let server = relay.server("lobby").await;
    let before = relay.memory_peak();
    for length in [1_u64 << 63, u64::MAX, (1 << 63) - 1, 1 << 32, (1 << 20) + 1] {
        for logged_in in [false, true] {
            let (_, mut socket) = Socket::open(&relay, "").await;
            if logged_in {
                socket.login(&server.token).await;
            }
            let header = [&[FIN | BINARY, MASKED | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
            socket.send(&header).await;
            assert_eq!(socket.ended().await, (Code::FrameTooLarge, 1009), "{length}, {logged_in}");
        }
    }
    // A frame of the protocol inside a message, which says that it has 16 MiB.
    let mut plugin = Socket::plugin(&relay, &server).await;
    plugin.send(&masked(FIN | BINARY, &[0x05, 0xff, 0xff, 0xff, 1, 2, 3])).await;
    assert_eq!(plugin.ended().await.0, Code::FrameTooLarge);
    // Control frames have at most 125 bytes, and are never in pieces.
    for bad in [
        masked(FIN | PING, &[0; 126]),
        masked(PING, b"x"),
        masked(FIN | 0x3, b"x"),
        masked(FIN | CONTINUATION, b"x"),
    ] {
        let mut plugin = Socket::plugin(&relay, &server).await;
        plugin.send(&bad).await;
        assert_eq!(plugin.ended().await.0, Code::ProtocolViolation, "{bad:?}");
    }
    assert!(relay.memory_peak() < before + (48 << 20), "nothing is set aside for what is only announced");
    relay.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_without_an_end_are_bounded_in_bytes_and_in_time() {
    let relay = Relay::start(&["--heartbeat-seconds", "1", "--login-timeout-seconds", "1"]);
    let server = relay.server("lobby").await;
    let (_, mut stranger) = Socket::open(&relay, "").await;
    stranger.send(&masked(BINARY, &[0; 1000])).await;
    for _ in 0..4 {
        stranger.send(&masked(CONTINUATION, &[0; 1000])).await;
    }
    assert_eq!(stranger.ended().await, (Code::FrameTooLarge, 1009), "4 KiB before login");
    let mut plugin = Socket::plugin(&relay, &server).await;
    plugin.send(&masked(BINARY, &[0; 32 * 1024])).await;
    for _ in 0..32 {
        plugin.send(&masked(CONTINUATION, &[0; 32 * 1024])).await;
    }
    assert_eq!(plugin.ended().await, (Code::FrameTooLarge, 1009), "1 MiB after it");
    // Pieces without bytes fill no buffer: time ends them.
    for (logged_in, code) in [(false, Code::LoginTimeout), (true, Code::HeartbeatTimeout)] {
        let (_, mut socket) = Socket::open(&relay, "").await;
        if logged_in {
            socket.login(&server.token).await;
        }
        let Socket { read, mut write } = socket;
        let endless = tokio::spawn(async move {
            let pieces = masked(CONTINUATION, b"").repeat(100);
            let _ = write.write_all(&masked(BINARY, b"")).await;
            while write.write_all(&pieces).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            write
        });
        let began = Instant::now();
        let (read, code_found) = first_error(read).await;
        assert_eq!(code_found, code);
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        drop(read);
        endless.abort();
    }
    relay.is_well().await;
}

/// The code of the error frame that comes.
async fn first_error(read: ReadHalf<TcpStream>) -> (ReadHalf<TcpStream>, Code) {
    // The other half is needed to write alone.
    let mut read = read;
    loop {
        let first = soon("a frame", read.read_u8()).await.unwrap();
        let length = match read.read_u8().await.unwrap() {
            126 => read.read_u16().await.unwrap().into(),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        read.read_exact(&mut payload).await.unwrap();
        if first & 0xf == BINARY
            && let Response::Error { code, .. } = response(&payload)
        {
            return (read, Code::from_number(code).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_pings_are_answered_in_bounded_memory_or_not_at_all() {
    let relay = Relay::start(&["--write-timeout-seconds", "1", "--heartbeat-seconds", "1"]);
    let (flooder, other) = (relay.server("flooder").await, relay.server("other").await);
    let before = relay.memory_peak();
    let own_ping = masked(FIN | BINARY, &encoded(Request::Ping { nonce: 1 }).repeat(100));
    for flood in [masked(FIN | PING, &[7; 125]).repeat(100), own_ping] {
        // Read while it is written: nothing is lost, and the connection goes on.
        let Socket { mut read, mut write } = Socket::plugin(&relay, &flooder).await;
        let flooding = async {
            for _ in 0..500 {
                soon("a write", write.write_all(&flood)).await.unwrap();
            }
            let last = masked(FIN | BINARY, &encoded(Request::Ping { nonce: 77 }));
            soon("a write", write.write_all(&last)).await.unwrap();
        };
        let reading = async {
            let marker = encoded_pong(77);
            let mut tail: Vec<u8> = Vec::new();
            let mut bytes = [0; 64 * 1024];
            while !tail.windows(marker.len()).any(|window| window == marker) {
                let count = soon("a pong", read.read(&mut bytes)).await.unwrap();
                assert!(count > 0, "it was closed");
                tail.drain(..tail.len().saturating_sub(64));
                tail.extend(&bytes[..count]);
            }
        };
        tokio::join!(flooding, reading);
        // Never read: the broker stops reading too, and ends it.
        let Socket { read, mut write } = Socket::plugin(&relay, &flooder).await;
        let sessions = async || relay.metric("fluxrelay_plugin_sessions").await;
        let unread = tokio::spawn(async move { while write.write_all(&flood).await.is_ok() {} });
        eventually("the end of who never reads", async || sessions().await == 0).await;
        drop(read);
        unread.abort();
        Raw::plugin(&relay, &other.token).await.vanish();
    }
    assert!(relay.memory_peak() < before + (48 << 20), "{} before, {} at most", before, relay.memory_peak());
    relay.is_well().await;
}

fn encoded_pong(nonce: u64) -> Vec<u8> {
    let mut frame = BytesMut::new();
    Response::Pong { nonce }.encode(&mut frame).unwrap();
    frame.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_is_declined_and_a_compressed_frame_refused() {
    let relay = Relay::start(&[]);
    let server = relay.server("lobby").await;
    for offer in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits, permessage-deflate; server_no_context_takeover",
        "x-webkit-deflate-frame",
    ] {
        let (answer, mut socket) =
            Socket::open(&relay, &format!("Sec-WebSocket-Extensions: {offer}\r\n")).await;
        assert_eq!(answer.status, 101);
        assert!(!answer.head.contains("sec-websocket-extensions"), "{}", answer.head);
        socket.login(&server.token).await;
        socket.answers().await;
        // "Hello" as permessage-deflate makes it (RFC 7692, section 7.2.3.1).
        let deflated = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        socket.send(&masked(FIN | RSV1 | BINARY, &deflated)).await;
        assert_eq!(socket.ended().await, (Code::ProtocolViolation, 1008));
    }
    relay.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_get_neither_a_websocket_nor_an_answer_that_they_may_read() {
    let relay = Relay::start(&ANY_LOGINS);
    let server = relay.server("lobby").await;
    let key = relay.admin.clone();
    for (path, credential) in [(PLUGIN_PATH, &server.token), (PUBLISHER_PATH, &key)] {
        for origin in ["https://evil.example", "null", "http://127.0.0.1", "file://", "http://127.0.0.1:1"] {
            let lines = format!("Origin: {origin}\r\nAuthorization: Bearer {credential}\r\n");
            let answer =
                handshake(&relay, path, &lines).replace("Connection: Upgrade", "Connection: Upgrade, close");
            let answer = relay.bytes(answer.as_bytes()).await.unwrap();
            answer.refused(403, "foreign_origin");
        }
        // The broker's own page, and whoever is no browser.
        let own = format!("Origin: http://{}\r\n", relay.address);
        for lines in [own, String::new()] {
            let mut stream = TcpStream::connect(relay.address).await.unwrap();
            stream.write_all(handshake(&relay, path, &lines).as_bytes()).await.unwrap();
            let mut status = [0; 12];
            soon("the answer", stream.read_exact(&mut status)).await.unwrap();
            assert_eq!(&status, b"HTTP/1.1 101", "{lines}");
        }
    }
    // A page can send what needs no preflight, without a credential, and may read no answer; with one it has to ask first.
    let origin = ["Origin: https://evil.example".to_owned(), "Cookie: key=value".to_owned()];
    let asks = [
        "Origin: https://evil.example",
        "Access-Control-Request-Method: GET",
        "Access-Control-Request-Headers: authorization",
    ]
    .map(str::to_owned);
    for path in ["/v1/events", "/v1/servers", "/v1/audit", "/v1/stores", "/v1/plugin/commands", PLUGIN_PATH] {
        let preflight = relay.http("OPTIONS", path, &asks, "").await;
        preflight.refused(405, "method_not_allowed");
        let simple = relay.http("GET", path, &origin, "").await;
        assert!(matches!(simple.status, 401 | 426), "{path}: {simple:?}");
        for answer in [preflight, simple] {
            assert!(!answer.head.contains("access-control-"), "{path}: {}", answer.head);
        }
    }
    relay.is_well().await;
}
