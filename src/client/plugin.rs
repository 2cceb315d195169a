//! The plugin client as a program sees it: a handler that runs commands, and a handle to report and to stop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::error::ClientError;
use super::options::{Player, PluginOptions};
use super::plugin_task;
use super::report::Report;
use crate::ids::{CommandId, Seq, ServerId, SessionEpoch};
use crate::limits::{PLAYERS_MAX, WINDOW_MAX};
use crate::priority::considerate;
use crate::protocol::{DeliveryRef, Outcome};

/// Reports and player changes that may wait to be sent.
const QUEUE_MAX: usize = 4 * WINDOW_MAX as usize;
/// How long [`PluginClient::stop`] waits for confirmations.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// One command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveredCommand {
    /// The command. `id.seq` is what a report names.
    pub id: CommandId,
    /// From 1. The pair of id and attempt is handed to a handler once, and again after [`Outcome::AwaitingPlayer`].
    pub attempt: u16,
    /// What to run: one line.
    pub text: String,
    /// Whom it is for.
    pub player: Option<Player>,
    /// Only while the player is online: report [`Outcome::AwaitingPlayer`] if it is not.
    pub require_online: bool,
    /// It may be run again when nobody can say whether it ran.
    pub rerun: bool,
}

impl DeliveredCommand {
    pub(super) fn new(server: ServerId, delivery: &DeliveryRef<'_>) -> DeliveredCommand {
        DeliveredCommand {
            id: CommandId { server, seq: Seq(delivery.id) },
            attempt: delivery.attempt,
            text: delivery.text.to_owned(),
            player: delivery.player.map(Into::into),
            require_online: delivery.require_online,
            rerun: delivery.rerun,
        }
    }

    /// A report on this command, without texts.
    pub fn report(&self, outcome: Outcome) -> Report {
        Report::new(self.id.seq, self.attempt, outcome)
    }

    /// A report that it ran.
    pub fn completed(&self, output: Option<String>) -> Report {
        Report { output, ..self.report(Outcome::Completed) }
    }

    /// A report that it failed; the broker retries.
    pub fn failed(&self, error: impl Into<String>) -> Report {
        Report { error: Some(error.into()), ..self.report(Outcome::Failed) }
    }
}

/// What runs the commands. Called on the connection's own task: it must not block.
pub trait PluginHandler: Send + 'static {
    /// Runs these, in order. They are written down as started before this is called. What is known at once goes to
    /// `reports`; the rest is reported later through [`PluginClient::report`].
    fn run(&mut self, commands: Vec<DeliveredCommand>, reports: &mut Vec<Report>);

    /// The broker has confirmed the reports on these: they are durable there and will not be delivered again. Or it has no use
    /// for them, because it knew of the end before the connection was made.
    fn confirmed(&mut self, _commands: &[Seq]) {}
}

impl<F: FnMut(Vec<DeliveredCommand>, &mut Vec<Report>) + Send + 'static> PluginHandler for F {
    fn run(&mut self, commands: Vec<DeliveredCommand>, reports: &mut Vec<Report>) {
        self(commands, reports);
    }
}

/// Where a client stands.
#[derive(Debug, Clone)]
pub enum ClientState {
    /// Connecting or logging in.
    Connecting,
    /// Logged in.
    Connected(SessionEpoch),
    /// The last connection ended; the next is made after a wait.
    Waiting {
        /// Why it ended.
        reason: Arc<str>,
        /// The wait.
        wait: Duration,
    },
    /// It is over.
    Ended(Arc<ClientError>),
}

/// What the handle passes to the task.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) reports: Vec<Report>,
    pub(super) players: VecDeque<PlayersChange>,
    pub(super) window: Option<u32>,
    pub(super) stopping: bool,
}

/// A change of who is online.
#[derive(Debug, Clone)]
pub(super) enum PlayersChange {
    Online(Vec<Player>),
    Joined(Vec<Player>),
    Left(Vec<Player>),
}

pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    pub(super) wake: Notify,
    pub(super) state: watch::Sender<ClientState>,
}

/// A connection of a server to its broker that is kept up until it is stopped or dropped. Cheap to clone.
#[derive(Clone)]
pub struct PluginClient {
    shared: Arc<Shared>,
    /// Its last clone's drop ends the task.
    alive: Arc<Alive>,
}

struct Alive {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.shared.queue.lock().stopping = true;
        self.shared.wake.notify_one();
    }
}

impl PluginClient {
    /// Opens the ledger and starts to connect, on the current tokio runtime.
    ///
    /// # Errors
    /// The options or the ledger cannot be used. Everything later shows in [`PluginClient::state`].
    pub async fn start(
        options: PluginOptions,
        handler: impl PluginHandler,
    ) -> Result<PluginClient, ClientError> {
        let (state, _) = watch::channel(ClientState::Connecting);
        let shared = Arc::new(Shared { queue: Mutex::default(), wake: Notify::new(), state });
        let task = plugin_task::PluginTask::open(options, handler, shared.clone()).await?;
        // Thousands of them may come back at once, on threads that should not be in the way of others.
        let task = tokio::spawn(considerate(task.run())).abort_handle();
        Ok(PluginClient { alive: Arc::new(Alive { shared: shared.clone(), task }), shared })
    }

