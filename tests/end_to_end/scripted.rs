//! The clients against a broker that is played by hand: what they repeat, what they never do twice.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrelay::client::{
    ClientError, ClientState, DeliveredCommand, EventPlace, Happening, Order, Outcome, Player, PluginClient,
    PluginHandler, PluginOptions, PublisherEvent, Report, Servers,
};
use fluxrelay::ids::Seq;
use fluxrelay::protocol::{
    Code, CommandRef, EventRef, List, PlayersKind, Request, Response, TicketRef, What,
};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::played::{Broker, request, shown};
use crate::relay::{eventually, soon};

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
async fn what_awaited_its_player_runs_when_it_comes_again() {
    let broker = Broker::listen().await;
    let mut times = 0;
    let absent_at_first = move |commands: Vec<DeliveredCommand>, reports: &mut Vec<Report>| {
        for command in commands {
            times += 1;
            let outcome = if times == 1 { Outcome::AwaitingPlayer } else { Outcome::Completed };
            reports.push(command.report(outcome));
        }
    };
    let _client = PluginClient::start(broker.plugin(), absent_at_first).await.unwrap();
    let (mut peer, _) = broker.welcome_plugin(&[]).await;
    peer.deliver(&[(64, 1)]).await;
    assert_eq!(peer.results().await, (1, vec![(64, 1, Outcome::AwaitingPlayer)]));
    // The player joined meanwhile: delivered again before the answer is confirmed.
    peer.deliver(&[(64, 1)]).await;
    assert_eq!(peer.results().await, (2, vec![(64, 1, Outcome::Completed)]));
    peer.send(&[Response::Confirm { batch: 1 }]).await;
    peer.deliver(&[(64, 1), (65, 1)]).await;
    assert_eq!(peer.results().await, (3, vec![(65, 1, Outcome::Completed)]), "it ran, and does not again");
    drop(peer);
    let (_peer, hello) = broker.welcome_plugin(&[]).await;
    let Request::PluginHello(hello) = request(&hello) else { panic!() };
    let finished: Vec<u64> = hello.finished.iter().collect();
    assert_eq!(finished, [64, 65], "what was confirmed was the first answer");
}

/// Runs everything at once, and notes what is confirmed.
struct Confirmed(Arc<Mutex<Vec<u64>>>);

impl PluginHandler for Confirmed {
    fn run(&mut self, commands: Vec<DeliveredCommand>, reports: &mut Vec<Report>) {
        reports.extend(commands.iter().map(|command| command.completed(None)));
    }

    fn confirmed(&mut self, commands: &[Seq]) {
        self.0.lock().unwrap().extend(commands.iter().map(|seq| seq.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_the_broker_has_already_counts_as_confirmed() {
    let broker = Broker::listen().await;
    let confirmed = Arc::new(Mutex::new(Vec::new()));
    let _client = PluginClient::start(broker.plugin(), Confirmed(Arc::clone(&confirmed))).await.unwrap();
    let (mut peer, _) = broker.welcome_plugin(&[]).await;
    peer.deliver(&[(64, 1), (65, 1)]).await;
    assert_eq!(peer.results().await.1.len(), 2);
    drop(peer);
    // The confirmation was lost with the connection; the next welcome says the same.
    let (mut peer, _) = broker.welcome_plugin(&[64]).await;
    let (batch, results) = peer.results().await;
    assert_eq!(results.len(), 1, "65 is reported again");
    peer.send(&[Response::Confirm { batch }]).await;
    eventually("two confirmations", async || confirmed.lock().unwrap().len() == 2).await;
    assert_eq!(*confirmed.lock().unwrap(), [64, 65]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_aborted_says_nothing_more() {
    let broker = Broker::listen().await;
    let ran = Ran::default();
    let client = PluginClient::start(broker.plugin(), noting(&ran, false)).await.unwrap();
    let (mut peer, _) = broker.welcome_plugin(&[]).await;
    peer.deliver(&[(64, 1)]).await;
    eventually("a run", async || ran.lock().unwrap().len() == 1).await;
    client.abort();
    assert!(peer.is_cut().await, "as if the process had died: no results, no close");
    assert!(matches!(soon("the end", client.ended()).await, ClientError::Stopped));
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
    client.report(Report::new(Seq(65), 1, Outcome::Completed)).unwrap();
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
    let (mut stream, _) = soon("a socket", broker.socket()).await.unwrap();
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
