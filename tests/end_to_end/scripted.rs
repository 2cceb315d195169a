//! The clients against a broker that is played by hand: what they repeat, what they never do twice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fluxrelay::client::{
    BackoffOptions, ClientState, DeliveredCommand, EventPlace, Happening, Order, Outcome, Player,
    PluginClient, PluginOptions, PublisherClient, PublisherEvent, PublisherOptions, Report, Servers,
};
use fluxrelay::limits::FRAME_BYTES_MAX;
use fluxrelay::protocol::{
    Code, CommandRef, Credential, DeliveryRef, EventRef, List, PlayersKind, PluginWelcome, PublisherWelcome,
    Request, Response, TicketRef, VERSION, What,
};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::relay::{eventually, soon};

/// The server's side of an upgrade, by hand.
pub(crate) async fn upgraded(mut stream: TcpStream) -> WebSocketStream<TcpStream> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("the head", stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let is_key = |line: &&str| line.to_ascii_lowercase().starts_with("sec-websocket-key: ");
    let (_, key) = head.lines().find(is_key).unwrap().split_once(": ").unwrap();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Protocol: fluxrelay.v1\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    WebSocketStream::from_raw_socket(stream, Role::Server, None).await
}

struct Broker(TcpListener);

/// One connection of a client.
struct Peer {
    socket: WebSocketStream<TcpStream>,
    frames: VecDeque<Bytes>,
}

fn request(frame: &Bytes) -> Request<'_> {
    Request::decode(frame, FRAME_BYTES_MAX).unwrap().unwrap().0
}

impl Broker {
    async fn listen() -> Broker {
        Broker(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn url(&self) -> String {
        format!("ws://{}", self.0.local_addr().unwrap())
    }

    fn plugin(&self) -> PluginOptions {
        PluginOptions { backoff: quick(), ..PluginOptions::new(self.url(), "srv_7.secret") }
    }

    fn publisher(&self) -> PublisherClient {
        let options =
            PublisherOptions { backoff: quick(), ..PublisherOptions::new(self.url(), "key_1.secret") };
        PublisherClient::start(options).unwrap()
    }

    /// The next connection and its hello.
    async fn accept(&self) -> (Peer, Bytes) {
        let (stream, _) = soon("a connection", self.0.accept()).await.unwrap();
        let mut peer = Peer { socket: upgraded(stream).await, frames: VecDeque::new() };
        let hello = peer.next().await;
        (peer, hello)
    }

    /// The next plugin, welcomed; and its hello.
    async fn welcome_plugin(&self, forget: &[u64]) -> (Peer, Bytes) {
        let (mut peer, hello) = self.accept().await;
        let forget = forget.to_vec();
        let welcome = PluginWelcome {
            version: VERSION,
            epoch: 1,
            heartbeat_ms: 10_000,
            forget: List::from(&forget),
            ..PluginWelcome::default()
        };
        peer.send(&[Response::PluginWelcome(welcome)]).await;
        (peer, hello)
    }

    /// The next plugin, given this ticket; and the credential in its hello.
    async fn give_ticket(&self, ticket: &[u8]) -> (Peer, Option<Vec<u8>>) {
        let (mut peer, hello) = self.accept().await;
        let welcome = PluginWelcome {
            version: VERSION,
            epoch: 1,
            heartbeat_ms: 10_000,
            ticket: TicketRef(ticket),
            ..PluginWelcome::default()
        };
        peer.send(&[Response::PluginWelcome(welcome)]).await;
        (peer, shown(&hello))
    }

    async fn welcome_publisher(&self) -> Peer {
        let (mut peer, _) = self.accept().await;
        let welcome = PublisherWelcome {
            version: VERSION,
            store: 3,
            heartbeat_ms: 10_000,
            publishes_in_flight_max: 2,
            ..PublisherWelcome::default()
        };
        peer.send(&[Response::PublisherWelcome(welcome)]).await;
        peer
    }
}

fn quick() -> BackoffOptions {
    BackoffOptions { first: Duration::from_millis(5), longest: Duration::from_millis(50) }
}

impl Peer {
    async fn next(&mut self) -> Bytes {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return frame;
            }
            match soon("a frame", self.socket.next()).await {
                Some(Ok(Message::Binary(mut message))) => {
                    while !message.is_empty() {
                        let (_, length) = Request::decode(&message, FRAME_BYTES_MAX).unwrap().unwrap();
                        self.frames.push_back(message.split_to(length));
                    }
                }
                Some(Ok(_)) => {}
                end => panic!("the client closed: {end:?}"),
            }
        }
    }

