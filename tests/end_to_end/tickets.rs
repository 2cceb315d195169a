//! Resume tickets over real sockets: what they spare, what ends them, and what wrong logins cannot do to others.

use std::time::Duration;

use bytes::BytesMut;
use fluxrelay::broker::{Actor, FailedLoginLimit};
use fluxrelay::client::{Code, DeliveredCommand, PluginClient, Report};
use fluxrelay::credentials::TICKET_BYTES;
use fluxrelay::protocol::{
    Credential, PLUGIN_PATH, PUBLISHER_PATH, PluginHello, PublisherHello, Request, Response, VERSION,
};
use fluxrelay::time::Millis;
use fluxrelay::transport::TransportSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::raw::{Raw, plugin_hello};
use crate::relay::{Relay, eventually, soon};

fn idle(_: Vec<DeliveredCommand>, _: &mut Vec<Report>) {}

/// A server and its first ticket, by its token.
async fn first_ticket(relay: &Relay, name: &str) -> (crate::relay::Server, Vec<u8>) {
    let server = relay.server(name).await;
    let mut raw = Raw::dial(relay, PLUGIN_PATH, None).await;
    raw.send(Request::PluginHello(plugin_hello(&server.token))).await;
    let ticket = raw.welcomed().await;
    assert_eq!(ticket.len(), TICKET_BYTES);
    (server, ticket)
}

/// The one frame with which a login is refused, as it came.
async fn refusal(mut raw: Raw) -> Vec<u8> {
    let frame = raw.next().await;
    assert!(matches!(frame.get(), Response::Error { .. }), "{:?}", frame.get());
    assert!(raw.try_next().await.is_none());
    frame.bytes().to_vec()
}

/// What a wrong token is answered.
async fn wrong_token(relay: &Relay) -> Vec<u8> {
    let mut raw = Raw::dial(relay, PLUGIN_PATH, None).await;
    raw.send(Request::PluginHello(plugin_hello("srv_1.00000000000000000000000000000000"))).await;
    refusal(raw).await
}

