//! Bodies that are nested, huge, endless or slow: each is refused by a code, before it costs memory.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::relay::{ANY_LOGINS, Answer, Relay, soon};

/// The calls that take a body, by whom.
const CALLS: [(&str, bool); 5] = [
    ("/v1/orders", false),
    ("/v1/servers", false),
    ("/v1/commands/resend", false),
    ("/v1/plugin/results", true),
    ("/v1/plugin/players", true),
];

fn head(key: &str, path: &str, length: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
    )
}

/// Sends a head, then what `more` gives, until the connection is closed: the answer, and the bytes that were taken.
async fn endless(relay: &Relay, head: &str, more: &[u8], pause: Duration) -> (Option<Answer>, usize) {
    let stream = TcpStream::connect(relay.address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    write.write_all(head.as_bytes()).await.unwrap();
    let sending = async {
        let mut sent = 0;
        while write.write_all(more).await.is_ok() {
            sent += more.len();
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        sent
    };
    let reading = async {
        let mut answer = Vec::new();
        let _ = read.read_to_end(&mut answer).await;
        answer
    };
    let (sent, answer) = soon("the close", async { tokio::join!(sending, reading) }).await;
    (Answer::of(&answer), sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_json_is_refused_at_a_depth_and_not_by_the_stack() {
    let relay = Relay::start(&[]);
    let server = relay.server("lobby").await;
    let deep = |open: &str, close: &str, depth: usize| open.repeat(depth) + &close.repeat(depth);
    let bombs = [
        "[".repeat(500_000),
        "{\"a\":".repeat(150_000),
        deep("[", "]", 100_000),
        format!("{{\"commands\":{}}}", deep("[", "]", 10_000)),
        format!(
            "{{\"commands\":[{{\"server\":\"*\",\"command\":\"x\",\"metadata\":{}}}]}}",
            deep("{\"a\":", "}", 50_000)
        ),
    ];
    for bomb in &bombs {
        for (path, by_plugin) in CALLS {
            let key = if by_plugin { &server.token } else { &relay.admin };
            let answer = relay.http("POST", path, &[format!("Authorization: Bearer {key}")], bomb).await;
            assert!(matches!(answer.status, 400 | 422), "{path}: {} {}", answer.status, answer.text);
            assert!(answer.text.len() < 2000, "{path} repeats what was sent");
        }
    }
    // Metadata are kept, so they have a depth of their own.
    for (depth, status) in [(32, 201), (33, 422)] {
        let metadata: serde_json::Value =
            serde_json::from_str(&deep("{\"a\":", "}", depth).replace("{\"a\":}", "{}")).unwrap();
        let order = json!({"commands": [{"server": server.id, "command": "say x", "metadata": metadata}]});
        relay.post(&relay.admin, "/v1/orders", order).await.expect(status);
    }
    relay.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_bodies_are_refused_by_their_head_and_endless_ones_at_1_mib() {
    let relay = Relay::start(&ANY_LOGINS);
    let server = relay.server("lobby").await;
    let before = relay.memory_peak();
    for (path, by_plugin) in CALLS {
        let key = if by_plugin { &server.token } else { &relay.admin };
        for length in ["1073741824", "1048577", "9223372036854775807"] {
            let began = Instant::now();
            let answer = relay.bytes(head(key, path, &format!("Content-Length: {length}")).as_bytes()).await;
            answer.unwrap().refused(413, "body_too_large");
            assert!(began.elapsed() < Duration::from_secs(5), "not a byte of it was waited for");
        }
        let chunk = [&b"10000\r\n"[..], &[b' '; 65536], b"\r\n"].concat();
        let chunked = head(key, path, "Transfer-Encoding: chunked");
        let (answer, sent) = endless(&relay, &chunked, &chunk, Duration::ZERO).await;
        // Whoever still sends may be reset behind the answer.
        if let Some(answer) = answer {
            answer.refused(413, "body_too_large");
        }
        assert!(sent < 16 << 20, "{sent}");
        // A stranger's is not read at all, nor one that belongs to no call.
        let stranger = head("srv_1.00000000000000000000000000000000", path, "Transfer-Encoding: chunked");
        for head in [stranger, chunked.replacen("POST", "GET", 1)] {
            let (answer, sent) = endless(&relay, &head, &chunk, Duration::ZERO).await;
            assert!(answer.is_none_or(|answer| matches!(answer.status, 200 | 401 | 404 | 405)));
            assert!(sent < 16 << 20, "{sent}");
        }
    }
    // Lists over their bounds, and texts over theirs, in bodies of a good size.
    let commands = vec![json!({"server": server.id, "command": "x"}); 10_001];
    relay
        .post(&relay.admin, "/v1/orders", json!({"commands": commands}))
        .await
        .refused(422, "too_many_commands");
    let results = vec![json!({"id": "cmd_1_1", "status": "completed"}); 1025];
    relay
        .post(&server.token, "/v1/plugin/results", json!({"results": results}))
        .await
        .refused(422, "invalid_field");
    let players = vec!["x"; 10_001];
    relay
        .post(&server.token, "/v1/plugin/players", json!({"online": players}))
        .await
        .refused(422, "invalid_field");
    assert!(relay.memory_peak() < before + (64 << 20), "{} before, {} at most", before, relay.memory_peak());
    relay.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_are_given_up_and_keep_nobody_waiting() {
    let relay = Relay::start(&[]);
    let server = relay.server("lobby").await;
    let drip = Duration::from_millis(100);
    let by_length = head(&relay.admin, "/v1/orders", "Content-Length: 1000");
    let chunked = head(&server.token, "/v1/plugin/results", "Transfer-Encoding: chunked");
    let began = Instant::now();
    let attack = futures_util::future::join_all((0..40).map(|number| {
        let (head, more) =
            if number % 2 == 0 { (&by_length, &b" "[..]) } else { (&chunked, &b"1\r\n \r\n"[..]) };
        let head = if number < 8 || number % 2 == 0 { head.as_str() } else { by_length.as_str() };
        let more = if head == by_length { &b" "[..] } else { more };
        endless(&relay, head, more, drip)
    }));
    let others = async {
        for _ in 0..20 {
            relay.get(&relay.admin, "/v1/servers").await.expect(200);
            tokio::time::sleep(drip).await;
        }
    };
    let (answers, ()) = tokio::join!(attack, others);
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    for (answer, _) in answers {
        if let Some(answer) = answer {
            answer.refused(408, "invalid_body");
        }
    }
    relay.is_well().await;
}