    async fn send(&mut self, responses: &[Response<'_>]) {
        let mut frames = BytesMut::new();
        responses.iter().for_each(|response| response.encode(&mut frames).unwrap());
        self.socket.send(Message::Binary(frames.freeze())).await.unwrap();
    }

    async fn deliver(&mut self, commands: &[(u64, u16)]) {
        let commands: Vec<DeliveryRef<'_>> = commands
            .iter()
            .map(|(id, attempt)| DeliveryRef {
                id: *id,
                attempt: *attempt,
                require_online: false,
                rerun: false,
                text: "say hi",
                player: None,
            })
            .collect();
        self.send(&[Response::Deliver { commands: List::from(&commands) }]).await;
    }

    /// The next batch: its number, and what it reports.
    async fn results(&mut self) -> (u64, Vec<(u64, u16, Outcome)>) {
        let frame = self.next().await;
        let Request::Results { batch, results } = request(&frame) else { panic!("{:?}", request(&frame)) };
        (batch, results.iter().map(|result| (result.id, result.attempt, result.outcome)).collect())
    }

    /// The next publish: its number and key.
    async fn publish(&mut self) -> (u64, String) {
        let frame = self.next().await;
        let Request::Publish(publish) = request(&frame) else { panic!("{:?}", request(&frame)) };
        (publish.request, publish.order.key.unwrap().to_owned())
    }
}

type Ran = Arc<Mutex<Vec<(u64, u16)>>>;

/// A handler that notes what it runs; it reports at once if `reporting`.
fn noting(
    ran: &Ran,
    reporting: bool,
) -> impl FnMut(Vec<DeliveredCommand>, &mut Vec<Report>) + Send + 'static {
    let ran = ran.clone();
    move |commands, reports| {
        for command in commands {
            ran.lock().unwrap().push((command.id.seq.0, command.attempt));
            if reporting {
                reports.push(command.report(Outcome::Completed));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_runs_once_however_often_it_is_delivered() {
    let broker = Broker::listen().await;
    let ran = Ran::default();
    let client = PluginClient::start(broker.plugin(), noting(&ran, false)).await.unwrap();
    let (mut peer, _) = broker.welcome_plugin(&[]).await;
    for deliveries in [&[(64, 1), (65, 1)][..], &[(64, 1)], &[(65, 1), (66, 1)], &[(64, 2)], &[(64, 1)]] {
        peer.deliver(deliveries).await;
    }
    eventually("four runs", async || ran.lock().unwrap().len() >= 4).await;
    client.report(Report::new(fluxrelay::ids::Seq(66), 1, Outcome::Failed)).unwrap();
    assert_eq!(peer.results().await, (1, vec![(66, 1, Outcome::Failed)]));
    peer.deliver(&[(66, 1)]).await;
    peer.send(&[Response::Confirm { batch: 1 }]).await;
    peer.deliver(&[(66, 2)]).await;
    eventually("the second attempt", async || ran.lock().unwrap().len() >= 5).await;
    assert_eq!(*ran.lock().unwrap(), [(64, 1), (65, 1), (66, 1), (64, 2), (66, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_confirmed_is_named_and_reported_again() {
    let broker = Broker::listen().await;
    let ran = Ran::default();
    let client = PluginClient::start(broker.plugin(), noting(&ran, true)).await.unwrap();
    let (mut peer, _) = broker.welcome_plugin(&[]).await;
    peer.deliver(&[(64, 1)]).await;
    assert_eq!(peer.results().await.0, 1);
    peer.deliver(&[(65, 3)]).await;
    assert_eq!(peer.results().await.0, 2);
    peer.send(&[Response::Confirm { batch: 1 }]).await;
    peer.deliver(&[(66, 1)]).await;
    assert_eq!(peer.results().await.0, 3);
    drop(peer);

    let (mut peer, hello) = broker.welcome_plugin(&[66]).await;
    let Request::PluginHello(hello) = request(&hello) else { panic!() };
    assert_eq!(hello.finished.iter().collect::<Vec<_>>(), [65, 66]);
    // Batches begin anew; what the broker told it to forget is not reported.
    assert_eq!(peer.results().await, (1, vec![(65, 3, Outcome::Completed)]));
    peer.deliver(&[(65, 3)]).await;
    peer.send(&[Response::Confirm { batch: 1 }]).await;
    soon("the stop", client.stop()).await;
    assert_eq!(*ran.lock().unwrap(), [(64, 1), (65, 3), (66, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_soon_after_others_go_together() {
    let broker = Broker::listen().await;
    let options = PluginOptions { gather_reports: Duration::from_secs(3600), window: 16, ..broker.plugin() };
    let client = PluginClient::start(options, noting(&Ran::default(), true)).await.unwrap();
    let (mut peer, _) = broker.welcome_plugin(&[]).await;
    let numbers = |results: Vec<(u64, u16, Outcome)>| results.iter().map(|(id, ..)| *id).collect::<Vec<_>>();
    peer.deliver(&[(64, 1)]).await;
    assert_eq!(numbers(peer.results().await.1), [64], "the first goes at once");
    // A quarter of the window is as much as is held back.
    for id in 65..=68 {
        peer.deliver(&[(id, 1)]).await;
    }
    assert_eq!(numbers(peer.results().await.1), [65, 66, 67, 68]);
    peer.deliver(&[(69, 1)]).await;
    peer.send(&[Response::Ping { nonce: 7 }]).await;
    assert!(matches!(request(&peer.next().await), Request::Pong { nonce: 7 }), "not before the pong");
    let stopping = tokio::spawn(async move { client.stop().await });
    let (batch, results) = peer.results().await;
    assert_eq!(numbers(results), [69], "a client that stops holds nothing back");
    peer.send(&[Response::Confirm { batch }]).await;
    soon("the stop", stopping).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_runs_is_named_as_started_and_reported_on_the_new_connection() {
    let broker = Broker::listen().await;
    let ran = Ran::default();
    let client = PluginClient::start(broker.plugin(), noting(&ran, false)).await.unwrap();
    let (mut peer, _) = broker.welcome_plugin(&[]).await;
    peer.deliver(&[(64, 1), (65, 1)]).await;
    eventually("two runs", async || ran.lock().unwrap().len() == 2).await;
    drop(peer);
    let (mut peer, hello) = broker.welcome_plugin(&[]).await;
    let Request::PluginHello(hello) = request(&hello) else { panic!() };
    assert_eq!(hello.started.iter().collect::<Vec<_>>(), [64, 65]);
    assert!(hello.in_doubt.is_empty() && hello.finished.is_empty() && hello.held.is_empty());
    client.report(Report::new(fluxrelay::ids::Seq(65), 1, Outcome::Completed)).unwrap();
    assert_eq!(peer.results().await, (1, vec![(65, 1, Outcome::Completed)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn players_are_in_the_hello_and_changes_follow() {
    let broker = Broker::listen().await;
    let mut options = broker.plugin();
    options.players = Some(vec![Player::named("Alex")]);
    let client = PluginClient::start(options, noting(&Ran::default(), true)).await.unwrap();
    let (mut peer, hello) = broker.welcome_plugin(&[]).await;
    let Request::PluginHello(hello) = request(&hello) else { panic!() };
    let online: Vec<&str> = hello.players.unwrap().iter().map(|player| player.name).collect();
    assert_eq!(online, ["Alex"]);
    client.players_joined(vec![Player::named("Steve")]).unwrap();
    let frame = peer.next().await;
    let Request::Players { kind, players } = request(&frame) else { panic!() };
    assert_eq!((kind, players.len()), (PlayersKind::Joined, 1));
    drop(peer);
    let (_peer, hello) = broker.welcome_plugin(&[]).await;
    let Request::PluginHello(hello) = request(&hello) else { panic!() };
    assert_eq!(hello.players.unwrap().len(), 2);
}

/// The ticket in a hello.
fn shown(hello: &Bytes) -> Option<Vec<u8>> {
    let Request::PluginHello(hello) = request(hello) else { panic!("not a plugin's hello") };
    match hello.credential {
        Credential::None => None,
        Credential::Ticket(ticket) => Some(ticket.to_vec()),
        Credential::Token(_) | Credential::TicketAndToken { .. } => {
            panic!("the token belongs in the upgrade request")
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_ticket_is_shown_and_after_a_refusal_the_token_alone() {
    let broker = Broker::listen().await;
    let client = PluginClient::start(broker.plugin(), noting(&Ran::default(), true)).await.unwrap();
    let (peer, first) = broker.give_ticket(&[1, 2, 3]).await;
    assert_eq!(first, None);
    drop(peer);
    let (mut peer, second) = broker.give_ticket(&[4, 5]).await;
    assert_eq!(second, Some(vec![1, 2, 3]));
    peer.send(&[Response::Ticket { ticket: TicketRef(&[6]) }, Response::Ping { nonce: 1 }]).await;
    peer.next().await;
    drop(peer);
    // A broker that looks at the ticket alone and does not take it.
    let (mut peer, hello) = broker.accept().await;
    assert_eq!(shown(&hello), Some(vec![6]));
    let code = Code::InvalidCredentials.number();
    let refusal = Response::Error { code, retry_after_ms: 0, detail: "" };
    peer.send(&[refusal]).await;
    drop(peer);
    // An empty ticket is none, and a login without one that is refused is the end.
    let (peer, fourth) = broker.give_ticket(&[]).await;
    assert_eq!(fourth, None);
    drop(peer);
    let (mut peer, hello) = broker.accept().await;
    assert_eq!(shown(&hello), None);
    peer.send(&[refusal]).await;
    soon("the end", client.ended()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_go_away_is_kept_to() {
    let broker = Broker::listen().await;
    let client = PluginClient::start(broker.plugin(), noting(&Ran::default(), true)).await.unwrap();
    let (mut peer, _) = broker.welcome_plugin(&[]).await;
    let told = Instant::now();
    peer.send(&[Response::GoAway { code: Code::ShuttingDown.number(), delay_ms: 400 }]).await;
    let mut state = client.state();
    let waiting = state.wait_for(|state| matches!(state, ClientState::Waiting { .. }));
    drop(soon("the wait", waiting).await.unwrap());
    let (_peer, _) = broker.accept().await;
    assert!(told.elapsed() >= Duration::from_millis(400), "{:?}", told.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_before_the_upgrade_when_to_come_back_waits_so_long() {
    let broker = Broker::listen().await;
    let client = PluginClient::start(broker.plugin(), noting(&Ran::default(), true)).await.unwrap();
    let (mut stream, _) = soon("a socket", broker.0.accept()).await.unwrap();
    let answer = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    let mut state = client.state();
    let waiting = state.wait_for(|state| matches!(state, ClientState::Waiting { .. }));
    match &*soon("the wait", waiting).await.unwrap() {
        ClientState::Waiting { wait, .. } => assert!(*wait >= Duration::from_secs(7), "{wait:?}"),
        other => panic!("{other:?}"),
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_is_repeated_under_its_key_until_it_is_answered() {
    let broker = Broker::listen().await;
    let publisher = broker.publisher();
    let publish = || {
        let publisher = publisher.clone();
        tokio::spawn(async move { publisher.publish(Order::one(Servers::All, "say hi")).await })
    };
    let publishing = [publish(), publish(), publish()];
    let mut peer = broker.welcome_publisher().await;
    // No more than the broker's two at once.
    let first = peer.publish().await;
    let second = peer.publish().await;
    peer.send(&[published(first.0)]).await;
    let third = peer.publish().await;
    drop(peer);
    // The connection broke: the two without an answer come again, with the same keys. Three tasks published at once, so
    // which of the two came first is not known.
    let mut peer = broker.welcome_publisher().await;
    let (mut again, mut unanswered) =
        ([peer.publish().await, peer.publish().await], [second.clone(), third.clone()]);
    again.sort();
    unanswered.sort();
    assert_eq!(again, unanswered);
    peer.send(&[published(second.0)]).await;
    let stopping = Code::ShuttingDown.number();
    peer.send(&[Response::Refused { request: third.0, code: stopping, retry_after_ms: 1, detail: "" }]).await;
    // Accepted or not, nobody knows: it is asked again.
    let mut peer = broker.welcome_publisher().await;
    assert_eq!(peer.publish().await, third);
    peer.send(&[published(third.0)]).await;
    for publish in publishing {
        let accepted = soon("an answer", publish).await.unwrap().unwrap();
        assert_eq!(accepted.order.to_string(), "ord_3_640");
        assert_eq!(accepted.commands[0].to_string(), "cmd_7_640");
    }
}

fn published(request: u64) -> Response<'static> {
    const COMMANDS: [CommandRef; 1] = [CommandRef { server: 7, seq: 640 }];
    Response::Published { request, order: 640, replayed: false, commands: List::from(&COMMANDS) }
}

#[tokio::test(flavor = "multi_thread")]
async fn following_goes_on_after_the_last_event_seen() {
    let broker = Broker::listen().await;
    let publisher = broker.publisher();
    let mut events = publisher.events(None);
    let mut peer = broker.welcome_publisher().await;
    let asked = peer.next().await;
    assert_eq!(request(&asked), Request::Subscribe { after: None });
    let place = |ordinal| EventPlace { boot: 2, ordinal };
    let event =
        |ordinal| Response::Event(EventRef { place: place(ordinal), at: 5, server: 7, what: What::Online });
    peer.send(&[event(10), event(12)]).await;
    for ordinal in [10, 12] {
        let seen = soon("an event", events.recv()).await.unwrap();
        assert_eq!(seen.place(), place(ordinal));
        assert!(matches!(seen, PublisherEvent::Happened { what: Happening::ServerOnline, .. }));
    }
    drop(peer);
    let mut peer = broker.welcome_publisher().await;
    let asked = peer.next().await;
    assert_eq!(request(&asked), Request::Subscribe { after: Some(place(12)) });
    peer.send(&[Response::EventsLost { place: place(20) }]).await;
    assert_eq!(soon("an event", events.recv()).await, Some(PublisherEvent::Lost { place: place(20) }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_behind_misses_nothing() {
    let broker = Broker::listen().await;
    let publisher = broker.publisher();
    let mut events = publisher.events(None);
    let mut peer = broker.welcome_publisher().await;
    peer.next().await;
    let place = |ordinal| EventPlace { boot: 2, ordinal };
    let event =
        |ordinal| Response::Event(EventRef { place: place(ordinal), at: 5, server: 7, what: What::Offline });
    let many: Vec<Response<'_>> = (1..=5000).map(event).collect();
    peer.send(&many).await;
    // The pong says that all of them were taken: more than wait for a follower.
    peer.send(&[Response::Ping { nonce: 1 }]).await;
    assert_eq!(request(&peer.next().await), Request::Pong { nonce: 1 });
    let mut seen = 0;
    while let Ok(event) = events.try_recv() {
        seen += 1;
        assert_eq!(event.place(), place(seen));
    }
    assert!((1..5000).contains(&seen), "{seen}");
    // Any sign of life lets the client look at its channel, and ask again.
    peer.send(&[Response::Ping { nonce: 2 }]).await;
    assert_eq!(request(&peer.next().await), Request::Pong { nonce: 2 });
    assert_eq!(request(&peer.next().await), Request::Subscribe { after: Some(place(seen)) });
    peer.send(&[event(seen + 1)]).await;
    assert_eq!(soon("an event", events.recv()).await.unwrap().place(), place(seen + 1));
}
