//! Guessing at the door: what is learnt from answers and from time, and whom wrong logins keep out.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fluxrelay::broker::{self, Actor, AuthError, FailedLoginLimit, Origin, Registry};
use fluxrelay::credentials::{DataKeyFile, HashCost, RandomPart, Sealer, Subject};
use fluxrelay::ids::{ServerId, StoreId};
use fluxrelay::protocol::{PLUGIN_PATH, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::raw::{Raw, plugin_hello};
use crate::relay::{ANY_LOGINS, Relay, soon};

/// Tries of each kind; the full measure is `FLUXRELAY_ATTACK_TRIES=10000`, with `FLUXRELAY_ATTACK_COST=full` at what a
/// password hash costs in earnest (six minutes).
const TRIES: usize = 500;
/// Else it costs so little that ten thousand take seconds, and a microsecond more for one kind would be seen.
const QUICK: HashCost = HashCost { memory_kib: 256, passes: 1 };
/// An id that nobody has, as long as the one of the first server.
const NOBODY: ServerId = ServerId(9);

fn tries() -> usize {
    let text = std::env::var("FLUXRELAY_ATTACK_TRIES").ok();
    text.map_or(TRIES, |text| text.parse().expect("FLUXRELAY_ATTACK_TRIES is a number"))
}

fn cost() -> HashCost {
    match std::env::var("FLUXRELAY_ATTACK_COST").as_deref() {
        Ok("full") => HashCost::STANDARD,
        Ok(other) => panic!("FLUXRELAY_ATTACK_COST={other}: it is full, or not set"),
        Err(_) => QUICK,
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Checks credentials of both kinds by turns, and gives the median of each.
async fn medians(registry: &Registry, make: impl Fn(ServerId) -> String) -> [Duration; 2] {
    let origin = Origin::of(([192, 0, 2, 1], 1).into());
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..tries() {
        for (times, id) in times.iter_mut().zip([ServerId(1), NOBODY]) {
            let token = make(id);
            let began = Instant::now();
            let refused = registry.check_token(&token, origin).await;
            times.push(began.elapsed());
            assert_eq!(refused, Err(AuthError::Invalid));
        }
    }
    times.map(median)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_id_and_a_wrong_secret_take_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let settings = broker::Settings {
        hash_cost: cost(),
        failed_logins: FailedLoginLimit { per_second: 1_000_000, burst: 1_000_000 },
        ..broker::Settings::new(folder.path().join("data"))
    };
    let running = broker::start(settings.clone()).unwrap();
    let registry = running.handle().registry();
    let (server, _) = registry.by(Actor::LOCAL).create_server(StoreId(1), "lobby", "").await.unwrap();
    assert_eq!((server.id, registry.server(NOBODY)), (ServerId(1), None));
    // Forged: about a microsecond, whoever is meant.
    let forged = medians(registry, |id| format!("{id}.{}", "A".repeat(32))).await;
    assert_eq!(registry.login_counts().hashed, 0);
    // With a right tag, as only an old token has one: a password hash, whoever is meant.
    let key =
        DataKeyFile::read(&settings.data_dir.join("secret.key")).unwrap().expect("it was made at the start");
    let sealer = Sealer::new(&key);
    let seal = |id| sealer.seal(Subject::Server(id), &RandomPart::generate()).reveal().to_owned();
    let plausible = medians(registry, seal).await;
    assert_eq!(registry.login_counts().hashed, 2 * tries() as u64, "each is another one");
    for (what, [known, unknown], noise) in
        [("forged", forged, Duration::from_micros(1)), ("plausible", plausible, Duration::from_micros(15))]
    {
        let (difference, larger) = (known.abs_diff(unknown), known.max(unknown));
        assert!(difference <= noise.max(larger / 10), "{what}: wrong {known:?}, unknown {unknown:?}");
        println!("{what}: wrong {known:?}, unknown {unknown:?}, {} tries each", tries());
    }
    assert!(plausible[0] > forged[0] * 10, "the second kind has paid for a hash");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_id_and_a_wrong_secret_are_answered_with_the_same_bytes() {
    let relay = Relay::start(&ANY_LOGINS);
    let (server, gone) = (relay.server("lobby").await, relay.server("gone").await);
    let path = |id: &str| format!("/v1/servers/{id}");
    relay.call(&relay.admin, "DELETE", &path(&gone.id), &serde_json::Value::Null).await.expect(204);
    let token = format!("{}/token", path(&server.id));
    relay.call(&relay.admin, "POST", &token, &serde_json::Value::Null).await.expect(200);
    let forged = "0".repeat(32);
    let credentials = [
        server.token.clone(),
        gone.token.clone(),
        format!("{}.{forged}", server.id),
        format!("{}.{forged}", gone.id),
        format!("srv_4294967295.{forged}"),
        format!("admin.{forged}"),
        format!("key_1.{forged}"),
        relay.admin.clone(),
        "x".to_owned(),
        "srv_1.".to_owned(),
        "x".repeat(4000),
    ];
    let (mut rest, mut frames) = (Vec::new(), Vec::new());
    for credential in &credentials {
        let answer = relay.get(credential, "/v1/plugin/commands").await;
        answer.refused(401, "invalid_credentials");
        let head: Vec<&str> = answer.head.lines().filter(|line| !line.starts_with("date:")).collect();
        rest.push(head.join("\n") + &answer.text);
        // In the header it may be as long as a head; in the hello, as long as a frame of a stranger.
        let mut raw = Raw::dial(&relay, PLUGIN_PATH, None).await;
        raw.send(Request::PluginHello(plugin_hello(credential))).await;
        frames.push(raw.next().await.bytes().to_vec());
        assert!(raw.try_next().await.is_none());
    }
    rest.dedup();
    frames.dedup();
    assert_eq!((rest.len(), frames.len()), (1, 1), "{rest:#?} {frames:?}");
    relay.is_well().await;
}

/// Sends calls with these credentials over one connection for as long as `more`, and counts the refusals.
async fn flood(relay: &Relay, tokens: &[&str], more: &AtomicBool, refused: &AtomicUsize) {
    let stream = TcpStream::connect(relay.address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let call = |token: &&str| {
        format!("GET /v1/plugin/commands HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n")
    };
    let calls: String = tokens.iter().map(call).collect();
    let mut bytes = [0; 64 * 1024];
    while more.load(Ordering::Relaxed) {
        soon("a write", write.write_all(calls.as_bytes())).await.unwrap();
        let mut left = tokens.len();
        while left > 0 {
            let count = soon("an answer", read.read(&mut bytes)).await.unwrap();
            assert!(count > 0, "it was closed");
            let answers = String::from_utf8_lossy(&bytes[..count]).matches("HTTP/1.1 4").count();
            assert!(answers <= left);
            left -= answers;
            refused.fetch_add(answers, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_wrong_logins_a_second_lock_nobody_out() {
    let relay = Relay::start(&[]);
    let server = relay.server("lobby").await;
    let path = format!("/v1/servers/{}/token", server.id);
    let renewed = relay.call(&relay.admin, "POST", &path, &serde_json::Value::Null).await.expect(200);
    let token = crate::relay::text(&renewed["token"]);
    let forged = format!("{}.{}", server.id, "0".repeat(32));
    // Of the victim's id: forged ones, and one that was right once.
    let wrong: [&str; 10] =
        std::array::from_fn(|at| if at % 5 == 0 { server.token.as_str() } else { &forged });
    let (more, refused) = (AtomicBool::new(true), AtomicUsize::new(0));
    let began = Instant::now();
    let attack = async {
        let floods = (0..4).map(|_| flood(&relay, &wrong, &more, &refused));
        futures_util::future::join_all(floods).await;
    };
    let victim = async {
        let mut slowest = Duration::ZERO;
        while began.elapsed() < Duration::from_secs(3) || refused.load(Ordering::Relaxed) < 3_000 {
            let login = Instant::now();
            Raw::plugin(&relay, &token).await.vanish();
            slowest = slowest.max(login.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        more.store(false, Ordering::Relaxed);
        slowest
    };
    let ((), slowest) = tokio::join!(attack, victim);
    let (refused, seconds) = (refused.load(Ordering::Relaxed), began.elapsed().as_secs_f64());
    // How many a second is the machine's; that none of them cost a hash is the broker's, and is told below.
    println!("{refused} refused in {seconds:.1} s, the victim's slowest login {slowest:?}");
    assert!(slowest < Duration::from_secs(15), "{slowest:?}");
    let hashed = relay.metric("fluxrelay_logins_hashed_total").await;
    assert!(hashed <= 4, "admin, old and new token: {hashed}");
    assert!(relay.metric("fluxrelay_logins_limited_total").await > 1_000);
    relay.is_well().await;
}
