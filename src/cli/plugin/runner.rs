//! Commands from the broker onto the console, one line each, and what came of them back to the broker.
//!
//! "Completed" means that the program was given the line: a console answers nothing that could be relied on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::child::Console;
use super::console::Notice;
use crate::client::{
    ClientError, ClientState, DeliveredCommand, Outcome, Player, PluginClient, PluginOptions, Report,
};

/// How long the lines that were taken may need to be written when the plugin stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The plugin client and the task that writes its commands.
pub(super) struct Runner {
    client: PluginClient,
    players: Option<Arc<Online>>,
    quit: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Who is online, by lower-case name.
#[derive(Default)]
struct Online(Mutex<HashSet<String>>);

impl Runner {
    /// Opens the ledger and starts to connect.
    pub(super) async fn start(options: PluginOptions, console: Console) -> Result<Runner, ClientError> {
        let players = options.players.is_some().then(Arc::<Online>::default);
        let (client, commands) = PluginClient::start_channel(options).await?;
        tokio::spawn(tell(client.state()));
        let (quit, quitting) = watch::channel(false);
        let work = Work { client: client.clone(), players: players.clone(), console };
        let task = tokio::spawn(work.run(commands, quitting));
        Ok(Runner { client, players, quit, task })
    }

    /// Passes on what the program said about a player.
    pub(super) fn on_notice(&self, notice: Notice) {
        let Some(players) = &self.players else { return };
        let mut online = players.0.lock();
        let passed_on = match notice {
            Notice::Joined(name) if online.insert(name.to_ascii_lowercase()) => {
                self.client.players_joined(vec![Player::named(name)])
            }
            Notice::Left(name) if online.remove(&name.to_ascii_lowercase()) => {
                self.client.players_left(vec![Player::named(name)])
            }
            _ => Ok(()),
        };
        if let Err(error) = passed_on {
            anstream::eprintln!("[fluxrelay] a player's coming or going was not passed on: {error}");
        }
    }

    /// Takes no more commands, writes what was taken, waits for the broker's confirmations; each for a few seconds.
    pub(super) async fn stop(&mut self) {
        let _ = self.client.set_window(0);
        let _ = self.quit.send(true);
        // What is not written by then stays "started" in the ledger and is in doubt, which is the truth.
        let _ = timeout(DRAIN_TIMEOUT, &mut self.task).await;
        self.client.stop().await;
    }
}

struct Work {
    client: PluginClient,
    players: Option<Arc<Online>>,
    console: Console,
}

impl Work {
    async fn run(
        self,
        mut commands: mpsc::UnboundedReceiver<DeliveredCommand>,
        mut quitting: watch::Receiver<bool>,
    ) {
        loop {
            let command = tokio::select! {
                biased;
                command = commands.recv() => command,
                _ = quitting.wait_for(|quit| *quit) => None,
            };
            let Some(command) = command else { return };
            let report = self.write(&command).await;
            if let Err(error) = self.client.report(report) {
                anstream::eprintln!("[fluxrelay] {} was run but could not be reported: {error}", command.id);
            }
        }
    }

    async fn write(&self, command: &DeliveredCommand) -> Report {
        if command.text.contains(['\n', '\r', '\0']) {
            return command.failed("the command holds a line break or NUL");
        }
        if command.require_online && self.is_absent(command.player.as_ref()) {
            return command.report(Outcome::AwaitingPlayer);
        }
        match self.console.write(command.text.clone()).await {
            Ok(()) => command.completed(None),
            Err(error) => command.failed(error.to_string()),
        }
    }

    /// The player may have left while the command was on its way.
    fn is_absent(&self, player: Option<&Player>) -> bool {
        match (&self.players, player) {
            (Some(online), Some(player)) => !online.0.lock().contains(&player.name.to_ascii_lowercase()),
            _ => false,
        }
    }
}

/// Says on stderr where the connection stands, once per change.
async fn tell(mut state: watch::Receiver<ClientState>) {
    loop {
        let text = match &*state.borrow_and_update() {
            ClientState::Connecting => None,
            ClientState::Connected(_) => Some("connected".to_owned()),
            ClientState::Waiting { reason, wait } => {
                Some(format!("not connected: {reason}; trying again in {:.1} s", wait.as_secs_f64()))
            }
            ClientState::Ended(error) if matches!(**error, ClientError::Stopped) => return,
            ClientState::Ended(error) => {
                Some(format!("no more commands are taken: {error}; the program goes on without"))
            }
        };
        if let Some(text) = text {
            anstream::eprintln!("[fluxrelay] {text}");
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}