    /// As [`PluginClient::start`], with the commands in a channel, which never holds more than the window.
    ///
    /// # Errors
    /// As [`PluginClient::start`].
    pub async fn start_channel(
        options: PluginOptions,
    ) -> Result<(PluginClient, mpsc::UnboundedReceiver<DeliveredCommand>), ClientError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let handler = move |commands: Vec<DeliveredCommand>, _: &mut Vec<Report>| {
            // A receiver that is gone leaves them started: a restart reports them as in doubt.
            commands.into_iter().for_each(|command| drop(sender.send(command)));
        };
        Ok((PluginClient::start(options, handler).await?, receiver))
    }

    /// Reports what came of a command. It is sent, and sent again, until the broker confirms that it is durable. A report
    /// for something that is not running is dropped. Never blocks, from any thread.
    ///
    /// # Errors
    /// [`ClientError::Full`]: too much waits already. [`ClientError::Stopped`], or whatever ended the client.
    pub fn report(&self, report: Report) -> Result<(), ClientError> {
        self.push(|queue| {
            if queue.reports.len() >= QUEUE_MAX {
                return Err(ClientError::Full(QUEUE_MAX));
            }
            queue.reports.push(report);
            Ok(())
        })
    }

    /// Says that exactly these players are online.
    ///
    /// # Errors
    /// As [`PluginClient::report`].
    pub fn players_online(&self, players: Vec<Player>) -> Result<(), ClientError> {
        self.push_players(PlayersChange::Online(players))
    }

    /// Says that these players joined.
    ///
    /// # Errors
    /// As [`PluginClient::report`].
    pub fn players_joined(&self, players: Vec<Player>) -> Result<(), ClientError> {
        self.push_players(PlayersChange::Joined(players))
    }

    /// Says that these players left.
    ///
    /// # Errors
    /// As [`PluginClient::report`].
    pub fn players_left(&self, players: Vec<Player>) -> Result<(), ClientError> {
        self.push_players(PlayersChange::Left(players))
    }

    /// Sets the window: 0 pauses delivery, more than `WINDOW_MAX` counts as `WINDOW_MAX`.
    ///
    /// # Errors
    /// As [`PluginClient::report`].
    pub fn set_window(&self, window: u32) -> Result<(), ClientError> {
        self.push(|queue| {
            queue.window = Some(window.min(WINDOW_MAX));
            Ok(())
        })
    }

    /// Where it stands, to be followed.
    pub fn state(&self) -> watch::Receiver<ClientState> {
        self.shared.state.subscribe()
    }

    /// Waits until it is logged in.
    ///
    /// # Errors
    /// Whatever ended the client.
    pub async fn connected(&self) -> Result<SessionEpoch, ClientError> {
        let mut state = self.state();
        let state =
            state.wait_for(|state| matches!(state, ClientState::Connected(_) | ClientState::Ended(_))).await;
        match state.as_deref() {
            Ok(ClientState::Connected(epoch)) => Ok(*epoch),
            Ok(ClientState::Ended(error)) => Err((**error).clone()),
            _ => Err(ClientError::Stopped),
        }
    }

    /// Waits until it is over and says why.
    pub async fn ended(&self) -> ClientError {
        let mut state = self.state();
        match state.wait_for(|state| matches!(state, ClientState::Ended(_))).await.as_deref() {
            Ok(ClientState::Ended(error)) => (**error).clone(),
            _ => ClientError::Stopped,
        }
    }

    /// Ends at once, without a word to the broker, as if this process had died: for tests of what comes after that.
    pub fn abort(&self) {
        self.alive.task.abort();
        self.shared.state.send_replace(ClientState::Ended(Arc::new(ClientError::Stopped)));
    }

    /// Takes no more commands, gives the broker a few seconds to confirm what was reported, and closes.
    pub async fn stop(&self) {
        self.shared.queue.lock().stopping = true;
        self.shared.wake.notify_one();
        let _ = timeout(STOP_TIMEOUT + Duration::from_secs(1), self.ended()).await;
    }

    fn push_players(&self, change: PlayersChange) -> Result<(), ClientError> {
        self.push(|queue| {
            if queue.players.len() >= PLAYERS_MAX {
                return Err(ClientError::Full(PLAYERS_MAX));
            }
            if matches!(change, PlayersChange::Online(_)) {
                queue.players.clear();
            }
            queue.players.push_back(change);
            Ok(())
        })
    }

    fn push(&self, change: impl FnOnce(&mut Queue) -> Result<(), ClientError>) -> Result<(), ClientError> {
        if let ClientState::Ended(error) = &*self.shared.state.borrow() {
            return Err((**error).clone());
        }
        change(&mut self.shared.queue.lock())?;
        self.shared.wake.notify_one();
        Ok(())
    }
}

/// See [`STOP_TIMEOUT`].
pub(super) const fn stop_timeout() -> Duration {
    STOP_TIMEOUT
}
