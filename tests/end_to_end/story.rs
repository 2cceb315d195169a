//! The main job: an order is published, delivered, run, reported and confirmed; and all that may come between.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrelay::broker::Scope;
use fluxrelay::client::{
    Code, DeliveredCommand, Happening, Order, OrderCommand, Outcome, Player, PluginClient, PublishError,
    PublisherClient, PublisherEvent, PublisherOptions, Report, Servers,
};
use fluxrelay::engine::Status;
use fluxrelay::protocol::Request;

use crate::raw::Raw;
use crate::relay::{Relay, eventually, soon};

/// Runs everything at once and notes what it ran.
pub(crate) fn running(
    ran: &Arc<Mutex<Vec<String>>>,
) -> impl FnMut(Vec<DeliveredCommand>, &mut Vec<Report>) + Send + 'static {
    let ran = ran.clone();
    move |commands, reports| {
        for command in commands {
            reports.push(command.completed(Some(format!("ran {}", command.text))));
            ran.lock().unwrap().push(command.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_published_run_and_confirmed() {
    let relay = Relay::start().await;
    let (lobby, arena) = (relay.server("lobby").await, relay.server("arena").await);
    let ran = Arc::default();
    let plugin = PluginClient::start(relay.plugin(&lobby), running(&ran)).await.unwrap();
    soon("a session", plugin.connected()).await.unwrap();
    let publisher = relay.publisher().await;
    let mut events = publisher.events(None);
    let mut order = Order::one(Servers::One(lobby.id), "lp user Steve parent add vip");
    order.commands.push(OrderCommand::new(Servers::One(arena.id), "give Steve diamond 64"));
    order.key = Some("payment-1".into());
    let accepted = soon("an answer", publisher.publish(order.clone())).await.unwrap();
    assert!(!accepted.replayed);
    let [first, second] = accepted.commands[..] else { panic!("{accepted:?}") };
    assert_eq!((first.server, second.server), (lobby.id, arena.id));

    let row = relay.reaches(first, Status::Completed).await;
    assert_eq!(row.output.as_deref(), Some("ran lp user Steve parent add vip"));
    assert_eq!(relay.command(second).await.status, Status::Pending);
    let again = soon("an answer", publisher.publish(order)).await.unwrap();
    assert_eq!((again.replayed, again.commands), (true, accepted.commands));
    assert_eq!(*ran.lock().unwrap(), ["lp user Steve parent add vip"]);

    let completed = async {
        while let Some(event) = events.recv().await {
            if let PublisherEvent::Happened { what: Happening::Command { id, status, .. }, .. } = event
                && (id, status) == (first, fluxrelay::client::Status::Completed)
            {
                return;
            }
        }
        panic!("the events ended");
    };
    soon("the event", completed).await;
    soon("the stop", plugin.stop()).await;
    relay.sessions(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_orders_through_many_connections() {
    let relay = Relay::start().await;
    let mut plugins = Vec::new();
    let ran: Arc<Mutex<Vec<String>>> = Arc::default();
    for number in 0..8 {
        let server = relay.server(&format!("server {number}")).await;
        plugins.push(PluginClient::start(relay.plugin(&server), running(&ran)).await.unwrap());
    }
    let publisher = relay.publisher().await;
    let publishing: Vec<_> = (0..500)
        .map(|number| {
            let publisher = publisher.clone();
            let order = Order::one(Servers::All, format!("say {number}"));
            tokio::spawn(async move { publisher.publish(order).await.unwrap().commands })
        })
        .collect();
    let mut commands = Vec::new();
    for publish in publishing {
        commands.extend(soon("an answer", publish).await.unwrap());
    }
    assert_eq!(commands.len(), 4000);
    for id in commands {
        relay.reaches(id, Status::Completed).await;
    }
    assert_eq!(ran.lock().unwrap().len(), 4000);
    assert_eq!(relay.handle().stats().redelivered, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_a_quiet_time_has_the_time_at_which_it_came() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let publisher = relay.publisher().await;
    let mut accepted = Vec::new();
    for quiet in [Duration::ZERO, Duration::from_millis(300)] {
        // What is measured: the shard sleeps meanwhile.
        tokio::time::sleep(quiet).await;
        let order = Order::one(Servers::One(server.id), "say hi");
        let id = soon("an answer", publisher.publish(order)).await.unwrap().commands[0];
        accepted.push(relay.command(id).await.accepted_at);
    }
    assert!((accepted[1] - accepted[0]).0 >= 299, "{accepted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_player_joins() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let ran = Arc::default();
    let mut options = relay.plugin(&server);
    options.players = Some(vec![Player::named("Alex")]);
    let plugin = PluginClient::start(options, running(&ran)).await.unwrap();
    soon("a session", plugin.connected()).await.unwrap();
    let publisher = relay.publisher().await;
    let mut command = OrderCommand::new(Servers::One(server.id), "give Steve diamond 64");
    command.player = Some(Player::named("Steve"));
    command.require_online = true;
    let order = Order { commands: vec![command], ..Order::default() };
    let id = soon("an answer", publisher.publish(order)).await.unwrap().commands[0];
    relay.reaches(id, Status::AwaitingPlayer).await;
    assert!(ran.lock().unwrap().is_empty());
    plugin.players_joined(vec![Player::named("steve")]).unwrap();
    relay.reaches(id, Status::Completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_order_is_refused_with_its_field_and_costs_no_connection() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let publisher = relay.publisher().await;
    let one = |text: &str| Order::one(Servers::One(server.id), text);
    let far = Order {
        commands: vec![OrderCommand { delay: Some(Duration::MAX), ..OrderCommand::new(Servers::All, "x") }],
        ..Order::default()
    };
    let unknown = Order::one(Servers::One(fluxrelay::ids::ServerId(99)), "x");
    for (order, code, words) in [
        (one(""), Code::InvalidCommand, "commands[0].command"),
        (one("op Steve\nstop"), Code::InvalidCommand, "LF"),
        (one(&"x".repeat(4097)), Code::InvalidCommand, "4096"),
        (Order { key: Some(String::new()), ..one("x") }, Code::InvalidField, "idempotency_key"),
        (Order::default(), Code::InvalidField, "commands"),
        (far, Code::InvalidField, "delay"),
        (unknown, Code::UnknownServer, "99"),
    ] {
        match soon("an answer", publisher.publish(order)).await {
            Err(PublishError::Refused { code: found, detail, .. }) => {
                assert_eq!(found, code, "{detail}");
                assert!(detail.contains(words), "{detail:?} does not name {words:?}");
            }
            other => panic!("{other:?} instead of {code}"),
        }
    }
    let order = Order { key: Some("k".into()), ..one("a") };
    soon("an answer", publisher.publish(order.clone())).await.unwrap();
    let other = soon("an answer", publisher.publish(Order { ordered: true, ..order })).await;
    assert!(matches!(other, Err(PublishError::Refused { code: Code::KeyConflict, .. })), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_read_follows_and_does_not_publish() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let reader =
        PublisherClient::start(PublisherOptions::new(relay.url(), relay.key(Scope::Read).await)).unwrap();
    let mut events = reader.events(None);
    let refused = soon("an answer", reader.publish(Order::one(Servers::All, "stop"))).await;
    assert!(matches!(refused, Err(PublishError::Refused { code: Code::Forbidden, .. })), "{refused:?}");
    let _plugin = Raw::plugin(&relay, &server.token).await;
    let event = soon("an event", events.recv()).await.unwrap();
    assert!(matches!(event, PublisherEvent::Happened { what: Happening::ServerOnline, .. }), "{event:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_broker_loses_and_doubles_nothing() {
    let mut relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let ran: Arc<Mutex<Vec<String>>> = Arc::default();
    let plugin = PluginClient::start(relay.plugin(&server), running(&ran)).await.unwrap();
    let mut options = PublisherOptions::new(relay.url(), relay.key(Scope::Publish).await);
    options.backoff.first = Duration::from_millis(10);
    let publisher = PublisherClient::start(options).unwrap();
    soon("a session", plugin.connected()).await.unwrap();
    soon("a login", publisher.connected()).await.unwrap();
    let server = server.id;
    let publishing = tokio::spawn(async move {
        let mut ids = Vec::new();
        for number in 0..400 {
            let order = Order::one(Servers::One(server), format!("say {number}"));
            ids.extend(publisher.publish(order).await.unwrap().commands);
        }
        ids
    });
    for _ in 0..3 {
        let before = ran.lock().unwrap().len();
        eventually("some commands to run", async || ran.lock().unwrap().len() >= before + 20).await;
        relay.restart().await;
    }
    let ids = soon("the answers", publishing).await.unwrap();
    for id in ids {
        relay.reaches(id, Status::Completed).await;
    }
    let mut ran = ran.lock().unwrap().clone();
    let all = ran.len();
    ran.sort_unstable();
    ran.dedup();
    assert_eq!((all, ran.len()), (400, 400));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_may_say_its_results_late_and_twice() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let (plugin, mut commands) = PluginClient::start_channel(relay.plugin(&server)).await.unwrap();
    let publisher = relay.publisher().await;
    let order = Order::one(Servers::One(server.id), "give Steve diamond 64");
    let id = soon("an answer", publisher.publish(order)).await.unwrap().commands[0];
    let command = soon("a command", commands.recv()).await.unwrap();
    assert_eq!((command.id, command.attempt), (id, 1));
    plugin.report(command.report(Outcome::Completed)).unwrap();
    plugin.report(command.failed("no, wait")).unwrap();
    relay.reaches(id, Status::Completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_offers_again_what_the_plugin_does_not_name() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let publisher = relay.publisher().await;
    let order = |number: u32| Order::one(Servers::One(server.id), format!("say {number}"));
    let mut first = Raw::plugin(&relay, &server.token).await;
    soon("an answer", publisher.publish(order(1))).await.unwrap();
    soon("an answer", publisher.publish(order(2))).await.unwrap();
    let mut ids = Vec::new();
    while ids.len() < 2 {
        ids.extend(first.delivered().await);
    }
    assert!(ids.iter().all(|(_, attempt, _)| *attempt == 1));
    first.vanish();
    relay.sessions(0).await;

    let mut second = Raw::dial(&relay, fluxrelay::protocol::PLUGIN_PATH, Some(&server.token)).await;
    let held = [ids[0].0];
    let mut hello = crate::raw::plugin_hello(&server.token);
    hello.credential = Default::default();
    hello.held = (&held).into();
    second.send(Request::PluginHello(hello)).await;
    second.next().await;
    // The one that is held is not sent again; the other is, as the same attempt.
    assert_eq!(second.delivered().await, [(ids[1].0, 1, "say 2".to_owned())]);
}
