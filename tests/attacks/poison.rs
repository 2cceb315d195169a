//! Commands that fail every time, or take their plugin down every time: they end by themselves, and hold up nobody.

use std::collections::HashMap;
use std::time::Duration;

use fluxrelay::client::Outcome;
use fluxrelay::protocol::{PLUGIN_PATH, Request, Response, ResultRef};
use serde_json::json;
use tokio::time::Instant;

use crate::raw::{Raw, plugin_hello};
use crate::relay::{Relay, Server, number, soon, text};

const POISONED: usize = 200;
const RETRIES: u16 = 3;

/// Publishes so many commands with one text in one order: their ids.
async fn publish(relay: &Relay, server: &Server, command: &str, count: usize) -> Vec<String> {
    let commands = vec![json!({"server": server.id, "command": command}); count];
    let order = relay.post(&relay.admin, "/v1/orders", json!({"commands": commands})).await.expect(201);
    order["commands"].as_array().unwrap().iter().map(|command| text(&command["id"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_storm_is_bounded_and_other_commands_flow() {
    let relay = Relay::start(&["--retry-delays-seconds", "1,1,1"]);
    let (server, other) = (relay.server("lobby").await, relay.server("arena").await);
    let poison = publish(&relay, &server, "poison", POISONED).await;
    let mut raw = Raw::plugin(&relay, &server.token).await;
    let mut attempts: HashMap<u64, Vec<(u16, Instant)>> = HashMap::new();
    let (mut batch, mut healthy) = (0, Vec::new());
    let ended = |attempts: &HashMap<u64, Vec<(u16, Instant)>>| {
        attempts.len() == POISONED && attempts.values().all(|seen| seen.len() == usize::from(RETRIES) + 1)
    };
    while !ended(&attempts) || healthy.len() < 20 {
        if healthy.len() < 20 {
            // One for the poisoned server and one for another, which has nobody connected and polls.
            let at = Instant::now();
            let ids = (relay.publish(&server, "say hi").await, relay.publish(&other, "say hi").await);
            let polled = relay.get(&other.token, "/v1/plugin/commands").await.expect(200);
            assert!(polled.to_string().contains(&ids.1), "{polled}");
            healthy.push((number(&ids.0), at, None));
        }
        let results: Vec<(u64, u16, bool)> = next(&mut raw).await;
        for (id, attempt, is_poison) in &results {
            if *is_poison {
                attempts.entry(*id).or_default().push((*attempt, Instant::now()));
            } else {
                let healthy = healthy.iter_mut().find(|(healthy, ..)| healthy == id).unwrap();
                healthy.2.get_or_insert(Instant::now());
            }
        }
        let results: Vec<ResultRef<'_>> = results
            .iter()
            .map(|(id, attempt, is_poison)| ResultRef {
                id: *id,
                attempt: *attempt,
                outcome: if *is_poison { Outcome::Failed } else { Outcome::Completed },
                error: is_poison.then_some("it is poison"),
                output: None,
            })
            .collect();
        batch += 1;
        raw.send(Request::Results { batch, results: (&results).into() }).await;
    }
    for seen in attempts.values() {
        let numbers: Vec<u16> = seen.iter().map(|(attempt, _)| *attempt).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        let waits = seen.windows(2).map(|pair| pair[1].1 - pair[0].1);
        assert!(waits.into_iter().all(|wait| wait >= Duration::from_millis(950)), "{seen:?}");
    }
    // The healthy ones overtake those that wait, and are through long before the storm is over.
    let slowest = healthy.iter().map(|(_, at, done)| done.unwrap() - *at).max().unwrap();
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    for id in &poison {
        let is_failed = async || relay.command_view(id).await["status"] == "failed";
        crate::relay::eventually("the end of the retries", is_failed).await;
    }
    let last = relay.command_view(&poison[0]).await;
    assert_eq!((&last["attempts"], &last["error"]), (&json!(4), &json!("it is poison")));
    assert_eq!(last["history"].as_array().unwrap().last().unwrap()["note"], "retries_exhausted");
    let deliveries = relay.metric("fluxrelay_deliveries_total").await;
    assert_eq!(deliveries, (POISONED * 4 + 40) as u64, "not one more");
    assert_eq!(relay.metric("fluxrelay_sweep_finds_total").await, 0);
    relay.is_well().await;
}

/// The next commands: id, attempt, whether they are poison.
async fn next(raw: &mut Raw) -> Vec<(u64, u16, bool)> {
    soon("a delivery", next_unbounded(raw)).await
}

async fn next_unbounded(raw: &mut Raw) -> Vec<(u64, u16, bool)> {
    loop {
        match raw.next().await.get() {
            Response::Deliver { commands } => {
                return commands.iter().map(|each| (each.id, each.attempt, each.text == "poison")).collect();
            }
            Response::Ping { nonce } => raw.send(Request::Pong { nonce }).await,
            Response::Confirm { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_its_plugin_down_each_time_is_parked() {
    let relay = Relay::start(&["--unanswered-max", "4"]);
    let server = relay.server("lobby").await;
    let poison = publish(&relay, &server, "poison", 1).await.remove(0);
    let mut deaths = 0;
    loop {
        let mut raw = Raw::dial(&relay, PLUGIN_PATH, None).await;
        // It keeps no ledger: after each crash it knows of nothing.
        raw.send(Request::PluginHello(plugin_hello(&server.token))).await;
        assert!(matches!(raw.next().await.get(), Response::PluginWelcome(_)));
        let healthy = relay.publish(&server, "say hi").await;
        let mut seen = false;
        // Whatever comes with the poison is answered before the crash.
        while relay.command_view(&healthy).await["status"] != "completed" {
            let commands = next(&mut raw).await;
            seen |= commands.iter().any(|(.., is_poison)| *is_poison);
            let fine: Vec<ResultRef<'_>> = commands
                .iter()
                .filter(|(.., is_poison)| !is_poison)
                .map(|(id, attempt, _)| ResultRef {
                    id: *id,
                    attempt: *attempt,
                    outcome: Outcome::Completed,
                    error: None,
                    output: None,
                })
                .collect();
            if fine.is_empty() {
                continue;
            }
            raw.send(Request::Results { batch: number(&healthy), results: (&fine).into() }).await;
            while !matches!(raw.next().await.get(), Response::Confirm { .. }) {}
        }
        if !seen {
            break;
        }
        deaths += 1;
        raw.vanish();
        crate::relay::eventually("the end of the session", async || {
            relay.metric("fluxrelay_plugin_sessions").await == 0
        })
        .await;
    }
    assert_eq!(deaths, 5, "four are let pass, the next one parks it");
    let parked = relay.command_view(&poison).await;
    assert_eq!((&parked["status"], &parked["attempts"]), (&json!("failed"), &json!(1)));
    assert_eq!(parked["history"].as_array().unwrap().last().unwrap()["note"], "unanswered");
    relay.is_well().await;
}