fn generous(settings: &mut fluxrelay::broker::Settings) {
    settings.failed_logins = FailedLoginLimit { per_second: 1_000_000, burst: 1_000_000 };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_logins_with_tickets_cost_no_hash() {
    let relay = Relay::start().await;
    let mut servers = Vec::new();
    for number in 0..10 {
        servers.push(first_ticket(&relay, &format!("server-{number}")).await);
    }
    let before = relay.logins();
    for _ in 0..100 {
        let logins = servers.iter_mut().map(|(_, ticket)| async {
            // The same ticket may be shown again; the fresh one of each welcome is as good.
            let fresh = Raw::resume(&relay, ticket, None).await.welcomed().await;
            *ticket = fresh;
        });
        futures_util::future::join_all(logins).await;
    }
    let after = relay.logins();
    assert_eq!(after.by_ticket - before.by_ticket, 1000);
    assert_eq!((after.hashed, after.recalled), (before.hashed, before.recalled));
    assert_eq!((before.by_token, before.hashed), (10, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_a_ticket_the_answer_is_a_wrong_tokens() {
    let relay = Relay::start_changed(TransportSettings::default(), generous).await;
    let (server, ticket) = first_ticket(&relay, "lobby").await;
    let (other, others) = first_ticket(&relay, "arena").await;
    let expected = wrong_token(&relay).await;
    let mut bad: Vec<Vec<u8>> = (0..ticket.len())
        .map(|at| {
            let mut altered = ticket.clone();
            altered[at] ^= 0x40;
            altered
        })
        .collect();
    // Another server's number under this one's seal, cut, longer, none, and of another broker.
    bad.push([&ticket[..2], &other.id.0.to_le_bytes(), &ticket[6..]].concat());
    bad.extend([
        ticket[..ticket.len() - 1].to_vec(),
        [&ticket[..], &[0]].concat(),
        Vec::new(),
        vec![7; 2000],
    ]);
    let elsewhere = Relay::start().await;
    bad.push(first_ticket(&elsewhere, "lobby").await.1);
    for ticket in &bad {
        assert_eq!(refusal(Raw::resume(&relay, ticket, None).await).await, expected, "{ticket:?}");
    }
    // Of an old generation, and of a server that is gone.
    relay.handle().registry().by(Actor::LOCAL).regenerate_token(server.id).await.unwrap();
    relay.handle().registry().by(Actor::LOCAL).remove_server(other.id).await.unwrap();
    for ticket in [&ticket, &others] {
        assert_eq!(refusal(Raw::resume(&relay, ticket, None).await).await, expected);
    }
    // So are its old token and one of a server that is gone; each costs a hash, once.
    let hashed = relay.logins().hashed;
    for token in [&server.token, &other.token, &server.token] {
        let mut raw = Raw::dial(&relay, PLUGIN_PATH, None).await;
        raw.send(Request::PluginHello(plugin_hello(token))).await;
        assert_eq!(refusal(raw).await, expected);
    }
    assert_eq!(relay.logins().hashed, hashed + 2);
    // Publishers have none.
    let mut publisher = Raw::dial(&relay, PUBLISHER_PATH, None).await;
    let credential = Credential::Ticket(&others);
    let hello = PublisherHello { version_min: VERSION, version_max: VERSION, capabilities: 0, credential };
    publisher.send(Request::PublisherHello(hello)).await;
    assert_eq!(refusal(publisher).await, expected);
    assert_eq!(relay.logins().by_ticket, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_ticket_is_refused_and_switched_off_there_are_none() {
    let short = |settings: &mut fluxrelay::broker::Settings| settings.ticket_lifetime = Millis(20);
    let relay = Relay::start_changed(TransportSettings::default(), short).await;
    let (_, ticket) = first_ticket(&relay, "lobby").await;
    let expected = wrong_token(&relay).await;
    let expired = async || {
        let mut raw = Raw::resume(&relay, &ticket, None).await;
        raw.next().await.bytes() == expected
    };
    eventually("the ticket to expire", expired).await;

    let off = |settings: &mut fluxrelay::broker::Settings| settings.ticket_lifetime = Millis(0);
    let relay = Relay::start_changed(TransportSettings::default(), off).await;
    let server = relay.server("lobby").await;
    let mut raw = Raw::dial(&relay, PLUGIN_PATH, Some(&server.token)).await;
    raw.send(Request::PluginHello(PluginHello { credential: Credential::None, ..plugin_hello("") })).await;
    assert!(raw.welcomed().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_goes_before_the_token_beside_it() {
    let relay = Relay::start().await;
    let (server, ticket) = first_ticket(&relay, "lobby").await;
    let (other, _) = first_ticket(&relay, "arena").await;
    let hashed = relay.logins().hashed;
    // Nothing beside a good ticket is looked at.
    for bearer in [None, Some(&*server.token), Some(&*other.token), Some("nonsense")] {
        Raw::resume(&relay, &ticket, bearer).await.welcomed().await;
    }
    assert_eq!(relay.logins().by_ticket, 4);
    // One that is of no use costs nothing but the token's hash.
    let token = relay.handle().registry().by(Actor::LOCAL).regenerate_token(server.id).await.unwrap();
    let fresh = Raw::resume(&relay, &ticket, Some(token.reveal())).await.welcomed().await;
    assert_ne!(fresh, ticket);
    let logins = relay.logins();
    assert_eq!((logins.hashed, logins.tickets_refused, logins.by_ticket), (hashed + 1, 1, 4));
    assert_eq!(
        refusal(Raw::resume(&relay, &ticket, Some("nonsense")).await).await,
        wrong_token(&relay).await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_the_right_tag_lets_a_long_hello_through_before_any_hash() {
    let relay = Relay::start().await;
    let (server, ticket) = first_ticket(&relay, "lobby").await;
    let before = relay.logins();
    let ids: Vec<u64> = (1..=1000).collect();
    let long = |credential| {
        let hello = PluginHello { credential, held: (&ids).into(), ..plugin_hello("") };
        let mut frame = BytesMut::new();
        Request::PluginHello(hello).encode(&mut frame).unwrap();
        assert!(frame.len() > 4096);
        Message::Binary(frame.freeze())
    };
    let mut raw = Raw::dial(&relay, PLUGIN_PATH, Some(&server.token)).await;
    raw.send_message(long(Credential::Ticket(&ticket))).await;
    raw.welcomed().await;
    let after = relay.logins();
    assert_eq!((after.hashed, after.recalled), (before.hashed, before.recalled));
    // A ticket alone widens nothing: nothing of it is known before the hello was read.
    let mut raw = Raw::dial(&relay, PLUGIN_PATH, None).await;
    raw.send_message(long(Credential::Ticket(&ticket))).await;
    assert_eq!(raw.ended().await.0, Code::FrameTooLarge);
    // Nor does a forged one.
    let forged = format!("{}0", &server.token[..server.token.len() - 1]);
    let forged = if forged == server.token { format!("{}1", &forged[..forged.len() - 1]) } else { forged };
    let mut raw = Raw::dial(&relay, PLUGIN_PATH, Some(&forged)).await;
    raw.send_message(long(Credential::Ticket(&ticket))).await;
    assert_eq!(raw.ended().await.0, Code::FrameTooLarge);
}

#[tokio::test(flavor = "multi_thread")]
async fn regenerating_ends_sessions_tickets_and_remembered_tokens_at_once() {
    let relay = Relay::start().await;
    let (server, _) = first_ticket(&relay, "lobby").await;
    let mut session = Raw::dial(&relay, PLUGIN_PATH, Some(&server.token)).await;
    session
        .send(Request::PluginHello(PluginHello { credential: Credential::None, ..plugin_hello("") }))
        .await;
    let ticket = session.welcomed().await;
    let started = Instant::now();
    relay.handle().registry().by(Actor::LOCAL).regenerate_token(server.id).await.unwrap();
    // Before the session is told: nobody gets in any more.
    let expected = wrong_token(&relay).await;
    assert_eq!(refusal(Raw::resume(&relay, &ticket, Some(&server.token)).await).await, expected);
    assert_eq!(refusal(Raw::resume(&relay, &ticket, None).await).await, expected);
    relay.handle().token_regenerated(server.id).await.unwrap();
    assert_eq!(session.ended().await.0, Code::TokenRevoked);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_outlive_the_broker_and_not_the_loss_of_their_keys() {
    let mut relay = Relay::start().await;
    let (server, ticket) = first_ticket(&relay, "lobby").await;
    relay.restart().await;
    let fresh = Raw::resume(&relay, &ticket, None).await.welcomed().await;
    assert_eq!((relay.logins().hashed, relay.logins().by_ticket), (0, 1));
    relay.stop().await;
    std::fs::write(relay.data_dir().join("tickets.key"), b"damaged").unwrap();
    relay.restart_stopped().await;
    assert_eq!(refusal(Raw::resume(&relay, &fresh, None).await).await, wrong_token(&relay).await);
    Raw::resume(&relay, &fresh, Some(&server.token)).await.welcomed().await;
    assert_eq!((relay.logins().hashed, relay.logins().by_ticket), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_comes_back_by_ticket_and_falls_back_to_its_token_by_itself() {
    let mut relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let client = PluginClient::start(relay.plugin(&server), idle).await.unwrap();
    soon("a session", client.connected()).await.unwrap();
    assert_eq!((relay.logins().by_token, relay.logins().hashed), (1, 1));
    relay.restart().await;
    relay.sessions(1).await;
    assert_eq!((relay.logins().by_ticket, relay.logins().hashed), (1, 0));
    relay.stop().await;
    std::fs::remove_file(relay.data_dir().join("tickets.key")).unwrap();
    relay.restart_stopped().await;
    relay.sessions(1).await;
    let logins = relay.logins();
    assert_eq!((logins.by_ticket, logins.tickets_refused, logins.hashed, logins.by_token), (0, 1, 1, 1));
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_outlives_half_of_its_ticket_gets_a_new_one() {
    let quick = TransportSettings { heartbeat: Duration::from_millis(100), ..TransportSettings::default() };
    let lifetime = |settings: &mut fluxrelay::broker::Settings| settings.ticket_lifetime = Millis(4000);
    let relay = Relay::start_changed(quick, lifetime).await;
    let server = relay.server("lobby").await;
    let mut raw = Raw::dial(&relay, PLUGIN_PATH, None).await;
    raw.send(Request::PluginHello(plugin_hello(&server.token))).await;
    let first = raw.welcomed().await;
    let welcomed = Instant::now();
    let renewing = async {
        loop {
            let frame = raw.next().await;
            match frame.get() {
                Response::Ticket { ticket } => return ticket.0.to_vec(),
                Response::Ping { nonce } => raw.send(Request::Pong { nonce }).await,
                other => panic!("{other:?}"),
            }
        }
    };
    let renewed = soon("a new ticket", renewing).await;
    assert!(welcomed.elapsed() >= Duration::from_millis(1900), "{:?}", welcomed.elapsed());
    assert_ne!(renewed, first);
    Raw::resume(&relay, &renewed, None).await.welcomed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_at_a_high_rate_keep_the_owner_out_of_nothing() {
    let relay = Relay::start().await;
    let (server, ticket) = first_ticket(&relay, "lobby").await;
    let token = relay.handle().registry().by(Actor::LOCAL).regenerate_token(server.id).await.unwrap();
    let before = relay.logins();
    let attack = async {
        // An old token has the right tag; one under another tag does not even get that far.
        let forged = format!("srv_{}.00000000000000000000000000000000", server.id.0);
        for _ in 0..20 {
            let logins = [&*server.token, &forged].into_iter().cycle().take(50).map(|token| {
                let relay = &relay;
                async move {
                    let mut raw = Raw::dial(relay, PLUGIN_PATH, None).await;
                    raw.send(Request::PluginHello(plugin_hello(token))).await;
                    let code = raw.ended().await.0;
                    assert!(matches!(code, Code::InvalidCredentials | Code::LoginBusy), "{code:?}");
                    code
                }
            });
            futures_util::future::join_all(logins).await;
        }
    };
    let owner = async {
        for _ in 0..20 {
            let mut raw = Raw::dial(&relay, PLUGIN_PATH, None).await;
            raw.send(Request::PluginHello(plugin_hello(token.reveal()))).await;
            raw.welcomed().await;
        }
    };
    tokio::join!(attack, owner);
    let after = relay.logins();
    assert_eq!(after.hashed - before.hashed, 2, "the old one once, the right one once");
    assert_eq!(after.by_token - before.by_token, 20);
    assert_eq!((after.forged - before.forged, after.wrong - before.wrong), (500, 500));
    assert!(after.limited > 500, "{after:?}");
    assert_eq!(after.busy, 0);
    drop(ticket);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_fails_too_often_is_told_when_to_come_back() {
    let limit = |settings: &mut fluxrelay::broker::Settings| {
        settings.failed_logins = FailedLoginLimit { per_second: 1, burst: 3 };
    };
    let relay = Relay::start_changed(TransportSettings::default(), limit).await;
    let (server, ticket) = first_ticket(&relay, "lobby").await;
    for _ in 0..3 {
        wrong_token(&relay).await;
    }
    let mut raw = Raw::resume(&relay, &[1], None).await;
    let frame = raw.next().await;
    let Response::Error { code, retry_after_ms, .. } = frame.get() else { panic!("{:?}", frame.get()) };
    assert_eq!(Code::from_number(code), Some(Code::LoginBusy));
    assert!((1..=1000).contains(&retry_after_ms), "{retry_after_ms}");
    let rest = async |credential: &str| {
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        let head = format!(
            "GET /v1/plugin/commands HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {credential}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
        answer.to_ascii_lowercase()
    };
    let refused = rest("srv_1.00000000000000000000000000000000").await;
    assert!(refused.starts_with("http/1.1 429") && refused.contains("retry-after: 1\r\n"), "{refused}");
    assert!(refused.contains("\"code\":\"rate_limited\""), "{refused}");
    // Right ones pass, by every way.
    assert!(rest(&server.token).await.starts_with("http/1.1 200"));
    Raw::resume(&relay, &ticket, None).await.welcomed().await;
    Raw::plugin(&relay, &server.token).await;
}
