//! Logins that must fail: at a fixed rate, each on a connection of its own, with a token of the right form and a wrong
//! tag for a server that exists. One that is let in is an error, not a figure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::broker::Broker;
use super::fleet::Registered;
use crate::cli::clock;
use crate::cli::exit::CliError;
use crate::client::{
    ClientError, ClientState, Code, DeliveredCommand, PluginClient, PluginOptions, Report as Outcome,
};
use crate::ids::ServerId;
use crate::priority::considerate;
use crate::tls::ClientTls;

/// Such logins under way at once; at that many the next ones are not sent. As many as wait behind a storm that takes eight
/// seconds, at a thousand a second: they stand in the same line as the others of their network.
pub(super) const AT_ONCE: u32 = 8000;
/// How long one may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How TLS says so.
const DENIED: &str = "AccessDenied";

/// What became of them.
#[derive(Default)]
struct Counts {
    refused: AtomicU64,
    sent_away: AtomicU64,
    denied: AtomicU64,
    lost: AtomicU64,
    not_sent: AtomicU64,
    let_in: AtomicU64,
}

/// A copy of what was counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answers {
    /// Told that the token is wrong.
    pub(super) refused: u64,
    /// Told to come back later.
    pub(super) sent_away: u64,
    /// Told so by TLS, before the handshake.
    pub(super) denied: u64,
    /// No answer: nobody listened, or the connection failed.
    pub(super) lost: u64,
    /// Too many were under way.
    pub(super) not_sent: u64,
}

/// Where they go.
#[derive(Clone)]
struct Goal {
    url: String,
    tls: Option<ClientTls>,
}

/// A flood of them, until it is stopped.
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    pacer: JoinHandle<()>,
}

impl Flood {
    /// Starts `per_second` logins.
    pub(super) fn start(broker: &Broker, servers: &[Registered], per_second: u32) -> Flood {
        let goal = Goal { url: broker.url().to_owned(), tls: broker.tls() };
        let servers: Vec<ServerId> = servers.iter().map(|server| server.id).collect();
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let runtime = tokio::runtime::Handle::current();
        let (stopping, counting) = (Arc::clone(&stop), Arc::clone(&counts));
        let pacer = tokio::task::spawn_blocking(move || {
            let (start, interval) = (clock::now(), Duration::from_secs(1) / per_second);
            let places = Arc::new(Semaphore::new(AT_ONCE as usize));
            for number in 0_u64.. {
                let intended = start + Duration::from_nanos(interval.as_nanos() as u64 * number);
                std::thread::sleep(intended.saturating_duration_since(clock::now()));
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    counting.not_sent.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                let server = servers[number as usize % servers.len()];
                let (goal, counts) = (goal.clone(), Arc::clone(&counting));
                runtime.spawn(considerate(async move {
                    attempt(goal, forged(server, number), &counts).await;
                    drop(place);
                }));
            }
        });
        Flood { stop, counts, pacer }
    }

    /// What was answered so far.
    pub(super) fn answers(&self) -> Answers {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { refused, sent_away, denied, lost, not_sent, .. } = &*self.counts;
        Answers {
            refused: count(refused),
            sent_away: count(sent_away),
            denied: count(denied),
            lost: count(lost),
            not_sent: count(not_sent),
        }
    }

    /// Ends it. Errors: a forged token was let in.
    pub(super) async fn stop(mut self) -> Result<(), CliError> {
        self.stop.store(true, Ordering::Relaxed);
        (&mut self.pacer).await.map_err(|error| CliError::unexpected(format!("the pacer ended: {error}")))?;
        match self.counts.let_in.load(Ordering::Relaxed) {
            0 => Ok(()),
            let_in => Err(CliError::unexpected(format!("{let_in} logins with forged tokens were let in"))),
        }
    }
}

impl Drop for Flood {
    /// Its thread is waited for when the bench ends, also when that fails.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Digits are of a secret's alphabet, so only the tag (the last eight) can tell that it is none; a guess passes with 2^-47.
fn forged(server: ServerId, number: u64) -> String {
    format!("{server}.{number:024}forged00")
}

async fn attempt(goal: Goal, token: String, counts: &Counts) {
    let mut options = PluginOptions::new(goal.url, token);
    options.tls = goal.tls;
    let handler = |_: Vec<DeliveredCommand>, _: &mut Vec<Outcome>| {};
    let Ok(client) = PluginClient::start(options, handler).await else { return };
    let mut state = client.state();
    let decided = state.wait_for(|state| !matches!(state, ClientState::Connecting));
    let decided = tokio::time::timeout(ANSWER_TIMEOUT, decided).await;
    let counter = match &decided {
        Ok(Ok(state)) => match &**state {
            ClientState::Connected(_) => &counts.let_in,
            ClientState::Ended(error) => match **error {
                ClientError::Refused { code: Code::InvalidCredentials, .. } => &counts.refused,
                _ => &counts.lost,
            },
            ClientState::Waiting { reason, .. } if reason.starts_with(Code::LoginBusy.name()) => {
                &counts.sent_away
            }
            ClientState::Waiting { reason, .. } if reason.contains(DENIED) => &counts.denied,
            _ => &counts.lost,
        },
        _ => &counts.lost,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{DataKey, RandomPart, Sealer, Subject};

    #[test]
    fn a_forged_token_differs_from_a_right_one_by_its_tag_alone() {
        let sealer = Sealer::new(&DataKey::generate());
        let right = sealer.seal(Subject::Server(ServerId(7)), &RandomPart::generate());
        let token = forged(ServerId(7), 12);
        assert_eq!(token.len(), right.reveal().len());
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_')));
        assert!(sealer.open(&token).is_none());
    }
}
