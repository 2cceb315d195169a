//! Sockets that say nothing, or say it slowly, or in another protocol, or are too many.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki::Pki;
use crate::relay::{Answer, Relay, soon};

const HEALTHY: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// A connection from an address of this machine's own network.
async fn from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
    soon("a connection", socket.connect(to)).await.unwrap()
}

/// Sends, and reads to the end of the connection.
async fn ask(mut stream: TcpStream, request: &[u8]) -> Option<Answer> {
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = soon("the answer", stream.read_to_end(&mut answer)).await;
    Answer::of(&answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_sockets_and_slow_heads_end_at_one_deadline_and_others_are_served() {
    let relay = Relay::start(&["--login-timeout-seconds", "2"]);
    let attack = (0..200).map(async |number: usize| {
        // Before the broker can have seen it: on a busy machine it is told late that it is connected.
        let began = Instant::now();
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        let (mut read, mut write) = stream.split();
        // Nothing; a byte now and then; a whole request and then a slow one on the same connection.
        let head = match number % 4 {
            0 => String::new(),
            1 => "GET /healthz HTTP/1.1\r\nX: ".to_owned() + &"x".repeat(1000),
            2 => "GET /v1/plugin/ws HTTP/1.1\r\n".to_owned() + &"A: b\r\n".repeat(500),
            _ => "\r\n".repeat(500),
        };
        if number % 4 == 3 {
            write.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        }
        let dripping = async {
            for byte in head.bytes() {
                if write.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            std::future::pending::<()>().await
        };
        let mut answer = Vec::new();
        tokio::select! {
            _ = read.read_to_end(&mut answer) => {}
            () = dripping => {}
        }
        began.elapsed()
    });
    let others = async {
        for _ in 0..20 {
            let answer = relay.bytes(HEALTHY).await.unwrap();
            assert_eq!(answer.status, 200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (took, ()) =
        soon("the closes", async { tokio::join!(futures_util::future::join_all(attack), others) }).await;
    let (soonest, last) = (took.iter().min().unwrap(), took.iter().max().unwrap());
    assert!(*soonest >= Duration::from_millis(1900), "{soonest:?}");
    assert!(*last < Duration::from_secs(20), "{last:?}");
    relay.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded_and_ambiguous_lengths_refused() {
    let relay = Relay::start(&[]);
    let long = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(1_000));
    let uri = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(20_000));
    for (head, statuses) in [(long, [431, 431]), (many, [431, 431]), (uri, [414, 431])] {
        let answer = relay.bytes(head.as_bytes()).await.unwrap();
        assert!(statuses.contains(&answer.status), "{answer:?}");
    }
    let endless = async {
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nX: ").await.unwrap();
        let mut sent = 0_u64;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {
            sent += 4096;
        }
        sent
    };
    let sent = soon("the close", endless).await;
    assert!(sent < 16 << 20, "{sent} bytes of one head were taken, or waited in the system");
    // What two parties could read as two different requests.
    for lines in [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +4\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "X : y\r\n",
        "X: a\0b\r\n",
    ] {
        let request = format!(
            "POST /v1/orders HTTP/1.1\r\nHost: x\r\n{lines}\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n"
        );
        let answer = relay.bytes(request.as_bytes()).await;
        let answers_400 =
            answer.as_ref().is_none_or(|answer| answer.status == 400 && !answer.text.contains("200 OK"));
        assert!(answers_400, "{lines}: {answer:?}");
    }
    relay.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_not_spoken_so_there_is_nothing_to_reset() {
    let relay = Relay::start(&[]);
    // Prior knowledge, then a thousand streams that are opened and reset at once.
    let mut rapid = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in 0..1000_u32 {
        let id = (stream * 2 + 1).to_be_bytes();
        rapid.extend([&[0, 0, 1, 1, 5][..], &id, &[0x82], &[0, 0, 4, 3, 0], &id, &[0, 0, 0, 8]].concat());
    }
    for _ in 0..50 {
        let answer = relay.bytes(&rapid).await;
        assert!(answer.as_ref().is_none_or(|answer| answer.status >= 400), "{answer:?}");
    }
    // An upgrade in plain text is passed over.
    let upgrade =
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n\
        HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let answer = relay.bytes(upgrade).await.unwrap();
    assert!(answer.status == 200 && answer.head.starts_with("http/1.1"), "{answer:?}");
    relay.is_well().await;

    let pki = Pki::new();
    let relay = secure(&pki, &[]);
    let error = tls(&pki, &relay, &["h2"], "127.0.0.1").await.map(drop).unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    let both = tls(&pki, &relay, &["h2", "http/1.1"], "127.0.0.1").await.unwrap();
    assert_eq!(both.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

fn secure(pki: &Pki, flags: &[&str]) -> Relay {
    let (certificate, key) = (pki.path("a.crt"), pki.path("a.key"));
    let files = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    Relay::start(&[&files[..], flags].concat())
}

async fn tls(
    pki: &Pki,
    relay: &Relay,
    alpn: &[&str],
    address: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca.der().clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let socket = from(address, relay.address).await;
    soon("the handshake", TlsConnector::from(Arc::new(config)).connect(name, socket)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_network_takes_its_share_of_connections_and_no_more() {
    let relay = Relay::start(&["--connections-per-network-max", "3", "--login-timeout-seconds", "60"]);
    let mut idle = Vec::new();
    for last in 1..=3 {
        let mut stream = from(&format!("127.0.0.{last}"), relay.address).await;
        stream.write_all(HEALTHY.split_at(10).0).await.unwrap();
        idle.push(stream);
    }
    // Accepted in order: the fourth comes when three have their places.
    let refused = ask(from("127.0.0.200", relay.address).await, HEALTHY).await.unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: 5"), "{}", refused.head);
    let other = ask(from("127.0.1.1", relay.address).await, HEALTHY).await.unwrap();
    assert_eq!(other.status, 200);
    let metrics = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let metrics = ask(from("127.0.1.1", relay.address).await, metrics).await.unwrap().text;
    assert!(
        metrics.contains("fluxrelay_limited_total{limit=\"connections_per_network_max\"} 1\n"),
        "{metrics}"
    );
    idle.pop();
    let again = async {
        while ask(from("127.0.0.9", relay.address).await, HEALTHY)
            .await
            .is_none_or(|answer| answer.status != 200)
        {}
    };
    soon("a free place", again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_a_client_is_told_so_through_tls_too() {
    let pki = Pki::new();
    let relay = secure(&pki, &["--connections-max", "2", "--login-timeout-seconds", "60"]);
    let idle = [
        tls(&pki, &relay, &["http/1.1"], "127.0.0.1").await.unwrap(),
        tls(&pki, &relay, &["http/1.1"], "127.0.1.1").await.unwrap(),
    ];
    let mut refused = tls(&pki, &relay, &["http/1.1"], "127.0.2.1").await.unwrap();
    refused.write_all(HEALTHY).await.unwrap();
    let mut answer = Vec::new();
    soon("the answer", refused.read_to_end(&mut answer)).await.unwrap();
    let answer = Answer::of(&answer).unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: 5"), "{}", answer.head);
    // Whoever says nothing at all takes none of the places in which that is said for long.
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(from("127.0.3.1", relay.address).await);
    }
    let told = async {
        loop {
            if let Ok(mut refused) = tls(&pki, &relay, &["http/1.1"], "127.0.2.1").await {
                let mut answer = Vec::new();
                let _ = refused.read_to_end(&mut answer).await;
                if Answer::of(&answer).is_some_and(|answer| answer.status == 503) {
                    return;
                }
            }
        }
    };
    soon("an answer", told).await;
    drop((idle, silent));
}
